"""The words of 30 MB of /usr/include, counted with 1, 2 and 4 threads, with a budget of 16 MB and
without, are byte for byte those that coreutils count."""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "support"))
from corpus import make_cut, same_bytes, write_reference  # noqa: E402
from instance import Instance, expect, run_test  # noqa: E402

CUT_BYTES = 30_000_000
BUDGET_MB = 16
THREADS = (1, 2, 4)


def count(instance, cut, reference, threads, budget_mb):
    name = f"{threads} threads, " + (f"{budget_mb} MB" if budget_mb else "no budget")
    output = instance.work / f"output-{threads}-{budget_mb}"
    options = ["--memory-mb", budget_mb] if budget_mb else []
    printed = instance.ctl("mapreduce", "run", "wordcount", "--input", cut, "--output", output,
                           "--threads", threads, "--json", *options)
    job = json.loads(printed)
    print(f"{name}: {job['seconds']:.2f} s, spilled {job['spilled_bytes']} bytes", flush=True)
    expect(same_bytes(reference, output / "part-00000"), f"{name}: other bytes than coreutils")
    expect((output / "_SUCCESS").is_file(), f"{name}: no _SUCCESS")
    json.loads((output / "manifest.json").read_text(encoding="utf-8"))
    with open(reference, "rb") as lines:
        keys = sum(1 for _ in lines)
    expect(job["job"] == "wordcount", f"{name}: job {job['job']}")
    expect(job["input_bytes"] == CUT_BYTES, f"{name}: input_bytes {job['input_bytes']}")
    expect(job["distinct_keys"] == keys, f"{name}: distinct_keys {job['distinct_keys']}")
    if budget_mb:
        expect(job["spilled_bytes"] > 0, f"{name}: it did not spill")
    leftover = sorted(p.name for p in output.iterdir())
    expect(leftover == ["_SUCCESS", "manifest.json", "part-00000"],
           f"{name}: the output folder has {leftover}")


def main():
    with Instance(sys.argv[1]) as instance:
        cut = instance.work / "cut"
        reference = instance.work / "reference"
        make_cut(cut, CUT_BYTES)
        write_reference(cut, reference)
        for budget_mb in (None, BUDGET_MB):
            for threads in THREADS:
                count(instance, cut, reference, threads, budget_mb)


if __name__ == "__main__":
    sys.exit(run_test(main))
