"""Compressed inputs count as their text: gzip with several members, zstd with several frames, large and
empty ones; damaged ones are told by name and leave nothing behind. While they are unpacked the job is
listed, and can be cancelled."""

import gzip
import json
import random
import signal
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "support"))
from instance import Instance, expect, run_test, wait_until  # noqa: E402
from jobs import Jobs  # noqa: E402

PATIENCE_S = 90
DEBIAN_PYTHON = "/usr/bin/python3"  # that has Debian's zstandard


def zstd(data):
    return subprocess.run([DEBIAN_PYTHON, "-c", "import sys, zstandard; sys.stdout.buffer.write("
                           "zstandard.ZstdCompressor(write_checksum=True)"
                           ".compress(sys.stdin.buffer.read()))"], input=data,
                          stdout=subprocess.PIPE, check=True).stdout


def same_as_plain(jobs):
    source = random.Random(3)
    text = b"".join(b"%d %d\n" % (source.randrange(90000), i % 77) for i in range(400_000))
    # Bytes that unpack to a thousand times as much, and some that hardly shrink.
    texts = {"0": text, "1": b"", "2": b"x " * 6_000_000, "3": b"no newline", "4": text[:99999]}
    plain = [jobs.file(f"plain/{name}", data) for name, data in texts.items()]
    half = len(text) // 2
    packed = [jobs.file("packed/0.gz", gzip.compress(text[:half]) + gzip.compress(text[half:])),
              jobs.file("packed/1.gz", gzip.compress(b"")),
              jobs.file("packed/2.zst", zstd(texts["2"])),
              jobs.file("packed/3.gz", gzip.compress(texts["3"])),
              jobs.file("packed/4.zst", zstd(text[:777]) + zstd(text[777:99999]))]
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
            path = jobs.file(f"bad/{what}.{kind}", bad)
            jobs.fails(f"{what}.{kind}", [str(path)], "wordcount", [path])
    empty = jobs.file("bad/empty.gz", b"")
    expect(jobs.parts(["wordcount"], [empty]) == [b""], "an empty file")


def listed_and_cancelled(jobs):
    """Far more than is unpacked between two looks at the listing."""
    source = random.Random(5)
    member = gzip.compress(b"".join(b"%d\n" % source.randrange(10**9) for _ in range(100_000)))
    packed = jobs.file("large.gz", member * 200)
    instance = jobs.instance

    def listed():
        return [job for job in json.loads(instance.ctl("mapreduce", "jobs", "--json"))
                if job["phase"] == "unpacking" and job["read_bytes"] > 0]

    for words in (["wordcount"], ["--mapper", "cat", "--reducer", "cat"]):
        running = instance.start(*jobs.command(words, [packed]))
        try:
            wait_until(lambda running=running: running.poll() is not None or listed(), PATIENCE_S,
                       "a job is listed while its input is unpacked")
            running.send_signal(signal.SIGSTOP)
            job = listed()[0]
            print(f"{words[0]}: {job}", flush=True)
            expect(job["name"] == ("wordcount" if len(words) == 1 else "streaming"), f"{job}: its name")
            expect(job["input_bytes"] == packed.stat().st_size, f"{job}: not the file's size")
            expect(job["read_bytes"] <= job["input_bytes"] and 0 < job["percent"] <= 100, f"{job}: how far")
            instance.ctl("mapreduce", "cancel", job["job"])
            expect(instance.ctl("mapreduce", "jobs", "--json").count('"phase": "failed"') == 1,
                   "a job that was cancelled is not listed as failed")
        finally:
            running.send_signal(signal.SIGCONT)
        _, errors = running.communicate(timeout=PATIENCE_S)
        expect(running.returncode == 1 and "cancelled" in errors, f"{words}: {running.returncode}, {errors}")
        expect(not jobs.output.exists(), f"{words}: the cancelled job leaves its folder")
        wait_until(lambda: json.loads(instance.ctl("mapreduce", "jobs", "--json")) == [], PATIENCE_S,
                   "no job is listed any more")


def main():
    with Instance(sys.argv[1]) as instance:
        jobs = Jobs(instance)
        same_as_plain(jobs)
        damaged(jobs)
        listed_and_cancelled(jobs)


if __name__ == "__main__":
    sys.exit(run_test(main))
