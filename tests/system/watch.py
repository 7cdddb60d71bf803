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
JOB_BYTES = 40_000_000
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
    expect(0.1 <= frame["interval_s"] < 30 and frame["silent"] == [], f"{frame}")
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
                         instance.work / "counted")

    def row():
        [frame] = frames(instance.ctl("top", "--json", "--interval", "0.1", "--sort", "tasks"))
        mine = [j for j in frame["jobs"] if "/mr-" in j["path"] and j["tasks_done"] > 0]
        return (frame, mine[0]) if mine else None

    frame, mine = wait_until(lambda: row() or job.poll() is not None, 30, "the job has run tasks")
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


def check_silent(instance):
    """A server that hangs takes with it only what it knows."""
    pid = instance.pid_of("storage")
    os.kill(pid, signal.SIGSTOP)
    try:
        samples = parsed(instance.ctl("metrics"))
    finally:
        os.kill(pid, signal.SIGCONT)
    expect(samples["aios_silent", "storage"] == 1 and samples["aios_silent", "scheduler"] == 0,
           f"{samples}")
    expect(("aios_storage_objects",) not in samples, "storage is silent, and yet its numbers are known")
    instance.wait_running()


def check_terminal(instance):
    # One key after another is seen: no frame comes by itself.
    top = Terminal([str(w) for w in instance.command("top", "--interval", 600)], instance.environment)
    fcntl.ioctl(top.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    top.expect("AIOS at ")
    top.expect("JOB")
    top.type("m")
    top.expect("AIOS at ")
    top.expect("system")
    # Cut to what fits, at once when that changes.
    fcntl.ioctl(top.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 6, 60, 0, 0))
    top.expect("lines more")
    expect(top.end("q") == 0, "q does not end it")
    interrupted = Terminal([str(w) for w in instance.command("top", "--interval", 600)],
                           instance.environment)
    interrupted.expect("AIOS at ")
    expect(interrupted.end("\x03") == 0, "Ctrl-C does not end it")
    piped = instance.start("top", "--json", "--interval", "600")
    piped.send_signal(signal.SIGINT)
    piped.communicate(timeout=20)


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
    mute = [socket.create_connection((server.host, server.port), timeout=20) for _ in range(20)]
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
        check_silent(instance)
        check_terminal(instance)
        check_errors(instance)
        check_http(instance)


if __name__ == "__main__":
    sys.exit(run_test(body))
