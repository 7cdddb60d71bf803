"""Tasks on the instance's devices."""

import asyncio
import os
import struct
import subprocess
import time

import numpy

import aios
from common import PATIENCE_S, ROOT, Case, booted_folder

MODULES = ROOT / "tests/unit/cpu/modules"
BATCH = 1024


class Tasks(Case):
    @classmethod
    def setUpClass(cls):
        cls.modules = booted_folder("modules")
        for source in (MODULES / "good.c", MODULES / "faulty.c", MODULES / "graph_work.c",
                       ROOT / "abi/examples/scale_module.c"):
            subprocess.run(["cc", "-O1", "-fPIC", "-shared", "-I", ROOT / "abi/include", source,
                            "-o", cls.modules / f"{source.stem}.so"], check=True)

    def setUp(self):
        self.instance = self.attach()
        self.tenant = self.enterContext(self.instance.tenant())

    def codelet(self, module, function):
        return self.tenant.codelet(self.modules / f"{module}.so", function)

    def finished(self, count):
        """The completions of so many tasks, by tag."""
        found = []
        while len(found) < count:
            some = self.tenant.completions(PATIENCE_S)
            self.assertTrue(some, "the tasks take too long")
            found += some
        return {one.tag: one for one in found}

    def test_a_codelet_works_on_an_array_where_it_is(self):
        scale = self.codelet("scale_module", "scale")
        region = self.instance.create_region(8000)
        numbers = region.array("f8", 1000)
        numbers[:] = numpy.arange(1000)
        buffer = self.tenant.buffer(region, aios.Access.WRITE, length=8000)
        update = [(buffer, aios.Mode.READ_WRITE)]
        self.tenant.submit([
            aios.Task(1, scale, update, struct.pack("d", 3), grid=[4]),
            aios.Task(2, scale, update, numpy.array([0.5]), grid=(2, 1), after=[1], priority=-5),
        ])
        done = self.finished(2)
        self.assertTrue(done[1].ok and done[2].ok)
        self.assertLessEqual(done[1].start_ns, done[1].end_ns)
        self.assertLessEqual(done[1].end_ns, done[2].end_ns)
        self.assertTrue((numbers == numpy.arange(1000) * 1.5).all())
        self.tenant.release(buffer)
        self.assertRaises(aios.Error, self.tenant.release, buffer)

    def test_submitting_many_tells_how_many_were_taken_before_one_was_refused(self):
        count = self.codelet("good", "count")
        many = [aios.Task(tag, count) for tag in range(BATCH + 2)]
        many[-1].tag = many[-2].tag
        with self.assertRaises(aios.Error) as raised:
            self.tenant.submit_many(many, PATIENCE_S)
        self.assertEqual(raised.exception.taken, BATCH)
        self.assertEqual(len(self.finished(BATCH)), BATCH)
        with self.assertRaises(aios.Error) as raised:
            self.tenant.submit(many[-2:])
        self.assertIsNone(raised.exception.taken)

    def test_a_graph_runs_as_if_one_task_ran_after_the_other(self):
        scale = self.codelet("scale_module", "scale")
        region = self.instance.create_region(8000)
        numbers = region.array("f8", 1000)
        numbers[:] = 1
        buffer = self.tenant.buffer(region, aios.Access.WRITE, length=8000)
        with self.tenant.graph() as graph:
            for factor in range(1, 11):
                number = graph.add(aios.Task(0, scale, [(buffer, aios.Mode.READ_WRITE)],
                                             struct.pack("d", factor), grid=[4]))
            self.assertEqual(number, 9)
            graph.submit()
            self.assertEqual(graph.wait(PATIENCE_S), 0)
            self.assertTrue(graph.completion(9).ok)
            self.assertRaises(aios.NotFound, graph.completion, 10)
        self.assertTrue((numbers == 3628800).all())
        with self.tenant.graph() as circle:
            for _ in range(2):
                circle.add(aios.Task(0, scale))
            circle.edge(0, 1)
            circle.edge(1, 0)
            with self.assertRaisesRegex(aios.InvalidArgument, "circle"):
                circle.submit()
        self.assertEqual(self.tenant.cancel_all(), 0)

    def test_a_graph_that_would_be_too_late_is_refused_saying_when_it_would_be_done(self):
        increment = self.codelet("good", "increment")
        region = self.instance.create_region(1 << 20)
        buffer = self.tenant.buffer(region, aios.Access.WRITE)
        other = self.tenant.buffer(self.instance.create_region(1 << 20), aios.Access.WRITE)

        def chain(length):
            graph = self.enterContext(self.tenant.graph())
            for _ in range(length):
                graph.add(aios.Task(0, increment, [(buffer, aios.Mode.READ_WRITE),
                                                   (other, aios.Mode.WRITE)]))
            return graph

        first = chain(8)
        self.assertRaises(aios.NotFound, first.predicted)
        first.deadline(time.monotonic_ns() - 10**9)
        with self.assertRaisesRegex(aios.InvalidArgument, "passed"):
            first.submit()
        first.deadline(time.monotonic_ns() + PATIENCE_S * 10**9)
        first.submit()
        self.assertEqual(first.wait(PATIENCE_S), 0)
        ended = [first.completion(number) for number in range(8)]
        # What a task takes that nobody else was in the way of.
        task_ns = max(min(one.end_ns - one.start_ns for one in ended), 1)
        allowed_ns = 10**9
        late = chain(min(32 * allowed_ns // task_ns + 1, 32768))
        late.deadline(time.monotonic_ns() + allowed_ns)
        with self.assertRaisesRegex(aios.TooLate, "predicted to finish in .*its deadline is in"):
            late.submit()
        self.assertGreater(late.predicted().finish_p95_ns, time.monotonic_ns() + allowed_ns)
        small = chain(2)
        small.deadline(time.monotonic_ns() + PATIENCE_S * 10**9)
        small.submit()
        self.assertTrue(small.predicted().promised)
        self.assertEqual(small.wait(PATIENCE_S), 0)

    def test_a_graph_that_is_too_late_runs_in_cheaper_variants_if_it_may(self):
        careful = self.codelet("graph_work", "careful")
        quick = self.codelet("graph_work", "quick")
        self.assertRaises(aios.InvalidArgument, self.tenant.set_cheaper, careful, careful)
        self.tenant.set_cheaper(careful, quick)
        buffer = self.tenant.buffer(self.instance.create_region(1 << 20), aios.Access.WRITE)

        def row(codelet, length):
            graph = self.enterContext(self.tenant.graph())
            for _ in range(length):
                graph.add(aios.Task(0, codelet, [(buffer, aios.Mode.READ_WRITE)]))
            return graph

        median_ns = {}
        for codelet in (quick, careful):
            known = row(codelet, 5)
            known.submit()
            self.assertEqual(known.wait(PATIENCE_S), 0)
            done = [known.completion(number) for number in range(5)]
            median_ns[codelet] = sorted(one.end_ns - one.start_ns for one in done)[2]
        allowed_ns = max(int(200 * (median_ns[quick] * median_ns[careful]) ** 0.5), 10**9)
        late = row(careful, max(200, 8 * allowed_ns // median_ns[careful]))
        late.deadline(time.monotonic_ns() + allowed_ns)
        with self.assertRaisesRegex(aios.TooLate, "cheaper variants"):
            late.submit()
        offer = late.offered()
        self.assertGreaterEqual(offer.cheaper_tasks, 200)
        self.assertIsNone(offer.anywhere_p95_ns)
        late.permit_cheaper()
        late.deadline(time.monotonic_ns() + allowed_ns)
        late.submit()
        self.assertEqual(late.predicted().cheaper_tasks, offer.cheaper_tasks)
        self.assertIsNone(late.offered())
        self.assertEqual(late.wait(PATIENCE_S), 0)

    def test_a_gang_runs_at_the_same_time_or_not_at_all(self):
        meet = self.codelet("graph_work", "meet")
        threads = self.tenant.devices()[0].threads
        region = self.instance.create_region(4096)

        def meeting(tag, size):
            # The same bytes as buffers of their own: a graph would have one wait for the other.
            buffer = self.tenant.buffer(region, aios.Access.WRITE)
            return aios.Task(tag, meet, [(buffer, aios.Mode.READ_WRITE)], struct.pack("I", 2),
                             device=0, gang=(3, size) if tag else None)

        with self.assertRaisesRegex(aios.NotSupported, "can never start"):
            self.tenant.submit([meeting(1 + i, threads + 1) for i in range(threads + 1)])
        if threads < 2:
            self.skipTest("one thread: no gang fits")
        self.tenant.submit([meeting(1, 2)])
        self.tenant.submit([meeting(2, 2)])
        self.assertTrue(all(one.ok for one in self.finished(2).values()))
        with self.tenant.graph() as graph:
            graph.gang([graph.add(meeting(0, 0)), graph.add(meeting(0, 0))])
            graph.submit()
            self.assertEqual(graph.wait(PATIENCE_S), 0)
            self.assertRaises(aios.InvalidArgument, graph.gang, [0, 1])

    def test_a_module_is_also_its_bytes(self):
        module = (self.modules / "good.so").read_bytes()
        count = self.tenant.codelet(module, "count")
        self.tenant.submit(aios.Task(7, count, grid=[3, 2, 1]))
        done = self.finished(1)[7]
        self.assertEqual(done.result, (6, 15, 0, 0))
        self.assertEqual(done.attempts, 1)

    def test_a_task_that_fails_says_why(self):
        fail = self.codelet("good", "fail")
        self.tenant.submit(aios.Task(8, fail, arguments=struct.pack("II", 0, aios.Code.CORRUPT)))
        done = self.finished(1)[8]
        self.assertFalse(done.ok)
        self.assertEqual(done.status, aios.Code.CORRUPT)
        self.assertIn("block 0 gave up", self.tenant.failure(8))
        self.assertRaises(aios.NotFound, self.tenant.failure, 12345)

    def test_a_codelet_that_crashes_takes_nothing_with_it(self):
        crash, count = self.codelet("faulty", "abort"), self.codelet("good", "count")
        self.tenant.submit(aios.Task(9, crash))
        self.assertEqual(self.finished(1)[9].status, aios.Code.CRASHED)
        self.tenant.submit(aios.Task(10, count))
        self.assertTrue(self.finished(1)[10].ok)

    def test_a_task_ends_at_its_limit(self):
        self.tenant.submit(aios.Task(11, self.codelet("faulty", "loop"), limit_s=0.1,
                                     idempotent=False))
        self.assertEqual(self.finished(1)[11].status, aios.Code.TIMED_OUT)

    def test_a_task_that_waits_can_be_cancelled(self):
        loop, count = self.codelet("faulty", "loop"), self.codelet("good", "count")
        self.tenant.submit([aios.Task(12, loop), aios.Task(13, count, after=[12])])
        self.assertEqual(self.tenant.completions(0.01), [])
        self.assertEqual(aios.wait([self.tenant], 0), [])
        self.tenant.cancel(13)
        self.assertEqual(aios.wait([self.tenant], PATIENCE_S), [self.tenant])
        self.assertEqual(self.finished(1)[13].status, aios.Code.CANCELLED)
        self.assertRaises(aios.NotFound, self.tenant.cancel, 13)

    def test_a_thousand_tasks_in_one_batch_all_end(self):
        count = self.codelet("good", "count")
        self.tenant.submit(aios.Task(tag, count) for tag in range(1000))
        self.assertEqual(sorted(self.finished(1000)), list(range(1000)))

    def test_completions_come_in_asyncio(self):
        async def body():
            done = []
            waiting = asyncio.create_task(aios.aio.completions(self.tenant))
            await asyncio.sleep(0)
            self.tenant.submit(aios.Task(tag, count) for tag in range(50))
            async with asyncio.timeout(PATIENCE_S):
                done += await waiting
                while len(done) < 50:
                    done += await aios.aio.completions(self.tenant)
            return sorted(one.tag for one in done)

        count = self.codelet("good", "count")
        self.assertEqual(asyncio.run(body()), list(range(50)))

    def test_what_makes_no_sense_is_refused(self):
        count = self.codelet("good", "count")
        region = self.instance.create_region(4096)
        buffer = self.tenant.buffer(region, aios.Access.READ)
        read = (buffer, aios.Mode.READ)
        for wrong in (aios.Task(1, count, grid=[]), aios.Task(1, count, grid=[1] * 4),
                      aios.Task(1, count, grid=[0]), aios.Task(-1, count), aios.Task(2**64, count),
                      aios.Task(1, count, priority=2**31), aios.Task(1, count, limit_s=-1),
                      aios.Task(1, aios.CodeletId(9999)), aios.Task(1, count, [(buffer, 9)])):
            self.assertRaises(ValueError, self.tenant.submit, wrong)
        self.assertRaises(aios.TooLarge, self.tenant.submit,
                          aios.Task(1, count, arguments=bytes(65)))
        self.assertRaises(aios.Quota, self.tenant.submit, aios.Task(1, count, [read] * 17))
        self.assertRaises(aios.Quota, self.tenant.submit, aios.Task(1, count, after=range(13)))
        self.assertRaises(aios.InvalidArgument, self.tenant.submit, [])
        self.assertRaises(aios.InvalidArgument, self.tenant.submit,
                          [aios.Task(tag, count) for tag in range(1025)])
        self.assertRaises(aios.NotFound, self.tenant.codelet, "/no/such/module.so", "f")
        self.assertRaises(aios.InvalidArgument, self.tenant.buffer, region, aios.Access.READ, 1,
                          region.size_bytes)
        self.assertRaises(TypeError, self.tenant.submit, aios.Task("1", count))

    def test_a_region_that_is_read_only_here_is_no_buffer_to_write(self):
        region = self.instance.create_region(4096)
        region.keep("python-tasks")
        self.addCleanup(lambda: self.attach().forget("python-tasks"))
        other = self.attach()
        kept = other.open_region("python-tasks")
        with other.tenant() as tenant:
            self.assertRaises(aios.Denied, tenant.buffer, kept, aios.Access.WRITE)
            tenant.buffer(kept, aios.Access.READ)

    def test_completions_can_be_waited_for_together(self):
        count = self.codelet("good", "count")
        self.tenant.submit([aios.Task(tag, count) for tag in range(1, 9)])
        first = self.tenant.completions(PATIENCE_S, at_least=8)
        rest = self.finished(8 - len(first))
        self.assertEqual({one.tag for one in first} | set(rest), set(range(1, 9)))
        with self.assertRaises(aios.InvalidArgument):
            self.tenant.completions(0, at_most=2, at_least=3)

    def test_a_task_reads_a_lent_file(self):
        with open(__file__, "rb") as file:
            buffer = self.tenant.files([(file, 0, 3)])
        reader = self.codelet("good", "read_file")
        self.tenant.submit(aios.Task(1, reader, [(buffer, aios.Mode.READ)]))
        done = self.tenant.completions()[0]
        self.assertTrue(done.ok)
        self.assertEqual(done.result[0].to_bytes(8, "little")[:3], b'"""')
        with open(os.devnull, "rb") as nothing, self.assertRaises(aios.InvalidArgument):
            self.tenant.files([(nothing, 0, 0)])

    def test_a_closed_tenant_says_so(self):
        tenant = self.instance.tenant()
        tenant.close()
        self.assertRaises(aios.BadHandle, tenant.completions, 0)
        self.assertRaises(aios.BadHandle, aios.wait, [tenant])
