"""kill -9 of the kernel ends the instance: every server, context and attached program's call ends,
nothing is left running, and the next boot in the same folder finds what was stored."""

import os
import signal
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "support"))
from corpus import make_cut  # noqa: E402
from instance import (  # noqa: E402
    COMMAND_TIMEOUT_S, Instance, descendants, expect, identity, run_test, wait_until)

CUT_BYTES = 40_000_000
END_TIMEOUT_S = 10


def main():
    with Instance(sys.argv[1]) as instance:
        kept = instance.work / "kept"
        kept.write_bytes(b"stored before the kernel died")
        instance.ctl("fs", "put", kept, "kept")
        cut = instance.work / "cut"
        make_cut(cut, CUT_BYTES)
        job = instance.start("mapreduce", "run", "wordcount", "--input", cut, "--output",
                             instance.work / "output", "--threads", 2, "--memory-mb", 16)
        wait_until(lambda: instance.contexts() or job.poll() is not None, COMMAND_TIMEOUT_S,
                   "the job has a context")
        # It has to write the output, so that the job is not over before the kernel is killed.
        job.send_signal(signal.SIGSTOP)
        try:
            expect(job.poll() is None, "the job was over before the kernel could be killed")
            instance.remember()
            doomed = {i for i in map(identity, descendants(instance.kernel_pid)) if i}
            expect(len(doomed) >= 7, f"only {len(doomed)} processes belong to the instance")
            os.kill(instance.kernel_pid, signal.SIGKILL)
        finally:
            job.send_signal(signal.SIGCONT)
        wait_until(lambda: not any(identity(pid) == (pid, start) for pid, start in doomed),
                   END_TIMEOUT_S, "every process of the instance has ended")
        try:
            _, errors = job.communicate(timeout=END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            job.kill()
            job.communicate()
            expect(False, "the job's program did not end with the instance")
        expect(job.returncode in (1, 3) and errors.strip(),
               f"the job ended with {job.returncode} and said '{errors.strip()}'")
        expect(instance.try_ctl("status").returncode == 3, "status does not say that it is gone")
        print(f"{len(doomed)} processes ended; the job said: {errors.strip().splitlines()[-1]}")

        instance.ctl("boot", "--detach")
        instance.kernel_pid = instance.status()["pid"]
        expect(instance.ctl("fs", "cat", "kept") == "stored before the kernel died",
               "what was stored is gone")


if __name__ == "__main__":
    sys.exit(run_test(main))
