"""As many tasks at once as somebody likes: in one graph, in one call and in batches. What there is too
much of waits or is refused with words, all that was taken ends, and memory stays bounded.

usage: many_tasks.py AIOSCTL PROGRAM MODULES [COUNT]

PROGRAM is many_tasks.cpp's; MODULES the folder of tests/unit/cpu's modules. With a COUNT, such as
1000000, it also prints what was measured.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "support"))
from instance import Instance, expect, run_test  # noqa: E402

AIOSCTL, PROGRAM = (os.path.abspath(path) for path in sys.argv[1:3])
MODULE = os.path.abspath(sys.argv[3]) + "/good.so"
COUNT = int(sys.argv[4]) if len(sys.argv) > 4 else 0
# More than a tenant may have pending (65,536), so that there is too much.
USUAL_COUNT = 70_000
PATIENCE_S = 600
MIB = 1 << 20

MANIFEST = """
[server.cpu]
binary = "aios-cpu"
spawner = { binary = "aios-cpu-context", profile = "context", label = "spawner:context" }

[server.scheduler]
binary = "aios-scheduler"
arguments = ["--policy", "POLICY"]
routes = ["cpu"]
publish = true
"""


def most_resident_mib(pid):
    text = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return int(text.split("VmHWM:")[1].split()[0]) / 1024


class Run:
    """A program that has done its work, and waits to be looked at."""

    def __init__(self, instance, how, count):
        environment = {**instance.environment, "AIOS_SOCKET": str(instance.state / "aios.sock")}
        self.process = subprocess.Popen([PROGRAM, how, str(count), MODULE], env=environment, text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.said = ""
        self.result = {}
        for line in self.process.stdout:
            words = line.split()
            if words[0] == "said":
                self.said = line
            if words[0] == "done":
                self.result = {words[i]: float(words[i + 1]) for i in range(0, len(words), 2)}
            if words[0] in ("done", "refused"):
                self.last = line
                break
        self.memory_mib = {"client": most_resident_mib(self.process.pid)}
        for one in instance.processes():
            if one["name"] in ("scheduler", "cpu-context"):
                self.memory_mib[one["name"]] = most_resident_mib(one["pid"])

    def close(self):
        self.process.communicate("\n", timeout=PATIENCE_S)


def check(instance, policy, how, count):
    run = Run(instance, how, count)
    expect(run.result.get("done") == count and run.result["failed"] == 0,
           f"{policy}, {how}: {run.last}")
    if how == "each" and run.result["refused"] > 0:
        expect("65536 tasks of this tenant are pending" in run.said, f"a refusal says {run.said}")
    # A task and its completion are about 800 bytes there, and at most 65,536 are pending at once.
    memory = run.memory_mib["scheduler"]
    expect(memory < 250, f"{policy}, {how}: the scheduler has {memory:.0f} MiB")
    expect(run.memory_mib["cpu-context"] < 100, f"{policy}, {how}: {run.memory_mib}")
    # A program has its own records: those of a graph twice, and what came of each.
    expect(run.memory_mib["client"] < 100 + count * 1200 / MIB, f"{policy}, {how}: {run.memory_mib}")
    if COUNT:
        memory = ", ".join(f"{name} {mib:.0f} MiB" for name, mib in run.memory_mib.items())
        print(f"{policy} {how}: {run.result['seconds']:.2f} s, "
              f"{run.result['seconds'] * 1e9 / count:.0f} ns a task; {memory}", flush=True)
    run.close()


def main():
    with tempfile.TemporaryDirectory(prefix="aios-many-") as folder:
        for policy in ("eager", "learned"):
            manifest = Path(folder) / "aios.toml"
            manifest.write_text(MANIFEST.replace("POLICY", policy), encoding="utf-8")
            with Instance(AIOSCTL, manifest) as instance:
                for how in ("graph", "many", "each"):
                    check(instance, policy, how, COUNT or USUAL_COUNT)
                run = Run(instance, "deadline", COUNT or USUAL_COUNT)
                expect("at most 32,768 tasks" in run.last, f"with a deadline: {run.last}")
                run.close()
                left = [t for t in json.loads(instance.ctl("tasks", "--json"))
                        if t["state"] not in ("done", "failed")]
                expect(not left, f"tasks are left: {left[:3]}")


if __name__ == "__main__":
    sys.exit(run_test(main))
