"""`aiosctl run --sandbox`: the program runs, calls AIOS as any program of its user, passes its exit
code and gets signals; and it gets at nothing that was not shown to it."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TESTS / "support"))
from instance import Instance, expect, run_test, wait_until  # noqa: E402

PYTHON = "/usr/bin/python3"
SIGSYS = 31
# What a program does that wants out, one line of Python each. It ends with DONE when it was done; with
# an exception (1) or by SIGSYS when not. First whether anybody can do it without the sandbox.
DONE = 42
KEPT = 7
PROFILES = ("--sandbox", "--sandbox=streaming")
ATTEMPTS = {
    "read the host's secret": (True, "open(SECRET).read()"),
    "list the home folder": (True, "os.listdir(HOME)"),
    "read the password file": (True, "open('/etc/passwd').read()"),
    "read the state of the instance": (True, "os.listdir(STATE + '/logs')"),
    "write to the system's programs": (False, "open('/usr/bin/x-of-aios-test', 'a').close();"
                                              "os.unlink('/usr/bin/x-of-aios-test')"),
    "write what it may only read": (True, "open(READABLE + '/new', 'w')"),
    "look at processes": (True, "os.listdir('/proc')"),
    "see a process outside": (True, "os.kill(OUTSIDER, 0)"),
    "stop a process outside": (True, "os.kill(OUTSIDER, 18)"),
    "reach the network": (True, "socket.create_connection(('127.0.0.1', PORT), 2)"),
    "make a network socket": (True, "socket.socket(socket.AF_INET, socket.SOCK_DGRAM)"),
    "reach a socket of the host's": (True, "socket.socket(socket.AF_UNIX).connect(OTHER_SOCKET)"),
    "trace its parent": (False, "assert libc.ptrace(0x4206, os.getppid(), 0, 0) == 0"),
    "mount": (False, "assert libc.mount(b'x', b'/mnt', b'tmpfs', 0, None) == 0; libc.umount(b'/mnt')"),
    "make a user namespace": (False, "assert libc.unshare(0x10000000) == 0"),
    "change the root": (False, "os.chroot('/tmp')"),
    "use a descriptor that was left open": (True, f"os.fstat({KEPT})"),
    "use io_uring": (False, "assert libc.syscall(425, 8, ctypes.create_string_buffer(120)) >= 0"),
    "make a device": (False, "os.mknod('/tmp/x-of-aios-test', 0o20666, os.makedev(1, 3));"
                             "os.unlink('/tmp/x-of-aios-test')"),
}
PROLOGUE = ("import ctypes, os, socket, sys\nlibc = ctypes.CDLL(None)\n"
            "SECRET, HOME, STATE, READABLE, OTHER_SOCKET = {paths!r}\n"
            "OUTSIDER, PORT = {numbers!r}\n")


def sandboxed(instance, *arguments):
    return instance.try_ctl("run", "--sandbox", *arguments)


def it_runs_and_passes_what_it_should(instance):
    result = sandboxed(instance, "--", "sh", "-c", "echo out; echo err >&2; exit 7")
    if "not confined" in result.stderr or "cannot confine" in result.stderr:
        # A host without user namespaces: refused, and said.
        expect(result.returncode == 127, f"run without confinement: {result}")
        return False
    expect((result.returncode, result.stdout) == (7, "out\n") and "err" in result.stderr,
           f"exit code and output: {result}")
    expect(sandboxed(instance, "--", "sh", "-c", "kill -9 $$").returncode == 128 + 9,
           "the end by a signal is not told")
    missing = sandboxed(instance, "--", "/no/such/program")
    expect(missing.returncode != 0 and "cannot show /no/such/program" in missing.stderr,
           f"a program that is not there: {missing}")
    with tempfile.NamedTemporaryFile(dir="/tmp") as outside:  # its name exists there, and not within
        inside = f"/tmp/{Path(outside.name).name}"
        private = sandboxed(instance, "--", "sh", "-c",
                            f"test ! -e {inside} && echo mine > {inside} && cat {inside} && pwd")
        untouched = outside.read() == b""
    expect(private.stdout == "mine\n/tmp\n" and untouched,
           f"a /tmp of its own: {private}")
    return True


def it_gets_signals(instance):
    program = instance.start("run", "--sandbox", "--", "sh", "-c",
                             "trap 'exit 5' TERM; echo ready; while :; do sleep 0.1; done")
    expect(program.stdout.readline() == "ready\n", "the program does not begin")
    program.send_signal(signal.SIGTERM)
    program.communicate(timeout=20)
    expect(program.returncode == 5, f"SIGTERM was not handed on: {program.returncode}")


def it_sees_what_is_shown(instance):
    shown = instance.work / "shown"
    written = instance.work / "written"
    for folder in (shown, written):
        folder.mkdir()
    (shown / "data").write_text("shown\n", encoding="utf-8")
    result = sandboxed(instance, "--read", shown, "--write", written, "--", "sh", "-c",
                       f"cat {shown}/data && echo new > {written}/file && ! echo x > {shown}/y")
    expect(result.returncode == 0 and result.stdout == "shown\n", f"what is shown: {result}")
    expect((written / "file").read_text(encoding="utf-8") == "new\n", "what it wrote is not there")


def it_gets_no_secret_variables(instance):
    """Of the environment: what is harmless, AIOS's own, and what is named."""
    instance.environment.update(SECRET_KEY="x", LC_TIME="C", AIOS_OF_TEST="1", NAMED="n", TZ="UTC")
    try:
        for sandbox in PROFILES:
            result = instance.try_ctl("run", sandbox, "--env", "NAMED", "--env", "SET=two words",
                                      "--env=EMPTY=", "--", "env", "-0")
            got = dict(one.split("=", 1) for one in result.stdout.split("\0") if one)
            expect("SECRET_KEY" not in result.stdout, f"{sandbox}: a secret is shown")
            expect({"LC_TIME": "C", "AIOS_OF_TEST": "1", "TZ": "UTC", "NAMED": "n", "SET": "two words",
                    "EMPTY": "", "PATH": instance.environment["PATH"]}.items() <= got.items(), f"{got}")
            expect({"AIOS_SOCKET", "AIOS_JOB"} <= got.keys(), f"{got}")
            named = instance.try_ctl("run", sandbox, "--job", "of-env", "--env", "AIOS_JOB", "--", "env")
            expect("AIOS_JOB=of-env\n" in named.stdout, f"what it would get anyway is named: {named}")
            result = instance.try_ctl("run", sandbox, "--env", "PATH=/nowhere", "--", "true")
            expect(result.returncode == 127, f"the program is looked for on our PATH: {result}")
        open_to_all = instance.ctl("run", "--", "env")
        expect("SECRET_KEY=x" in open_to_all, "a program without a sandbox lacks a variable")
    finally:
        del instance.environment["SECRET_KEY"]


def it_calls_aios_and_is_no_operator(instance):
    folders = ["--read", Path(instance.aiosctl).parent]
    result = sandboxed(instance, *folders, "--", instance.aiosctl, "fs", "ls")
    expect(result.returncode == 0, f"a call of AIOS from inside: {result}")
    for forbidden in (["shutdown"], ["crash", "echo"], ["kill", str(instance.pid_of("echo"))],
                      ["restart", "echo"]):
        result = sandboxed(instance, *folders, "--", instance.aiosctl, *forbidden)
        expect(result.returncode != 0, f"aiosctl {forbidden} from inside: {result}")
    expect(instance.status()["servers"][0]["state"] == "running", "a server was ended from inside")


def streaming_programs_reach_nobody(instance):
    sandbox = PROFILES[1]
    program = instance.try_ctl("run", sandbox, "--", "sh", "-c", "echo out; exit 3")
    expect((program.returncode, program.stdout) == (3, "out\n"), f"a program under it: {program}")
    own = str(instance.state / "aios.sock")
    for what, line in {"make a socket": "socket.socket(socket.AF_UNIX)",
                       "look at AIOS's": f"os.stat({own!r})"}.items():
        code = attempt(instance, f"import os, socket, sys\n{line}\nsys.exit({DONE})", sandbox)
        expect(code == 1, f"{what}: exit code {code}")
    shown = instance.try_ctl("run", sandbox, "--read", own, "--read", Path(instance.aiosctl).parent,
                             "--", instance.aiosctl, "--socket", own, "fs", "ls")
    expect(shown.returncode not in (0, 2), f"AIOS, though its socket is shown: {shown}")
    wrong = instance.try_ctl("run", "--sandbox=open", "--", "true")
    expect(wrong.returncode == 2, f"a profile that is none of a program's: {wrong}")


def attempt(instance, script, *options):
    """The exit code of a Python script under `aiosctl run`, which has a descriptor of ours, too."""
    command = instance.command("run", *options, "--", PYTHON, "-c", script)
    return subprocess.run(command, env=instance.environment, pass_fds=(KEPT,), timeout=60,
                          stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode


def nothing_gets_out(instance):
    secret = instance.work / "secret"
    secret.write_text("the host's", encoding="utf-8")
    readable = instance.work / "readable"
    readable.mkdir()
    with subprocess.Popen(["sleep", "60"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL) as outsider, \
            socket.create_server(("127.0.0.1", 0)) as server, \
            socket.socket(socket.AF_UNIX) as other, open(secret, encoding="utf-8") as kept:
        other.bind(str(instance.work / "other.sock"))
        other.listen()
        os.dup2(kept.fileno(), KEPT)
        names = PROLOGUE.format(
            paths=(str(secret), os.path.expanduser("~"), str(instance.state), str(readable),
                   str(instance.work / "other.sock")),
            numbers=(outsider.pid, server.getsockname()[1]))
        for what, (real, line) in ATTEMPTS.items():
            script = f"{names}{line}\nsys.exit({DONE})"
            for sandbox in PROFILES:
                code = attempt(instance, script, sandbox, "--read", readable)
                expect(code in (1, 128 + SIGSYS), f"{what}: exit code {code} inside {sandbox}")
                expect(outsider.poll() is None, f"{what}: it ended a process outside {sandbox}")
            code = attempt(instance, script)
            print(f"{what}: {'possible' if code == DONE else 'refused'} without the sandbox")
            expect(code == DONE or not real, f"{what}: it does not succeed without the sandbox")
        os.close(KEPT)
        outsider.kill()


def run(aiosctl):
    with Instance(aiosctl) as instance:
        if not it_runs_and_passes_what_it_should(instance):
            print("this host confines nobody, which is said")
            return
        it_gets_signals(instance)
        it_sees_what_is_shown(instance)
        it_gets_no_secret_variables(instance)
        it_calls_aios_and_is_no_operator(instance)
        streaming_programs_reach_nobody(instance)
        nothing_gets_out(instance)


if __name__ == "__main__":
    sys.exit(run_test(lambda: run(sys.argv[1])))
