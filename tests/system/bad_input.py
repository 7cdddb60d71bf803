"""Inputs and modules that are not as they should be: each ends with a clear message and exit code 1,
or with the right output; none harms the instance, and the last job is as good as the first."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
ROOT = TESTS.parent
sys.path.insert(0, str(TESTS / "support"))
from instance import Instance, expect, run_test  # noqa: E402

LONG_LINE_BYTES = 200_000_000
LONG_WORD_BYTES = (1 << 20) + 1
SHRINKING_BYTES = 60_000_000
LIMIT_S = 0.5


class Jobs:
    def __init__(self, instance):
        self.instance = instance
        self.work = instance.work
        self.runs = 0

    def write(self, name, data):
        path = self.work / name
        path.write_bytes(data)
        return path

    def run(self, job, inputs, *options):
        """The finished aiosctl, and the folder its output is in."""
        self.runs += 1
        output = self.work / f"output-{self.runs}"
        return self.instance.try_ctl("mapreduce", "run", job, "--input", *inputs, "--output",
                                     output, *options), output

    def good(self, what, job, inputs, expected, *options):
        result, output = self.run(job, inputs, *options)
        expect(result.returncode == 0, f"{what}: {result.returncode} {result.stderr!r}")
        expect((output / "part-00000").read_bytes() == expected, f"{what}: other output")

    def bad(self, what, job, inputs, words, *options):
        result, output = self.run(job, inputs, *options)
        expect(result.returncode == 1, f"{what}: exit code {result.returncode} {result.stderr!r}")
        for word in words:
            expect(word in result.stderr, f"{what}: says {result.stderr!r}, without '{word}'")
        expect(not (output / "_SUCCESS").exists(), f"{what}: failed, and yet _SUCCESS")
        print(f"{what}: {result.stderr.strip().splitlines()[-1]}", flush=True)


def odd_but_good(jobs):
    empty = jobs.write("empty", b"")
    jobs.good("an empty file", "wordcount", [empty], b"")
    binary = bytes(b for b in range(256) if b not in b" \t\n\v\f\r")
    one = jobs.write("binary", binary + b" " + binary + b"\n\0")
    jobs.good("binary bytes", "wordcount", [one, empty],
              b"\0\t1\n" + binary + b"\t2\n")
    words = b"ab cd " * (LONG_LINE_BYTES // 6)
    long_line = jobs.write("long-line", words)
    count = LONG_LINE_BYTES // 6
    jobs.good("a line of 200 MB", "wordcount", [long_line], b"ab\t%d\ncd\t%d\n" % (count, count))
    long_line.unlink()
    lines = jobs.write("lines", b"one\ntwo three\none\nlast")
    jobs.good("grep", "grep", [lines], b"one\t2\ntwo three\t1\n", "--", "o")


def bad_inputs(jobs):
    text = jobs.write("text", b"some words\n")
    jobs.bad("a missing input", "wordcount", [jobs.work / "nothing-there"], ["nothing-there"])
    jobs.bad("a missing one among good ones", "wordcount", [text, jobs.work / "gone"], ["gone"])
    fifo = jobs.work / "fifo"
    os.mkfifo(fifo)
    jobs.bad("a fifo", "wordcount", [fifo], ["fifo"])
    if os.geteuid() != 0:
        secret = jobs.write("secret", b"x")
        secret.chmod(0)
        jobs.bad("an unreadable input", "wordcount", [secret], ["secret"])
    word = jobs.write("long-word", b"a b\n" + b"x" * LONG_WORD_BYTES)
    jobs.bad("a word over 1 MiB", "wordcount", [word], ["long-word", "4"])
    full = jobs.work / "full"
    full.mkdir()
    (full / "mine").write_bytes(b"mine")
    result = jobs.instance.try_ctl("mapreduce", "run", "wordcount", "--input", text, "--output",
                                   full)
    expect(result.returncode == 1 and "full" in result.stderr, f"full output: {result.stderr!r}")
    expect([p.name for p in full.iterdir()] == ["mine"], "a full output folder was touched")
    jobs.bad("no such job", "wordcont", [text], ["wordcont"])
    jobs.bad("a pattern that is none", "grep", [text], ["("], "--", "(")


def shrinking_input(jobs):
    """The file is cut while the job reads it: an error that names it, or the words as they were."""
    path = jobs.write("shrinking", b"word " * (SHRINKING_BYTES // 5))
    cut = threading.Timer(0.1, os.truncate, (path, 1000))
    cut.start()
    result, output = jobs.run("wordcount", [path], "--threads", "1")
    cut.join()
    if result.returncode == 0:
        whole = b"word\t%d\n" % (SHRINKING_BYTES // 5)
        short = b"word\t200\n"
        expect((output / "part-00000").read_bytes() in (whole, short), "shrinking: wrong count")
    else:
        expect(result.returncode == 1 and "shrinking" in result.stderr,
               f"shrinking: {result.returncode} {result.stderr!r}")
        print(f"a shrinking file: {result.stderr.strip()}", flush=True)


def compile_module(jobs, name, *options):
    target = jobs.work / f"{name}.so"
    command = ["g++", "-std=c++20", "-O1", "-fPIC", "-shared", *options, "-o", str(target)]
    subprocess.run(command, check=True, env={**os.environ, "ASAN_OPTIONS": ""})
    return target


def bad_modules(jobs):
    text = jobs.write("text", b"some words\nin two lines\n")
    source = Path(__file__).with_name("modules.cpp")
    cases = [("Aborts", ["signal 6"]), ("Crashes", ["signal 11"]), ("Exits", ["exit"]),
             ("Throws", ["not to my taste", "text"]), ("BadKeys", ["newline"])]
    for name, words in cases:
        module = compile_module(jobs, name, f"-DJOB={name}", "-I", str(ROOT / "abi/include"),
                                str(source))
        jobs.bad(f"a module that {name.lower()}", module, [text], words)
    module = compile_module(jobs, "Loops", "-DJOB=Loops", "-I", str(ROOT / "abi/include"),
                            str(source))
    jobs.bad("a module that loops", module, [text], ["limit"], "--task-limit-s", LIMIT_S)
    nothing = jobs.write("nothing.cpp", b"int nothing = 0;\n")
    jobs.bad("a module without an entry", compile_module(jobs, "nothing", str(nothing)), [text],
             ["aios_module"])
    foreign = jobs.write("foreign.cpp", b'extern "C" double lgamma_of(double);\n'
                         b'extern "C" double f(double x) { return lgamma_of(x); }\n')
    library = jobs.write("library.cpp", b'extern "C" double lgamma_of(double x) { return x; }\n')
    compile_module(jobs, "libforeign", str(library))
    module = compile_module(jobs, "foreign", str(foreign), f"-L{jobs.work}", "-lforeign")
    jobs.bad("a module that needs a foreign library", module, [text], ["libforeign.so"])
    jobs.bad("a module that is none", jobs.write("text.so", b"no ELF"), [text], ["ELF"])


def main():
    with Instance(sys.argv[1]) as instance:
        jobs = Jobs(instance)
        odd_but_good(jobs)
        bad_inputs(jobs)
        shrinking_input(jobs)
        bad_modules(jobs)
        text = jobs.write("last", b"a b a\n")
        jobs.good("the last job", "wordcount", [text], b"a\t2\nb\t1\n")
        restarts = {s["name"]: s["restarts"] for s in instance.status()["servers"]}
        expect(not any(restarts.values()), f"servers were restarted: {json.dumps(restarts)}")


if __name__ == "__main__":
    sys.exit(run_test(main))
