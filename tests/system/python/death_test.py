"""Servers that die, and the instance itself."""

import asyncio
import os
import signal

import common
import aios
from common import ECHO_VERSION, HOLD, PATIENCE_S, RELEASE, WORD, Case, Thread, echo, hold, release
from instance import Instance, wait_until


def kill(server):
    os.kill(common.booted.pid_of(server), signal.SIGKILL)


class Servers(Case):
    def tearDown(self):
        common.booted.wait_running()

    def test_a_call_ends_when_its_server_dies_and_the_next_one_reaches_its_successor(self):
        echo_service = self.attach().connect("echo", ECHO_VERSION)
        waiting = Thread(echo_service.call, HOLD, WORD.pack(1), None)
        other = self.attach().connect("echo", ECHO_VERSION)
        call = hold(other, 2)
        wait_until(lambda: release(other, 1) or not waiting.is_alive(), PATIENCE_S, "it is held")
        waiting.result()
        waiting = Thread(aios.wait, [call, other], PATIENCE_S)
        kill("echo")
        # It may hear of the service before it hears of the call.
        self.assertTrue(waiting.result())
        self.assertEqual(aios.wait([call], PATIENCE_S), [call])
        self.assertRaises(aios.PeerClosed, call.result)
        self.assertEqual(echo(other, 3), 3)
        self.assertEqual(echo(echo_service, 4), 4)

    def test_asyncio_sees_that_a_server_died(self):
        async def body():
            service = self.attach().connect("echo", ECHO_VERSION)
            await aios.aio.call(service, RELEASE, WORD.pack(0))
            call = asyncio.create_task(aios.aio.call(service, HOLD, WORD.pack(3), None))
            gone = asyncio.create_task(aios.aio.ready(service))
            await asyncio.sleep(0)
            kill("echo")
            async with asyncio.timeout(PATIENCE_S):
                with self.assertRaises(aios.PeerClosed):
                    await call
                await gone
                await aios.aio.call(service, RELEASE, WORD.pack(0))

        asyncio.run(body())

    def test_storage_is_there_again_after_its_death(self):
        storage = self.attach().storage()
        storage.put("python/kept", b"kept")
        kill("storage")
        wait_until(lambda: common.booted.pid_of("storage"), PATIENCE_S, "storage runs")
        self.assertEqual(storage.get("python/kept"), b"kept")


class InstanceEnd(Case):
    def test_everything_ends_with_the_instance_and_memory_stays(self):
        with Instance(common.booted.aiosctl) as own:
            instance = aios.attach(own.state / "aios.sock")
            service = instance.connect("echo", ECHO_VERSION)
            echo(service, 1)
            server = instance.serve("python-end", 1)
            array = instance.create_region(4096).array()
            serving = Thread(server.next)
            call = Thread(service.call, HOLD, WORD.pack(1), None)
            own.remember()
            own.ctl("shutdown")
            self.assertRaises(aios.Unreachable, serving.result)
            self.assertRaises((aios.PeerClosed, aios.Unreachable), call.result)
            for use in (lambda: echo(service, 1), lambda: instance.create_region(1),
                        lambda: instance.storage().stat("x"), lambda: instance.tenant(1)):
                self.assertRaises((aios.PeerClosed, aios.Unreachable), use)
            array[0] = 1
            self.assertRaises(aios.Unreachable, aios.attach, own.state / "aios.sock")

    def test_whoever_waits_in_asyncio_sees_the_end(self):
        async def body(own):
            instance = aios.attach(own.state / "aios.sock")
            service = instance.connect("echo", ECHO_VERSION)
            await aios.aio.call(service, RELEASE, WORD.pack(0))
            server = instance.serve("python-end", 1)
            request = asyncio.create_task(aios.aio.next_request(server))
            call = asyncio.create_task(aios.aio.call(service, HOLD, WORD.pack(1), None))
            await asyncio.sleep(0)
            own.remember()
            await asyncio.to_thread(own.ctl, "shutdown")
            async with asyncio.timeout(PATIENCE_S):
                with self.assertRaises(aios.Unreachable):
                    await request
                with self.assertRaises((aios.PeerClosed, aios.Unreachable)):
                    await call
                with self.assertRaises(aios.Unreachable):
                    await aios.aio.next_request(server)

        with Instance(common.booted.aiosctl) as own:
            asyncio.run(body(own))
        self.assertEqual(aios.aio._watches, {})
