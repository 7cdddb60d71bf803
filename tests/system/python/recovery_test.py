"""Tenants that survive their scheduler."""

import contextlib
import os
import random
import signal
import struct
import subprocess
import threading
import time

import numpy

import aios
import common
from common import HERE, PATIENCE_S, ROOT, Case, Thread, booted_folder
from instance import Instance, wait_until

READ, WRITE = aios.Mode.READ, aios.Mode.WRITE
WORDS = 64
SLICE = 8 * WORDS
# Turns of a loop: about so many milliseconds.
A_MOMENT, LONG = 1_000_000, 400_000_000
MASK = 2**64 - 1


def mixed(more, *values):
    """What the codelet `mix` makes of them."""
    for value in values:
        more = (more * 31 + value) & MASK
    return more


class Base(Case):
    """An instance that allows `restarts`, for all tests of a class, and a tenant for each."""

    @classmethod
    def setUpClass(cls):
        folder = booted_folder(cls.__name__)
        cls.module = folder / "recovery.so"
        subprocess.run(["cc", "-O1", "-fPIC", "-shared", "-I", ROOT / "abi/include",
                        HERE / "recovery_module.c", "-o", cls.module], check=True)
        manifest = folder / "aios.toml"
        default = (ROOT / "services/supervisor/aios.toml").read_text(encoding="utf-8")
        manifest.write_text(default.replace(
            "[instance]\n", f"[instance]\nrestart = {{ count = {cls.restarts} }}\n"),
            encoding="utf-8")
        cls.booted = cls.enterClassContext(Instance(common.booted.aiosctl, manifest))

    def setUp(self):
        self.instance = self.enterContext(aios.attach(self.booted.state / "aios.sock"))
        self.tenant = self.enterContext(self.instance.tenant())
        self.mix = self.tenant.codelet(self.module, "mix")

    def memory(self, count):
        """So many buffers of one region, and what is in them."""
        region = self.instance.create_region(count * SLICE)
        buffers = [self.tenant.buffer(region, aios.Access.WRITE, number * SLICE, SLICE)
                   for number in range(count)]
        return buffers, region.array("u8", count * WORDS).reshape(count, WORDS)

    def kill(self):
        """The scheduler; returns when there is another."""
        before = wait_until(lambda: self.booted.pid_of("scheduler"), PATIENCE_S, "a scheduler")
        os.kill(before, signal.SIGKILL)
        wait_until(lambda: self.booted.pid_of("scheduler") not in (0, before), PATIENCE_S,
                   "another scheduler")

    @contextlib.contextmanager
    def kills(self, seed):
        """Kills at any moment while the block runs; gives how many those were so far. Where it takes long
        to recover there is more time between them: something must get done."""
        count, over = [0], threading.Event()

        def body():
            moments = random.Random(seed)
            pause_s = 0.15
            while not over.wait(moments.uniform(0, pause_s)):
                began = time.monotonic()
                self.kill()
                pause_s = 0.15 + 3 * max(time.monotonic() - began - 0.05, 0)
                count[0] += 1

        killer = Thread(body)
        try:
            yield count
        finally:
            over.set()
            killer.result()

    def finished(self, count):
        """The completions of so many tasks, each once."""
        found = {}
        while len(found) < count:
            some = self.tenant.completions(PATIENCE_S)
            self.assertTrue(some, f"only {len(found)} of {count} tasks have ended")
            for one in some:
                self.assertNotIn(one.tag, found)
                found[one.tag] = one
        self.assertEqual(self.tenant.completions(0), [])
        return found


class Recovery(Base):
    restarts = 100_000

    def test_graphs_of_idempotent_tasks_go_on_however_often_it_dies(self):
        width, depth = 5, 6
        buffers, numbers = self.memory(width * depth)
        rounds = 0
        with self.kills(1) as count:
            while count[0] < 12:
                rounds += 1
                want = numpy.zeros((depth, width), dtype="u8")
                with self.tenant.graph() as graph:
                    for layer in range(depth):
                        for place in range(width):
                            sources = [] if layer == 0 else [place, (place + layer) % width]
                            graph.add(aios.Task(
                                0, self.mix,
                                [*((buffers[(layer - 1) * width + one], READ) for one in sources),
                                 (buffers[layer * width + place], WRITE)],
                                struct.pack("II", A_MOMENT, rounds + place)))
                            want[layer][place] = mixed(rounds + place, *(
                                int(want[layer - 1][one]) for one in sources))
                    graph.submit(PATIENCE_S)
                    self.assertEqual(graph.wait(PATIENCE_S), 0)
                    for number in range(width * depth):
                        done = graph.completion(number)
                        self.assertEqual(done.result[0], want[number // width][number % width])
                self.assertTrue((numbers == want.reshape(-1, 1)).all())

    def test_every_tag_comes_back_once_and_with_its_result(self):
        last = 0
        buffers, numbers = self.memory(8)
        with self.kills(2) as count:
            while count[0] < 12:
                tags = range(last + 1, last + 301)
                last = tags[-1]
                # The dependencies reach back into what ended before, which no scheduler knows any more.
                tasks = [aios.Task(tag, self.mix, [(buffers[tag % 8], WRITE)],
                                   struct.pack("II", A_MOMENT // 20, tag),
                                   after=[tag - 8] if tag > 8 else []) for tag in tags]
                self.tenant.submit_many(tasks[:200], PATIENCE_S)
                for task in tasks[200:]:
                    self.tenant.submit(task, PATIENCE_S)
                for tag, done in self.finished(300).items():
                    self.assertTrue(done.ok, f"task {tag} ended with {done.status}")
                    self.assertEqual(done.result[0], tag)
                self.assertEqual(sorted(numbers[:, 0]), list(range(last - 7, last + 1)))

    def test_what_overwrites_its_own_input_is_right_or_indeterminate(self):
        buffers, numbers = self.memory(2)
        length = 40
        given_up = 0
        with self.kills(3) as count:
            while count[0] < 12:
                numbers[:] = [[1], [0]]
                self.tenant.submit([
                    aios.Task(step, self.mix, [(buffers[step % 2], READ), (buffers[1 - step % 2], WRITE)],
                              struct.pack("II", A_MOMENT, step), after=[step - 1] if step else [])
                    for step in range(length)], PATIENCE_S)
                value = 1
                done = self.finished(length)
                right = [step for step in range(length) if done[step].ok]
                self.assertEqual(right, list(range(len(right))))
                for step in range(len(right)):
                    value = mixed(step, value)
                    self.assertEqual(done[step].result[0], value)
                if len(right) == length:
                    self.assertTrue((numbers[length % 2] == value).all())
                    continue
                given_up += 1
                self.assertEqual(done[len(right)].status, aios.Code.INDETERMINATE)
                self.assertIn("overwrites", self.tenant.failure(len(right)))
                for step in range(len(right), length):
                    self.assertIn(done[step].status,
                                  (aios.Code.INDETERMINATE, aios.Code.CANCELLED))
        self.assertGreater(given_up, 0)

    def test_a_task_that_is_not_idempotent_never_runs_twice(self):
        add_one = self.tenant.codelet(self.module, "add_one")
        buffers, numbers = self.memory(9)
        for _ in range(4):
            numbers[:] = 0
            tasks = [aios.Task(place, add_one, [(buffers[place], aios.Mode.READ_WRITE)],
                               struct.pack("II", LONG if place else 0, 0), idempotent=False)
                     for place in range(8)]
            tasks.append(aios.Task(8, self.mix, [(buffers[0], READ), (buffers[8], WRITE)],
                                   struct.pack("II", 0, 0), after=[7]))
            self.tenant.submit(tasks)
            wait_until(lambda: numbers[:8, 0].any(), PATIENCE_S, "a task has begun")
            self.kill()
            done = self.finished(9)
            for place in range(8):
                self.assertIn(done[place].status, (aios.Code.OK, aios.Code.INDETERMINATE))
                self.assertIn(numbers[place, 0], (1,) if done[place].ok else (0, 1))
            self.assertEqual(done[7].status, aios.Code.INDETERMINATE)
            self.assertIn("not idempotent", self.tenant.failure(7))
            self.assertEqual(done[8].status, aios.Code.CANCELLED)
            self.assertIn("task 7", self.tenant.failure(8))

    def test_what_ended_before_is_known_after(self):
        buffers, numbers = self.memory(1)
        give_up = self.tenant.codelet(self.module, "give_up")
        self.tenant.submit([aios.Task(1, self.mix, [(buffers[0], WRITE)], struct.pack("II", 0, 5)),
                            aios.Task(2, give_up)])
        before = self.finished(2)
        self.assertEqual([before[tag].ok for tag in (1, 2)], [True, False])
        self.kill()
        self.tenant.submit([aios.Task(4, self.mix, [(buffers[0], WRITE)], struct.pack("II", 0, 6),
                                      after=[1]), aios.Task(5, self.mix, after=[2]),
                            aios.Task(6, self.mix, after=[5])])
        done = self.finished(3)
        self.assertTrue(done[4].ok)
        self.assertEqual(numbers[0, 0], 6)
        for tag in (5, 6):
            self.assertEqual(done[tag].status, aios.Code.CANCELLED)
        self.assertIn("task 2", self.tenant.failure(5))
        for wrong in (aios.Task(7, self.mix, after=[99]), aios.Task(7, aios.CodeletId(77)),
                      aios.Task(7, self.mix, [(aios.BufferId(77), WRITE)])):
            with self.assertRaisesRegex(aios.InvalidArgument, "task 7.*(99|77)"):
                self.tenant.submit(wrong)

    def test_what_is_registered_stays_and_more_can_be(self):
        first, _ = self.memory(3)
        self.tenant.release(first[1])
        with open(__file__, "rb") as file:
            files = self.tenant.files([(file, 0, 3)])
        region = self.instance.create_region(SLICE)
        kept = self.tenant.buffer(region, aios.Access.WRITE)
        array = region.array("u8", WORDS)
        region.close()
        self.kill()
        # In the order of their numbers at a new scheduler these would be others.
        second, numbers = self.memory(2)
        self.assertFalse({*second} & {first[0], first[2], files, kept})
        self.tenant.submit([
            aios.Task(1, self.mix, [(kept, WRITE)], struct.pack("II", 0, 7)),
            aios.Task(2, self.mix, [(kept, READ), (second[1], WRITE)], struct.pack("II", 0, 1),
                      after=[1])])
        self.assertTrue(all(one.ok for one in self.finished(2).values()))
        self.assertEqual(numbers[1, 0], mixed(1, 7))
        self.kill()
        reader = self.tenant.codelet(self.module, "mix")
        self.tenant.submit(aios.Task(3, reader, [(second[0], WRITE)], struct.pack("II", 0, 9)))
        self.assertTrue(self.finished(1)[3].ok)
        self.assertEqual(numbers[0, 0], 9)
        for buffer in (first[0], first[2], files, kept, *second):
            self.tenant.release(buffer)
        self.assertRaises(aios.NotFound, self.tenant.release, kept)
        del array

    def test_what_was_cancelled_stays_cancelled(self):
        buffers, numbers = self.memory(2)
        numbers[:] = 0
        self.tenant.submit([
            aios.Task(1, self.mix, [(buffers[0], WRITE)], struct.pack("II", LONG, 1)),
            aios.Task(2, self.mix, [(buffers[1], WRITE)], struct.pack("II", 0, 2), after=[1])])
        self.tenant.cancel(2)
        self.kill()
        done = self.finished(2)
        self.assertTrue(done[1].ok)
        self.assertEqual(done[2].status, aios.Code.CANCELLED)
        self.assertEqual(numbers[:, 0].tolist(), [1, 0])

    def test_a_graph_with_a_deadline_is_kept_or_given_back(self):
        buffers, numbers = self.memory(20)
        kept = 0
        with self.kills(4) as count:
            while count[0] < 12:
                with self.tenant.graph() as graph:
                    for place, buffer in enumerate(buffers):
                        graph.add(aios.Task(0, self.mix, [(buffer, WRITE)],
                                            struct.pack("II", A_MOMENT, place)))
                    graph.deadline(time.monotonic_ns() + 60 * 10**9)
                    try:
                        graph.submit(PATIENCE_S)
                    except aios.Indeterminate as error:
                        self.assertIn("before it said whether", str(error))
                        continue
                    self.assertEqual(graph.wait(PATIENCE_S), 0)
                    kept += 1
                self.assertEqual(numbers[:, 0].tolist(), list(range(20)))
        self.assertGreater(kept, 0)

    def test_calls_wait_for_it_until_their_own_deadline(self):
        buffers, numbers = self.memory(1)
        supervisor = self.booted.pid_of("supervisor")
        scheduler = self.booted.pid_of("scheduler")
        os.kill(supervisor, signal.SIGSTOP)
        try:
            os.kill(scheduler, signal.SIGKILL)
            wait_until(lambda: not self.booted.pid_of("scheduler"), PATIENCE_S, "it is gone")
            task = aios.Task(1, self.mix, [(buffers[0], WRITE)], struct.pack("II", 0, 3))
            begin = time.monotonic()
            self.assertRaises(aios.TimedOut, self.tenant.submit, task, 0.1)
            self.assertRaises(aios.TimedOut, self.tenant.codelet, self.module, "mix", 0.1)
            self.assertEqual(self.tenant.completions(0.1), [])
            self.assertGreaterEqual(time.monotonic() - begin, 0.3)
            waiting = Thread(self.tenant.submit, task, PATIENCE_S)
            self.assertEqual(aios.wait([self.tenant], 0.1), [])
        finally:
            os.kill(supervisor, signal.SIGCONT)
        waiting.result()
        self.assertTrue(self.finished(1)[1].ok)
        self.assertEqual(numbers[0, 0], 3)


class Quarantine(Base):
    restarts = 1

    def test_in_quarantine_it_is_service_down(self):
        self.kill()
        self.assertEqual(self.tenant.completions(0), [])
        buffers, _ = self.memory(1)
        self.tenant.submit(aios.Task(1, self.mix, [(buffers[0], WRITE)], struct.pack("II", LONG, 1)))
        waiting = Thread(self.tenant.completions)
        os.kill(self.booted.pid_of("scheduler"), signal.SIGKILL)
        self.assertRaises(aios.ServiceDown, waiting.result)
        for call in (lambda: self.tenant.submit(aios.Task(2, self.mix)), self.tenant.cancel_all,
                     lambda: self.tenant.codelet(self.module, "mix"), self.instance.tenant):
            self.assertRaises(aios.ServiceDown, call)
        self.booted.ctl("restart", "scheduler")
        self.assertRaises(aios.ServiceDown, self.tenant.completions)
        with self.instance.tenant() as another:
            self.assertEqual(another.completions(0), [])
