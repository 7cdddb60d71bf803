"""aiosctl on a running instance: every listing keeps to its schema in abi/schema, and every error
has its exit code."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TESTS / "support"))
from corpus import make_cut  # noqa: E402
from instance import Instance, expect, run_test, wait_until  # noqa: E402
from schema import check  # noqa: E402

SCHEMAS = TESTS.parent / "abi/schema"
# Each schema, and the listing that keeps to it.
LISTINGS = {
    "status": ["status"], "ps": ["ps"], "regions": ["regions"], "links": ["links"],
    "jobs": ["jobs"], "devices": ["devices"], "tasks": ["tasks"], "models": ["models"],
    "models-trees": ["models", "--trees"], "bottlenecks": ["bottlenecks"], "fs-ls": ["fs", "ls"],
    "fs-object": ["fs", "stat", "some/object"], "fs-stat": ["fs", "stat"],
}
JOB_BYTES = 40_000_000
UNREACHABLE = 3
USAGE = 2


def checked(name, text):
    """The value of a JSON text, after a look at its schema."""
    value = json.loads(text)
    check(value, json.loads((SCHEMAS / f"{name}.json").read_text(encoding="utf-8")), name)
    return value


def listing(instance, name):
    return checked(name, instance.ctl(*LISTINGS[name], "--json"))


def make_something_to_list(instance):
    text = instance.work / "text"
    text.write_text("so that there is a task to list", encoding="utf-8")
    instance.ctl("fs", "put", text, "some/object")
    printed = instance.ctl("mapreduce", "run", "wordcount", "--input", text, "--output",
                           instance.work / "counted", "--json")
    expect(checked("mapreduce-run", printed)["records"] == 8, f"the job says {printed}")


def check_explanations(instance):
    """Of a task that has run: why there; of one that never was: that."""
    done = [t for t in listing(instance, "tasks") if t["state"] == "done"]
    expect(done, "no task has run")
    number = str(done[-1]["number"])
    why = checked("explain", instance.ctl("explain", number, "--json"))
    expect(why["candidates"][0]["chosen"] and why["candidates"][0]["device"] == done[-1]["device"],
           f"explain says {why}, tasks {done[-1]}")
    expect(0 < why["actual_ns"] <= done[-1]["end_ns"] - done[-1]["start_ns"], f"times differ: {why}")
    expect("because" in instance.ctl("explain", number), "explain in words says no reason")
    told = instance.try_ctl("explain", "987654321")
    expect(told.returncode == 1 and "987654321" in told.stderr, f"{told}")


def check_trace(instance):
    path = instance.work / "trace.json"
    instance.ctl("trace", "-o", path)
    events = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
    slices = [e for e in events if e["ph"] == "X"]
    tracks = {e["pid"] for e in events if e["ph"] == "M" and e["name"] == "process_name"}
    expect(slices, "no task is in the trace")
    for event in slices:
        expect(event["pid"] in tracks and event["dur"] > 0 and "actual_us" in event["args"],
               f"{event}")
    # Not only when the day is over.
    refused = instance.try_ctl("trace", "-o", "/nowhere/x", "--for", 86400)
    expect(refused.returncode == 1 and "/nowhere/x" in refused.stderr, f"{refused}")
    starts = {e["id"] for e in events if e["ph"] == "s"}
    ends = {e["id"] for e in events if e["ph"] == "f"}
    expect(starts == ends, "flows begin or end in nothing")
    exported = instance.work / "models.csv"
    instance.ctl("models", "--export", exported)
    lines = exported.read_text(encoding="utf-8").splitlines()
    expect(len(lines) >= 2 and "predicted_ns" in lines[0], f"{lines}")


def check_listings(instance):
    make_something_to_list(instance)
    check_explanations(instance)
    check_trace(instance)
    for name in LISTINGS:
        value = listing(instance, name)
        expect(value, f"{name}: is empty")
        lines = instance.ctl(*LISTINGS[name]).splitlines()
        expect(len(lines) >= 2, f"{name}: the table has no rows")
    names = {s["name"] for s in listing(instance, "status")["servers"]}
    listed = {p["name"]: p for p in listing(instance, "ps")}
    for server in names | {"supervisor"}:
        expect(server in listed, f"ps lacks {server}")
        expect(listed[server]["kind"] == "server", f"ps calls {server} {listed[server]['kind']}")
        expect(listed[server]["memory_bytes"] > 0, f"ps knows no memory of {server}")
    pids = [p["pid"] for p in listed.values()]
    expect(len(pids) == len(set(pids)), "two processes have one pid")


def check_restart(instance):
    before = instance.pid_of("echo")
    expect(str(before) in instance.ctl("crash", "echo"), "crash does not tell the pid")
    instance.wait_running()
    wait_until(lambda: instance.pid_of("echo") not in (0, before), 10, "echo has another pid")
    echo = [p for p in listing(instance, "ps") if p["name"] == "echo"]
    expect(len(echo) == 1 and echo[0]["restarts"] == 1, f"ps after the crash: {echo}")
    instance.ctl("kill", echo[0]["pid"])
    wait_until(lambda: instance.pid_of("echo") not in (0, echo[0]["pid"]), 10, "echo is back")
    instance.wait_running()


def check_jobs(instance):
    """A running job is listed, and ends when it is cancelled."""
    make_cut(instance.work / "cut", JOB_BYTES)
    job = instance.start("mapreduce", "run", "wordcount", "--input", instance.work / "cut",
                         "--output", instance.work / "cancelled")

    def listed():
        return checked("mapreduce-jobs", instance.ctl("mapreduce", "jobs", "--json"))

    jobs = wait_until(lambda: listed() or job.poll() is not None, 20, "the job is listed")
    # Its client, which has to write the output, keeps it from being done.
    job.send_signal(signal.SIGSTOP)
    expect(isinstance(jobs, list) and jobs[0]["name"] == "wordcount", f"jobs: {jobs}")
    expect(len(instance.ctl("mapreduce", "jobs").splitlines()) == 2, "the table of jobs")
    instance.ctl("mapreduce", "cancel", jobs[0]["job"])
    job.send_signal(signal.SIGCONT)
    _, errors = job.communicate(timeout=20)
    expect(job.returncode == 1 and "cancel" in errors,
           f"a cancelled job: {job.returncode} {errors!r}")
    expect(not listed(), "a cancelled job is still listed")


def check_run(instance):
    script = 'test -S "$AIOS_SOCKET" && test "$AIOS_JOB" = mine && exit 7'
    result = instance.try_ctl("run", "--job", "mine", "--", "sh", "-c", script)
    expect(result.returncode == 7, f"run: {result.returncode} {result.stderr}")
    result = instance.try_ctl("run", "--", "sh", "-c", "kill -9 $$")
    expect(result.returncode == 128 + signal.SIGKILL, f"run, killed: {result.returncode}")
    result = instance.try_ctl("run", "--", "/nonexistent/program")
    expect(result.returncode == 127 and "/nonexistent" in result.stderr, "run of no program")
    job = instance.start("run", "--job", "sleeper", "--", "sh", "-c", "echo up; exec sleep 60")
    expect(job.stdout.readline() == "up\n", "the program does not start")
    expect(any(p["job"] == "sleeper" for p in instance.processes()), "its job is not listed")
    job.send_signal(signal.SIGTERM)
    expect(job.wait(timeout=10) == 128 + signal.SIGTERM, "run does not forward SIGTERM")
    wait_until(lambda: all(p["job"] != "sleeper" for p in instance.processes()), 10, "its end")


def check_errors(instance):
    cases = [
        (["kill", "no-such-process"], 1, "no-such-process"),
        (["logs", "no-such-server"], 1, "no-such-server"),
        (["crash", "no-such-server"], 1, ""),
        (["boot", "--detach"], 1, "already answers"),
        (["run", "--memory", "lots", "--", "true"], USAGE, "lots"),
        (["no-such-command"], USAGE, ""),
        (["--state", "", "status"], USAGE, "--state"),
        (["crash", "echo", "--how", "softly"], USAGE, "softly"),
        (["--socket", str(instance.work / "nobody"), "ps"], UNREACHABLE, "aiosctl boot"),
        (["--socket", str(instance.work / ("x" * 200)), "ps"], 1, "too long"),
    ]
    for arguments, code, text in cases:
        result = instance.try_ctl(*arguments)
        expect(result.returncode == code and text in result.stderr and result.stderr,
               f"{arguments}: {result.returncode} {result.stderr!r}")


def check_logs(instance):
    expect("echo" in instance.ctl("logs", "supervisor", "-n", "100"), "the supervisor's log")
    follow = instance.start("logs", "supervisor", "-n", "1", "-f")
    follow.stdout.readline()  # it follows from now on
    instance.ctl("crash", "echo")
    # What the supervisor says about the crash is a line of its log.
    line = follow.stdout.readline()
    follow.send_signal(signal.SIGINT)
    expect(follow.wait(timeout=10) == 0 and "echo" in line, f"logs -f: {line!r}")
    follow.communicate()


def check_failed_boot(aiosctl, instance):
    manifest = instance.work / "wrong.toml"
    manifest.write_text('[server.echo]\nbinary = "aios-echo"\nroute = []\n', encoding="utf-8")
    state = instance.work / "other"
    result = subprocess.run([aiosctl, "--state", state, "boot", "--manifest", manifest],
                            capture_output=True, text=True, timeout=60, check=False,
                            env=instance.environment)
    expect(result.returncode == 1 and "route" in result.stderr,
           f"boot with a wrong manifest: {result.returncode} {result.stderr!r}")
    expect(not (state / "aios.sock").exists(), "a failed boot leaves a socket")


def check_interrupted_boot(aiosctl, instance):
    state = instance.work / ("long-" + "x" * 120)
    boot = subprocess.Popen([aiosctl, "--state", state, "boot"], env=instance.environment,
                            stdout=subprocess.PIPE, text=True)
    up = None
    for line in boot.stdout:
        if line.startswith("AIOS is up"):
            up = line
            break
    expect(up, "boot in a folder with a long name does not come up")
    os.kill(boot.pid, signal.SIGINT)
    boot.communicate(timeout=20)
    expect(boot.returncode == 0, f"boot, interrupted: exit code {boot.returncode}")
    expect(not (state / "aios.sock").exists(), "an interrupted boot leaves a socket")


def check_bench(aiosctl, instance):
    """A short one, for its output: whether the figures are good is not for a test to say."""
    def bench(*options):
        return subprocess.run([aiosctl, "bench", "ipc", "--rounds", "1", "--large-mb", "1",
                               *options], capture_output=True, text=True, timeout=120, check=False,
                              env=instance.environment)
    cases = ["bare_pingpong", "null_call_spin", "null_call_sleep", "region_ref_1gib",
             "throughput_msgs_per_s"]
    options = [word for case in cases for word in ("--only", case)]
    result = bench("--json", *options)
    expect(result.returncode == 0, f"bench: {result.returncode} {result.stderr!r}")
    figures = checked("bench-ipc", result.stdout)
    expect(set(figures) == {*cases, "ratios", "rounds"}, f"bench measured {set(figures)}")
    expect(all(figures[case]["lowest"] > 0 for case in cases), f"bench: {figures}")
    expect(figures["ratios"][0]["figure"] == "null_call_spin", f"ratios: {figures['ratios']}")
    table = bench(*options).stdout
    expect(all(case in table for case in cases), f"bench prints {table!r}")
    folder = instance.work / "temporary"
    folder.mkdir()
    running = subprocess.Popen([aiosctl, "bench", "ipc", "--rounds", "1000", "--large-mb", "1"],
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                               env={**instance.environment, "TMPDIR": str(folder)})
    wait_until(lambda: list(folder.glob("*/state/aios.sock")), 20, "bench boots its instance")
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate(timeout=60)
    expect(running.returncode == 1 and "interrupted" in errors,
           f"bench, interrupted: {running.returncode} {errors!r}")
    expect(not list(folder.iterdir()), "an interrupted bench leaves its folder")
    result = subprocess.run([aiosctl, "bench", "ipc"], capture_output=True, text=True, timeout=60,
                            env={**instance.environment, "TMPDIR": str(folder / "none")}, check=False)
    expect(result.returncode == 1 and "TMPDIR" in result.stderr, f"no temporary folder: {result}")
    parts = instance.work / "parts"
    parts.mkdir()
    for part in (Path(aiosctl).resolve().parents[2] / "libexec").iterdir():
        if part.name != "aios-bench":
            (parts / part.name).symlink_to(part.resolve())
    result = subprocess.run([aiosctl, "bench", "ipc"], capture_output=True, text=True, timeout=60,
                            env={**instance.environment, "AIOS_LIBEXEC": str(parts)}, check=False)
    expect(result.returncode == 1 and "aios-bench: No such file" in result.stderr,
           f"aios-bench is not there: {result}")
    result = bench("--only", "nonsense")
    expect(result.returncode == 1 and "nonsense" in result.stderr,
           f"bench of no case: {result.returncode} {result.stderr!r}")


def check_bench_devices(aiosctl, instance):
    """The figures of the processor, and of OpenCL where it is installed, for their form."""
    for backend in ("cpu", "opencl"):
        result = subprocess.run([aiosctl, "bench", "devices", "--rounds", "1", "--only", backend,
                                 "--json"], capture_output=True, text=True, timeout=120,
                                check=False, env=instance.environment)
        if backend == "opencl" and "no such device" in result.stderr:
            continue
        expect(result.returncode == 0, f"bench devices: {result.returncode} {result.stderr!r}")
        devices = checked("bench-devices", result.stdout)["devices"]
        expect({device["backend"] for device in devices} == {backend}, f"bench: {devices}")
        for case in ("launch_ns", "stream_gb_s", "sgemm_gflop_s"):
            figures = devices[0][case]
            expect({"through", "direct"} <= set(figures), f"{case}: {figures}")
            expect(all(figure["lowest"] > 0 for figure in figures.values()), f"{case}: {figures}")
        ready = devices[0]["kill_to_ready_ns"]
        expect(set(ready) == {"through"} and ready["through"]["lowest"] > 0, f"ready: {ready}")


def check_files(instance):
    """What is no regular file is neither waited for nor replaced; links are followed."""
    work = instance.work
    pipe, link, target = work / "pipe", work / "link", work / "target"
    os.mkfifo(pipe)
    told = instance.try_ctl("fs", "put", pipe, "from/pipe")
    expect(told.returncode == 1 and "not a regular file" in told.stderr, f"{told}")
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    instance.ctl("fs", "get", "some/object", pipe)
    text = instance.ctl("fs", "cat", "some/object")
    expect(pipe.is_fifo() and os.read(reader, 1 << 16).decode() == text, "a pipe was replaced")
    os.close(reader)
    target.write_text("old", encoding="utf-8")
    link.symlink_to(target)
    instance.ctl("fs", "get", "some/object", link)
    expect(link.is_symlink() and target.read_text(encoding="utf-8") == text, "a link was replaced")
    told = instance.try_ctl("fs", "get", "some/object", work)
    expect(told.returncode == 1 and "is a folder" in told.stderr, f"{told}")


def main():
    aiosctl = sys.argv[1]
    with Instance(aiosctl) as instance:
        check_listings(instance)
        check_files(instance)
        check_restart(instance)
        check_jobs(instance)
        check_run(instance)
        check_errors(instance)
        check_logs(instance)
        check_failed_boot(aiosctl, instance)
        check_interrupted_boot(aiosctl, instance)
        check_bench(aiosctl, instance)
        check_bench_devices(aiosctl, instance)


if __name__ == "__main__":
    sys.exit(run_test(main))
