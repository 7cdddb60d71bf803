"""`sort` writes, part after part, what `LC_ALL=C sort` writes: of real text with and without a memory
budget, and of every odd kind of lines, with as many parts as one likes."""

import json
import random
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "support"))
from corpus import make_cut  # noqa: E402
from instance import Instance, expect, run_test  # noqa: E402

CUT_BYTES = 12_000_000
BUDGET_MB = 8


def reference(inputs):
    return subprocess.run(["sort", *map(str, inputs)], env={"LC_ALL": "C", "PATH": "/usr/bin:/bin"},
                          stdout=subprocess.PIPE, check=True).stdout


def check(instance, name, inputs, reducers=1, options=()):
    """Sorts and compares; what the job reports and the sizes of the parts."""
    output = instance.work / f"output-{name}-{reducers}"
    printed = instance.ctl("mapreduce", "run", "sort", "--input", *inputs, "--output", output,
                           "--reducers", reducers, "--json", *options)
    expect((output / "_SUCCESS").is_file(), f"{name}: no _SUCCESS")
    parts = [part.read_bytes() for part in sorted(output.glob("part-*"))]
    expect(len(parts) == reducers, f"{name}: {len(parts)} parts instead of {reducers}")
    expect(b"".join(parts) == reference(inputs), f"{name}: other bytes than coreutils")
    report = json.loads(printed)
    print(f"{name}, {reducers} parts: {report['seconds']:.2f} s, "
          f"spilled {report['spilled_bytes']} bytes", flush=True)
    return report, [len(part) for part in parts]


def odd_texts():
    source = random.Random(7)
    numbers = [b"%d" % source.randrange(500) for _ in range(20000)]
    return {
        "empty": b"",
        "one-newline": b"\n",
        "no-newline-at-the-end": b"b\na\nc",
        "empty-lines": b"\n\nb\n\n\na\n\n",
        "duplicates": b"\n".join(numbers) + b"\n",
        "one-key": b"the same\n" * 50000,
        "one-long-prefix": b"".join(b"x" * 100 + n + b"\n" for n in numbers),
        "any-bytes": source.randbytes(300_000),
        "nul": b"a\0b\na\0\na\na\0\0\n\0\n\n",
        "tabs-and-returns": b"a\tb\r\na\r\n\ta\na b\na\n",
        "long-lines": b"".join(source.choice(b"ab").to_bytes(1, "little") * 700_000 + b"%d\n" % i
                               for i in range(12)),
    }


def main():
    with Instance(sys.argv[1]) as instance:
        cut = instance.work / "cut"
        make_cut(cut, CUT_BYTES)
        files = sorted((p for p in cut.rglob("*") if p.is_file()), key=lambda p: str(p).encode())
        for reducers, options in ((1, ()), (4, ("--threads", "1")),
                                  (3, ("--memory-mb", BUDGET_MB))):
            report, sizes = check(instance, "text", files, reducers, options)
            expect((report["spilled_bytes"] > 0) == ("--memory-mb" in options), "spills")
            expect(min(sizes) > 0, f"{reducers} parts of sizes {sizes}")
        for name, text in odd_texts().items():
            one = instance.work / name
            one.write_bytes(text)
            for reducers in (1, 7):
                check(instance, name, [one], reducers)
        names = [instance.work / name for name in odd_texts()]
        check(instance, "all-odd", names, 512)


if __name__ == "__main__":
    sys.exit(run_test(main))
