"""Objects end in the right order, whatever happens: exits, exceptions, signals and forks."""

import gc
import os
import signal
import threading
import time

import aios
from common import (ECHO_VERSION, HOLD, PATIENCE_S, WORD, Case, Thread, echo, hold, release,
                    run_python)
from instance import stat_fields, wait_until

PAGE = 4096
# Makes one of everything, at module level, and closes nothing.
MAKE_ALL = f"""
import aios, sys
instance = aios.attach()
echo = instance.connect("echo", {ECHO_VERSION})
echo.call(1, bytes(264))
call = echo.start(2, (99).to_bytes(8, "little"))
region = instance.create_region(4096)
view, array = region.data, region.array()
storage = instance.storage()
storage.put("python/lifetime", region.data)
tenant = instance.tenant()
server = instance.serve("python-lifetime", 1)
"""


class Ends(Case):
    def assert_ends_well(self, code):
        result = run_python(code)
        self.assertEqual((result.returncode, result.stderr), (0, ""))

    def test_a_program_may_end_with_everything_open(self):
        self.assert_ends_well(MAKE_ALL)

    def test_a_program_may_end_with_everything_in_a_cycle(self):
        self.assert_ends_well(MAKE_ALL + "cycle = [instance, echo, call, region, array]\n"
                              "cycle.append(cycle)\n"
                              "del instance, echo, call, region, view, array, storage, tenant\n")

    def test_a_program_may_end_with_threads_that_wait(self):
        self.assert_ends_well(
            MAKE_ALL + "import threading\n"
            "ready = threading.Barrier(4)\n"
            "def wait(f):\n    ready.wait()\n    f()\n"
            "for f in (server.next, call.result, tenant.completions):\n"
            "    threading.Thread(target=wait, args=[f], daemon=True).start()\n"
            "ready.wait()\n")

    def test_objects_may_be_closed_in_any_order(self):
        for order in ("instance echo call region storage tenant server",
                      "server tenant storage region call echo instance"):
            self.assert_ends_well(MAKE_ALL + "".join(f"{name}.close()\n"
                                                     for name in order.split()))

    def test_nothing_is_left_open(self):
        def use_all():
            with aios.attach() as instance, instance.connect("echo", ECHO_VERSION) as service:
                echo(service, 1)
                region = instance.create_region(PAGE)
                service.grant(region)
                instance.storage().put("python/leak", region.data)
                instance.tenant()
                instance.serve("python-leak", 1)
                hold(service, 77).done

        use_all()
        gc.collect()
        with self.no_leak():
            for _ in range(10):
                use_all()

    def test_what_is_made_of_an_instance_keeps_it(self):
        service = aios.attach().connect("echo", ECHO_VERSION)
        gc.collect()
        self.assertEqual(echo(service, 5), 5)
        call = hold(service, 78)
        del service
        other = self.attach().connect("echo", ECHO_VERSION)
        self.assertEqual(release(other, 78), 1)
        call.result(PATIENCE_S)


class Interrupts(Case):
    """Ctrl-C while the main thread, which runs the tests, blocks."""

    def assert_interrupts(self, blocking):
        main = threading.main_thread().native_id

        def interrupt():
            # The main thread waits for this lock first, then in the call.
            begun.wait(PATIENCE_S)
            wait_until(lambda: stat_fields(f"{os.getpid()}/task/{main}")[0] == "S", PATIENCE_S,
                       "the main thread blocks")
            os.kill(os.getpid(), signal.SIGINT)

        begun = threading.Event()
        interrupter = Thread(interrupt)
        begin = time.monotonic()
        with self.assertRaises(KeyboardInterrupt):
            begun.set()
            blocking()
            interrupter.join()
        self.assertLess(time.monotonic() - begin, PATIENCE_S)
        interrupter.result()

    def setUp(self):
        self.instance = self.attach()
        self.echo = self.instance.connect("echo", ECHO_VERSION)
        echo(self.echo, 1)

    def test_it_ends_a_call(self):
        self.assert_interrupts(lambda: self.echo.call(HOLD, WORD.pack(80), None))
        self.assertEqual(echo(self.echo, 2), 2)

    def test_it_ends_a_wait(self):
        call = hold(self.echo, 81, None)
        self.assert_interrupts(lambda: aios.wait([call]))
        release(self.echo, 81)
        call.result(PATIENCE_S)

    def test_it_ends_a_grant_to_a_server_that_accepts_nothing(self):
        with self.instance.serve("python-deaf", 1):
            other = self.attach()
            region = other.create_region(4096)
            with other.connect("python-deaf", 1) as deaf:
                self.assert_interrupts(lambda: deaf.grant(region, timeout_s=None))
                self.assertRaises(aios.TimedOut, deaf.grant, region, timeout_s=0.02)

    def test_it_ends_waiting_for_requests_and_completions(self):
        with self.instance.serve("python-interrupt", 1) as server:
            self.assert_interrupts(server.next)
        with self.instance.tenant() as tenant:
            self.assert_interrupts(tenant.completions)


class Forks(Case):
    def in_child(self, body):
        """What body() answers in a forked child, as a text; it ends like any Python program."""
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.write(writer, str(body()).encode())
            except BaseException as error:
                os.write(writer, repr(error).encode())
            os._exit(0)
        os.close(writer)
        with os.fdopen(reader) as pipe:
            answer = pipe.read()
        self.assertEqual(os.waitpid(pid, 0)[1], 0)
        return answer

    def test_a_child_gets_a_clear_error_for_what_is_its_parents(self):
        instance = self.attach()
        service = instance.connect("echo", ECHO_VERSION)
        echo(service, 1)
        call, region = hold(service, 90), instance.create_region(PAGE)
        storage, tenant = instance.storage(), instance.tenant()
        server = instance.serve("python-fork", 1)
        uses = [lambda: echo(service, 1), call.result, lambda: instance.create_region(PAGE),
                lambda: storage.stat("x"), lambda: tenant.completions(0), lambda: server.next(0),
                lambda: aios.wait([call], 0), lambda: service.grant(region), instance.arm,
                lambda: region.keep("python-fork-region"), region.freeze,
                lambda: instance.mapreduce("m", ["i"], "o")]

        def use_all():
            texts = set()
            for use in uses:
                try:
                    use()
                except aios.BadHandle as error:
                    texts.add(str(error))
            return len(texts) == 1 and "fork" in texts.pop()

        self.assertEqual(self.in_child(use_all), "True")
        self.assertEqual(release(service, 90), 1)
        call.result(PATIENCE_S)
        server.close()

    def test_a_child_sees_the_memory_and_frees_without_harm(self):
        instance = aios.attach()
        service = instance.connect("echo", ECHO_VERSION)
        region = instance.create_region(PAGE)
        array = region.array("i8")

        def write_and_free():
            nonlocal instance, service, region, array
            region.array("i8")[0] = 11
            array[1] = 22
            region.close()
            del array, region, service, instance
            gc.collect()
            return "freed"

        self.assertEqual(self.in_child(write_and_free), "freed")
        self.assertEqual(list(array[:2]), [11, 22])
        self.assertEqual(echo(service, 3), 3)

    def test_a_child_attaches_for_itself(self):
        parent = self.attach()

        def attach_again():
            with aios.attach() as instance, instance.connect("echo", ECHO_VERSION) as service:
                return echo(service, 7)

        self.assertEqual(self.in_child(attach_again), "7")
        self.assertEqual(echo(parent.connect("echo", ECHO_VERSION), 8), 8)

    def test_pools_of_forked_workers_attach_for_themselves(self):
        result = run_python(
            "import aios, multiprocessing\n"
            "parent = aios.attach()\n"
            "def work(n):\n"
            "    with aios.attach() as instance, \\\n"
            f"            instance.connect('echo', {ECHO_VERSION}) as echo:\n"
            "        return echo.call(1, bytes([n]) + bytes(263))[0]\n"
            "with multiprocessing.get_context('fork').Pool(2) as pool:\n"
            "    print(pool.map(work, range(8)))\n")
        self.assertEqual((result.stdout, result.stderr), (f"{list(range(8))}\n", ""))
