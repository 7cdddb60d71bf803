"""`aiosctl bench devices` on the double of a CUDA device: beside every figure stands what the
driver's functions, or cuBLAS, do alone, where it is there. The figures mean nothing."""

import json
import os
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TESTS / "support"))
from instance import expect, run_test  # noqa: E402
from schema import check  # noqa: E402

SCHEMA = TESTS.parent / "abi/schema/bench-devices.json"


def bench(aiosctl, **variables):
    result = subprocess.run([aiosctl, "bench", "devices", "--rounds", "1", "--only", "cuda", "--json"],
                            capture_output=True, text=True, timeout=90, check=False,
                            env={**os.environ, **variables})
    expect(result.returncode == 0, f"bench devices: {result.returncode} {result.stderr!r}")
    value = json.loads(result.stdout)
    check(value, json.loads(SCHEMA.read_text(encoding="utf-8")), "bench-devices")
    (device,) = value["devices"]
    expect(device["backend"] == "cuda" and device["emulated"], f"{device}")
    return device


def check_products(device):
    for name in ("sgemm", "half_gemm", "bfloat_gemm"):
        figures = device[f"{name}_gflop_s"]
        expect(set(figures) == {"through", "direct", "cublas", "device"}, f"{name}: {figures}")
        expect(all(figure["lowest"] > 0 for figure in figures.values()), f"{name}: {figures}")
        expect({f"{name}_through_over_cublas", f"{name}_device_over_cublas"} <= set(device["ratios"]),
               f"{device['ratios']}")


def main():
    aiosctl, double = map(os.path.abspath, sys.argv[1:])
    device = bench(aiosctl, AIOS_CUDA_LIBRARY=double, AIOS_CUBLAS_LIBRARY=double)
    ways = {"launch_ns": {"through", "through_queued", "direct", "direct_queued", "bare",
                          "bare_queued"},
            "stream_gb_s": {"through", "direct", "bare"},
            "park_ns": {"context_park", "context_resume", "alone_park", "alone_resume"}}
    for case, names in ways.items():
        expect(set(device[case]) == names, f"{case}: {device[case]}")
        expect(all(figure["lowest"] > 0 for figure in device[case].values()), f"{device[case]}")
    check_products(device)
    expect(device["parked"] == dict.fromkeys(("context", "alone"), "resumed, its memory intact"),
           f"{device['parked']}")
    expect(not device["skipped"], f"{device['skipped']}")
    expect({"launch_queued_through_minus_bare_ns",
            "stream_through_over_bare"} <= set(device["ratios"]), f"{device['ratios']}")
    device = bench(aiosctl, AIOS_CUDA_LIBRARY=double, AIOS_CUBLAS_LIBRARY="/nowhere/libcublas.so",
                   AIOS_CUDA_DOUBLE="checkpoint=no")
    for name in ("sgemm", "half_gemm", "bfloat_gemm"):
        expect(set(device[f"{name}_gflop_s"]) == {"through", "direct"}, f"{name}: {device}")
    (skipped,) = device["skipped"]
    expect("cuBLAS" in skipped and "/nowhere/libcublas.so" in skipped, f"{skipped}")
    expect(set(device["parked"]) == {"context", "alone"} and
           all("NOT_SUPPORTED" in outcome for outcome in device["parked"].values()),
           f"{device['parked']}")
    expect(not device["park_ns"], f"{device['park_ns']}")


if __name__ == "__main__":
    sys.exit(run_test(main))
