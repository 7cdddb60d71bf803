"""AIOS on hosts where something of the devices is missing or broken: it boots, says so, and works
with what is there.

usage: degraded.py AIOSCTL CUDA_DOUBLE NVML_DOUBLE OPENCL_DRIVERS MODULE EVERYWHERE STEADY

OPENCL_DRIVERS is the folder of tests/support's broken ones; MODULE, EVERYWHERE and STEADY are the
example of one kernel for every device, the program that runs it, and one that does so for long.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "support"))
import schema  # noqa: E402
from instance import Instance, expect, run_test, wait_until  # noqa: E402

# The GPU driver and its contexts run in folders of their own.
AIOSCTL, DOUBLE, NVML, DRIVERS, MODULE, EVERYWHERE, STEADY = map(os.path.abspath, sys.argv[1:8])
SCHEMA = json.loads((Path(__file__).resolve().parents[3] / "abi/schema/devices.json")
                    .read_text(encoding="utf-8"))
POCL = Path("/etc/OpenCL/vendors/pocl.icd")
PATIENCE_S = 60
# A probe of PoCL takes a second or two on an idle machine.
PROBE_LIMIT_S = 10
# Where many are made at once, or one takes long.
SLOW_PROBE_LIMIT_S = 30

MANIFEST = """
[server.cpu]
binary = "aios-cpu"
profile = "driver"
spawner = {{ binary = "aios-cpu-context", profile = "context", label = "spawner:context" }}

[server.gpu]
binary = "aios-gpu"
profile = "driver"
arguments = [{arguments}]
spawner = {{ binary = "aios-gpu-context", profile = "jit", label = "spawner:context" }}

[server.scheduler]
binary = "aios-scheduler"
routes = ["cpu", "gpu"]
publish = true
"""
RIGHT = "871 takes the most steps, 178"


class Host(Instance):
    """An instance whose GPU driver sees a host of the test's making."""

    def __init__(self, folder, cuda="/nowhere/libcuda.so.1", opencl=None, vendors=None,
                 probe_limit_s=PROBE_LIMIT_S, **more):
        variables = {"AIOS_CUDA_LIBRARY": cuda, **more}
        if opencl:
            variables["AIOS_OPENCL_LIBRARY"] = opencl
        variables["OCL_ICD_VENDORS"] = str(vendors or folder)
        # A server has a limited number of arguments.
        words = ["--probe-limit-s", str(probe_limit_s)] if len(variables) < 4 else []
        for name, value in variables.items():
            words += ["--environment", f"{name}={value}"]
        manifest = folder / "aios.toml"
        manifest.write_text(MANIFEST.format(arguments=", ".join(f'"{w}"' for w in words)),
                            encoding="utf-8")
        super().__init__(AIOSCTL, manifest)

    def listing(self):
        listed = json.loads(self.ctl("devices", "--json"))
        schema.check(listed, SCHEMA)
        return listed

    def settled(self):
        """The listing once the driver has looked everywhere."""
        def found():
            listed = self.listing()
            looking = any(m["backend"] == "gpu" for m in listed["missing"])
            return listed if listed["devices"] and not looking else None
        return wait_until(found, PATIENCE_S, "the GPU driver has looked for its devices")

    def run(self, *command):
        environment = {**self.environment, "AIOS_SOCKET": str(self.state / "aios.sock")}
        return subprocess.run(command, env=environment, text=True, capture_output=True,
                              timeout=PATIENCE_S, check=False)

    def check_work(self, backends):
        """Every device that is there computes the same."""
        done = self.run(EVERYWHERE, MODULE)
        expect(done.returncode == 0, f"everywhere: {done.stdout}{done.stderr}")
        expect(sorted(done.stdout.splitlines()) == [f"{backend}: {RIGHT}" for backend in backends],
               f"everywhere printed {done.stdout!r}")


def missing(listed, backend, *words):
    """The one absence of this backend with these words."""
    found = [m for m in listed["missing"] if m["backend"] == backend
             and all(word in m["why"] for word in words)]
    expect(len(found) == 1, f"{backend} missing for {words}: {listed['missing']}")
    expect(found[0]["advice"], "it is not said what to do")
    return found[0]


def device(listed, backend):
    return next(d for d in listed["devices"] if d["backend"] == backend)


def backends(listed):
    return sorted(device["backend"] for device in listed["devices"])


def without_anything(folder):
    """Neither an NVIDIA driver nor the loader of OpenCL drivers."""
    with Host(folder, opencl="/nowhere/libOpenCL.so.1") as host:
        listed = host.settled()
        expect(backends(listed) == ["cpu"], f"devices: {listed['devices']}")
        expect("NVIDIA" in missing(listed, "cuda", "/nowhere/libcuda.so.1")["advice"],
               "no advice on an NVIDIA driver")
        expect("pocl" in missing(listed, "opencl", "/nowhere/libOpenCL.so.1")["advice"],
               "no advice on OpenCL")
        text = host.ctl("devices")
        expect("Looked for and not there" in text and "cuda: " in text, f"people read: {text}")
        host.check_work(["cpu"])
        # A task for what nobody has is refused, not kept waiting.
        refused = host.run(STEADY, MODULE, "cuda")
        expect(refused.returncode == 1 and "no such device" in refused.stderr, refused.stderr)


def without_opencl_drivers(folder):
    with Host(folder) as host:
        listed = host.settled()
        expect(backends(listed) == ["cpu"], f"devices: {listed['devices']}")
        missing(listed, "opencl", "no OpenCL driver is installed")


def with_broken_drivers(folder):
    """Each is named, and hides neither those that work nor the CUDA driver."""
    vendors = folder / "vendors"
    vendors.mkdir()
    texts = {"absent": "libno-such-driver.so.9", "empty": "", "text": str(folder / "aios.toml")}
    for how in ["crashes", "hangs", "shows-nothing", "talks-garbage"]:
        texts[how] = f"{DRIVERS}/libopencl-{how}.so"
    if POCL.exists():
        texts["pocl"] = POCL.read_text(encoding="utf-8")
    for name, text in texts.items():
        (vendors / f"{name}.icd").write_text(f"{text}\n", encoding="utf-8")
    with Host(folder, cuda=DOUBLE, vendors=vendors, probe_limit_s=SLOW_PROBE_LIMIT_S) as host:
        # While one of them hangs the processor is listed, and what is not known yet is said.
        first = host.listing()
        expect(any(m["backend"] == "gpu" and "looks" in m["why"] for m in first["missing"])
               or len(backends(first)) > 1, f"at first: {first}")
        listed = host.settled()
        present = ["cpu", "cuda"] + (["opencl"] if POCL.exists() else [])
        expect(backends(listed) == present, f"devices: {listed['devices']}")
        missing(listed, "opencl", "absent.icd", "libno-such-driver.so.9")
        missing(listed, "opencl", "empty.icd", "names no library")
        missing(listed, "opencl", "text.icd", "does not load")
        missing(listed, "opencl", "crashes.icd", "crashed", "Segmentation fault")
        missing(listed, "opencl", "hangs.icd", f"within {SLOW_PROBE_LIMIT_S} s")
        missing(listed, "opencl", "talks-garbage.icd", "crashed")
        missing(listed, "opencl", "makes no sense")
        host.check_work(present)


def with_a_probe_that_hangs(folder):
    """The CUDA driver never answers: the processor works meanwhile, and after."""
    with Host(folder, cuda=DOUBLE, AIOS_CUDA_DOUBLE="init=hang") as host:
        host.check_work(["cpu"])
        missing(host.settled(), "cuda", f"within {PROBE_LIMIT_S} s")
        host.check_work(["cpu"])


def without_an_owner_of_memory(folder):
    """The process that is to own a tenant's device memory hangs, or ends: contexts go on without."""
    for how in ["hang", "fail"]:
        with Host(folder, cuda=DOUBLE, AIOS_CUDA_DOUBLE=f"owner={how}") as host:
            host.settled()
            host.check_work(["cpu", "cuda"])


def with_a_driver_that_starts_slowly(folder):
    """As without persistence mode: contexts are waited for."""
    with Host(folder, cuda=DOUBLE, probe_limit_s=SLOW_PROBE_LIMIT_S,
              AIOS_CUDA_DOUBLE="init=7") as host:
        host.settled()
        host.check_work(["cpu", "cuda"])


def gauges(host):
    listed = device(host.listing(), "cuda")
    return listed["utilisation"], listed["temperature_celsius"]


def with_gauges(folder):
    """How busy and how warm the GPU is, by the management library."""
    with Host(folder, cuda=DOUBLE, AIOS_NVML_LIBRARY=NVML,
              AIOS_NVML_DOUBLE="busy=42;celsius=61") as host:
        host.settled()
        wait_until(lambda: gauges(host) == (0.42, 61), PATIENCE_S, "the GPU's gauges are listed")
        expect(not [m for m in host.listing()["missing"] if "busy" in m["why"]], "told and missing")
        text = host.ctl("devices")
        expect("42%" in text and "61 C" in text, f"people read: {text}")


def without_gauges(folder):
    """The library is not there, or hangs: both are said, and the GPU works."""
    for library, orders, words in [("/nowhere/libnvidia-ml.so.1", "", "/nowhere/libnvidia-ml.so.1"),
                                   (NVML, "hang", "does not answer")]:
        with Host(folder, cuda=DOUBLE, AIOS_NVML_LIBRARY=library,
                  AIOS_NVML_DOUBLE=orders) as host:
            host.settled()
            wait_until(lambda: [m for m in host.listing()["missing"] if "busy" in m["why"]],
                       PATIENCE_S, "it is said that the GPU's gauges are not known")
            expect("libnvidia-ml1" in missing(host.listing(), "cuda", "busy", words)["advice"],
                   "no advice on the management library")
            expect(gauges(host) == (None, None), f"gauges: {gauges(host)}")
            host.check_work(["cpu", "cuda"])


def next_line(steady, start, wanted):
    """Reads on to a line that begins so; no task that could run elsewhere fails meanwhile."""
    for line in steady.stdout:
        expect(not line.startswith("any ") or line.startswith("any ok"),
               f"a task that any device could run: {line}")
        if line.startswith(start):
            expect(wanted in line, f"expected {wanted!r}: {line}")
            return
        expect(line.startswith(("any ok", "pinned")), f"steady printed {line!r}")
    expect(False, f"no line '{start}' came")


def with_a_device_that_disappears(folder):
    """It goes while a job computes on it, and comes back."""
    gone = folder / "gone"
    gone.touch()
    with Host(folder, cuda=DOUBLE, AIOS_CUDA_DOUBLE=f"gone={gone}") as host:
        host.settled()
        environment = {**host.environment, "AIOS_SOCKET": str(host.state / "aios.sock")}
        with subprocess.Popen([STEADY, MODULE, "cuda"], env=environment, text=True,
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE) as steady:
            try:
                next_line(steady, "pinned ok", "")
                gone.write_text("gone", encoding="utf-8")
                next_line(steady, "pinned service_down", "gone")
                wait_until(lambda: device(host.listing(), "cuda")["health"] == "failed",
                           PATIENCE_S, "the device is listed as failed")
                reason = device(host.listing(), "cuda")["reason"]
                expect("gone" in reason, f"the reason is {reason}")
                expect("gone" in host.ctl("devices"), "people are not told")
                gone.write_text("", encoding="utf-8")
                next_line(steady, "pinned ok", "")
                expect(device(host.listing(), "cuda")["health"] == "ok", "it is not ok again")
            finally:
                steady.stdin.close()
                steady.stdout.read()


def main():
    for case in [without_anything, without_opencl_drivers, with_broken_drivers,
                 with_a_probe_that_hangs, without_an_owner_of_memory,
                 with_a_driver_that_starts_slowly, with_gauges, without_gauges,
                 with_a_device_that_disappears]:
        print(case.__name__.replace("_", " "), flush=True)
        with tempfile.TemporaryDirectory(prefix="aios-degraded-") as folder:
            # The driver of an instance that root booted runs as another user.
            os.chmod(folder, 0o755)
            case(Path(folder))


if __name__ == "__main__":
    sys.exit(run_test(main))
