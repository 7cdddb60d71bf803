"""What the scheduler has learned outlives it: its death, the instance, and damage on the disk.

usage: history.py AIOSCTL CUDA_DOUBLE"""

import json
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "support"))
from instance import Instance, expect, run_test, wait_until  # noqa: E402

NUMBERS = 1 << 18
MAGIC = b"AIOSHIST"
STORED_S = 60
# Of the devices only a GPU with a memory of its own.
MANIFEST = """
[server.storage]
binary = "aios-storage"
profile = "storage"
publish = true

[server.gpu]
binary = "aios-gpu"
profile = "driver"
arguments = ["--environment", "AIOS_CUDA_LIBRARY={double}", "--environment", "OCL_ICD_VENDORS={folder}"]
spawner = {{ binary = "aios-gpu-context", profile = "jit", label = "spawner:context" }}

[server.scheduler]
binary = "aios-scheduler"
routes = ["gpu", "storage"]
publish = true
"""


def chain(length):
    task = {"codelet": "axpy", "grid": [NUMBERS // 256], "arguments": [{"u32": NUMBERS}, {"f32": 2}],
            "buffers": [["x", "read"], ["y", "read_write"]]}
    return {"codelets": {"axpy": {"module": "vector.so", "function": "axpy"}},
            "buffers": {name: {"bytes": 4 * NUMBERS} for name in "xy"},
            "tasks": [{"name": f"step{i}", **task} for i in range(length)]}


def run_chain(instance, length):
    """What was answered about it, with far more time than it needs."""
    path = instance.work / "graph.json"
    path.write_text(json.dumps(chain(length)), encoding="utf-8")
    return json.loads(instance.ctl("graph", "run", path, "--deadline", "10min", "--json"))["asked"]


def models(instance):
    return {(m["codelet"], m["device"]): m["samples"]
            for m in json.loads(instance.ctl("models", "--json"))}


def records(instance):
    """Where stored histories lie: file and offset."""
    found = []
    for path in sorted((instance.work / "state/storage").rglob("*")):
        if path.is_file():
            data = path.read_bytes()
            at = data.find(MAGIC)
            while at >= 0:
                found.append((path, at))
                at = data.find(MAGIC, at + 1)
    return found


def log_says(instance, text):
    return text in (instance.state / "logs/scheduler.log").read_text(encoding="utf-8")


def boot_again(instance):
    instance.ctl("boot", "--detach")
    instance.kernel_pid = instance.status()["pid"]


def gpu(instance):
    """None while the driver looks for it."""
    found = json.loads(instance.ctl("devices", "--json"))["devices"]
    return next((device for device in found if device["backend"] == "cuda"), None)


def copies_known(instance):
    device = gpu(instance)
    return device and device["copies"] and device["copies"]["samples"] > 0


def check_copies(folder):
    """What copies to a device take is told of each task, and known again after a death."""
    manifest = folder / "aios.toml"
    manifest.write_text(MANIFEST.format(double=Path(sys.argv[2]).absolute(), folder=folder),
                        encoding="utf-8")
    with Instance(sys.argv[1], manifest) as instance:
        wait_until(lambda: gpu(instance), STORED_S, "the GPU is found")
        path = instance.work / "graph.json"
        path.write_text(json.dumps(chain(8)), encoding="utf-8")
        instance.ctl("graph", "run", path)
        copied = [t for t in json.loads(instance.ctl("tasks", "--json")) if t["transfer_ns"] > 0]
        expect(copied, "no task says what its copies took")
        told = json.loads(instance.ctl("explain", copied[-1]["number"], "--json"))
        expect(told["transfer_ns"] == copied[-1]["transfer_ns"], f"explained: {told}")
        expect("copying its data took" in instance.ctl("explain", copied[-1]["number"]),
               "explain in words says nothing of copies")
        wait_until(lambda: copies_known(instance), STORED_S, "copies are learned from")
        wait_until(lambda: records(instance), STORED_S, "the history is stored")
        instance.ctl("crash", "scheduler", "--how", "kill")
        wait_until(lambda: log_says(instance, "history of 1 codelets restored"), STORED_S,
                   "the history is restored")
        wait_until(lambda: copies_known(instance), STORED_S, "what copies took is known again")


def main():
    with tempfile.TemporaryDirectory() as folder:
        check_copies(Path(folder))
    with Instance(sys.argv[1]) as instance:
        expect(run_chain(instance, 30)["promise"] == "unknown_costs", "it knows what it never saw")
        learned = models(instance)
        expect(learned, "it has learned nothing")
        wait_until(lambda: records(instance), STORED_S, "the history is stored")

        instance.ctl("crash", "scheduler", "--how", "kill")
        wait_until(lambda: log_says(instance, "history of 1 codelets restored"), STORED_S,
                   "the history is restored")
        # It is restored before the drivers have named their devices, which have their old numbers.
        wait_until(lambda: set(models(instance)) == set(learned), STORED_S,
                   "what was learned is there again")
        asked = run_chain(instance, 3)
        expect(asked["promise"] == "made", f"cold after its death: {asked}")

        instance.ctl("shutdown")
        boot_again(instance)
        wait_until(lambda: models(instance), STORED_S, "the history is restored after a boot")
        asked = run_chain(instance, 3)
        expect(asked["promise"] == "made", f"cold after the instance's end: {asked}")

        instance.ctl("shutdown")
        for path, at in records(instance):
            with path.open("r+b") as file:
                file.seek(at + 64)
                byte = file.read(1)
                file.seek(at + 64)
                file.write(bytes([byte[0] ^ 0x55]))
        boot_again(instance)
        wait_until(lambda: log_says(instance, "the stored history is dropped"), STORED_S,
                   "damage is reported")
        expect(run_chain(instance, 3)["promise"] == "unknown_costs", "it believes damaged bytes")


if __name__ == "__main__":
    sys.exit(run_test(main))
