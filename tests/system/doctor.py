"""aiosctl doctor says what the processes of an instance really have, and what this host would give
them; it fails when the manifest requires more. An instance runs, and says so, where the host gives
no namespaces."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TESTS / "support"))
from instance import Instance, expect, run_test, wait_until  # noqa: E402
from schema import check  # noqa: E402

SCHEMA = json.loads((TESTS.parent / "abi/schema/doctor.json").read_text(encoding="utf-8"))
SERVERS = {"supervisor", "storage", "cpu", "scheduler", "mapreduce", "echo"}
REQUIRING = """
[instance]
require = ["no-new-privileges"]
[server.echo]
binary = "aios-echo"
publish = true
require = ["namespaces"]
"""
# A user namespace in which no other can be made: as on a host that forbids them. What follows runs in
# it, all of it: to an instance nobody is an operator who lives in another one than itself.
FORBIDDING = ["unshare", "--user", "--map-root-user", "sh", "-c",
              'echo 0 > /proc/sys/user/max_user_namespaces && exec "$@"', "sh"]
FORBIDDEN = "--no-namespaces"


def diagnosis(aiosctl, *arguments, code=0):
    result = subprocess.run([aiosctl, *map(str, arguments), "--json"], text=True,
                            capture_output=True, timeout=60, check=False)
    expect(result.returncode == code,
           f"doctor: exit code {result.returncode}: {result.stderr}{result.stdout}")
    value = json.loads(result.stdout)
    check(value, SCHEMA, "doctor")
    return value


def status_of(pid):
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


def seen_from_outside(pid):
    """What Linux says of a process, for those protections that it shows."""
    status = status_of(pid)
    seen = set()
    if status["Seccomp"] == "2":
        seen.add("syscall-filter")
    if status["NoNewPrivs"] == "1":
        seen.add("no-new-privileges")
    if all(int(status[name], 16) == 0 for name in ("CapEff", "CapPrm", "CapBnd", "CapInh")):
        seen.add("no-capabilities")
    own = {name: os.readlink(f"/proc/self/ns/{name}") for name in ("user", "mnt", "net", "pid")}
    if all(os.readlink(f"/proc/{pid}/ns/{name}") != link for name, link in own.items()):
        seen.add("namespaces")
    if not Path(f"/proc/{pid}/root/etc").exists():
        seen.add("empty-root")
    return seen


def check_limits(instance, told):
    """What the doctor says of limits is what a job gets that asks for them."""
    program = instance.start("run", "--job", "limited", "--memory", "64M", "--cpus", "1",
                             "--processes", "50", "--", "sleep", "600")
    job = wait_until(lambda: [j for j in json.loads(instance.ctl("jobs", "--json"))
                              if j["name"] == "limited"], 20, "the job is listed")[0]
    program.terminate()
    program.communicate()
    names = {"memory": "memory", "cpus": "cpu", "processes": "processes"}
    expect({names[limit["name"]] for limit in told if limit["enforced"]} ==
           set(job["enforced_by_linux"]), f"the doctor says {told}, the job has {job}")
    expect(all(limit["enforced"] or limit["reason"] for limit in told), f"no reason: {told}")


def host_gives_huge_pages():
    """What Linux says of it: /sys, and its version."""
    enabled = Path("/sys/kernel/mm/transparent_hugepage/shmem_enabled")
    version = tuple(int(part) for part in os.uname().release.split("-")[0].split(".")[:2])
    return enabled.exists() and "[deny]" not in enabled.read_text("ascii") and version >= (6, 1)


def check_memory(told):
    """Huge pages and NUMA nodes are given where Linux has them, and else there is a reason."""
    features = {feature["name"]: feature for feature in told}
    expect(set(features) == {"huge-pages", "numa-placement"}, f"the doctor knows {told}")
    expect(all(f["given"] == (not f["reason"]) for f in told), f"given without reason: {told}")
    huge = features["huge-pages"]
    # With memory that is too scattered there may be none left just now.
    expect(huge["given"] == host_gives_huge_pages() or "left" in huge["reason"],
           f"the doctor says of huge pages: {huge}")
    nodes = list(Path("/sys/devices/system/node").glob("node[0-9]*"))
    if not nodes:
        expect(not features["numa-placement"]["given"], f"no nodes, but {features}")


def check_running(aiosctl):
    with Instance(aiosctl) as instance:
        told = diagnosis(aiosctl, "--state", instance.state, "doctor")
        expect(told["running"] and told["satisfied"], f"the doctor says {told}")
        processes = {p["name"]: p for p in told["processes"]}
        expect(SERVERS <= set(processes), f"the doctor knows {sorted(processes)}")
        visible = {"syscall-filter", "no-new-privileges", "no-capabilities", "namespaces",
                   "empty-root"}
        for name in SERVERS:
            told_of = set(processes[name]["enforced"]) & visible
            seen = seen_from_outside(processes[name]["pid"])
            expect(told_of == seen, f"{name}: says {sorted(told_of)}, has {sorted(seen)}")
        check_limits(instance, told["job_limits"])
        check_memory(told["memory"])
        text = instance.ctl("doctor")
        expect(all(p["name"] in text for p in told["protections"] + told["memory"]),
               f"lines are missing: {text}")


def check_without_instance(aiosctl, work):
    told = diagnosis(aiosctl, "--state", work / "nothing", "doctor")
    expect(not told["running"] and told["satisfied"], f"without an instance: {told}")
    expect(all(p["pid"] == 0 for p in told["processes"]), "a process that does not run has a pid")
    wrong = work / "wrong.toml"
    wrong.write_text("[server.a]\nbinary = 'aios-echo'\nrequire = ['safety']\n", encoding="utf-8")
    result = subprocess.run([aiosctl, "doctor", "--manifest", str(wrong)], text=True,
                            capture_output=True, timeout=60, check=False)
    expect(result.returncode == 1 and "no protection is named 'safety'" in result.stderr,
           f"a wrong manifest: {result}")


def check_forbidding_host(aiosctl, work):
    manifest = work / "requiring.toml"
    manifest.write_text(REQUIRING, encoding="utf-8")
    told = diagnosis(aiosctl, "--state", work / "nothing", "doctor", "--manifest", manifest,
                     code=1)
    missing = next(p for p in told["protections"] if p["name"] == "namespaces")
    expect(not missing["enforced"] and missing["required_by"] == ["echo"] and missing["reason"],
           f"namespaces are said to be {missing}")
    boot = subprocess.run([aiosctl, "--state", str(work / "refused"), "boot", "--detach",
                           "--manifest", str(manifest)], text=True, capture_output=True,
                          timeout=60, check=False)
    expect(boot.returncode == 1 and "requires namespaces" in boot.stderr + boot.stdout,
           f"booting with a requirement that is not met: {boot}")
    with Instance(aiosctl) as instance:
        told = diagnosis(aiosctl, "--state", instance.state, "doctor")
        expect(told["running"] and told["satisfied"], f"the doctor says {told}")
        for process in (p for p in told["processes"] if p["name"] in SERVERS):
            expect("namespaces" not in process["enforced"] and
                   "syscall-filter" in process["enforced"], f"without namespaces: {process}")
        text = instance.work / "text"
        text.write_text("every word counts once", encoding="utf-8")
        instance.ctl("mapreduce", "run", "wordcount", "--input", text, "--output",
                     instance.work / "words")
        instance.ctl("fs", "put", text, "kept")
        instance.ctl("crash", "storage")
        instance.wait_running()
        expect(instance.ctl("fs", "cat", "kept") == text.read_text(encoding="utf-8"), "lost")


def body():
    aiosctl = sys.argv[1]
    with tempfile.TemporaryDirectory(prefix="aios-doctor-") as folder:
        if FORBIDDEN in sys.argv:
            check_forbidding_host(aiosctl, Path(folder))
            return
        check_running(aiosctl)
        check_without_instance(aiosctl, Path(folder))
    if subprocess.run([*FORBIDDING, aiosctl, "--version"], capture_output=True,
                      check=False).returncode:
        print("this host allows no user namespace to be made: that part is not tried")
        return
    there = subprocess.run([*FORBIDDING, sys.executable, __file__, aiosctl, FORBIDDEN], timeout=150,
                           check=False)
    expect(there.returncode == 0, "on a host that forbids namespaces, see above")


if __name__ == "__main__":
    sys.exit(run_test(body))
