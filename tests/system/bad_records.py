"""A job that crashes, refuses or never ends on single records of many: it fails with the file and the
offset, or, told to skip bad records, finishes without them and reports each."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/support"))
from instance import Instance, expect, run_test  # noqa: E402

RECORDS = 10_000_000
MODULE = """
#include <aios/mapreduce.hpp>
struct Job : aios::mapreduce::Lines {
  using Value = std::uint64_t;
  static constexpr const char* counters[] = {"lines"};
  void map(std::string_view line, auto& out) {
    if (line == "crash") *static_cast<volatile int*>(nullptr) = 1;
    if (line == "refuse") throw aios::mapreduce::Failure("no such line is welcome");
    if (line == "hang") for (;;) asm volatile("");
    out.count(0);
    out.emit(line, 1);
  }
};
AIOS_MAPREDUCE_JOB(Job)
"""


def build(folder):
    source, target = folder / "job.cpp", folder / "job.so"
    source.write_text(MODULE)
    subprocess.run(["c++", "-std=c++20", "-O2", "-fPIC", "-shared", "-I", ROOT / "abi/include",
                    source, "-o", target], check=True)
    return target


class Jobs:
    def __init__(self, instance):
        self.instance = instance
        self.module = build(instance.work)
        self.count = 0

    def run(self, inputs, *options):
        self.count += 1
        self.output = self.instance.work / f"output-{self.count}"
        return self.instance.try_ctl("mapreduce", "run", self.module, "--input", *inputs, "--output",
                                     self.output, "--json", *options)

    def skips(self, what, inputs, expected, parts, *options):
        done = self.run(inputs, *options)
        expect(done.returncode == 0, f"{what}: {done.stderr}")
        report = json.loads(done.stdout.splitlines()[-1])
        skipped = [(one["file"], one["offset"], one["why"]) for one in report["skipped_records"]]
        expect(skipped == [(str(f), o, w) for f, o, w in expected], f"{what}: skipped {skipped}")
        manifest = json.loads((self.output / "manifest.json").read_text())
        expect(manifest["skipped_records"] == [{"file": str(f), "offset": o} for f, o, _ in expected],
               f"{what}: the manifest has {manifest['skipped_records']}")
        expect(manifest["counters"]["lines"] == report["records"], f"{what}: {manifest}")
        made = (self.output / "part-00000").read_bytes()
        expect(made == parts, f"{what}: the output is {made[:200]}")
        print(f"{what}: {report['records']} records in {report['seconds']:.2f} s, "
              f"{report['retries']} retries", flush=True)


def all_tests(jobs):
    work = jobs.instance.work
    large, small, fine = work / "large", work / "small", work / "fine"
    before = RECORDS * 3 // 7
    large.write_bytes(b"x\n" * before + b"crash\n" + b"x\n" * (RECORDS - before - 1))
    small.write_bytes(b"crash\nhang\nrefuse\nx\ncrash")
    fine.write_bytes(b"y\n")

    failed = jobs.run([fine, large])
    expect(failed.returncode == 1 and f"{large}, at byte {2 * before}: " in failed.stderr and
           "segmentation fault" in failed.stderr, f"a crash is not told with its place: {failed}")
    expect(not jobs.output.exists(), "a job that failed leaves its folder")
    print(failed.stderr.strip(), flush=True)

    jobs.skips("one record of ten million", [fine, large], [(large, 2 * before, "crashed")],
               b"x\t%d\ny\t1\n" % (RECORDS - 1), "--skip-bad-records")
    limit = ("--task-limit-s", 2)
    every = [(small, 0, "crashed"), (small, 6, "timed_out"), (small, 11, "invalid_argument"),
             (small, 20, "crashed")]
    jobs.skips("every kind of failure", [small, fine], every, b"x\t1\ny\t1\n", "--skip-bad-records=4",
               *limit)
    failed = jobs.run([small, fine], "--skip-bad-records=3", *limit)
    expect(failed.returncode == 1 and f"{small}, at byte 20: one bad record more than the 3" in
           failed.stderr, f"too many bad records: {failed}")


def main():
    with Instance(sys.argv[1]) as instance:
        all_tests(Jobs(instance))


if __name__ == "__main__":
    sys.exit(run_test(main))
