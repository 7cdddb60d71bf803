"""Waiting in asyncio."""

import asyncio
import contextlib
import os
import resource
import threading
import time

import aios
from common import (ECHO, ECHO_VERSION, HOLD, MESSAGE, PATIENCE_S, RELEASE, WORD, Case, Thread,
                    echo, hold, release)

FOREVER_S = 3600


@contextlib.contextmanager
def few_descriptors():
    """As long as it is entered, there are no more descriptors."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
    taken = []
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.open("/dev/null", os.O_RDONLY))
        yield
    finally:
        for descriptor in taken:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


class Loops(Case):
    def setUp(self):
        self.instance = self.attach()
        self.echo = self.instance.connect("echo", ECHO_VERSION)
        self.other = self.attach().connect("echo", ECHO_VERSION)
        echo(self.other, 1)

    def run_loop(self, body):
        """Runs body() in a loop of its own, which watches nothing of ours at the end."""
        async def within():
            async with asyncio.timeout(PATIENCE_S):
                return await body()

        result = asyncio.run(within())
        self.assertEqual(aios.aio._watches, {})
        return result

    def hold(self, key, timeout_s=FOREVER_S):
        return aios.aio.call(self.echo, HOLD, WORD.pack(key), timeout_s)

    def test_many_calls_at_once_all_get_their_answers(self):
        async def body():
            answers = await asyncio.gather(*(
                aios.aio.call(self.echo, ECHO, MESSAGE.pack(i, b"")) for i in range(600)))
            return [MESSAGE.unpack(answer)[0] for answer in answers]

        self.assertEqual(self.run_loop(body), list(range(600)))
        self.assertEqual(self.run_loop(body), list(range(600)))

    def test_errors_and_deadlines_are_exceptions(self):
        async def body():
            with self.assertRaises(aios.TimedOut):
                await self.hold(100, 0.02)
            with self.assertRaises(aios.NotSupported):
                await aios.aio.call(self.echo, 999)
            with self.assertRaises(aios.BadHandle):
                await aios.aio.call(closed, ECHO)

        closed = self.instance.connect("echo", ECHO_VERSION)
        closed.close()
        self.run_loop(body)

    def test_a_shortage_of_descriptors_is_told_as_what_it_is(self):
        async def body():
            with few_descriptors(), self.assertRaises(aios.Quota):
                await self.hold(103)
            return MESSAGE.unpack(await aios.aio.call(self.echo, ECHO, MESSAGE.pack(1, b"")))[0]

        # So that only to watch a connection needs one.
        echo(self.echo, 1)
        self.instance.poll_fd()
        self.assertEqual(self.run_loop(body), 1)

    def test_a_cancelled_call_leaves_the_others_alone(self):
        async def body():
            kept = asyncio.create_task(self.hold(101))
            gone = asyncio.create_task(self.hold(102))
            while release(self.other, 102) == 0:  # both are held
                await asyncio.sleep(0)
            await gone
            gone = asyncio.create_task(self.hold(103))
            await asyncio.sleep(0)
            gone.cancel()
            with self.assertRaises(asyncio.CancelledError):
                await gone
            with self.assertRaises(TimeoutError):
                async with asyncio.timeout(0.02):
                    await self.hold(104)
            self.assertFalse(kept.done())
            while release(self.other, 101) == 0:
                await asyncio.sleep(0)
            await kept
            release(self.other, 103)
            release(self.other, 104)

        self.run_loop(body)

    def test_an_idle_loop_sleeps_and_there_is_no_thread_behind_it(self):
        async def body():
            call = asyncio.create_task(self.hold(105))
            turns = 0

            async def count_turns():
                nonlocal turns
                while True:
                    await asyncio.sleep(0.1)
                    turns += 1

            counter = asyncio.create_task(count_turns())
            await asyncio.sleep(0.1)
            used = time.process_time()
            await asyncio.sleep(0.6)
            self.assertLess(time.process_time() - used, 0.3)
            self.assertGreater(turns, 0)
            self.assertEqual(len(os.listdir("/proc/self/task")), threads)
            release(self.other, 105)
            await call
            counter.cancel()

        threads = len(os.listdir("/proc/self/task"))
        self.run_loop(body)

    def test_answers_that_another_thread_takes_arrive(self):
        async def body():
            for key in range(200, 230):
                call = asyncio.create_task(self.hold(key))
                await asyncio.sleep(0)
                helper = Thread(release_all, key)
                await call
                helper.result()

        def release_all(key):
            # Over the same service: this thread finds the loop's answers in the ring, too.
            while release(self.echo, key) == 0:
                pass

        self.run_loop(body)

    def test_calls_without_asyncio_work_in_between(self):
        async def body():
            call = asyncio.create_task(self.hold(107))
            await asyncio.sleep(0)
            for i in range(20):
                self.assertEqual(echo(self.echo, i), i)
                await asyncio.sleep(0)
            self.assertEqual(release(self.echo, 107), 1)
            await call

        self.run_loop(body)

    def test_a_server_and_its_client_live_in_one_loop(self):
        async def body():
            async def serve():
                while True:
                    with await aios.aio.next_request(server) as request:
                        if request.opcode == RELEASE:
                            return
                        request.reply(request.data[::-1])

            with self.instance.serve("python-aio", 1) as server, \
                    self.attach().connect("python-aio", 1) as client:
                serving = asyncio.create_task(serve())
                answers = await asyncio.gather(*(
                    aios.aio.call(client, ECHO, WORD.pack(i)) for i in range(200)))
                self.assertEqual(answers, [WORD.pack(i)[::-1] for i in range(200)])
                with self.assertRaises(aios.Cancelled):
                    await aios.aio.call(client, RELEASE)
                await serving

        self.run_loop(body)

    def test_two_tasks_that_wait_for_requests_share_them(self):
        async def body():
            async def take():
                request = await aios.aio.next_request(server)
                request.reply(b"x")

            with self.instance.serve("python-aio-2", 1) as server, \
                    self.attach().connect("python-aio-2", 1) as client:
                takers = [asyncio.create_task(take()) for _ in range(2)]
                for _ in range(2):
                    self.assertEqual(await aios.aio.call(client, ECHO), b"x")
                await asyncio.gather(*takers)

        self.run_loop(body)

    def test_loops_one_after_the_other_may_use_an_instance_but_not_two_at_once(self):
        async def body():
            call = asyncio.create_task(self.hold(108))
            await asyncio.sleep(0)
            thread = Thread(lambda: asyncio.run(self.hold(109)))
            with self.assertRaisesRegex(aios.Busy, "another event loop"):
                await asyncio.to_thread(thread.result)
            while release(self.other, 108) == 0:
                await asyncio.sleep(0)
            await call

        self.run_loop(body)
        self.run_loop(body)
        release(self.other, 109)

    def test_a_loop_that_was_left_behind_is_no_hindrance(self):
        loop = asyncio.new_event_loop()
        left = loop.create_task(self.hold(110))
        loop.run_until_complete(asyncio.sleep(0))
        left._log_destroy_pending = False
        loop.close()

        async def body():
            return await aios.aio.call(self.echo, RELEASE, WORD.pack(110))

        self.run_loop(body)
        del left
        self.run_loop(body)

    def test_loops_leave_no_descriptor_open(self):
        async def body():
            with self.assertRaises(aios.TimedOut):
                await self.hold(111, 0.005)

        self.run_loop(body)
        with self.no_leak():
            for _ in range(10):
                self.run_loop(body)

    def test_threads_with_instances_and_loops_of_their_own_do_not_meet(self):
        def work(number):
            async def body():
                with aios.attach() as instance, instance.connect("echo", ECHO_VERSION) as service:
                    answers = await asyncio.gather(*(
                        aios.aio.call(service, ECHO, MESSAGE.pack(number, b""))
                        for _ in range(100)))
                    return {MESSAGE.unpack(answer)[0] for answer in answers}

            return asyncio.run(body())

        threads = [Thread(work, number) for number in range(3)]
        self.assertEqual([thread.result() for thread in threads], [{0}, {1}, {2}])
        self.assertEqual(threading.active_count(), 1)


class Foreign(Case):
    def test_any_loop_that_polls_can_wait(self):
        import select

        instance = self.attach()
        service = instance.connect("echo", ECHO_VERSION)
        echo(service, 1)
        other = self.attach().connect("echo", ECHO_VERSION)
        poll = select.poll()
        poll.register(instance.poll_fd(), select.POLLIN)
        call = hold(service, 120)
        instance.dispatch()
        while instance.arm():
            instance.dispatch()
        self.assertEqual(poll.poll(0), [])
        while release(other, 120) == 0:
            pass
        self.assertTrue(poll.poll(PATIENCE_S * 1000))
        instance.disarm()
        instance.dispatch()
        self.assertTrue(call.done)
