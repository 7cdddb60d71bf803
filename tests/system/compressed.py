"""Compressed inputs count as their text: gzip with several members, zstd with several frames, large and
empty ones; damaged ones are told by name and leave nothing behind."""

import gzip
import random
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "support"))
from instance import Instance, expect, run_test  # noqa: E402

DEBIAN_PYTHON = "/usr/bin/python3"  # that has Debian's zstandard


def zstd(data):
    return subprocess.run([DEBIAN_PYTHON, "-c", "import sys, zstandard; sys.stdout.buffer.write("
                           "zstandard.ZstdCompressor(write_checksum=True)"
                           ".compress(sys.stdin.buffer.read()))"], input=data,
                          stdout=subprocess.PIPE, check=True).stdout


class Jobs:
    def __init__(self, instance):
        self.instance = instance
        self.count = 0

    def file(self, folder, name, data):
        path = self.instance.work / folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        return path

    def run(self, job, inputs, *options):
        self.count += 1
        self.output = self.instance.work / f"output-{self.count}"
        return self.instance.try_ctl("mapreduce", "run", *job, "--input", *inputs, "--output",
                                     self.output, *options)

    def parts(self, job, inputs, *options):
        done = self.run(job, inputs, *options)
        expect(done.returncode == 0, f"{job} of {inputs}: {done.stderr}")
        left = sorted(p.name for p in self.output.iterdir() if not p.name.startswith("part-"))
        expect(left == ["_SUCCESS", "manifest.json"], f"the output folder has {left}")
        return [part.read_bytes() for part in sorted(self.output.glob("part-*"))]


def same_as_plain(jobs):
    source = random.Random(3)
    text = b"".join(b"%d %d\n" % (source.randrange(90000), i % 77) for i in range(400_000))
    # Bytes that unpack to a thousand times as much, and some that hardly shrink.
    texts = {"0": text, "1": b"", "2": b"x " * 6_000_000, "3": b"no newline", "4": text[:99999]}
    plain = [jobs.file("plain", name, data) for name, data in texts.items()]
    half = len(text) // 2
    packed = [jobs.file("packed", "0.gz", gzip.compress(text[:half]) + gzip.compress(text[half:])),
              jobs.file("packed", "1.gz", gzip.compress(b"")),
              jobs.file("packed", "2.zst", zstd(texts["2"])),
              jobs.file("packed", "3.gz", gzip.compress(texts["3"])),
              jobs.file("packed", "4.zst", zstd(text[:777]) + zstd(text[777:99999]))]
    for job in (["wordcount"], ["sort"], ["--mapper", "cat", "--reducer", "cat"]):
        options = ("--reducers", "3")
        expect(jobs.parts(job, packed, *options) == jobs.parts(job, plain, *options),
               f"{job}: another output than of the plain text")
    folder = jobs.instance.work / "packed"
    expect(jobs.parts(["wordcount"], [folder]) == jobs.parts(["wordcount"], plain), "a folder")
    index = jobs.parts(["inverted-index"], packed)[0]
    expect(b"newline\t%s\n" % bytes(packed[3]) in index, "files are not named as they are called")


def damaged(jobs):
    text = random.Random(4).randbytes(3000).hex().encode()
    good = {"gz": gzip.compress(text), "zst": zstd(text)}
    for kind, data in good.items():
        for what, bad in (("cut", data[:-5]), ("no", b"plain text"), ("tail", data + b"garbage"),
                          ("flipped", data[:2000] + bytes([data[2000] ^ 255]) + data[2001:])):
            path = jobs.file("bad", f"{what}.{kind}", bad)
            done = jobs.run(["wordcount"], [path])
            expect(done.returncode == 1 and str(path) in done.stderr, f"{path}: {done}")
            expect(not jobs.output.exists(), f"{path}: leaves its folder")
            print(done.stderr.strip(), flush=True)
    empty = jobs.file("bad", "empty.gz", b"")
    expect(jobs.parts(["wordcount"], [empty]) == [b""], "an empty file")


def main():
    with Instance(sys.argv[1]) as instance:
        jobs = Jobs(instance)
        same_as_plain(jobs)
        damaged(jobs)


if __name__ == "__main__":
    sys.exit(run_test(main))
