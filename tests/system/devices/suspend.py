"""A context that an operator suspends in the middle of a task goes on when it is resumed: nobody takes
it for hung, its time limit does not count meanwhile, and others compute on the device. So does a
program, with all that it has started.

usage: suspend.py AIOSCTL LIBAIOS CODELETS
"""

import json
import os
import struct
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT / "tests/support"), str(ROOT / "abi/python")]
AIOSCTL, LIBRARY, CODELETS = sys.argv[1:4]
os.environ["AIOS_LIBRARY"] = LIBRARY
import aios  # noqa: E402
from instance import Instance, descendants, expect, run_test, stat_fields, wait_until  # noqa: E402

PATIENCE_S = 30
LIMIT_S = 12.0
# Beyond the limit, and what the scheduler gives a context that does not keep it.
SUSPENDED_S = LIMIT_S + 5.0 + 1.5
NUMBERS = 256


class Application:
    def __init__(self, instance, name):
        self.attached = aios.attach(str(instance.state / "aios.sock"), job_name=name)
        self.tenant = self.attached.tenant(PATIENCE_S)
        self.region = self.attached.create_region(NUMBERS * 4, "words")
        self.buffer = self.tenant.buffer(self.region, aios.Access.WRITE)
        self.tag = 0

    def close(self):
        self.tenant.close()
        self.attached.close()

    def word(self, index):
        return struct.unpack_from("I", self.region.data, index * 4)[0]

    def start(self, module, codelet, arguments, limit_s=0.0):
        self.tag += 1
        made = self.tenant.codelet(f"{CODELETS}/{module}.so", codelet)
        # The processor's, of the devices that are there.
        device = next(d.index for d in self.tenant.devices() if d.backend == "cpu")
        buffers = [(self.buffer, aios.Mode.READ_WRITE)]
        if codelet == "vector_add":
            buffers = [(self.buffer, aios.Mode.READ)] * 2 + [(self.buffer, aios.Mode.WRITE)]
        self.tenant.submit(aios.Task(self.tag, made, buffers, arguments, device=device,
                                     limit_s=limit_s, idempotent=False))

    def end(self):
        """How the last task ended: attempts, and nothing or why it failed."""
        done = self.tenant.completions(PATIENCE_S)
        expect(done, "a task does not end")
        return done[0].attempts, "" if done[0].ok else self.tenant.failure(self.tag)


def goes_on(application):
    """Whether the endless kernel counts."""
    before = application.word(1)
    end = time.monotonic() + PATIENCE_S
    while application.word(1) == before and time.monotonic() < end:
        time.sleep(0.01)
    return application.word(1) != before


def state_of(instance, pid):
    """As `ps` lists it, for people and for programs."""
    state = next(p["state"] for p in instance.processes() if p["pid"] == pid)
    row = next(line.split() for line in instance.ctl("ps").splitlines() if line.split()[1] == str(pid))
    expect(state in row, f"the table of a {state} process says {row}")
    return state


def suspended_in_a_task(instance, a, b):
    a.start("faults", "forever", struct.pack("Q", 0), LIMIT_S)
    expect(goes_on(a), "the task does not start")
    context = instance.contexts()[0]
    expect(state_of(instance, context["pid"]) == "runs", "a context at work is not listed so")
    expect("suspended" in instance.ctl("suspend", context["pid"]), "it does not say what it did")
    expect(state_of(instance, context["pid"]) == "suspended", "ps does not show what is suspended")
    counted = a.word(1)
    end = time.monotonic() + SUSPENDED_S
    # Another application has the device meanwhile, also on a machine with one processor.
    b.start("vector", "vector_add", struct.pack("I", NUMBERS))
    expect(b.end() == (1, ""), "the other application cannot work")
    while time.monotonic() < end:
        time.sleep(0.1)
    expect(a.word(1) == counted, "a suspended context goes on")
    instance.ctl("resume", context["pid"])
    expect(goes_on(a), "a resumed context does not go on")
    expect(state_of(instance, context["pid"]) == "runs", "ps does not show that it was resumed")
    expect([c["pid"] for c in instance.contexts()].count(context["pid"]) == 1,
           "the context is another")
    a.region.data[:4] = struct.pack("I", 1)
    expect(a.end() == (1, ""), "the task did not end well")


def limits_count_again(a):
    a.region.data[:4] = struct.pack("I", 0)
    a.start("faults", "forever", struct.pack("Q", 0), 0.3)
    attempts, why = a.end()
    expect("time limit" in why, f"an endless task ended so: {why!r} after {attempts}")


def programs_stand_still_with_their_children(instance):
    """A program and what it has started: none of it goes on until it is resumed."""
    counter = instance.work / "counter"
    count = f"i=0; while :; do i=$((i+1)); echo $i > {counter}; sleep 0.01; done"
    program = instance.start("run", "--", "sh", "-c", f"trap 'kill $!' TERM; ({count}) & wait")
    try:
        wait_until(lambda: counter.exists() and counter.read_text(encoding="utf-8"), PATIENCE_S,
                   "it counts")
        said = instance.ctl("suspend", program.pid)
        expect("has started" in said, f"suspending a program: {said}")
        tree = descendants(program.pid)
        wait_until(lambda: all(stat_fields(pid)[0] == "T" for pid in tree), PATIENCE_S, "all stand still")
        expect(state_of(instance, program.pid) == "suspended", "ps does not show a suspended program")
        before = counter.read_text(encoding="utf-8")
        time.sleep(0.2)
        expect(counter.read_text(encoding="utf-8") == before and descendants(program.pid) == tree,
               "a suspended program goes on")
        instance.ctl("resume", program.pid)
        wait_until(lambda: counter.read_text(encoding="utf-8") not in ("", before), PATIENCE_S,
                   "it counts on")
        script = " ".join(map(str, instance.command("suspend", "$PPID")))
        own = instance.try_ctl("run", "--", "sh", "-c", f"exec {script}")
        expect(own.returncode == 1 and "this very command" in own.stderr, f"suspending itself: {own}")
    finally:
        instance.try_ctl("kill", program.pid)
        program.communicate(timeout=PATIENCE_S)


def numbers_of_another_namespace_tell_nothing(instance):
    """Whatever process has that number there."""
    own = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    listed = subprocess.run(["unshare", *own, "--pid", "--fork",
                             *map(str, instance.command("ps", "--json"))], env=instance.environment,
                            text=True, capture_output=True, timeout=PATIENCE_S, check=False)
    if "unshare" in listed.stderr:
        print(f"SKIPPED numbers_of_another_namespace_tell_nothing: {listed.stderr.strip()}")
        return
    expect(listed.returncode == 0, f"ps in a namespace of its own: {listed}")
    told = {(p["state"], p["memory_bytes"]) for p in json.loads(listed.stdout)}
    expect(told == {("unknown", 0)}, f"ps in a namespace of its own says {told}")


def what_cannot_be_suspended(instance):
    refused = instance.try_ctl("suspend", "storage")
    expect(refused.returncode == 1 and "taken for hung" in refused.stderr,
           f"suspending a server: {refused.stderr}")
    missing = instance.try_ctl("resume", "nobody")
    expect(missing.returncode == 1 and "aiosctl ps" in missing.stderr,
           f"resuming nobody: {missing.stderr}")


def main():
    with Instance(AIOSCTL) as instance:
        instance.wait_running()
        a, b = Application(instance, "a"), Application(instance, "b")
        wait_until(lambda: any(d.backend == "cpu" for d in a.tenant.devices()), PATIENCE_S,
                   "the processor is listed")
        suspended_in_a_task(instance, a, b)
        limits_count_again(a)
        programs_stand_still_with_their_children(instance)
        numbers_of_another_namespace_tell_nothing(instance)
        what_cannot_be_suspended(instance)
        b.close()
        a.close()


if __name__ == "__main__":
    sys.exit(run_test(main))
