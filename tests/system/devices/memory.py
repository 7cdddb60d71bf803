"""The memory of a device is shared out among jobs: what it cannot hold is refused or runs elsewhere, and
copies that nobody uses leave for those that are needed.

usage: memory.py AIOSCTL LIBAIOS CODELETS OPENCL_APART

OPENCL_APART is tests/support's OpenCL library whose devices have memory of their own. Without an
OpenCL driver there is nothing to test: 77.
"""

import json
import os
import struct
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT / "tests/support"), str(ROOT / "abi/python")]
AIOSCTL, LIBRARY, CODELETS, APART = map(os.path.abspath, sys.argv[1:5])
os.environ["AIOS_LIBRARY"] = LIBRARY
import aios  # noqa: E402
from instance import Instance, expect, run_test, wait_until  # noqa: E402

PATIENCE_S = 60
MIB = 1 << 20
ROOM_MIB = 16
POCL = Path("/etc/OpenCL/vendors/pocl.icd")
SKIPPED = 77

MANIFEST = f"""
[server.cpu]
binary = "aios-cpu"
spawner = {{ binary = "aios-cpu-context", profile = "context", label = "spawner:context" }}

[server.gpu]
binary = "aios-gpu"
arguments = ["--memory-mib", "{ROOM_MIB}", "--environment", "AIOS_OPENCL_LIBRARY={APART}",
  "--environment", "AIOS_CUDA_LIBRARY=/nowhere/libcuda.so.1"]
spawner = {{ binary = "aios-gpu-context", profile = "jit", label = "spawner:context" }}

[server.scheduler]
binary = "aios-scheduler"
arguments = ["--policy", "POLICY"]
routes = ["cpu", "gpu"]
publish = true
"""


class Application:
    """Adds vectors of some MiB each."""

    def __init__(self, instance, name, mib):
        self.attached = aios.attach(str(instance.state / "aios.sock"), job_name=name)
        self.tenant = self.attached.tenant(PATIENCE_S)
        self.numbers = mib * MIB // 4
        self.region = self.attached.create_region(3 * mib * MIB, "vectors")
        self.buffers = [self.tenant.buffer(self.region, aios.Access.WRITE, i * mib * MIB, mib * MIB)
                        for i in range(3)]
        self.codelet = self.tenant.codelet(f"{CODELETS}/vector.so", "vector_add")
        self.mib = mib
        self.tag = 0

    def close(self):
        self.tenant.close()
        self.attached.close()

    def submit(self, device=None):
        self.tag += 1
        x, y, z = self.buffers
        struct.pack_into("f", self.region.data, 0, self.tag)
        struct.pack_into("f", self.region.data, self.mib * MIB, 0.5)
        self.tenant.submit(aios.Task(
            self.tag, self.codelet,
            [(x, aios.Mode.READ), (y, aios.Mode.READ), (z, aios.Mode.WRITE)],
            struct.pack("I", self.numbers), grid=(self.numbers // 256,), device=device))

    def run(self, device=None):
        self.submit(device)
        done = self.tenant.completions(PATIENCE_S)
        expect(len(done) == 1, f"{len(done)} completions")
        expect(done[0].ok, "it failed: " + ("" if done[0].ok else self.tenant.failure(self.tag)))
        sum_is = struct.unpack_from("f", self.region.data, 2 * self.mib * MIB)[0]
        expect(sum_is == self.tag + 0.5, f"{self.tag} + 0.5 is {sum_is}")


def explained(instance, job):
    """Of the last task of that name."""
    listed = [t for t in json.loads(instance.ctl("tasks", "--json")) if t["job"] == job]
    number = str(max(task["number"] for task in listed))
    return json.loads(instance.ctl("explain", number, "--json"))


def check_sharing(instance, device):
    first, second = Application(instance, "first", 4), Application(instance, "second", 4)
    first.run(device)
    first.run(device)
    why = explained(instance, "first")["why"]
    expect("memory" not in why, f"there is room for the first: {why}")
    # Only 4 of 16 MiB are free: copies of the first have to leave.
    second.run(device)
    why = explained(instance, "second")["why"]
    expect(why == "it waited until the memory there had room for it", f"the second: {why}")
    # And come back, in the place of the other's.
    first.run(device)
    why = explained(instance, "first")["why"]
    expect(why == "it waited until the memory there had room for it", f"the first again: {why}")
    second.close()
    first.run(device)
    first.close()


def check_gang(instance, device, processor):
    """One of it needs memory that another job's copies take: both wait until these have left."""
    first, second = Application(instance, "first", 4), Application(instance, "gang", 4)
    first.run(device)
    x, y, z = second.buffers
    arguments = struct.pack("I", second.numbers)
    spare = second.tenant.buffer(second.attached.create_region(4096, "spare"), aios.Access.WRITE, 0, 4096)
    second.tenant.submit([
        aios.Task(1, second.codelet, [(x, aios.Mode.READ), (y, aios.Mode.READ), (z, aios.Mode.WRITE)],
                  arguments, grid=(second.numbers // 256,), device=device, gang=(1, 2)),
        aios.Task(2, second.codelet, [(x, aios.Mode.READ), (x, aios.Mode.READ), (spare, aios.Mode.WRITE)],
                  struct.pack("I", 0), device=processor, gang=(1, 2))])
    done = []
    while len(done) < 2:
        done += second.tenant.completions(PATIENCE_S)
    for one in done:
        expect(one.ok, f"{one.tag} of the gang: " + ("" if one.ok else second.tenant.failure(one.tag)))
    first.close()
    second.close()


def check_too_large(instance, device, processor):
    large = Application(instance, "large", 6)
    try:
        large.submit(device)
        expect(False, "18 MiB are taken for a device of 16")
    except aios.NoMemory as refused:
        expect("its buffers have 18874368 bytes" in str(refused), f"it says: {refused}")
        expect("has 16777216" in str(refused), f"it says: {refused}")
    for _ in range(3):
        large.run()
        where = explained(instance, "large")["device"]
        expect(where == f"cpu{processor}", f"what fits nowhere else runs on {where}")
    large.close()


def work(policy, folder):
    manifest = folder / "aios.toml"
    manifest.write_text(MANIFEST.replace("POLICY", policy), encoding="utf-8")
    with Instance(AIOSCTL, manifest) as instance:
        def found():
            return [d for d in json.loads(instance.ctl("devices", "--json"))["devices"]
                    if d["backend"] == "opencl"]
        wait_until(found, PATIENCE_S, "the GPU driver has found PoCL")
        with aios.attach(str(instance.state / "aios.sock")) as attached:
            with attached.tenant(PATIENCE_S) as tenant:
                devices = tenant.devices()
        opencl = next(d for d in devices if d.backend == "opencl")
        expect(opencl.memory_bytes == ROOM_MIB * MIB, f"it says it has {opencl.memory_bytes} bytes")
        processor = next(d.index for d in devices if d.backend == "cpu")
        check_sharing(instance, opencl.index)
        check_gang(instance, opencl.index, processor)
        check_too_large(instance, opencl.index, processor)


def main():
    with tempfile.TemporaryDirectory(prefix="aios-memory-") as folder:
        for policy in ("learned", "eager"):
            work(policy, Path(folder))


if __name__ == "__main__":
    sys.exit(run_test(main) if POCL.exists() else SKIPPED)
