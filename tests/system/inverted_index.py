"""`inverted-index` lists for every word the files it occurs in, as Python finds them: over folders and
files, empty ones among them, names of every kind, any number of parts and little memory."""

import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "support"))
from corpus import make_cut  # noqa: E402
from instance import Instance, expect, run_test  # noqa: E402

CUT_BYTES = 10_000_000
SPACE = b" \t\n\v\f\r"


def walk(path):
    """Files in the order in which AIOS reads them, with the names it gives them."""
    if not os.path.isdir(path):
        yield path
        return
    for name in sorted(os.listdir(path), key=os.fsencode):
        yield from walk(path + ("" if path.endswith("/") else "/") + name)


def reference(inputs):
    """The lines, in order."""
    index = {}
    for path in (found for one in inputs for found in walk(str(one))):
        name = os.fsencode(path).replace(b"\\", b"\\\\").replace(b"\t", b"\\t").replace(b"\n", b"\\n")
        for word in set(Path(path).read_bytes().split()):
            index.setdefault(word, []).append(name)
    return [word + b"\t" + b"\t".join(index[word]) for word in sorted(index)]


def check(instance, name, inputs, reducers=1, options=()):
    output = instance.work / f"output-{name}"
    printed = instance.ctl("mapreduce", "run", "inverted-index", "--input", *inputs, "--output",
                           output, "--reducers", reducers, "--json", *options)
    parts = [part.read_bytes().split(b"\n")[:-1] for part in sorted(output.glob("part-*"))]
    expect(len(parts) == reducers, f"{name}: {len(parts)} parts")
    lines = sorted((line for part in parts for line in part), key=lambda line: line.split(b"\t")[0])
    expected = reference(inputs)
    expect(lines == expected, f"{name}: {len(lines)} lines, not the {len(expected)} of the reference")
    for part in parts:
        words = [line.split(b"\t")[0] for line in part]
        expect(words == sorted(words), f"{name}: a part is not in order")
    report = json.loads(printed)
    print(f"{name}: {len(lines)} words, {report['seconds']:.2f} s, "
          f"spilled {report['spilled_bytes']} bytes", flush=True)
    return report


def main():
    with Instance(sys.argv[1]) as instance:
        # bytes.split() and AIOS agree on what white space is.
        expect(bytes(b for b in range(256) if not bytes([b]).split()) ==
               bytes(sorted(SPACE)), "white space")
        cut = instance.work / "cut"
        make_cut(cut, CUT_BYTES)
        check(instance, "text", [cut])
        report = check(instance, "budget", [cut], 3, ("--memory-mb", 8, "--threads", 1))
        expect(report["spilled_bytes"] > 0, "it did not spill")
        odd = instance.work / "odd"
        odd.mkdir()
        for name, text in [
                ("a\tb", b"one two one"), ("b\nc", b"two"), ("d\\e", b"one\0 one"), ("empty", b""),
                ("f", b""), ("g", b"two \xff\xfe three\v" + b"long" * 30 + b" " + b"long" * 30),
                ("h", b"three\x85two\x1cx y\xc2\xa0z")]:
            (odd / name).write_bytes(text)
        check(instance, "odd", [odd])
        check(instance, "twice", [f"{odd}/", odd / "g", odd])
        big = instance.work / "big"
        big.write_bytes(b"".join(b"w%d " % (i % 5000) for i in range(1_000_000)))
        check(instance, "many-splits-of-one-file", [odd / "g", big, odd / "h"], 2)


if __name__ == "__main__":
    sys.exit(run_test(main))
