"""Hadoop Streaming: a mapper and a reducer in Python count words as coreutils do, whatever the number of
parts and threads; their counters count once, what fails is run again or told, and they see nothing
of the host that was not named."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "support"))
from corpus import make_cut, write_reference  # noqa: E402
from instance import Instance, expect, run_test  # noqa: E402
from jobs import Jobs  # noqa: E402

CUT_BYTES = 3_000_000
PYTHON = "/usr/bin/python3"
PROGRAMS = Path(__file__).resolve().parent.parent / "support/streaming"


class Programs(Jobs):
    def __init__(self, instance):
        super().__init__(instance)
        self.mapper, self.reducer = (f"{PYTHON} {PROGRAMS / name}.py"
                                     for name in ("mapper", "reducer"))


def words(jobs):
    cut, reference = jobs.work / "cut", jobs.work / "reference"
    make_cut(cut, CUT_BYTES)
    write_reference(cut, reference)
    expected = sorted(reference.read_bytes().splitlines())
    # Some hundred programs would take their time: one file of all.
    text = jobs.file("text", b"".join(p.read_bytes() + b"\n" for p in sorted(cut.rglob("*"))
                                      if p.is_file()))
    both = ("--mapper", jobs.mapper, "--reducer", jobs.reducer)
    first = None
    for threads, reducers in ((1, 3), (2, 3), (2, 1)):
        parts = jobs.parts(both, [text], "--threads", threads, "--reducers", reducers)
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
    inputs = [jobs.file("a", b"b 2\n\na"), jobs.file("none", b""), jobs.file("b", b"\0x\ta\nno-tab")]
    cat = ("--mapper", "cat")
    expect(jobs.parts(cat, inputs) == [b"\n\0x\ta\na\nb 2\nno-tab\n"], "cat alone")
    expect(jobs.parts((*cat, "--reducer", "wc -l"), inputs) == [b"5\n"], "cat | wc")
    expect(jobs.parts((*cat, "--reducer", "wc -l"), [jobs.work / "none"], "--reducers", 2) ==
           [b"0\n", b"0\n"], "no input")
    order = jobs.file("order", b"".join(b"k%d\t%d\n" % (i % 3, i) for i in range(999)))
    made = jobs.parts((*cat, "--reducer", "cat"), [order])[0].splitlines()
    expect(made == sorted(made, key=lambda line: (line[:2], int(line[3:]))),
           "values are not in the order of the input")
    rest = jobs.parts(("--mapper", "head -1"), [order])
    expect(rest == [b"k0\t0\n"], "a mapper that does not read to the end")
    name = jobs.parts(("--mapper", "echo $mapreduce_map_input_file $mapreduce_task_is_map; "
                                   "cat >/dev/null"), [order])
    expect(name == [f"{order} true\n".encode()], f"the environment: {name}")


def failures(jobs):
    one = jobs.file("one", b"line\n")
    jobs.fails("a mapper that fails",
               [f"the mapper of {one}, bytes 0 to 5 ended with exit code 3, 4 times; it said: oh no"],
               ("--mapper", "echo oh no >&2; exit 3"), [one])
    jobs.fails("a reducer that is killed", ["the reducer of part 0 was ended by signal 9, 4 times"],
               ("--mapper", "cat", "--reducer", "kill -9 $$"), [one])
    jobs.fails("a program that is not there", ["exit code 127"], ("--mapper", "no-such-program"),
               [one])
    jobs.fails("a program that hangs", ["took longer than its limit"], ("--mapper", "sleep 100"),
               [one], "--task-limit-s", "0.3")
    usage = jobs.run("wordcount", [one], "--mapper", "cat")
    expect(usage.returncode == 2 and "not both" in usage.stderr, f"JOB and --mapper: {usage}")
    usage = jobs.run("wordcount", [one], "--reducer", "cat")
    expect(usage.returncode == 2 and "--mapper" in usage.stderr, f"--reducer alone: {usage}")


def locked_in(jobs):
    one = jobs.file("one", b"line\n")
    secret = jobs.file("secret", b"the host's\n")
    shown = jobs.file("shown", b"shown\n")
    made = jobs.parts(("--mapper", f"cat; cat '{secret}'/ 2>/dev/null; exit 0"), [one])
    expect(made == [b"line\n"], f"it reads what was not named: {made}")
    made = jobs.parts(("--mapper", f"cat {shown}"), [one])
    expect(made == [b"shown\n"], f"a file that the command names: {made}")
    hidden = f"x={shown}; cat $x"
    jobs.fails("a file that was not named", ["exit code 1"], ("--mapper", hidden), [one])
    made = jobs.parts(("--mapper", hidden, "--file", shown), [one])
    expect(made == [b"shown\n"], f"a file that --file names: {made}")
    socket = jobs.instance.state / "aios.sock"
    script = jobs.file("connect.py", f"import socket; socket.socket(socket.AF_UNIX, "
                                     f"socket.SOCK_SEQPACKET).connect({str(socket)!r})")
    for what, more in (("AIOS itself", ()), ("AIOS, though its socket is shown", ("--file", socket))):
        jobs.fails(what, [f"the mapper of {one}, bytes 0 to 5 ", "Permission denied"],
                   ("--mapper", f"{PYTHON} {script}", *more), [one])


def main():
    with Instance(sys.argv[1]) as instance:
        jobs = Programs(instance)
        probe = jobs.run(("--mapper", "cat"), [jobs.file("probe", b"x\n")])
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
