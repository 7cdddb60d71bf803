"""Hadoop Streaming: a mapper and a reducer in Python count words as coreutils do, whatever the number of
parts and threads; their counters count once, what fails is run again or told, and they see nothing
of the host that was not named."""

import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "support"))
from corpus import make_cut, write_reference  # noqa: E402
from instance import Instance, expect, run_test  # noqa: E402

CUT_BYTES = 3_000_000
PYTHON = "/usr/bin/python3"
PROGRAMS = Path(__file__).resolve().parent.parent / "support/streaming"


class Jobs:
    def __init__(self, instance):
        self.instance = instance
        self.work = instance.work
        self.count = 0
        self.mapper, self.reducer = (f"{PYTHON} {PROGRAMS / name}.py"
                                     for name in ("mapper", "reducer"))

    def script(self, name, text):
        (self.work / name).write_text(text)
        return f"{PYTHON} {self.work / name}"

    def text(self, name, data):
        (self.work / name).write_bytes(data)
        return self.work / name

    def run(self, inputs, *options):
        self.count += 1
        self.output = self.work / f"output-{self.count}"
        return self.instance.try_ctl("mapreduce", "run", "--input", *inputs, "--output", self.output,
                                     "--json", *options)

    def parts(self, inputs, *options):
        done = self.run(inputs, *options)
        expect(done.returncode == 0, f"{options}: {done.stderr}")
        self.report = json.loads(done.stdout.splitlines()[-1])
        left = sorted(p.name for p in self.output.iterdir() if not p.name.startswith("part-"))
        expect(left == ["_SUCCESS", "manifest.json"], f"the output folder has {left}")
        return [part.read_bytes() for part in sorted(self.output.glob("part-*"))]

    def fails(self, what, text, inputs, *options):
        done = self.run(inputs, *options)
        expect(done.returncode != 0 and text in done.stderr, f"{what}: {done}")
        expect(not self.output.exists(), f"{what}: leaves its folder")
        print(f"{what}: {done.stderr.strip()}", flush=True)


def words(jobs):
    cut, reference = jobs.work / "cut", jobs.work / "reference"
    make_cut(cut, CUT_BYTES)
    write_reference(cut, reference)
    expected = sorted(reference.read_bytes().splitlines())
    # Some hundred programs would take their time: one file of all.
    text = jobs.text("text", b"".join(p.read_bytes() + b"\n" for p in sorted(cut.rglob("*"))
                                      if p.is_file()))
    both = ("--mapper", jobs.mapper, "--reducer", jobs.reducer)
    first = None
    for threads, reducers in ((1, 3), (2, 3), (2, 1)):
        parts = jobs.parts([text], *both, "--threads", threads, "--reducers", reducers)
        expect(sorted(b"".join(parts).splitlines()) == expected, "other counts than coreutils'")
        expect(all(part.splitlines() == sorted(part.splitlines(), key=lambda x: x.split(b"\t")[0])
                   for part in parts), "a part is not in order")
        if reducers == 3:
            first = first or parts
            expect(parts == first, "the parts depend on the number of threads")
        counters = jobs.report["counters"]
        expect(counters == {"Words.different": len(expected), "Words.seen": jobs.report["records"]},
               f"counters {counters}")
        print(f"{threads} threads, {reducers} parts: {jobs.report['seconds']:.2f} s", flush=True)


def odd_inputs(jobs):
    inputs = [jobs.text("a", b"b 2\n\na"), jobs.text("none", b""), jobs.text("b", b"\0x\ta\nno-tab")]
    cat = ("--mapper", "cat")
    expect(jobs.parts(inputs, *cat) == [b"\n\0x\ta\na\nb 2\nno-tab\n"], "cat alone")
    expect(jobs.parts(inputs, *cat, "--reducer", "wc -l") == [b"5\n"], "cat | wc")
    expect(jobs.parts([jobs.work / "none"], *cat, "--reducer", "wc -l", "--reducers", 2) ==
           [b"0\n", b"0\n"], "no input")
    order = jobs.text("order", b"".join(b"k%d\t%d\n" % (i % 3, i) for i in range(999)))
    made = jobs.parts([order], *cat, "--reducer", "cat")[0].splitlines()
    expect(made == sorted(made, key=lambda line: (line[:2], int(line[3:]))),
           "values are not in the order of the input")
    rest = jobs.parts([order], "--mapper", "head -1")
    expect(rest == [b"k0\t0\n"], "a mapper that does not read to the end")
    name = jobs.parts([order], "--mapper",
                      "echo $mapreduce_map_input_file $mapreduce_task_is_map; cat >/dev/null")
    expect(name == [f"{order} true\n".encode()], f"the environment: {name}")


def failures(jobs):
    one = jobs.text("one", b"line\n")
    jobs.fails("a mapper that fails",
               f"the mapper of {one}, bytes 0 to 5 ended with exit code 3, 4 times; it said: oh no",
               [one], "--mapper", "echo oh no >&2; exit 3")
    jobs.fails("a reducer that is killed", "the reducer of part 0 was ended by signal 9, 4 times",
               [one], "--mapper", "cat", "--reducer", "kill -9 $$")
    jobs.fails("a program that is not there", "exit code 127", [one], "--mapper", "no-such-program")
    jobs.fails("a program that hangs", "took longer than its limit", [one], "--mapper", "sleep 100",
               "--task-limit-s", "0.3")
    usage = jobs.run([one], "--mapper", "cat", "wordcount")
    expect(usage.returncode != 0 and "not both" in usage.stderr, f"JOB and --mapper: {usage}")
    usage = jobs.run([one], "wordcount", "--reducer", "cat")
    expect(usage.returncode != 0 and "--mapper" in usage.stderr, f"--reducer alone: {usage}")


def locked_in(jobs):
    one = jobs.text("one", b"line\n")
    secret = jobs.text("secret", b"the host's\n")
    shown = jobs.text("shown", b"shown\n")
    made = jobs.parts([one], "--mapper", f"cat; cat '{secret}'/ 2>/dev/null; exit 0")
    expect(made == [b"line\n"], f"it reads what was not named: {made}")
    made = jobs.parts([one], "--mapper", f"cat {shown}")
    expect(made == [b"shown\n"], f"a file that the command names: {made}")
    hidden = f"x={shown}; cat $x"
    jobs.fails("a file that was not named", "exit code 1", [one], "--mapper", hidden)
    made = jobs.parts([one], "--mapper", hidden, "--file", shown)
    expect(made == [b"shown\n"], f"a file that --file names: {made}")
    socket = jobs.instance.state / "aios.sock"
    script = jobs.script("connect.py", f"import socket; socket.socket(socket.AF_UNIX, "
                                       f"socket.SOCK_SEQPACKET).connect({str(socket)!r})")
    jobs.fails("AIOS itself", f"the mapper of {one}, bytes 0 to 5 ", [one], "--mapper", script)


def main():
    with Instance(sys.argv[1]) as instance:
        jobs = Jobs(instance)
        probe = jobs.run([jobs.text("probe", b"x\n")], "--mapper", "cat")
        if "confine" in probe.stderr or "127" in probe.stderr:
            # A host without user namespaces: refused, and said.
            expect(probe.returncode != 0, f"run without confinement: {probe}")
            return
        words(jobs)
        odd_inputs(jobs)
        failures(jobs)
        locked_in(jobs)


if __name__ == "__main__":
    os.umask(0o022)
    sys.exit(run_test(main))
