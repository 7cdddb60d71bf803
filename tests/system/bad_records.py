"""A job that crashes, refuses or never ends on single records of many: it fails with the file and the
offset, or, told to skip bad records, finishes without them and reports each."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/support"))
from instance import Instance, expect, run_test  # noqa: E402
from jobs import Jobs, build_module  # noqa: E402

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


class Skipping(Jobs):
    def __init__(self, instance):
        super().__init__(instance)
        self.module = build_module(instance.work, MODULE)

    def skips(self, what, inputs, expected, parts, *options):
        made = self.parts(self.module, inputs, *options)
        report = self.report
        skipped = [(one["file"], one["offset"], one["why"]) for one in report["skipped_records"]]
        expect(skipped == [(str(f), o, w) for f, o, w in expected], f"{what}: skipped {skipped}")
        manifest = self.manifest()
        expect(manifest["skipped_records"] == report["skipped_records"],
               f"{what}: the manifest has {manifest['skipped_records']}")
        expect(manifest["counters"]["lines"] == report["records"], f"{what}: {manifest}")
        expect(made == [parts], f"{what}: the output is {made[0][:200]}")
        print(f"{what}: {report['records']} records in {report['seconds']:.2f} s, "
              f"{report['retries']} retries", flush=True)


def all_tests(jobs):
    before = RECORDS * 3 // 7
    large = jobs.file("large", b"x\n" * before + b"crash\n" + b"x\n" * (RECORDS - before - 1))
    small = jobs.file("small", b"crash\nhang\nrefuse\nx\ncrash")
    fine = jobs.file("fine", b"y\n")
    jobs.fails("a crash", [f"{large}, at byte {2 * before}: ", "segmentation fault"], jobs.module,
               [fine, large])

    jobs.skips("one record of ten million", [fine, large], [(large, 2 * before, "crashed")],
               b"x\t%d\ny\t1\n" % (RECORDS - 1), "--skip-bad-records")
    limit = ("--task-limit-s", 2)
    every = [(small, 0, "crashed"), (small, 6, "timed_out"), (small, 11, "invalid_argument"),
             (small, 20, "crashed")]
    jobs.skips("every kind of failure", [small, fine], every, b"x\t1\ny\t1\n", "--skip-bad-records=4",
               *limit)
    jobs.fails("too many bad records", [f"{small}, at byte 20: one bad record more than the 3"],
               jobs.module, [small, fine], "--skip-bad-records=3", *limit)


def main():
    with Instance(sys.argv[1]) as instance:
        all_tests(Skipping(instance))


if __name__ == "__main__":
    sys.exit(run_test(main))
