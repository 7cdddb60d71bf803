"""Programs that serve others."""

import gc
import struct
import sys

import aios
from common import PATIENCE_S, WORD, Case, Thread, run_python

PAGE = 4096
NULL, SAY = 0, 1


class Serving(Case):
    """A server and a client of it, each attached by itself."""

    def setUp(self):
        self.server_side = self.attach()
        self.label = f"python-{self._testMethodName[-22:]}"
        self.server = self.server_side.serve(self.label, 3)
        self.addCleanup(self.server.close)
        self.client_side = self.attach()
        self.client = self.enterContext(self.client_side.connect(self.label, 3))
        # A connection is made by both sides; from then on one thread can be both.
        connecting = Thread(self.client.call, NULL)
        while connecting.is_alive():
            self.assertRaises(aios.TimedOut, self.server.next, 0.001)
        connecting.result()

    def ask(self, data=b"", opcode=SAY):
        """A call under way, and its request."""
        call = self.client.start(opcode, data, PATIENCE_S)
        return call, self.server.next(PATIENCE_S)

    def test_a_request_carries_what_was_asked_and_by_whom(self):
        call, request = self.ask(b"hello", 7)
        self.assertEqual((request.opcode, request.data), (7, b"hello"))
        self.assertEqual(request.peer.protocol_version, 3)
        self.assertNotEqual(request.peer.client, 0)
        self.assertFalse(request.answered)
        request.reply(b"world")
        self.assertTrue(request.answered)
        self.assertEqual(call.result(PATIENCE_S), b"world")
        empty, request = self.ask()
        self.assertEqual(request.data, b"")
        request.reply()
        self.assertEqual(empty.result(PATIENCE_S), b"")

    def test_requests_are_answered_in_any_order_and_once(self):
        first, asked_first = self.ask(b"1")
        second, asked_second = self.ask(b"2")
        asked_second.reply(b"two")
        asked_first.reply(b"one")
        self.assertEqual((first.result(PATIENCE_S), second.result(PATIENCE_S)), (b"one", b"two"))
        self.assertRaises(aios.BadHandle, asked_first.reply, b"again")
        self.assertRaises(aios.BadHandle, asked_first.fail, aios.Code.BUSY, "again")
        self.assertRaises(aios.BadHandle, asked_first.region, 1)

    def test_two_threads_that_answer_one_request_answer_it_once(self):
        for _ in range(50):
            call, request = self.ask()

            def answer(text):
                try:
                    request.reply(text)
                except aios.BadHandle:
                    return 0
                return 1

            threads = [Thread(answer, text) for text in (b"a", b"b")]
            self.assertEqual(sum(thread.result() for thread in threads), 1)
            self.assertIn(call.result(PATIENCE_S), (b"a", b"b"))

    def test_an_error_reaches_the_client_as_its_exception(self):
        call, request = self.ask()
        request.fail(aios.Code.NOT_FOUND, "no such parrot")
        with self.assertRaisesRegex(aios.NotFound, "no such parrot"):
            call.result(PATIENCE_S)
        call, request = self.ask()
        self.assertRaises(aios.InvalidArgument, request.fail, aios.Code.OK, "fine")
        request.fail(aios.Code.BUSY, "\0")
        self.assertRaises(aios.Busy, call.result, PATIENCE_S)
        call, request = self.ask()
        request.fail(aios.Code.BUSY, "long " * 1000)
        with self.assertRaisesRegex(aios.Busy, "long long"):
            call.result(PATIENCE_S)

    def test_an_exception_in_the_block_is_the_answer(self):
        call, request = self.ask()
        with self.assertRaises(ZeroDivisionError), request:
            1 / 0
        with self.assertRaisesRegex(aios.Internal, "ZeroDivisionError: division by zero"):
            call.result(PATIENCE_S)
        call, request = self.ask()
        with self.assertRaises(aios.Quota), request:
            raise aios.Quota("enough")
        with self.assertRaisesRegex(aios.Quota, "enough"):
            call.result(PATIENCE_S)

    def test_an_interrupted_answer_is_given_all_the_same(self):
        returns = 0  # of functions of Python, in which a signal may be noticed

        def interrupt(frame, event, _):
            nonlocal returns
            if event == "return" and frame.f_code.co_name != "__del__":
                returns += 1
                if returns == at:
                    raise KeyboardInterrupt
            return interrupt

        for answer in (lambda request: request.reply(b"yes"),
                       lambda request: request.fail(aios.Code.QUOTA, "no")):
            at, interrupted = 1, True
            while interrupted:
                call, request = self.ask()
                returns, interrupted = 0, False
                try:
                    with request:
                        sys.settrace(interrupt)
                        try:
                            answer(request)
                        finally:
                            sys.settrace(None)
                except KeyboardInterrupt:
                    interrupted = True
                # An answer, or what the block came to; without one it would time out.
                try:
                    self.assertEqual(call.result(PATIENCE_S), b"yes")
                except (aios.Quota, aios.Internal):
                    pass
                at += 1
            self.assertGreater(at, 3)

    def test_a_request_that_is_given_up_is_cancelled(self):
        call, request = self.ask()
        del request
        gc.collect()
        self.assertRaises(aios.Cancelled, call.result, PATIENCE_S)
        call, request = self.ask()
        with request:
            pass
        self.assertRaises(aios.Cancelled, call.result, PATIENCE_S)

    def test_an_answer_that_is_too_large_is_an_error_for_both(self):
        call, request = self.ask()
        self.assertRaises(aios.TooLarge, request.reply, bytes(aios.MAX_REPLY_BYTES + 1))
        self.assertTrue(request.answered)
        self.assertRaises(aios.Internal, call.result, PATIENCE_S)
        call, request = self.ask()
        request.reply(bytes(aios.MAX_REPLY_BYTES))
        self.assertEqual(len(call.result(PATIENCE_S)), aios.MAX_REPLY_BYTES)

    def test_regions_go_both_ways_with_calls(self):
        sent = self.client_side.create_region(PAGE)
        sent.data[:4] = b"ping"
        call = self.client.start(SAY, WORD.pack(self.client.grant(sent, aios.Access.WRITE)),
                                 PATIENCE_S)
        request = self.server.next(PATIENCE_S)
        handle = WORD.unpack(request.data)[0]
        got = request.region(handle, aios.Access.WRITE)
        self.assertRaises(aios.BadHandle, request.region, handle)
        self.assertEqual(got.data[:4], b"ping")
        got.data[:4] = b"pong"
        answer = self.server_side.create_region(PAGE)
        answer.array("u8")[:3] = 1, 2, 3
        request.reply(struct.pack("=Q", request.grant(answer)))
        received = self.client.receive(WORD.unpack(call.result(PATIENCE_S))[0])
        self.assertEqual(sent.data[:4], b"pong")
        self.assertEqual(list(received.array("u8")[:3]), [1, 2, 3])
        self.assertFalse(received.writable)
        self.assertRaises(aios.Denied, self.client.grant, received, aios.Access.WRITE)

    def test_a_region_granted_to_read_cannot_be_written(self):
        sent = self.client_side.create_region(PAGE)
        self.client.start(SAY, WORD.pack(self.client.grant(sent)), PATIENCE_S)
        request = self.server.next(PATIENCE_S)
        self.assertRaises(aios.Denied, request.region, WORD.unpack(request.data)[0],
                          aios.Access.WRITE)
        self.assertTrue(request.region(WORD.unpack(request.data)[0]).data.readonly)

    def test_a_server_waits_for_its_next_request_no_longer_than_it_should(self):
        self.assertRaises(aios.TimedOut, self.server.next, 0)
        self.assertRaises(aios.TimedOut, self.server.next, 0.02)
        self.assertEqual(aios.wait([self.server], 0), [])
        call = self.client.start(SAY, b"", PATIENCE_S)
        self.assertEqual(aios.wait([self.server], PATIENCE_S), [self.server])
        for request in self.server:
            request.reply()
            break
        call.result(PATIENCE_S)

    def test_a_closed_server_ends_its_calls_and_gives_its_label_up(self):
        call, request = self.ask()
        self.server.close()
        self.assertRaises((aios.PeerClosed, aios.TimedOut), call.result, PATIENCE_S)
        self.assertRaises(aios.PeerClosed, request.reply, b"")
        self.assertRaises(aios.BadHandle, self.server.next, 0)
        self.assertRaises(aios.NotFound, self.attach().connect, self.label, 3)

    def test_names_that_are_taken_are_refused(self):
        self.assertRaises(aios.AlreadyExists, self.server_side.serve, "storage", 1)
        self.assertRaises(aios.InvalidArgument, self.server_side.serve, "a/b", 1)
        self.assertRaises(aios.InvalidArgument, self.server_side.serve, "", 1)

    def test_a_label_that_is_served_stays_with_its_server(self):
        self.assertRaises(aios.AlreadyExists, self.attach().serve, self.label, 3)
        call, request = self.ask()
        request.reply()
        call.result(PATIENCE_S)
        self.server.close()
        self.attach().serve(self.label, 3).close()

    def test_another_program_is_served(self):
        caller = Thread(run_python,
                        "import aios, sys\n"
                        "with aios.attach() as instance:\n"
                        "    print(instance.connect(sys.argv[1], 3).call(1, b'ask').decode())\n",
                        self.label)
        with self.server.next(PATIENCE_S) as request:
            request.reply(request.data + b"ed")
        result = caller.result()
        self.assertEqual(result.stdout, "asked\n", result.stderr)
