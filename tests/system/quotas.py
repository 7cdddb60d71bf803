"""`aiosctl run` holds a program to its quota and says so: memory, CPU share, processes. Others are
not hurt, nothing outlives the job or the instance, and what this host cannot enforce is said."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TESTS / "support"))
from corpus import make_cut  # noqa: E402
from instance import Instance, expect, identity, run_test, wait_until  # noqa: E402

BUILD = Path(sys.argv[1]).resolve().parents[2]
MIB = 1 << 20
PYTHON = sys.executable
# Touches every page, and says when it is done.
EAT = "b = bytearray({}); b[::4096] = b'x' * len(b[::4096]); print('ate', flush=True)"
# Burns CPU for a time on the wall and says what it got.
BURN = """
import time
end = time.monotonic() + {}
while time.monotonic() < end: pass
print(time.process_time() / {})
"""
BURN_S = 3
# Makes children until it may not, and says how many it got.
FORK = """
import os, time
count = 0
try:
    while count < 300:
        if os.fork() == 0:
            time.sleep(600)
            os._exit(0)
        count += 1
except BlockingIOError:
    pass
print(count, flush=True)
"""
# Every child makes children: the number would double for ever.
BOMB = """
import os, time
end = time.monotonic() + 2
while time.monotonic() < end:
    try:
        os.fork()
    except BlockingIOError:
        pass
"""
# Counts words through libaios.
COUNT = """
import sys, aios
with aios.attach() as instance:
    instance.mapreduce(sys.argv[1], sys.argv[2:3], sys.argv[3], threads=1, memory_bytes=64 << 20)
"""


def run(instance, *arguments):
    return instance.try_ctl("run", *arguments)


def start(instance, *arguments):
    """`aiosctl run` in the background, with standard input piped as well."""
    return subprocess.Popen(instance.command("run", *arguments), env=instance.environment, text=True,
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def jobs(instance):
    return {job["path"]: job for job in json.loads(instance.ctl("jobs", "--json"))}


def enforced_here(instance):
    """What Linux holds a job of this instance to."""
    program = instance.start("run", "--job", "look", "--memory", "64M", "--cpus", "1",
                             "--processes", "100", "--", "sleep", "600")
    try:
        path = f"user:{os.geteuid()}/look"
        job = wait_until(lambda: jobs(instance).get(path), 10, "the job is listed")
        expect(job["quota"]["memory_bytes"] == 64 * MIB and job["quota"]["cpu_millis"] == 1000 and
               job["quota"]["processes"] == 100, f"the job's quota is {job['quota']}")
        return set(job["enforced_by_linux"])
    finally:
        program.terminate()
        program.communicate(timeout=10)


def groups_of(pid):
    """The control groups of the instance whose kernel is `pid`."""
    found = []
    for folder, names, _ in os.walk("/sys/fs/cgroup"):
        found += [f"{folder}/{name}" for name in names if name == f"aios-{pid}"]
    return found


def check_memory(instance):
    good = start(instance, "--job", "good", "--memory", "256M", "--", PYTHON, "-c",
                 EAT.format(64 * MIB) + "; input()")
    bad = run(instance, "--job", "hog", "--memory", "64M", "--", PYTHON, "-c",
              EAT.format(256 * MIB))
    expect(bad.returncode == 128 + signal.SIGKILL and "ate" not in bad.stdout,
           f"a program over its memory: exit code {bad.returncode}, {bad.stdout}{bad.stderr}")
    expect("used up its 64.0 MiB of memory" in bad.stderr and "--memory" in bad.stderr,
           f"the message does not say why: {bad.stderr}")
    expect(good.poll() is None and instance.all_running(), "somebody else was hurt")
    out, _ = good.communicate("\n", timeout=10)
    expect("ate" in out and good.returncode == 0, f"the neighbour ended with {good.returncode}")


def check_cpu(instance):
    program = ["--", PYTHON, "-c", BURN.format(BURN_S, BURN_S)]
    # Beside one another: what the rest of the machine does harms both.
    free = instance.start("run", *program)
    held = instance.start("run", "--cpus", "0.5", *program)
    free_share = float(free.communicate(timeout=60)[0])
    held_share = float(held.communicate(timeout=60)[0])
    print(f"cpu: {held_share:.2f} of a core with --cpus 0.5, {free_share:.2f} without")
    expect(held_share < 0.65, f"with --cpus 0.5 a program got {held_share:.2f} of a core")
    expect(held_share > 0.4 * min(0.5, free_share),
           f"with --cpus 0.5 a program got {held_share:.2f}, a free one {free_share:.2f}")


def processes_below(groups):
    """Those in the groups of jobs; groups may be removed meanwhile."""
    found = []
    for group in groups:
        for folder, _, _ in os.walk(group):
            try:
                found += Path(folder, "cgroup.procs").read_text(encoding="ascii").split()
            except OSError:
                continue
    return found


def check_processes(instance):
    result = run(instance, "--job", "many", "--processes", "20", "--", PYTHON, "-c", FORK)
    expect(result.returncode == 0, f"{result.returncode}: {result.stderr}")
    expect(result.stdout.strip() == "19", f"of 20 processes it could make {result.stdout}")
    expect("it may have 20" in result.stderr, f"nothing is said: {result.stderr}")
    bomb = run(instance, "--job", "bomb", "--processes", "30", "--", PYTHON, "-c", BOMB)
    expect("was refused" in bomb.stderr, f"the bomb was not stopped: {bomb.stderr}")
    # Its children would sleep for ten minutes; they end with the job.
    wait_until(lambda: not processes_below(groups_of(instance.kernel_pid)), 10,
               "nothing is left of jobs that ended")


def check_contexts(instance):
    """What computes for a job elsewhere is held to the job's quota as well, whoever asked for it."""
    text = instance.work / "text"
    text.mkdir()
    make_cut(text, 20_000_000)
    for name, command in (
            ("counts", [instance.aiosctl, "mapreduce", "run", "wordcount", "--input", text,
                        "--output", instance.work / "counts", "--threads", "1",
                        "--memory-mb", "64"]),
            ("program", [PYTHON, "-c", COUNT, BUILD / "services/mapreduce/jobs/wordcount.so", text,
                         instance.work / "program"])):
        program = instance.start("run", "--job", name, "--memory", "512M", "--cpus", "0.2", "--",
                                 *command)
        context = wait_until(instance.contexts, 20, "the job has a context")[0]
        groups = Path(f"/proc/{context['pid']}/cgroup").read_text(encoding="utf-8")
        listed = jobs(instance)
        job = [j for path, j in listed.items() if path.endswith("/" + name)][0]
        expect(f"/job-{job['job_id']}/children" in groups, f"the context of {name} is in {groups}")
        _, errors = program.communicate(timeout=60)
        expect(program.returncode == 0, f"the job: {errors}")
        wait_until(lambda: not instance.contexts(), 20, "its context is gone")


def check_end_of_job(instance):
    """Whoever kills the job, or the connection of its program, ends the program."""
    program = instance.start("run", "--job", "victim", "--memory", "64M", "--", "sh", "-c",
                             "sleep 600 & echo $!; wait")
    sleeper = identity(int(program.stdout.readline()))
    expect(sleeper, "the program runs")
    instance.ctl("kill", str(program.pid))
    _, errors = program.communicate(timeout=20)
    expect(program.returncode != 0 and "the job has ended" in errors, f"it says {errors}")
    wait_until(lambda: identity(sleeper[0]) != sleeper, 10, "the program's child ends, too")


def check_names(instance):
    for arguments, text in ((["--cpus", "0"], "--cpus"), (["--cpus", "many"], "--cpus"),
                            (["--memory", "lots"], "--memory"), (["--processes", "0"], "processes")):
        result = run(instance, *arguments, "--", "true")
        expect(result.returncode == 2 and text in result.stderr, f"{arguments}: {result.stderr}")
    first = start(instance, "--job", "there", "--memory", "64M", "--", "sh", "-c",
                  "echo up; read x")
    first.stdout.readline()
    other = run(instance, "--job", "there", "--memory", "128M", "--", "true")
    expect(other.returncode == 1 and "exists already" in other.stderr, f"{other.stderr}")
    same = run(instance, "--job", "there", "--memory", "64M", "--", "true")
    expect(same.returncode == 0, f"joining with the same quota: {same.stderr}")
    first.kill()
    first.communicate()


def check_kernel_killed(aiosctl):
    """What a killed kernel leaves is removed by the next instance that limits something."""
    with Instance(aiosctl) as first:
        program = first.start("run", "--memory", "64M", "--", "sh", "-c",
                              "sleep 600 >/dev/null 2>&1 & echo $!; wait")
        sleeper = identity(int(program.stdout.readline()))
        groups = groups_of(first.kernel_pid)
        expect(groups, "the instance has control groups")
        first.remember()
        os.kill(first.kernel_pid, signal.SIGKILL)
        _, errors = program.communicate(timeout=20)
        expect("the job has ended" in errors, f"it says {errors}")
        with Instance(aiosctl) as second:
            second.ctl("run", "--memory", "64M", "--", "true")
            expect(not [g for g in groups if os.path.exists(g)], f"left over: {groups}")
            expect(identity(sleeper[0]) != sleeper, "what ran in them still does")
        (first.state / "aios.sock").unlink(missing_ok=True)


def check_without(aiosctl):
    """An instance that may not make control groups says what it does not enforce."""
    uid = 64_321
    folder = Path(tempfile.mkdtemp(prefix="aios-test-"))
    os.chown(folder, uid, uid)

    def as_user(*arguments):
        return subprocess.run(
            ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", aiosctl, "--state",
             str(folder / "state"), *arguments], env={"PATH": os.environ["PATH"]}, text=True,
            capture_output=True, timeout=60, check=False)

    try:
        booted = as_user("boot", "--detach")
        if booted.returncode == 126:
            print(f"not run as another user: {booted.stderr.strip()}")
            return
        expect(booted.returncode == 0, f"boot as uid {uid}: {booted.stderr}")
        told = as_user("run", "--memory", "64M", "--cpus", "1", "--", "sh", "-c", "ulimit -d")
        expect(told.returncode == 0 and told.stdout == f"{64 * 1024}\n", f"{told}")
        expect("--memory, --cpus cannot be enforced here" in told.stderr, f"{told.stderr}")
        refused = as_user("run", "--strict", "--cpus", "1", "--", "true")
        expect(refused.returncode == 1 and "--cpus cannot be enforced" in refused.stderr,
               f"{refused}")
        log = (folder / "state/logs/kernel.log").read_text(encoding="utf-8")
        expect("Delegate=yes" in log, "the log does not say how to enable it")
    finally:
        as_user("shutdown")
        subprocess.run(["rm", "-rf", str(folder)], check=True)


def body():
    os.environ["AIOS_LIBRARY"] = str(BUILD / "abi/libaios.so")
    os.environ["PYTHONPATH"] = str(TESTS.parent / "abi/python")
    with Instance(sys.argv[1]) as instance:
        kernel = instance.kernel_pid
        enforced = enforced_here(instance)
        check_names(instance)
        for name, check in (("memory", check_memory), ("cpu", check_cpu),
                            ("processes", check_processes), ("memory", check_contexts),
                            ("memory", check_end_of_job)):
            if name in enforced:
                check(instance)
            else:
                print(f"SKIPPED {check.__name__}: no control group for {name} can be made here")
    expect(not groups_of(kernel), "control groups are left of the instance")
    if "memory" in enforced:
        check_kernel_killed(sys.argv[1])
    if os.geteuid() == 0:
        check_without(sys.argv[1])
    else:
        print("SKIPPED check_without: needs root, to become a user without control groups")


if __name__ == "__main__":
    sys.exit(run_test(body))
