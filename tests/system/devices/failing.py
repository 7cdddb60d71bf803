"""A device on which a codelet always fails gets few of its tasks, and `explain` says so.

usage: failing.py AIOSCTL LIBAIOS MODULE

MODULE's kernel crashes on the processor and runs on every other device. Without an OpenCL driver there
is nothing to test: 77.
"""

import json
import os
import struct
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT / "tests/support"), str(ROOT / "abi/python")]
AIOSCTL, LIBRARY, MODULE = map(os.path.abspath, sys.argv[1:4])
os.environ["AIOS_LIBRARY"] = LIBRARY
import aios  # noqa: E402
import schema  # noqa: E402
from instance import Instance, expect, run_test, wait_until  # noqa: E402

SCHEMA = json.loads((ROOT / "abi/schema/explain.json").read_text(encoding="utf-8"))
PATIENCE_S = 60
NUMBERS = 64
POCL = Path("/etc/OpenCL/vendors/pocl.icd")
SKIPPED = 77

# Without predictions the first device is taken that has a free slot: the processor.
MANIFEST = """
[server.cpu]
binary = "aios-cpu"
spawner = { binary = "aios-cpu-context", profile = "context", label = "spawner:context" }

[server.gpu]
binary = "aios-gpu"
arguments = ["--environment", "AIOS_CUDA_LIBRARY=/nowhere/libcuda.so.1"]
spawner = { binary = "aios-gpu-context", profile = "jit", label = "spawner:context" }

[server.scheduler]
binary = "aios-scheduler"
arguments = ["--policy", "eager"]
routes = ["cpu", "gpu"]
publish = true
"""


def run(tenant, codelet, buffer, tag, device=None):
    """Whether the task succeeded."""
    tenant.submit(aios.Task(tag, codelet, [(buffer, aios.Mode.WRITE)], struct.pack("I", NUMBERS),
                            device=device))
    done = tenant.completions(PATIENCE_S)
    expect(len(done) == 1, f"{len(done)} completions")
    return done[0].ok


def explained(instance):
    number = max(task["number"] for task in json.loads(instance.ctl("tasks", "--json")))
    why = json.loads(instance.ctl("explain", str(number), "--json"))
    schema.check(why, SCHEMA)
    return why, instance.ctl("explain", str(number))


def work(instance):
    def found():
        return [d for d in json.loads(instance.ctl("devices", "--json"))["devices"]
                if d["backend"] == "opencl"]
    wait_until(found, PATIENCE_S, "the GPU driver has found PoCL")
    with aios.attach(str(instance.state / "aios.sock")) as attached:
        with attached.tenant(PATIENCE_S) as tenant:
            processor = next(d.index for d in tenant.devices() if d.backend == "cpu")
            out = attached.create_region(NUMBERS * 4, "out")
            buffer = tenant.buffer(out, aios.Access.WRITE, 0, NUMBERS * 4)
            codelet = tenant.codelet(MODULE, "only_elsewhere")
            # The first crashes its context twice; the second once, and runs elsewhere then.
            expect(not run(tenant, codelet, buffer, 1), "it does not crash on the processor")
            for tag in range(2, 20):
                expect(run(tenant, codelet, buffer, tag),
                       f"task {tag}: " + "not run where it succeeds")
                expect(struct.unpack_from("I", out.data, 4 * 9)[0] == 9, "wrong result")
            why, text = explained(instance)
            expect(why["why"] == "where it would finish first the last tasks of its codelet failed",
                   f"why: {why['why']}")
            expect([c["fails"] for c in why["candidates"]] == [False, True],
                   f"candidates: {why['candidates']}")
            expect(f"failed there, one after the other: cpu{processor}" in text, text)
            # Who names it gets it.
            expect(not run(tenant, codelet, buffer, 20, processor), "it does not crash there")


def main():
    with tempfile.TemporaryDirectory(prefix="aios-failing-") as folder:
        manifest = Path(folder) / "aios.toml"
        manifest.write_text(MANIFEST, encoding="utf-8")
        with Instance(AIOSCTL, manifest) as instance:
            work(instance)


if __name__ == "__main__":
    sys.exit(run_test(main) if POCL.exists() else SKIPPED)
