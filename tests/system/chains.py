"""Chains of jobs: `tf-idf` gives what a plain Python program finds, jobs put together by --then give what
they give one after the other, a stage that fails is named, and nothing lies about afterwards."""

import collections
import json
import math
import os
import signal
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/support"))
from corpus import make_cut  # noqa: E402
from instance import Instance, expect, run_test, wait_until  # noqa: E402
from jobs import Jobs, build_module  # noqa: E402

CUT_BYTES = 5_000_000
MODULE = """
#include <aios/mapreduce.hpp>
struct Job : aios::mapreduce::Lines {
  static constexpr const char* counters[] = {"lines"};
  explicit Job(const aios::mapreduce::Arguments& arguments) : arguments_(arguments) {}
  void map(std::string_view line, auto& out) {
    if (arguments_[0] == "hang") for (;;) asm volatile("");
    if (arguments_[0] == "refuse" && line.substr(0, 2) == "b\\t")
      throw aios::mapreduce::Failure("no such line is welcome");
    out.count(0);
    out.emit(line, std::string_view());
  }
  void each(std::string_view line, std::string_view, auto& out) { out.line(line); }
  aios::mapreduce::Arguments arguments_;
};
AIOS_MAPREDUCE_JOB(Job)
"""


def escaped(path):
    return (os.fsencode(path).replace(b"\\", b"\\\\").replace(b"\t", b"\\t").replace(b"\n", b"\\n"))


def tf_idf(files):
    """The lines, in order: WORD, FILE, and COUNT / LENGTH * ln(FILES / FILES_WITH_THE_WORD)."""
    texts = [(path, Path(path).read_bytes().split()) for path in files
             if os.path.getsize(path) != 0]
    uses = collections.defaultdict(list)
    for path, words in texts:
        for word, count in collections.Counter(words).items():
            uses[word].append((path, count, len(words)))
    lines = []
    for word in sorted(uses):
        rarity = math.log(len(texts) / len(uses[word]))
        for path, count, length in uses[word]:
            lines.append(b"%s\t%s\t%s" % (word, escaped(path), b"%.9g" % (count / length * rarity)))
    return lines


def tf_idf_is_the_reference(chains):
    work = chains.instance.work
    make_cut(work / "cut", CUT_BYTES)
    text = b"".join(path.read_bytes() for path in sorted((work / "cut").rglob("*")) if path.is_file())
    cut = work / "text"
    cut.write_bytes(text)
    folder = work / "documents"
    folder.mkdir()
    for i in range(40):  # of very different lengths
        (folder / f"{i:02}").write_bytes(text[i * i * 3000:(i + 1) * (i + 1) * 3000])
    for name, odd in [("a\tb", b"one two one"), ("b\nc", b"two"), ("d\\e", b"one\0 one"),
                      ("empty", b""), ("f", b" \n "), ("g", b"two \xff\xfe three")]:
        (folder / name).write_bytes(odd)
    files = [folder / name for name in sorted(os.listdir(folder), key=os.fsencode)] + [cut]
    expected = tf_idf(files)
    whole = b"".join(line + b"\n" for line in expected)
    expect(chains.parts("tf-idf", [folder, cut]) == [whole], "tf-idf")
    manifest = chains.manifest()
    expect(manifest["job"] == "tf-idf" and manifest["input_files"] == len(files) and
           [one["job"] for one in manifest["then"]] == ["tf-idf-length", "tf-idf-weight"],
           f"the manifest: {manifest}")
    expect(chains.parts("tf-idf", [folder, cut], "--threads", 1, "--memory-mb", 32) == [whole],
           "tf-idf with little memory")
    parts = chains.parts("tf-idf", [folder, cut], "--reducers", 3)
    lines = sorted((line for part in parts for line in part.split(b"\n")[:-1]),
                   key=lambda line: line.split(b"\t")[0])
    expect(lines == expected, "tf-idf in three parts")
    expect(chains.parts("tf-idf", [folder / "empty"]) == [b""], "tf-idf of nothing")
    print(f"tf-idf: {len(expected)} lines", flush=True)


def put_together(chains, module):
    work = chains.instance.work
    one, two = work / "one", work / "two"
    one.write_bytes(b"b a a c\n" * 1000)
    two.write_bytes(b"a d\n")
    numbered = b"a\t2001\nb\t1000\nc\t1000\nd\t1\n"
    expect(chains.parts("wordcount", [one, two], "--then", "sort") == [numbered], "two jobs")
    expect(chains.parts("wordcount", [one, two], "--then", "grep '1000'", "--then", f"{module} x",
                        "--then", "wordcount") == [b"1\t2\n1000\t2\nb\t1\nc\t1\n"], "four jobs")
    parts = chains.parts("wordcount", [one, two], "--then", f"{module} x", "--reducers", 2)
    report = chains.report
    expect(report["records"] == 4002 and report["counters"] == {"lines": 4}, f"{report}")
    expect(sorted(b"".join(parts).split(b"\n")) == sorted(numbered.split(b"\n")), "two parts")

    chains.fails("a stage that refuses", ["stage 2 (job)", "stage-1/part-00000, at byte 7: ",
                                          "no such line is welcome"],
                 "wordcount", [one, two], "--then", f"{module} refuse")
    chains.fails("the first stage", ["stage 1 (wordcount)", f"{one}, at byte 0: "], "wordcount", [one],
                 "--then", "sort", "--input-format", "jsonl", "--field", "x")
    chains.fails("bad arguments", ["stage 2 (grep)", "usage"], "wordcount", [one], "--then", "grep")
    chains.fails("no module", ["no job 'nothing'"], "wordcount", [one], "--then", "nothing")
    chains.fails("documents", ["stage 2 (inverted-index)", "documents"], "wordcount", [one], "--then",
                 "inverted-index")
    chains.fails("an open quote", ["quote"], "wordcount", [one], "--then", "grep 'x")
    chains.fails("a chain within", ["tf-idf"], "wordcount", [one], "--then", "tf-idf")
    chains.fails("devices", ["k-means computes on devices", "chain"], "wordcount", [one], "--then",
                 "k-means k=2")
    expect(chains.parts("wordcount", [one, two], "--then", f"{module} refuse", "--skip-bad-records") ==
           [numbered.replace(b"b\t1000\n", b"")], "a bad record of a later stage")


def ended_in_its_second_stage(chains, module, what, end, words):
    instance = chains.instance
    output = instance.work / what
    job = instance.start("mapreduce", "run", "wordcount", "--input", instance.work / "one", "--then",
                         f"{module} hang", "--output", output)
    wait_until(lambda: [one["name"] for one in json.loads(
        instance.ctl("mapreduce", "jobs", "--json"))] == ["job"], 20, "the second stage runs")
    expect((output / "_temporary/stage-1").exists(), "what the first stage wrote is not there")
    end(job)
    _, errors = job.communicate(timeout=20)
    expect(job.returncode == 1 and all(word in errors for word in words), f"{job.returncode}: {errors}")
    expect(not output.exists(), f"it leaves {list(output.rglob('*')) if output.exists() else ''}")
    wait_until(lambda: json.loads(instance.ctl("mapreduce", "jobs", "--json")) == [], 20, "it ends")


def interrupted(chains, module):
    ended_in_its_second_stage(chains, module, "interrupted",
                              lambda job: job.send_signal(signal.SIGINT), ["stage 2", "cancelled"])
    for server in ("mapreduce", "scheduler"):
        ended_in_its_second_stage(chains, module, f"without-{server}",
                                  lambda job, dies=server: without(chains.instance, dies, job),
                                  ["stage 2 (job)", "cancelled"])


def without(instance, server, job):
    """The stage that runs is done anew, and can be ended then."""
    began = time.monotonic()
    instance.ctl("crash", server)
    instance.wait_running()
    wait_until(lambda: any(one["running_ns"] < (time.monotonic() - began) * 1e9 for one in json.loads(
        instance.ctl("mapreduce", "jobs", "--json"))), 20, "the stage is done anew")
    job.send_signal(signal.SIGINT)


def main():
    with Instance(sys.argv[1]) as instance:
        chains = Jobs(instance)
        module = build_module(instance.work, MODULE)
        tf_idf_is_the_reference(chains)
        put_together(chains, module)
        interrupted(chains, module)


if __name__ == "__main__":
    sys.exit(run_test(main))
