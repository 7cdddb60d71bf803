"""A system instance (`aiosctl boot --system`) with two users: each sees, reads, ends and pays for
what is its own, whichever server holds it; operators see everything, but nobody's objects."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TESTS / "support"))
from corpus import make_cut  # noqa: E402
from instance import Instance, expect, run_test, wait_until  # noqa: E402

ANN = 64_401
BOB = 64_402
STRANGER = 64_403
GROUP = "nogroup"  # every Debian has it
GROUP_ID = 65_534
DENIED = 1
MANIFEST = """
[instance]
[users]
quota = { memory = "256M", processes = 6, links = 32 }
[server.storage]
binary = "aios-storage"
publish = true
[server.cpu]
binary = "aios-cpu"
spawner = { binary = "aios-cpu-context", profile = "context", label = "spawner:context" }
[server.scheduler]
binary = "aios-scheduler"
routes = ["cpu"]
publish = true
[server.mapreduce]
binary = "aios-mapreduce"
routes = ["scheduler", "storage"]
publish = true
"""


class System(Instance):
    """Its socket is where others can reach it; its state is not."""

    def __init__(self, aiosctl):
        super().__init__(aiosctl, boot_options=["--system", "--group", GROUP])
        self.work.chmod(0o755)
        self.socket = self.work / "run" / "aios.sock"
        self.manifest = self.work / "aios.toml"
        self.manifest.write_text(MANIFEST, encoding="utf-8")
        # What users write and read lies here.
        self.home = self.work / "home"
        self.home.mkdir()
        self.home.chmod(0o1777)

    def command_of(self, uid, *arguments):
        group = GROUP_ID if uid != STRANGER else uid
        return ["setpriv", f"--reuid={uid}", f"--regid={group}", "--clear-groups", self.aiosctl,
                "--socket", str(self.socket), *map(str, arguments)]

    def of(self, uid, *arguments):
        """aiosctl as that user."""
        return subprocess.run(self.command_of(uid, *arguments), env=self.user_environment(),
                              text=True, capture_output=True, timeout=60, check=False)

    def start_of(self, uid, *arguments):
        return subprocess.Popen(self.command_of(uid, *arguments), env=self.user_environment(),
                                text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE)

    def user_environment(self):
        return {"PATH": os.environ["PATH"], "HOME": str(self.home)}

    def told(self, uid, *arguments):
        result = self.of(uid, *arguments)
        expect(result.returncode == 0,
               f"uid {uid}: {' '.join(map(str, arguments))}: {result.stderr.strip()}")
        return result.stdout

    def listed(self, uid, *arguments):
        return json.loads(self.told(uid, *arguments, "--json"))

    def refused(self, uid, text, *arguments):
        result = self.of(uid, *arguments)
        expect(result.returncode == DENIED and text in result.stderr,
               f"uid {uid}: {' '.join(map(str, arguments))}: exit code {result.returncode}, "
               f"{result.stdout}{result.stderr.strip()}; expected '{text}'")


def check_door(system):
    mode = os.stat(system.socket)
    expect(mode.st_mode & 0o777 == 0o660 and mode.st_gid == GROUP_ID, "who may write the socket")
    expect(os.stat(system.state).st_mode & 0o077 == 0, "the state is root's alone")
    system.refused(STRANGER, "may not use the instance", "status")
    expect(json.loads(system.ctl("status", "--json"))["open_to_users"], "status says so")
    for uid in (ANN, BOB):
        expect("storage" in system.told(uid, "status"), "who is in the group gets in")


def check_kernel(system):
    """Processes, jobs, regions and links of others are not there; nor is the root job."""
    ann = system.start_of(ANN, "run", "--job", "anns", "--", "sleep", "600")
    path = f"user:{ANN}/anns"
    wait_until(lambda: path in {j["path"] for j in system.listed(ANN, "jobs")}, 10, "Ann's job")
    expect({j["path"].split("/")[0] for j in system.listed(BOB, "jobs")} == {f"user:{BOB}"},
           "Bob sees jobs of others")
    everything = {p["process_id"]: p for p in system.processes()}
    anns = [p for p in everything.values() if p["uid"] == ANN]
    expect(anns and any(p["name"] == "storage" for p in everything.values()), "root sees all")
    for uid, own in ((ANN, True), (BOB, False)):
        seen = system.listed(uid, "ps")
        expect(all(p["uid"] == uid and p["kind"] != "server" for p in seen), f"{uid} sees {seen}")
        expect(any(p["process_id"] == anns[0]["process_id"] for p in seen) == own, "Ann's process")
        expect(all(r["job"].startswith(("user:", "anns")) for r in system.listed(uid, "regions")),
               "regions of others")
    system.refused(BOB, "no process", "kill", anns[0]["process_id"])
    system.refused(BOB, "no process", "kill", "storage")
    system.refused(BOB, "root and the user who booted", "crash", "storage")
    system.refused(BOB, "only", "shutdown")
    system.refused(BOB, "no log of", "--state", system.state, "logs", "storage")
    expect(ann.poll() is None, "Bob has ended what is Ann's")
    system.told(ANN, "kill", anns[0]["process_id"])
    _, errors = ann.communicate(timeout=20)
    expect("the job has ended" in errors, f"Ann ends her own: {errors}")


def check_storage(system):
    secret = system.home / "secret"
    secret.write_text("of Ann", encoding="utf-8")
    secret.chmod(0o644)
    system.told(ANN, "fs", "put", secret, "both/name")
    expect(system.listed(BOB, "fs", "ls") == [], "Bob sees Ann's objects")
    for command in (["cat"], ["rm"], ["stat"]):
        system.refused(BOB, "both/name", "fs", *command, "both/name")
    secret.write_text("of Bob", encoding="utf-8")
    system.told(BOB, "fs", "put", secret, "both/name")
    expect(system.told(ANN, "fs", "cat", "both/name") == "of Ann", "one name, two objects")
    expect(system.told(BOB, "fs", "cat", "both/name") == "of Bob", "one name, two objects")
    expect(json.loads(system.ctl("fs", "ls", "--json")) == [], "root is not Ann")
    system.told(BOB, "fs", "rm", "both/name")
    expect(system.told(ANN, "fs", "cat", "both/name") == "of Ann", "Ann's is still there")


def contexts_of(system, uid):
    return [p for p in system.processes() if p["kind"] == "context" and p["uid"] == uid]


def check_work(system):
    """A MapReduce job of Ann's: its context, its tasks, and who may end it."""
    text = system.home / "text"
    text.mkdir()
    make_cut(text, 30_000_000)
    subprocess.run(["chmod", "-R", "a+rX", str(text)], check=True)
    job = system.start_of(ANN, "mapreduce", "run", "wordcount", "--input", text, "--output",
                          system.home / "counted", "--threads", "1", "--memory-mb", "64")
    listed = wait_until(lambda: system.listed(ANN, "mapreduce", "jobs"), 20, "Ann's job runs")
    # Its client stopped, the job cannot end, and there is time to look; but a context comes with what
    # the client gives it.
    context = wait_until(lambda: contexts_of(system, ANN), 20, "it has a context")[0]
    os.kill(job.pid, signal.SIGSTOP)
    status = Path(f"/proc/{context['pid']}/status").read_text(encoding="utf-8")
    ids = {line.split()[0]: set(line.split()[1:]) for line in status.splitlines()
           if line.startswith(("Uid:", "Gid:"))}
    if context["namespaces"]:
        expect(ids == {"Uid:": {str(ANN)}, "Gid:": {str(GROUP_ID)}}, f"the context runs as {ids}")
    logs = system.state / "logs"
    expect((logs / f"cpu-context-{ANN}.log").exists() and not (logs / "cpu-context.log").exists(),
           f"what her context says is not in a log of its own: {sorted(logs.iterdir())}")
    expect(system.listed(BOB, "mapreduce", "jobs") == [], "Bob sees Ann's job")
    expect(not [p for p in system.listed(BOB, "ps") if p["kind"] == "context"], "and her context")
    expect([p["pid"] for p in system.listed(ANN, "ps") if p["kind"] == "context"] ==
           [context["pid"]], "Ann sees her context")
    expect(system.listed(BOB, "tasks") == [], "Bob sees Ann's tasks")
    expect(system.listed(ANN, "tasks"), "Ann sees her tasks, whoever submits them for her")
    number = listed[0]["job"]
    system.refused(BOB, "no MapReduce job", "mapreduce", "cancel", number)
    system.refused(BOB, "no process", "kill", context["process_id"])
    expect(json.loads(system.ctl("mapreduce", "jobs", "--json")), "root sees it")
    system.told(ANN, "mapreduce", "cancel", number)
    os.kill(job.pid, signal.SIGCONT)
    _, errors = job.communicate(timeout=30)
    expect(job.returncode == 1 and "cancelled" in errors, f"Ann's job: {errors}")


def check_quota(system):
    """Processes are counted by user, over all connections; the other user is not touched."""
    quota = [j for j in system.listed(BOB, "jobs") if j["path"] == f"user:{BOB}"][0]["quota"]
    expect(quota["memory_bytes"] == 256 << 20 and quota["processes"] == 6 and quota["links"] == 32,
           f"Bob's quota is {quota}")
    running = []
    try:
        # To join its job's control group a program is one more for a moment.
        for number in range(5):
            program = system.start_of(BOB, "run", "--job", f"job-{number}", "--", "sh", "-c",
                                      "echo up; sleep 600")
            running.append(program)
            expect(program.stdout.readline() == "up\n", f"program {number} of Bob's")
        sixth = system.of(BOB, "run", "--", "true")
        expect(sixth.returncode in (1, 127) and "may have no more processes" in sixth.stderr,
               f"Bob's sixth: {sixth.returncode} {sixth.stderr}")
        system.told(ANN, "run", "--", "true")
    finally:
        for program in running:
            program.kill()
            program.communicate()
    wait_until(lambda: system.of(BOB, "run", "--", "true").returncode == 0, 10,
               "Bob may run programs again")


def check_by_default(aiosctl):
    """Without any option users find the system's instance, and root boots it at its usual places;
    in mounts of its own, so that those of this machine are not touched."""
    script = f"""
        set -e
        mount -t tmpfs none /run
        mkdir -p /var/lib/aios
        mount -t tmpfs none /var/lib/aios
        export HOME=/nonexistent
        unset AIOS_SOCKET XDG_STATE_HOME
        {aiosctl} boot --system --group {GROUP} --detach >/dev/null
        setpriv --reuid={ANN} --regid={GROUP_ID} --clear-groups {aiosctl} status | head -n 1
        ls -d /var/lib/aios/logs
        {aiosctl} shutdown
    """
    result = subprocess.run(["unshare", "--mount", "--propagation", "private", "sh", "-c", script],
                            text=True, capture_output=True, timeout=60, check=False)
    if "unshare" in result.stderr:
        print(f"SKIPPED check_by_default: {result.stderr.strip()}")
        return
    expect("AIOS at /run/aios/aios.sock" in result.stdout and "AIOS is down" in result.stdout,
           f"{result.stdout}{result.stderr}")


def check_options(aiosctl):
    def fails(code, text, *arguments):
        result = subprocess.run([aiosctl, *arguments], text=True, capture_output=True, timeout=30,
                                check=False)
        expect(result.returncode == code and text in result.stderr,
               f"{arguments}: {result.returncode} {result.stderr}")
    fails(1, "groupadd", "boot", "--system", "--group", "no-such-group", "--state", "/nonexistent")
    fails(2, "--system", "boot", "--group", GROUP)


def body():
    aiosctl = sys.argv[1]
    if os.geteuid() != 0:
        print("SKIPPED: only root can start a system instance")
        return
    reach = subprocess.run(["setpriv", f"--reuid={ANN}", f"--regid={GROUP_ID}", "--clear-groups",
                            aiosctl, "--version"], capture_output=True, text=True, check=False)
    if reach.returncode != 0:
        print(f"SKIPPED: other users cannot execute {aiosctl}: {reach.stderr.strip()}")
        return
    check_options(aiosctl)
    check_by_default(aiosctl)
    with System(aiosctl) as system:
        for check in (check_door, check_kernel, check_storage, check_work, check_quota):
            begin = time.monotonic()
            check(system)
            print(f"{check.__name__}: {time.monotonic() - begin:.1f} s", flush=True)


if __name__ == "__main__":
    sys.exit(run_test(body))
