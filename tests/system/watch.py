"""aiosctl top and metrics: what they say of an instance at work, of one whose servers are away, and of
none; at a terminal, to other programs, and over HTTP."""

import fcntl
import http.client
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import termios
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TESTS / "support"))
from corpus import make_cut  # noqa: E402
from instance import COMMAND_TIMEOUT_S, Instance, expect, run_test, wait_until  # noqa: E402
from schema import check  # noqa: E402
from terminal import Terminal  # noqa: E402

UNREACHABLE = 3
USAGE = 2
JOB_BYTES = 150_000_000
# Debian's, whatever else is called python3 here: it has the package with the parser.
PARSE = ["/usr/bin/python3", "-c", """
import json, sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families as families
print(json.dumps([[s.name, s.labels, s.value] for f in families(sys.stdin.read()) for s in f.samples]))
"""]


def parsed(text):
    """{(name, label values, sorted): value}, by Prometheus's own parser, which is strict."""
    result = subprocess.run(PARSE, input=text, capture_output=True, text=True, timeout=60, check=False)
    expect(result.returncode == 0, f"no OpenMetrics: {result.stderr[-500:]}\n{text}")
    samples = {(name, *sorted(labels.values())): value
               for name, labels, value in json.loads(result.stdout)}
    expect(len(samples) > 20, f"only {samples}")
    return samples


def frames(text):
    schema = json.loads((TESTS.parent / "abi/schema/top.json").read_text(encoding="utf-8"))
    out = [json.loads(line) for line in text.splitlines()]
    for frame in out:
        check(frame, schema, "top")
    return out


def check_idle(instance):
    [frame] = frames(instance.ctl("top", "--json", "--interval", "0.1"))
    expect(0.1 <= frame["interval_s"] < 30 and frame["silent"] == {}, f"{frame}")
    expect({s["name"] for s in frame["servers"]} == {s["name"] for s in instance.status()["servers"]},
           f"servers: {frame['servers']}")
    expect(frame["jobs"] and frame["devices"] and frame["tasks_running"] == 0, f"{frame}")
    expect(any(j["path"] == "system" and j["processes"] == len(frame["servers"]) for j in frame["jobs"]),
           f"jobs: {frame['jobs']}")
    two = instance.ctl("top", "--interval", "0.1", "--count", "2")
    expect(two.count("AIOS at ") == 2 and two.count("DEVICE") == 2, f"two frames: {two}")
    samples = parsed(instance.ctl("metrics"))
    for server in frame["servers"]:
        expect(samples["aios_server_up", server["name"]] == 1, f"{server} is not up: {samples}")
    expect(samples["aios_job_processes", str(frame["jobs"][0]["job_id"]), frame["jobs"][0]["path"]] > 0,
           f"{samples}")


def check_at_work(instance):
    """A job whose program stands still while its tasks have run: what it has had is told."""
    make_cut(instance.work / "cut", JOB_BYTES)
    job = instance.start("mapreduce", "run", "wordcount", "--input", instance.work / "cut", "--output",
                         instance.work / "counted", "--threads", "1", "--memory-mb", "64")

    def row():
        [frame] = frames(instance.ctl("top", "--json", "--interval", "0.1", "--sort", "tasks"))
        mine = [j for j in frame["jobs"] if "/mr-" in j["path"] and j["tasks_done"] > 0]
        return (frame, mine[0]) if mine else None

    seen = wait_until(lambda: row() or job.poll() is not None, 30, "the job has run tasks")
    expect(isinstance(seen, tuple), "the job had ended before it was seen: give it more to do")
    frame, mine = seen
    job.send_signal(signal.SIGSTOP)
    expect(mine["memory_bytes"] > 0 and mine["processes"] >= 1, f"{mine}")
    user = [j for j in frame["jobs"] if j["path"] == mine["path"].split("/")[0]]
    expect(user and user[0]["tasks_done"] >= mine["tasks_done"]
           and user[0]["processes"] > mine["processes"], f"{user} lacks what {mine} has")
    samples = parsed(instance.ctl("metrics"))
    done = [v for k, v in samples.items() if k[0] == "aios_job_tasks_ended" and "done" in k
            and mine["path"] in k]
    expect(done and done[0] >= mine["tasks_done"], f"{done} of {mine}")
    job.send_signal(signal.SIGCONT)
    _, errors = job.communicate(timeout=60)
    expect(job.returncode == 0, f"the job: {errors}")
    after = parsed(instance.ctl("metrics"))
    expect(sum(v for k, v in after.items() if k[0] == "aios_device_tasks_total" and "done" in k) > 0,
           "no device has run a task")


def check_nested(instance):
    """Of what two programs have started that attached each thing is the nearest one's."""
    inner = f'{sys.executable} -c "x = bytearray(80_000_000); print(1, flush=True); input()"'
    outer = " ".join(["exec"] + [str(w) for w in instance.command("run", "--job", "inner", "--")] + [inner])
    program = subprocess.Popen(instance.command("run", "--job", "outer", "--", "/bin/sh", "-c", outer + "; true"),
                               env=instance.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                               text=True)
    expect(program.stdout.readline() == "1\n", "the inner program does not start")
    [frame] = frames(instance.ctl("top", "--json", "--interval", "0.1"))
    used = {j["path"].split("/")[-1]: j["memory_bytes"] for j in frame["jobs"]}
    program.communicate("\n", timeout=20)
    expect(used["inner"] > 70_000_000 > used["outer"] > 0, f"{used}")


def check_silent(instance):
    """A server that hangs takes with it only what it knows, whoever is asked after it. In an instance
    whose supervisor is patient: else it would be started anew, sooner or later."""
    for server, known in (("scheduler", "aios_device_up"), ("storage", "aios_storage_objects"),
                          ("supervisor", "aios_server_up")):
        pid = instance.pid_of(server)
        os.kill(pid, signal.SIGSTOP)
        try:
            samples = parsed(instance.ctl("metrics"))
        finally:
            os.kill(pid, signal.SIGCONT)
        silent = {k[1] for k, v in samples.items() if k[0] == "aios_silent" and v == 1}
        expect(silent == {server}, f"{server} hangs, and silent are {silent}")
        expect(not [k for k in samples if k[0] == known], f"{server} hangs, and {known} is known")


def check_without_servers(aiosctl):
    """What the manifest does not have is nobody who is silent."""
    with tempfile.TemporaryDirectory() as folder:
        manifest = Path(folder) / "aios.toml"
        manifest.write_text('[server.echo]\nbinary = "aios-echo"\npublish = true\n', encoding="utf-8")
        with Instance(aiosctl, manifest=manifest) as small:
            [frame] = frames(small.ctl("top", "--json", "--interval", "0.1"))
            expect(frame["silent"] == {} and frame["tasks_running"] is None, f"{frame}")
            expect("no answer" not in small.ctl("top", "--interval", "0.1"), "of nobody")


class Seat(Terminal):
    """One that knows whether it is as it was before."""

    def __init__(self, instance, *options):
        super().__init__(["/bin/sh", "-c", 'trap : INT; "$@"; echo "ended $?"; read line', "sh",
                          *map(str, instance.command("top", *options))], instance.environment)
        self.resize(40, 100)

    def resize(self, lines, columns):
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def expect_frame(self):
        self.expect("AIOS at ")

    def expect_end(self, code):
        """Back on the first screen, with a cursor, and lines are edited again."""
        self.expect("\x1b[?25h\x1b[?1049l")
        self.expect(f"ended {code}")
        local_modes = termios.tcgetattr(self.fd)[3]
        expect(local_modes & termios.ICANON and local_modes & termios.ECHO, "the terminal is raw")
        self.end("\n")

    def state(self):
        """Of top, as /proc calls it."""
        return Path(f"/proc/{self.top_pid()}/stat").read_text(encoding="utf-8").rsplit(") ", 1)[1][0]

    def top_pid(self):
        [child] = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text(encoding="utf-8").split()
        return int(child)


def check_terminal(instance):
    # No frame comes by itself.
    top = Seat(instance, "--interval", 600)
    top.expect_frame()
    top.expect("JOB")
    top.type("m")
    top.expect_frame()
    top.expect("system")
    # Cut to what fits, at once when that changes.
    top.resize(6, 60)
    top.expect("lines more")
    # Stopped it leaves the terminal to others, and takes it again.
    os.kill(top.top_pid(), signal.SIGTSTP)
    top.expect("\x1b[?25h\x1b[?1049l")
    wait_until(lambda: top.state() == "T", 20, "top is stopped")
    os.kill(top.top_pid(), signal.SIGCONT)
    top.expect("\x1b[?1049h")
    top.expect_frame()
    top.type("q")
    top.expect_end(0)
    for how, code in (("\x03", 0), (signal.SIGTERM, 128 + signal.SIGTERM),
                      (signal.SIGQUIT, 128 + signal.SIGQUIT)):
        top = Seat(instance, "--interval", 600)
        top.expect_frame()
        top.expect("JOB")
        if isinstance(how, str):
            top.type(how)
        else:
            os.kill(top.top_pid(), how)
        top.expect_end(code)


def check_hung_kernel(instance):
    """Nobody answers, and yet it ends when it is told to."""
    top = Seat(instance, "--interval", 600)
    top.expect("JOB")
    listening = Listening(instance)
    os.kill(instance.kernel_pid, signal.SIGSTOP)
    try:
        top.type(" ")
        top.type("\x03")
        top.expect_end(0)
        listening.end()
    finally:
        os.kill(instance.kernel_pid, signal.SIGCONT)
    instance.wait_running()


def check_end_of_instance(instance):
    top = Seat(instance, "--interval", "0.1")
    top.expect("JOB")
    instance.ctl("shutdown")
    top.expect_end(UNREACHABLE)
    instance.ctl("boot", "--detach")
    instance.kernel_pid = instance.status()["pid"]


class Listening:
    def __init__(self, instance, address="0"):
        self.process = instance.start("metrics", "--listen", address)
        line = self.process.stdout.readline()
        found = re.search(r"http://(.+):(\d+)/metrics", line)
        expect(found, f"it says {line!r}, {'' if line else self.process.stderr.read()}")
        self.host, self.port = found.group(1).strip("[]"), int(found.group(2))

    def ask(self, path="/metrics", method="GET", body=None):
        connection = http.client.HTTPConnection(self.host, self.port, timeout=COMMAND_TIMEOUT_S)
        connection.request(method, path, body)
        reply = connection.getresponse()
        text = reply.read().decode()
        connection.close()
        return reply.status, reply.headers.get("Content-Type"), text

    def end(self):
        self.process.send_signal(signal.SIGINT)
        self.process.communicate(timeout=20)
        expect(self.process.returncode == 0, f"it ends with {self.process.returncode}")


def check_http(instance):
    server = Listening(instance)
    expect(server.host == "127.0.0.1", f"it listens at {server.host}")
    status, kind, text = server.ask()
    expect(status == 200 and kind.startswith("application/openmetrics-text"), f"{status} {kind}")
    expect(parsed(text)["aios_server_up", "echo"] == 1, text)
    expect(server.ask("/")[0] == 404 and "/metrics" in server.ask("/")[2], "of another path")
    expect(server.ask(method="POST", body="x" * 100_000)[0] == 405, "of another method")
    expect(server.ask(method="HEAD")[:1] == (200,), "of HEAD")
    # Nobody else is kept waiting by those who say nothing, or nonsense.
    mute = [socket.create_connection((server.host, server.port), timeout=20) for _ in range(100)]
    for number, one in enumerate(mute):
        one.send(os.urandom(100) if number % 2 else b"GET /metrics HTTP/1.1\r\nHost: ")
    expect(server.ask()[0] == 200, "beside mute ones")
    for one in mute:
        one.close()
    taken = instance.try_ctl("metrics", "--listen", str(server.port))
    expect(taken.returncode == 1 and str(server.port) in taken.stderr, f"a port that is taken: {taken}")
    # An instance that is down is told; it may come back.
    instance.ctl("shutdown")
    status, _, text = server.ask()
    expect(status == 503 and "aiosctl boot" in text, f"{status} {text}")
    instance.ctl("boot", "--detach")
    instance.kernel_pid = instance.status()["pid"]
    expect(server.ask()[0] == 200, "of the next instance")
    server.end()
    six = Listening(instance, "[::1]:0")
    expect(six.ask()[0] == 200, "by IPv6")
    six.end()


def check_errors(instance):
    nobody = str(instance.work / "nobody")
    cases = [
        (["--socket", nobody, "top"], UNREACHABLE, "aiosctl boot"),
        (["--socket", nobody, "metrics"], UNREACHABLE, "aiosctl boot"),
        (["top", "--interval", "0"], USAGE, "0.1"),
        (["top", "--count", "-1"], USAGE, "-1"),
        (["top", "--sort", "colour"], USAGE, "colour"),
        (["metrics", "--listen", ""], USAGE, "--listen"),
        (["metrics", "--listen", "x"], USAGE, "'x'"),
        (["metrics", "--listen", "65536"], USAGE, "65536"),
        (["metrics", "--listen", ":9464"], USAGE, ":9464"),
        (["metrics", "--listen", "192.0.2.1:9464"], 1, "192.0.2.1:9464"),
    ]
    for arguments, code, text in cases:
        result = instance.try_ctl(*arguments)
        expect(result.returncode == code and text in result.stderr, f"{arguments}: {result}")


def body():
    with Instance(sys.argv[1]) as instance:
        check_idle(instance)
        check_at_work(instance)
        check_nested(instance)
        check_terminal(instance)
        check_hung_kernel(instance)
        check_end_of_instance(instance)
        check_errors(instance)
        check_http(instance)
    check_without_servers(sys.argv[1])
    usual = (TESTS.parent / "services/supervisor/aios.toml").read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder:
        manifest = Path(folder) / "aios.toml"
        manifest.write_text(usual.replace("heartbeat_ms = 1000", "heartbeat_ms = 60000"),
                            encoding="utf-8")
        expect("60000" in manifest.read_text(encoding="utf-8"), "the usual manifest has changed")
        with Instance(sys.argv[1], manifest=manifest) as patient:
            check_silent(patient)


if __name__ == "__main__":
    sys.exit(run_test(body))
