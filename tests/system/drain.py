"""The orderly end: what runs may finish, new work is refused with a reason, a second signal hurries,
and a service manager is told all the while."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TESTS / "support"))
from corpus import make_cut  # noqa: E402
from instance import Instance, expect, identity, run_test, wait_until  # noqa: E402

CORPUS_BYTES = 20_000_000
END_TIMEOUT_S = 60


def manifest(folder, drain_ms):
    path = Path(folder, "aios.toml")
    standard = (TESTS.parent / "services/supervisor/aios.toml").read_text(encoding="utf-8")
    path.write_text(standard.replace("drain_ms = 2000", f"drain_ms = {drain_ms}"),
                    encoding="utf-8")
    expect(f"drain_ms = {drain_ms}" in path.read_text(encoding="utf-8"), "the standard manifest")
    return path


class Patient(Instance):
    def __init__(self, aiosctl, drain_ms):
        super().__init__(aiosctl)
        self.manifest = manifest(self.work, drain_ms)
        self.text = self.work / "text"
        self.text.mkdir()
        make_cut(self.text, CORPUS_BYTES)

    def __enter__(self):
        super().__enter__()
        return self

    def stopped_job(self):
        """A job whose client is stopped, so that it cannot get on before the client does."""
        job = self.start("mapreduce", "run", "wordcount", "--input", self.text, "--output",
                         self.work / "counted", "--threads", "1")
        # It is listed before it is submitted, but has a context only then.
        wait_until(self.contexts, 20, "the job runs")
        os.kill(job.pid, signal.SIGSTOP)
        return job

    def log_says(self, name, text):
        return text in (self.state / "logs" / f"{name}.log").read_text(encoding="utf-8")

    def begin_shutdown(self):
        os.kill(self.kernel_pid, signal.SIGTERM)
        wait_until(lambda: self.log_says("supervisor", "shutting down"), 20, "it shuts down")

    def await_end(self):
        # The socket goes first.
        wait_until(lambda: not identity(self.kernel_pid), END_TIMEOUT_S, "it ends")
        expect(not (self.state / "aios.sock").exists(), "its socket is left")


def check_drain(aiosctl):
    with Patient(aiosctl, 60_000) as instance:
        job = instance.stopped_job()
        one = instance.work / "one"
        one.write_text("word", encoding="utf-8")
        instance.begin_shutdown()

        def refusal(*arguments):
            result = instance.try_ctl(*arguments)
            return result.returncode == 1 and "shutting down" in result.stderr

        # The wish reaches each server by a message of its own.
        wait_until(lambda: refusal("mapreduce", "run", "wordcount", "--input", one, "--output",
                                   instance.work / "second"), 20, "new jobs are refused")
        wait_until(lambda: refusal("fs", "put", one, "late"), 20, "new objects are refused")
        expect(instance.all_running(), "servers end before the work does")
        os.kill(job.pid, signal.SIGCONT)
        _, errors = job.communicate(timeout=END_TIMEOUT_S)
        expect(job.returncode == 0, f"the job that ran was not finished: {errors}")
        expect((instance.work / "counted" / "part-00000").stat().st_size > 0, "its output")
        instance.await_end()


def check_limit(aiosctl):
    """What does not finish in time is ended."""
    with Patient(aiosctl, 300) as instance:
        job = instance.stopped_job()
        instance.begin_shutdown()
        instance.await_end()
        os.kill(job.pid, signal.SIGCONT)
        job.communicate(timeout=END_TIMEOUT_S)
        expect(job.returncode == 1, "a job that was cut off says so")


def check_hurry(aiosctl):
    """In the foreground: the manager is told, the first signal drains, the second ends it."""
    instance = Patient(aiosctl, 600_000)
    heard = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    heard.bind(str(instance.work / "notify"))
    heard.settimeout(END_TIMEOUT_S)
    instance.environment["NOTIFY_SOCKET"] = str(instance.work / "notify")
    boot = instance.start("boot", "--manifest", instance.manifest)
    try:
        def await_line(text):
            while text not in heard.recv(4096).decode():
                pass
        await_line("READY=1")
        expect(instance.all_running(), "ready means that all run")
        instance.kernel_pid = instance.status()["pid"]
        instance.remember()
        job = instance.stopped_job()
        boot.send_signal(signal.SIGTERM)
        await_line("STOPPING=1")
        wait_until(lambda: instance.log_says("supervisor", "shutting down"), 20, "it drains")
        expect(boot.poll() is None, "it does not wait for the job")
        boot.send_signal(signal.SIGTERM)
        boot.communicate(timeout=END_TIMEOUT_S)
        os.kill(job.pid, signal.SIGCONT)
        job.communicate(timeout=END_TIMEOUT_S)
        expect(job.returncode == 1, "the job ends with the instance")
        instance.check_nothing_left()
    except BaseException:
        instance.show_logs()
        raise
    finally:
        boot.kill()
        boot.communicate()
        instance.kill_all()
        subprocess.run(["rm", "-rf", str(instance.work)], check=True)


def body():
    check_drain(sys.argv[1])
    check_limit(sys.argv[1])
    check_hurry(sys.argv[1])


if __name__ == "__main__":
    sys.exit(run_test(body))
