"""CSV, JSON Lines, records of a fixed length, and objects of storage as inputs: what jobs make of them is
what Python's own csv and json find there, and what is wrong is told by file and byte."""

import collections
import csv
import gzip
import io
import json
import random
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/support"))
from instance import Instance, expect, run_test  # noqa: E402
from jobs import Jobs, build_module  # noqa: E402

# For every value of the first field the sum of the third.
MODULE = """
#include <aios/mapreduce.hpp>
struct Sums : aios::mapreduce::Records {
  using Value = std::int64_t;
  void map(std::string_view record, auto& out) {
    const auto fields = aios::mapreduce::csv_fields(record);
    if (fields.size() != 3) throw aios::mapreduce::Failure("no three fields");
    out.emit(fields[0], std::stoll(fields[2]));
  }
};
AIOS_MAPREDUCE_JOB(Sums)
"""
SPACE = " \t\n\v\f\r"


def counted(texts):
    """What wordcount writes of them."""
    words = collections.Counter(word for text in texts for word in text.encode().split())
    return b"".join(b"%s\t%d\n" % (word, words[word]) for word in sorted(words))


def a_text(source):
    return "".join(source.choice(["to", "be", "or", " ", " ", "\n", "\r\n", '"', ",", "é", "\t", ";"])
                   for _ in range(source.randrange(30)))


def csv_text(rows, **how):
    out = io.StringIO(newline="")
    csv.writer(out, **how).writerows(rows)
    return out.getvalue()


def as_python_reads_csv(jobs):
    source = random.Random(1)
    texts = [a_text(source) for _ in range(150_000)]
    rows = [["number", "text", "rest"]] + [[i, text, "x" * (i % 20)] for i, text in enumerate(texts)]
    # Two files whose columns differ, with several splits each: many begin within quotes.
    one = jobs.file("one.csv", csv_text(rows[:100_001]))
    two = jobs.file("two.csv", csv_text([["text", "number"]] + [r[1::-1] for r in rows[100_001:]],
                                        lineterminator="\n"))
    read = list(csv.reader(io.StringIO(one.read_bytes().decode(), newline="")))
    expect([row[1] for row in read[1:]] == texts[:100_000], "the reference reads what was written")
    by_name = ("--input-format", "csv", "--field", "text")
    expected = counted(texts)
    expect(jobs.parts("wordcount", [one, two], *by_name) == [expected], "CSV by name")
    expect(jobs.manifest()["records"] == len(texts) and jobs.manifest()["field"] == "text",
           f"the manifest: {jobs.manifest()}")
    expect(jobs.parts("wordcount", [one, two], *by_name, "--threads", 1, "--memory-mb", 8) ==
           [expected], "CSV with little memory")
    expect(jobs.parts("wordcount", [one], "--input-format", "csv", "--field", 2) ==
           [counted(["text"] + texts[:100_000])], "CSV by number: the header is a record")
    lines = [line for text in texts for line in (text.encode().split(b"\n")
                                                 if not text.endswith("\n") else
                                                 text.encode().split(b"\n")[:-1])]
    sorted_parts = jobs.parts("sort", [one, two], *by_name, "--reducers", 3)
    expect(b"".join(sorted_parts) == b"".join(line + b"\n" for line in sorted(lines)), "sorted fields")
    expect(all(sorted_parts), "a part of three is empty")
    found = collections.Counter(line for line in lines if b"tobe" in line)
    expect(jobs.parts(["grep", "tobe"], [one, two], *by_name) ==
           [b"".join(b"%s\t%d\n" % (line, found[line]) for line in sorted(found))], "grep of fields")
    packed = jobs.file("three.csv.gz", gzip.compress(one.read_bytes()))
    expect(jobs.parts("wordcount", [packed], *by_name) == [counted(texts[:100_000])], "packed CSV")
    tabs = jobs.file("tabs", csv_text([["a,b", "c\td", "e"]] * 3, delimiter="\t"))
    expect(jobs.parts("wordcount", [tabs], "--input-format", "csv:tab", "--field", 2) ==
           [b"c\t3\nd\t3\n"], "another delimiter")


def as_python_reads_json(jobs):
    source = random.Random(2)
    texts = [a_text(source) for _ in range(60_000)]
    lines = [json.dumps({"id": i, "a": {"tags": ["x", text], "text": "no"}, "z": [{"text": i}] * 3},
                        ensure_ascii=i % 2 == 0) for i, text in enumerate(texts)]
    path = jobs.file("lines.jsonl", "\n".join(lines))
    expect(jobs.parts("wordcount", [path], "--input-format", "jsonl", "--field", "/a/tags/1") ==
           [counted(texts)], "JSON by pointer")
    expect(jobs.parts("wordcount", [path], "--input-format", "jsonl", "--field", "id") ==
           [counted(map(str, range(len(texts))))], "JSON by name")
    expect(jobs.parts("wordcount", [path], "--input-format", "jsonl", "--field", "none") == [b""],
           "a member that is not there")


def fixed(jobs):
    records = [b"%08d" % i + bytes([i % 256, 0, 10, 65 + i % 26]) for i in range(300_000)]
    path = jobs.file("fixed", b"".join(records))
    joined = b"".join(jobs.parts("sort", [path], "--input-format", "fixed:12", "--field", "0:8",
                                 "--reducers", 2))
    expect(joined == b"".join(record[:8] + b"\n" for record in records), "fields of fixed records")
    expect(jobs.parts("wordcount", [path], "--input-format", "fixed:12", "--field", "11:1") ==
           [b"".join(b"%c\t%d\n" % (65 + i, len(records[i::26])) for i in range(26))], "last bytes")


def wrong(jobs):
    by_two = ("--input-format", "csv", "--field", 2)
    good = jobs.file("good.csv", 'a,"x\ny"\n' * 200_000)
    quote = jobs.file("quote.csv", "a,b\n" * 400_000 + 'c,5" disk\n' + "d,e\n" * 3 + "f\ng,h\n")
    at = 4 * 400_000
    jobs.fails("a stray quote", [f"{quote}, at byte {at}: ", "field 2"], "wordcount", [good, quote],
               *by_two)
    cut = jobs.file("cut.csv", "a,b\n" * 1000 + 'c,"d\n' + "e,f\n" * 1000)
    jobs.fails("an open quote", [f"{cut}, at byte 4000: ", "never closed"], "wordcount", [good, cut],
               *by_two)
    parts = jobs.parts("wordcount", [good, quote, cut], *by_two, "--skip-bad-records")
    expect(parts == [b"b\t401000\ne\t3\nh\t1\nx\t200000\ny\t200000\n"], f"skipped: {parts}")
    places = [{"file": str(f), "offset": o, "why": "invalid_argument"} for f, o in
              ((cut, 4000), (quote, at), (quote, at + 22))]
    expect(jobs.manifest()["skipped_records"] == places, f"{jobs.manifest()['skipped_records']}")
    huge = jobs.file("huge.csv", 'a,"' + "x" * (17 << 20) + '"\n')
    jobs.fails("a huge record", [f"{huge}, at byte 0: ", "16 MiB"], "wordcount", [huge], *by_two)
    jobs.fails("a missing column", [f"{quote}, at byte 0: ", "no field 'text'", "a, b"], "wordcount",
               [quote], "--input-format", "csv", "--field", "text")
    bad = jobs.file("bad.jsonl", b'{"t":"x"}\n{"t":\0}\n{"t":"\xff"}\n{"t":"y"}\n{"t":[]}\n')
    of_t = ("--input-format", "jsonl", "--field", "t")
    jobs.fails("no JSON", [f"{bad}, at byte 10: ", "no JSON"], "wordcount", [bad], *of_t)
    expect(jobs.parts("wordcount", [bad], *of_t, "--skip-bad-records") == [b"x\t1\ny\t1\n"], "JSON")
    expect([one["offset"] for one in jobs.manifest()["skipped_records"]] == [10, 18, 38],
           f"{jobs.manifest()['skipped_records']}")
    short = jobs.file("short", b"abcdefg")
    jobs.fails("a short record", [f"{short}, at byte 4: ", "3 bytes of 4"], "wordcount", [short],
               "--input-format", "fixed:4")
    for what, words, options in (
            ("no such format", ["parquet"], ("--input-format", "parquet")),
            ("a field of text", ["text has no fields"], ("--field", "x"))):
        jobs.fails(what, words, "wordcount", [good], *options, code=2)
    jobs.fails("no field", ["--field"], "wordcount", [good], "--input-format", "csv")
    jobs.fails("a program", ["modules"], ["--mapper=cat"], [good], *by_two, code=2)


def a_job_of_records(jobs):
    module = build_module(jobs.work, MODULE, "sums")
    rows = [[f"k\t{i % 7}", "a\nb,\"c\"", i - 100_000] for i in range(200_000)]
    path = jobs.file("sums.csv", csv_text(rows))
    sums = collections.Counter()
    for key, _, value in rows:
        sums[key] += value
    expect(jobs.parts(module, [path], "--input-format", "csv") ==
           ["".join(f"{key}\t{sums[key]}\n" for key in sorted(sums)).encode()], "a job of records")
    short = jobs.file("short.csv", "a,b,1\na,b\n")
    jobs.fails("a record of its own", [f"{short}, at byte 6: no three fields"], module, [short],
               "--input-format", "csv")
    jobs.fails("no JSON for it", ["json.hpp"], module, [path], "--input-format", "jsonl")
    lines = jobs.file("lines", "a,b,1\na,b,2\n")
    expect(jobs.parts(module, [lines]) == [b"a\t3\n"], "records of text are lines")


def objects(jobs):
    instance, work = jobs.instance, jobs.work
    source = random.Random(3)
    texts = {"a": "one two\n" * 3, "b/1": "two three", "b/2": "", "b/3": "".join(
        f"word{source.randrange(9999)} " for _ in range(2_000_000)), "c.csv": 'x,"one\none"\n'}
    for name, text in texts.items():
        instance.ctl("fs", "put", jobs.file("put", text), f"in/{name}")
    instance.ctl("fs", "put", jobs.file("put", gzip.compress(b"packed packed\n")), "in/p.gz")
    expect(len(texts["b/3"]) > 16 << 20, "one object is more than two windows")
    expect(jobs.parts("wordcount", ["aios:in/a"]) == [counted([texts["a"]])], "an object")
    plain = jobs.file("plain", "four\n")
    expect(jobs.parts("wordcount", ["aios:in/b/", plain, "aios:in/p.gz"]) ==
           [counted([texts["b/1"] + "\n", texts["b/3"], "four packed packed"])], "objects and files")
    expect(jobs.manifest()["inputs"] == ["aios:in/b/", str(plain), "aios:in/p.gz"], "the manifest")
    index = jobs.parts("inverted-index", ["aios:in/b/1", plain, "aios:in/a"])[0]
    expect(b"two\taios:in/b/1\taios:in/a\n" in index and b"four\t%s\n" % bytes(plain) in index,
           f"names of objects: {index}")
    expect(jobs.parts("wordcount", ["aios:in/c.csv"], "--input-format", "csv", "--field", 2) ==
           [b"one\t2\n"], "an object of CSV")
    expect(jobs.parts(["--mapper=cat"], ["aios:in/a", plain]) ==
           [b"four\n" + b"one two\n" * 3], "an object for a program")
    jobs.fails("a missing object", ["aios:in/d", "no such object"], "wordcount",
               [plain, "aios:in/d"])
    jobs.fails("an empty prefix", ["aios:in/e/", "no object below"], "wordcount", ["aios:in/e/"])
    jobs.fails("a bad name", ["aios:a//b"], "wordcount", ["aios:a//b"])
    jobs.fails("a damaged object", ["aios:in/q.gz: ends before"], "wordcount", [packed_badly(jobs)])
    jobs.fails("a place in an object", ["aios:in/a, at byte 0: "], "wordcount", ["aios:in/a"],
               "--input-format", "jsonl", "--field", "x")
    instance.ctl("fs", "put", jobs.file("put", "0,0\n9,9\n0,1\n9,8\n"), "in/points")
    points = jobs.parts(["k-means", "k=2"], ["aios:in/points"])
    expect(len(points) == 2 and b"2\t0,0.5\n" in points[0], f"points of an object: {points}")
    jobs.fails("a format for devices", ["k-means", "no input format"], ["k-means", "k=2"],
               ["aios:in/points"], "--input-format", "csv", "--field", 1)
    named_alike = work / "aios:in"
    named_alike.write_text("file")
    expect(jobs.parts("wordcount", [named_alike]) == [b"file\t1\n"], "a file named like an object")


def packed_badly(jobs):
    jobs.instance.ctl("fs", "put", jobs.file("put", gzip.compress(b"x" * 1000)[:-5]), "in/q.gz")
    return "aios:in/q.gz"


def main():
    with Instance(sys.argv[1]) as instance:
        expect(all(not c.split() for c in SPACE), "white space")
        jobs = Jobs(instance)
        for part in (as_python_reads_csv, as_python_reads_json, fixed, wrong, a_job_of_records,
                     objects):
            part(jobs)


if __name__ == "__main__":
    sys.exit(run_test(main))
