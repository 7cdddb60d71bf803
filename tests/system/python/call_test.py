"""Calls, and waiting for several of them."""

import array
import ctypes
import os
import time

import aios
from common import (ECHO, ECHO_VERSION, HOLD, MESSAGE, PATIENCE_S, WORD, Case, Thread, echo, hold,
                    release)


class EchoMessage(ctypes.Structure):
    _fields_ = [("value", ctypes.c_uint64), ("bytes", ctypes.c_uint8 * 256)]


class Calls(Case):
    def setUp(self):
        self.instance = self.attach()
        self.echo = self.enterContext(self.instance.connect("echo", ECHO_VERSION))

    def test_a_request_is_any_buffer_and_a_reply_is_bytes(self):
        self.assertEqual(echo(self.echo, 41), 41)
        message = EchoMessage(42)
        answer = EchoMessage.from_buffer_copy(self.echo.call(ECHO, message))
        self.assertEqual(answer.value, 42)
        raw = bytearray(MESSAGE.size)
        self.assertEqual(self.echo.call(ECHO, raw), raw)
        self.assertEqual(self.echo.call(ECHO, memoryview(raw).toreadonly()), raw)
        self.assertEqual(self.echo.call(ECHO, array.array("B", raw)), raw)
        self.assertRaises(TypeError, self.echo.call, ECHO, "text")
        self.assertRaises(BufferError, self.echo.call, ECHO, memoryview(raw)[::2])

    def test_calls_under_way_end_in_any_order(self):
        first, second = hold(self.echo, 1), hold(self.echo, 2)
        self.assertFalse(first.done)
        self.assertRaises(aios.TimedOut, first.result, 0)
        self.assertEqual(release(self.echo, 2), 1)
        self.assertEqual(aios.wait([first, second], PATIENCE_S), [second])
        self.assertTrue(second.done)
        self.assertEqual(second.result(), second.result())
        self.assertEqual(release(self.echo, 1), 1)
        first.result(PATIENCE_S)

    def test_a_call_ends_when_its_time_has_passed(self):
        with self.assertRaises(TimeoutError) as raised:
            self.echo.call(HOLD, WORD.pack(3), 0.02)
        self.assertIsInstance(raised.exception, aios.TimedOut)
        self.assertEqual(raised.exception.code, aios.Code.TIMED_OUT)
        late = hold(self.echo, 3, 0.02)
        self.assertEqual(aios.wait([late], PATIENCE_S), [late])
        self.assertRaises(aios.TimedOut, late.result)
        self.assertTrue(late.done)
        release(self.echo, 3)

    def test_arguments_that_make_no_sense_are_refused(self):
        self.assertRaises(aios.TooLarge, self.echo.call, ECHO, bytes(aios.MAX_REQUEST_BYTES + 1))
        self.assertRaises(aios.InvalidArgument, self.echo.call, 2**16, b"")
        self.assertRaises(aios.InvalidArgument, self.echo.call, -1, b"")
        self.assertRaises(aios.InvalidArgument, self.echo.call, ECHO, b"", -1)
        self.assertRaises(aios.InvalidArgument, self.echo.call, ECHO, b"", float("nan"))
        self.assertRaises(TypeError, self.echo.call, "echo", b"")
        self.assertRaises(aios.NotFound, self.instance.connect, "nobody", 1)
        self.assertRaises(TypeError, self.instance.connect, b"echo", 1)
        self.assertRaises(aios.InvalidArgument, aios.wait, [])
        self.assertRaises(aios.InvalidArgument, aios.wait, [0] * 257)

    def test_a_program_that_never_spins_gets_the_same_answers(self):
        with self.attach(never_spin=True).connect("echo", ECHO_VERSION) as service:
            self.assertEqual([echo(service, i) for i in range(100)], list(range(100)))

    def test_another_version_of_the_protocol_is_refused(self):
        with self.instance.connect("echo", 99) as wrong:
            self.assertRaises(aios.VersionMismatch, echo, wrong, 1)

    def test_closed_objects_say_so(self):
        service = self.instance.connect("echo", ECHO_VERSION)
        call = hold(service, 5)
        call.close()
        self.assertRaises(aios.BadHandle, call.result)
        self.assertRaises(aios.BadHandle, aios.wait, [call])
        service.close()
        self.assertRaises(aios.BadHandle, echo, service, 1)
        self.assertRaises(aios.BadHandle, service.start, ECHO)
        instance = aios.attach()
        instance.close()
        for use in (lambda: instance.connect("echo", 1), lambda: instance.create_region(1),
                    lambda: instance.storage(), lambda: instance.tenant(),
                    lambda: instance.serve("python", 1), lambda: instance.poll_fd(),
                    lambda: instance.mapreduce("m", ["i"], "o")):
            with self.assertRaisesRegex(aios.BadHandle, "Instance is closed"):
                use()
        release(self.echo, 5)

    def test_a_service_that_is_closed_lets_its_calls_end(self):
        service = self.instance.connect("echo", ECHO_VERSION)
        call = hold(service, 6)
        service.close()
        while release(self.echo, 6) == 0:
            self.assertFalse(call.done)
        call.result(PATIENCE_S)

    def test_wait_sees_descriptors_calls_and_connections_together(self):
        reader, writer = os.pipe()
        self.addCleanup(os.close, writer)
        with os.fdopen(reader, "rb") as pipe:
            call = hold(self.echo, 7)
            self.assertEqual(aios.wait([call, pipe, reader], 0), [])
            os.write(writer, b"x")
            self.assertEqual(aios.wait([call, pipe, reader], PATIENCE_S), [pipe, reader])
            release(self.echo, 7)
            self.assertEqual(aios.wait([call, self.echo], PATIENCE_S), [call])

    def test_waiting_takes_as_long_as_it_should_and_no_processor(self):
        call = hold(self.echo, 8)
        begin, used = time.monotonic(), time.process_time()
        self.assertEqual(aios.wait([call], 0.5), [])
        self.assertGreaterEqual(time.monotonic() - begin, 0.5)
        self.assertLess(time.process_time() - used, 0.25)
        release(self.echo, 8)

    def test_over_4096_waiting_calls_are_over_the_quota(self):
        with self.instance.connect("echo", ECHO_VERSION) as crowded:
            # Besides those that wait to be sent some are under way.
            calls = [hold(crowded, 9) for _ in range(6000)]
            self.assertRaises(aios.Quota, calls[-1].result)
            self.assertFalse(calls[4000].done)


class Threads(Case):
    def test_threads_that_share_a_service_get_their_own_answers(self):
        service = self.attach().connect("echo", ECHO_VERSION)

        def call_often(number):
            return all(echo(service, number << 32 | i) == number << 32 | i for i in range(500))

        self.assertTrue(all(thread.result() for thread in
                            [Thread(call_often, number) for number in range(4)]))

    def test_threads_with_their_own_instances_get_their_own_answers(self):
        def call_often(number):
            with aios.attach() as instance, instance.connect("echo", ECHO_VERSION) as service:
                return all(echo(service, number + i) == number + i for i in range(500))

        self.assertTrue(all(thread.result() for thread in
                            [Thread(call_often, number) for number in range(2)]))

    def test_a_thread_that_waits_lets_others_run(self):
        service = self.attach().connect("echo", ECHO_VERSION)
        call = hold(service, 20)
        waiter = Thread(call.result)
        for i in range(100):
            self.assertEqual(echo(service, i), i)
        self.assertTrue(waiter.is_alive())
        release(service, 20)
        waiter.result()

    def test_a_service_closed_by_one_thread_ends_after_the_calls_of_another(self):
        service = self.attach().connect("echo", ECHO_VERSION)
        releaser = self.attach().connect("echo", ECHO_VERSION)
        call = hold(service, 21)
        waiter = Thread(aios.wait, [call], PATIENCE_S)
        service.close()
        while release(releaser, 21) == 0:
            pass
        self.assertEqual(waiter.result(), [call])
