"""An AIOS instance for tests: booted by aiosctl in a folder of its own, watched from outside.

Whoever leaves the `with` block gets a failure when the instance left anything behind.
"""

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

BOOT_TIMEOUT_S = 60
COMMAND_TIMEOUT_S = 60
RECOVERY_TIMEOUT_S = 10
POLL_INTERVAL_S = 0.01


class Failure(Exception):
    """What a test found to be wrong."""


def expect(condition, text):
    if not condition:
        raise Failure(text)


def wait_until(condition, timeout_s, what):
    """Returns the first truthy value of condition(); a Failure when there is none in time."""
    end = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        expect(time.monotonic() < end, f"not within {timeout_s} s: {what}")
        time.sleep(POLL_INTERVAL_S)


def stat_fields(pid):
    """Fields of /proc/PID/stat from the state on, or None when the process is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return text[text.rindex(")") + 2:].split()


def identity(pid):
    """Tells a process from a later one with its pid; None for one that is gone or a zombie."""
    fields = stat_fields(pid)
    return None if fields is None or fields[0] in "ZX" else (pid, fields[19])


def descendants(pid):
    """The living processes below `pid`, itself included."""
    children = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (fields := stat_fields(entry)):
            children.setdefault(int(fields[1]), []).append(int(entry))
    found = []
    queue = [pid]
    while queue:
        one = queue.pop()
        if identity(one):
            found.append(one)
        queue += children.get(one, [])
    return found


class Instance:
    def __init__(self, aiosctl, manifest=None, boot_options=(), socket=None):
        self.aiosctl = aiosctl
        self.boot_options = list(boot_options)
        self.socket = socket
        self.work = Path(tempfile.mkdtemp(prefix="aios-test-"))
        self.state = self.work / "state"
        self.manifest = manifest
        self.seen = set()
        self.kernel_pid = 0
        self.environment = {k: v for k, v in os.environ.items() if k != "AIOS_SOCKET"}

    def __enter__(self):
        try:
            options = ["--manifest", str(self.manifest)] if self.manifest else []
            self.ctl("boot", "--detach", *options, *self.boot_options, timeout_s=BOOT_TIMEOUT_S)
            self.kernel_pid = self.status()["pid"]
        except BaseException:
            self.show_logs()
            self.kill_all()
            shutil.rmtree(self.work, ignore_errors=True)
            raise
        return self

    def __exit__(self, kind, value, trace):
        try:
            if kind is not None:
                self.show_logs()
            self.remember()
            if identity(self.kernel_pid):
                self.ctl("shutdown")
            self.check_nothing_left()
        except Failure:
            if kind is None:
                raise
        finally:
            self.kill_all()
            shutil.rmtree(self.work, ignore_errors=True)

    def command(self, *arguments):
        socket = ["--socket", str(self.socket)] if self.socket else []
        return [self.aiosctl, "--state", str(self.state), *socket, *map(str, arguments)]

    def ctl(self, *arguments, timeout_s=COMMAND_TIMEOUT_S):
        """Runs aiosctl; its standard output, or a Failure with its standard error."""
        result = self.try_ctl(*arguments, timeout_s=timeout_s)
        expect(result.returncode == 0,
               f"aiosctl {' '.join(map(str, arguments))}: exit code {result.returncode}: "
               f"{result.stderr.strip()}")
        return result.stdout

    def try_ctl(self, *arguments, timeout_s=COMMAND_TIMEOUT_S):
        try:
            return subprocess.run(self.command(*arguments), env=self.environment, text=True,
                                  capture_output=True, timeout=timeout_s, check=False)
        except subprocess.TimeoutExpired as late:
            raise Failure(f"aiosctl {' '.join(map(str, arguments))} hung") from late

    def start(self, *arguments):
        """aiosctl in the background, with its output piped."""
        return subprocess.Popen(self.command(*arguments), env=self.environment, text=True,
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE)

    def status(self):
        return json.loads(self.ctl("status", "--json"))

    def processes(self):
        return json.loads(self.ctl("ps", "--json"))

    def pid_of(self, name):
        """The pid of the server `name`, or 0 while it is away."""
        listed = self.try_ctl("ps", "--json")
        if listed.returncode != 0:
            return 0
        found = [p["pid"] for p in json.loads(listed.stdout)
                 if p["name"] == name and p["kind"] == "server"]
        return found[0] if found else 0

    def contexts(self):
        return [p for p in self.processes() if p["kind"] == "context"]

    def all_running(self):
        listed = self.try_ctl("status", "--json")
        if listed.returncode != 0:
            return False
        return all(s["state"] == "running" for s in json.loads(listed.stdout)["servers"])

    def wait_running(self):
        wait_until(self.all_running, RECOVERY_TIMEOUT_S, "every server runs again")

    def remember(self):
        """Notes every process of the instance that lives now."""
        if self.kernel_pid:
            self.seen |= {i for i in map(identity, descendants(self.kernel_pid)) if i}

    def check_nothing_left(self):
        left = [pid for pid, start in self.seen if identity(pid) == (pid, start)]
        expect(not left, f"processes are left after shutdown: {left}")
        sockets = [str(p) for p in self.state.rglob("*") if p.is_socket()]
        expect(not sockets, f"sockets are left after shutdown: {sockets}")
        needle = str(self.state)
        with open("/proc/net/unix", encoding="utf-8", errors="replace") as listed:
            expect(not any(needle in line for line in listed), "a socket is still bound")

    def kill_all(self):
        """So that a failed test leaves nothing to the next one."""
        self.remember()
        for pid, start in self.seen:
            if identity(pid) == (pid, start):
                os.kill(pid, signal.SIGKILL)

    def show_logs(self):
        for log in sorted((self.state / "logs").glob("*.log")):
            lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-8:]
            print(f"--- end of {log.name}", *lines, sep="\n", flush=True)


def stop(number, _):
    raise SystemExit(128 + number)


def run_test(body):
    """Runs body(); the exit code for Meson. A test that takes too long ends what it began before it ends."""
    signal.signal(signal.SIGTERM, stop)
    try:
        body()
    except Failure as failure:
        print(f"FAILED: {failure}", flush=True)
        return 1
    return 0
