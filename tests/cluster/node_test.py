"""The node contract against one instance, without any engine: what it makes is what the
single-machine engine makes, and what goes wrong says what, where, and whose fault it is."""

import gzip
import json
import os
import struct
import subprocess
import sys
import unittest
from pathlib import Path
from unittest import mock

import zstandard

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT / "services/cluster"), str(ROOT / "abi/python")]

import aios  # noqa: E402
import pictures  # noqa: E402
from aios_cluster import formats, gpus, graphs, job, splits, streaming, suspect  # noqa: E402
from aios_cluster.host import is_host_lost  # noqa: E402
from aios_cluster.node import Node  # noqa: E402
from aios_cluster.output import OutputFolder, PartWriter  # noqa: E402

instance = None  # that suite.py has booted
MIB = 1 << 20
STUBBORN = """
#include <aios/mapreduce.hpp>
#include <cstdlib>
struct Job : aios::mapreduce::Lines {
  using Value = std::uint64_t;
  static constexpr const char* counters[] = {"lines"};
  void map(std::string_view line, auto& out) {
    if (line == "crash") std::abort();
    if (line == "refuse") throw aios::mapreduce::Failure("no such line is welcome");
    out.count(0);
    out.emit(line, 1);
  }
};
AIOS_MAPREDUCE_JOB(Job)
"""


def built_in(name):
    return (instance.modules / f"{name}.so").read_bytes()


def map_and_reduce(node, plan, partitions):
    """The parts, as bytes."""
    outputs = [node.map(split, partitions) for split in plan.splits]
    parts = []
    for partition in range(partitions):
        lines = bytearray()
        node.reduce({split.number: output.blocks[partition]
                     for split, output in zip(plan.splits, outputs)}, lines.extend)
        parts.append(bytes(lines))
    return parts


class Case(unittest.TestCase):
    def setUp(self):
        self.work = instance.work / self.id()
        self.work.mkdir()

    def write(self, name, data):
        path = self.work / name
        path.write_bytes(data)
        return str(path)

    def node(self, module, *arguments, **options):
        return self.enterContext(Node(module, arguments, **options))

    def module(self, text=STUBBORN):
        """A job that crashes or refuses where its input says so."""
        source, target = self.work / "job.cpp", self.work / "job.so"
        source.write_text(text)
        subprocess.run(["c++", "-std=c++20", "-O1", "-fPIC", "-shared", "-I", ROOT / "abi/include",
                        source, "-o", target], check=True)
        return target.read_bytes()

    def local(self, name, inputs, partitions, *arguments, options=()):
        output = self.work / f"local-{len(list(self.work.iterdir()))}"
        instance.ctl("mapreduce", "run", name, "--input", *inputs, "--output", output, "--reducers",
                     str(partitions), *options, *(["--", *arguments] if arguments else []))
        return [path.read_bytes() for path in sorted(output.glob("part-*"))]


class Same(Case):
    def test_it_is_what_the_single_machine_engine_makes(self):
        inputs = [str(ROOT / "abi"), str(ROOT / "services")]
        plan = splits.plan(inputs, 2)
        self.assertGreater(len(plan.splits), 1)
        for name, arguments in (("wordcount", []), ("grep", ["std::"]), ("inverted-index", [])):
            with self.subTest(name), Node(built_in(name), arguments, names=plan.names) as node:
                self.assertEqual(map_and_reduce(node, plan, 3),
                                 self.local(name, inputs, 3, *arguments))

    def test_sorted_parts_are_those_of_the_single_machine_engine(self):
        inputs = [str(ROOT / "abi"), str(ROOT / "services")]
        plan = splits.plan(inputs, 2)
        with Node(built_in("sort")) as node:
            boundaries = node.sample(plan.sample, 3)
            with self.assertRaisesRegex(aios.InvalidArgument, "boundaries of 3 partitions"):
                node.map(plan.splits[0], 3)
        with Node(built_in("sort"), boundaries=boundaries) as node:
            parts = map_and_reduce(node, plan, 3)
        self.assertEqual(parts, self.local("sort", inputs, 3))
        lines = b"".join(parts).split(b"\n")[:-1]
        self.assertEqual(lines, sorted(lines))
        self.assertTrue(all(parts))

    def test_a_sample_that_crashes_the_job_leaves_it_to_the_map_task(self):
        source = STUBBORN.replace("using Value",
                                  "static constexpr bool total_order = true;\n  using Value")
        node = self.node(self.module(source))
        sample = splits.plan([self.write("bad", b"crash\n")], 1).sample
        self.assertFalse(any(node.sample(sample, 3)))

    def test_little_memory_makes_more_runs_and_the_same_output(self):
        words = b"".join(b"%d " % (i * 7919 % 300_007) for i in range(700_000))
        plan = splits.plan([self.write("words", words)], 1)
        with Node(built_in("wordcount"), memory_bytes=32 * MIB) as small:
            runs = sum(small.map(split, 1).runs for split in plan.splits)
            made = map_and_reduce(small, plan, 2)
        self.assertGreaterEqual(runs, len(plan.splits))
        with Node(built_in("wordcount")) as large:
            self.assertEqual(made, map_and_reduce(large, plan, 2))

    def test_compressed_inputs_are_unpacked_where_they_are_read(self):
        text = [path.read_bytes() for path in sorted((ROOT / "abi/runtime").glob("*.cpp"))]
        half = len(text) // 2
        inputs = [self.write("a.gz", b"".join(map(gzip.compress, text[:half]))),
                  self.write("b", text[half]), self.write("c.gz", gzip.compress(b"")),
                  self.write("d.zst", b"".join(map(zstandard.ZstdCompressor().compress, text[half:]))),
                  self.write("e.gz", b"")]
        plan = splits.plan(inputs, 2)
        self.assertEqual(plan.input_bytes, sum(map(len, text)) + len(text[half]))
        for name in ("wordcount", "inverted-index"):
            with self.subTest(name), Node(built_in(name), names=plan.names) as node:
                self.assertEqual(map_and_reduce(node, plan, 3), self.local(name, inputs, 3))
        with Node(built_in("sort")) as node:
            boundaries = node.sample(plan.sample, 3)
        with Node(built_in("sort"), boundaries=boundaries) as node:
            self.assertEqual(map_and_reduce(node, plan, 3), self.local("sort", inputs, 3))

    def test_an_empty_input_has_empty_parts(self):
        plan = splits.plan([self.write("nothing", b"")], 2)
        self.assertEqual(plan.splits, [])
        node = self.node(built_in("wordcount"))
        self.assertEqual(node.reduce({}, lambda lines: self.fail("no lines")).distinct_keys, 0)


class Wrong(Case):
    def test_what_the_job_says_names_the_file_and_the_place(self):
        node = self.node(self.module())
        plan = splits.plan([self.write("a", b"fine\n"), self.write("b", b"fine\nrefuse\n")], 1)
        with self.assertRaises(aios.InvalidArgument) as raised:
            node.map(plan.splits[0], 1)
        self.assertIn(f"{self.work}/b, at byte 5: no such line", str(raised.exception))

    def test_a_module_that_crashes_is_crashed_and_the_node_goes_on(self):
        node = self.node(self.module())
        bad, good = (splits.plan([self.write(name, line)], 1).splits[0]
                     for name, line in (("bad", b"crash\n"), ("good", b"fine\n")))
        with self.assertRaises(aios.Crashed) as raised:
            node.map(bad, 1)
        self.assertIn(f"{self.work}/bad", str(raised.exception))
        self.assertFalse(is_host_lost(raised.exception))
        output = node.map(good, 1)
        facts = node.reduce({0: output.blocks[0]}, lambda lines: None)
        self.assertEqual((facts.counters, facts.records), ({"lines": 1}, 1))

    def test_a_file_that_changed_or_went_is_named(self):
        path = self.write("text", b"one two")
        split = splits.plan([path], 1).splits[0]
        node = self.node(built_in("wordcount"))
        self.write("text", b"one two three")
        with self.assertRaisesRegex(aios.SourceChanged, "text"):
            node.map(split, 1)
        os.unlink(path)
        with self.assertRaisesRegex(aios.NotFound, "same path on every host"):
            node.map(split, 1)

    def test_arguments_that_the_job_does_not_take_fail_at_once(self):
        with self.assertRaises(aios.InvalidArgument):
            Node(built_in("wordcount"), ["surplus"])
        with self.assertRaises(aios.Error):
            Node(b"not a module at all")

    def test_damaged_blocks_are_corrupt(self):
        node = self.node(built_in("wordcount"))
        split = splits.plan([self.write("text", b"word " * 5000 + b"other")], 1).splits[0]
        block = node.map(split, 1).blocks[0]
        for name, damaged in (("cut", block[:-3]), ("empty", b""), ("magic", b"x" + block[1:]),
                              ("flipped", block[:-9] + bytes([block[-9] ^ 1]) + block[-8:]),
                              ("longer", formats.BLOCK_MAGIC + b"\xff" * (len(block) - 8))):
            with self.subTest(name), self.assertRaises(aios.Corrupt):
                node.reduce({0: damaged}, lambda lines: None)
        self.assertEqual(node.reduce({0: block}, lambda lines: None).distinct_keys, 2)

    def test_a_partition_larger_than_the_memory_says_what_to_do(self):
        node = self.node(built_in("wordcount"), memory_bytes=32 * MIB)
        block = formats.pack_block([bytes(33 * MIB)], [], 0)
        with self.assertRaisesRegex(aios.NoMemory, "more reducers"):
            node.reduce({0: block}, lambda lines: None)

    def test_a_task_that_takes_too_long_is_ended(self):
        source = STUBBORN.replace("std::abort()", "for (;;) asm volatile(\"\")")
        (self.work / "loop.cpp").write_text(source)
        subprocess.run(["c++", "-std=c++20", "-O1", "-fPIC", "-shared", "-I", ROOT / "abi/include",
                        self.work / "loop.cpp", "-o", self.work / "loop.so"], check=True)
        # Enough for a task that only says what the job is.
        node = self.node(str(self.work / "loop.so"), task_limit_s=2)
        with self.assertRaises(aios.TimedOut):
            node.map(splits.plan([self.write("text", b"crash\n")], 1).splits[0], 1)


class BadRecords(Case):
    def test_they_are_skipped_and_told_up_to_a_limit(self):
        node = self.node(self.module())
        lines = [b"fine\n"] * 300
        lines[7] = lines[250] = b"crash\n"
        lines[90] = b"refuse\n"
        split = splits.plan([self.write("a", b"fine\n"), self.write("bad", b"".join(lines))],
                            1).splits[0]
        offsets = [sum(map(len, lines[:i])) for i in (7, 90, 250)]
        with self.assertRaisesRegex(aios.Crashed, f"/bad, at byte {offsets[0]}: "):
            node.map(split, 1)
        with self.assertRaisesRegex(aios.Crashed, f"at byte {offsets[2]}: one bad record more than "
                                                  f"the 2 "):
            node.map(split, 1, 2)
        output = node.map(split, 1, 3)
        codes = (aios.Code.CRASHED, aios.Code.INVALID_ARGUMENT, aios.Code.CRASHED)
        self.assertEqual(output.skipped, [(1, offset, code) for offset, code in zip(offsets, codes)])
        made = bytearray()
        facts = node.reduce({4: output.blocks[0]}, made.extend)
        self.assertEqual((bytes(made), facts.records, facts.counters), (b"fine\t298\n", 298,
                                                                       {"lines": 298}))
        self.assertEqual(facts.skipped, [(4, *one) for one in output.skipped])

    def test_one_is_found_whatever_tasks_say(self):
        for bad in (0, 1, 4999, 70_000, 99_999):
            for hint in (lambda record: record, lambda record: 0, lambda record: record + 500):
                found, at, tasks = suspect.Suspect(), 0, 0
                skipped = []
                while at < 100_000:
                    tasks += 1
                    limit = found.record_limit
                    if found.skipping:
                        skipped.append(at)
                    taken = 1 if found.skipping else min(limit or 100_000, 100_000 - at)
                    if not found.skipping and at <= bad < at + taken:
                        found.failed(hint(bad - at + 1))
                        continue
                    found.succeeded(taken)
                    at += taken
                self.assertEqual(skipped, [bad])
                self.assertLess(tasks, 60)


class Streaming(Case):
    def test_programs_make_what_they_make_on_one_machine(self):
        self.addCleanup(os.environ.pop, "AIOSCTL", None)
        os.environ["AIOSCTL"] = instance.aiosctl
        support = HERE.parent / "support/streaming"
        mapper, reducer = (f"/usr/bin/python3 {support / name}.py" for name in ("mapper", "reducer"))
        inputs = [self.write("text", b"to be or not to be\n" * 400 + b"no newline"),
                  self.write("packed.gz", gzip.compress(b"that is the question\n" * 90))]
        local = self.work / "local"
        done = json.loads(instance.ctl("mapreduce", "run", "--mapper", mapper, "--reducer", reducer,
                                       "--input", *inputs, "--output", local, "--reducers", "2",
                                       "--json").splitlines()[-1])
        this = job.Job("streaming", built_in("streaming"), (), 2, str(self.work / "out"), 64 * MIB, 0.0,
                       programs=streaming.Programs.named(mapper, reducer, []))
        plan = splits.plan(inputs, 1)
        blocks = {split.number: job.map_split(this, split) for split in plan.splits}
        with OutputFolder(this.output) as folder:
            made = [job.reduce_partition(this, p, "0", {n: b[p] for n, b in blocks.items()})
                    for p in range(2)]
            folder.commit([one.part for one in made], {})
        for p in range(2):
            self.assertEqual(Path(this.output, f"part-{p:05}").read_bytes(),
                             (local / f"part-{p:05}").read_bytes())
        self.assertEqual(job.total_counters(made), done["counters"])

    def test_a_program_that_fails_is_told_with_what_it_said(self):
        self.addCleanup(os.environ.pop, "AIOSCTL", None)
        os.environ["AIOSCTL"] = instance.aiosctl
        this = job.Job("failing", built_in("streaming"), (), 1, str(self.work / "out"), 64 * MIB, 0.0,
                       programs=streaming.Programs.named("echo oh no >&2; exit 3", "", []))
        split = splits.plan([self.write("text", b"line\n")], 1).splits[0]
        failed = job.map_split(this, split)
        self.assertIn("text, bytes 0 to 5 ended with exit code 3, 4 times; it said: oh no",
                      str(failed.error()))


class Gpus(unittest.TestCase):
    SCRIPT = ROOT / "services/cluster/aios_cluster/gpus.py"

    def test_it_prints_what_spark_expects_of_the_devices_there_are(self):
        done = subprocess.run([self.SCRIPT], env={**os.environ, "AIOSCTL": instance.aiosctl}, text=True,
                              capture_output=True, check=True)
        said = json.loads(done.stdout)
        listed = json.loads(instance.ctl("devices", "--json"))["devices"]
        self.assertEqual(said["name"], "gpu")
        self.assertEqual(len(said["addresses"]), sum(one["kind"] == "gpu" and not one["emulated"]
                                                     for one in listed))

    def test_failed_and_emulated_devices_are_none(self):
        def device(index, kind, health="ok", emulated=False):
            return {"index": index, "kind": kind, "health": health, "emulated": emulated}

        listed = {"devices": [device(0, "cpu"), device(1, "gpu"), device(2, "gpu", "failed"),
                              device(3, "gpu", emulated=True), device(4, "gpu")]}
        self.assertEqual(gpus.addresses(listed), ["1", "4"])

    def test_without_an_instance_it_fails_and_says_so(self):
        done = subprocess.run([self.SCRIPT], env={**os.environ, "AIOSCTL": "/nowhere/aiosctl"},
                              text=True, capture_output=True, check=False)
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertIn("/nowhere/aiosctl", done.stderr)


class Attempts(Case):
    def job(self, module, **options):
        return job.Job(**{"name": "attempts", "module": module, "arguments": (), "partitions": 1,
                          "output": str(self.work / "out"), "memory_bytes": 64 * MIB,
                          "task_limit_s": 0.0, **options})

    def test_a_host_that_does_not_answer_in_time_is_lost_at_once(self):
        plan = splits.plan([self.write("a", b"fine\n")], 1)
        some = self.job(self.module())
        self.assertEqual(len(job.map_split(some, plan.splits[0])), 1)
        tenant = job._kept_for(some, job._make_node)._tenant
        late = aios.TimedOut("the scheduler did not answer in time")
        with mock.patch.object(type(tenant), "submit", side_effect=late) as asked:
            with self.assertRaisesRegex(aios.Unreachable, "did not answer in time") as raised:
                job.map_split(some, plan.splits[0])
        self.assertTrue(is_host_lost(raised.exception))
        self.assertEqual(asked.call_count, 1)  # this host has had its time
        self.assertEqual(len(job.map_split(some, plan.splits[0])), 1)
        # A task that exceeds its limit would do so on every host.
        loop = STUBBORN.replace("std::abort()", "for (;;) {}")
        endless = splits.plan([self.write("b", b"crash\n")], 1).splits[0]
        failed = job.map_split(self.job(self.module(loop), task_limit_s=0.3), endless)
        self.assertIsInstance(failed, job.Failed)
        self.assertEqual(failed.code, aios.TimedOut.code)

    def test_a_scheduler_that_dies_between_tasks_is_not_noticed(self):
        this = self.job(built_in("wordcount"))
        split = splits.plan([self.write("text", b"a b a")], 1).splits[0]
        first = job.map_split(this, split)
        instance.ctl("crash", "scheduler", "--how", "kill")
        self.assertEqual(job.map_split(this, split), first)

    def test_what_is_the_jobs_fault_is_a_value_and_not_tried_again(self):
        failed = job.map_split(self.job(self.module()),
                               splits.plan([self.write("text", b"refuse\n")], 1).splits[0])
        self.assertIsInstance(failed, job.Failed)
        self.assertIn("no such line", str(failed.error()))

    def test_two_attempts_at_a_part_leave_one(self):
        this = self.job(built_in("wordcount"))
        block = job.map_split(this, splits.plan([self.write("text", b"a b a")], 1).splits[0])[0]
        with OutputFolder(this.output) as folder:
            loser, winner = (job.reduce_partition(this, 0, name, {0: block})
                             for name in ("1.0.7", "1.1.9"))
            self.assertEqual(loser.part.xxh3, winner.part.xxh3)
            folder.commit([winner.part], {"job": "wordcount"})
        self.assertEqual(sorted(os.listdir(this.output)), ["_SUCCESS", "manifest.json",
                                                           "part-00000"])
        self.assertEqual(Path(this.output, "part-00000").read_bytes(), b"a\t2\nb\t1\n")

    def test_a_job_that_does_not_commit_leaves_nothing_and_takes_nothing(self):
        path = str(self.work / "out")
        with OutputFolder(path), PartWriter(path, 0, "a") as part:
            part.write(memoryview(b"half"))
        self.assertFalse(os.path.exists(path))
        os.mkdir(path)
        Path(path, "mine").write_text("kept")
        with self.assertRaises(aios.AlreadyExists):
            OutputFolder(path)
        self.assertEqual(os.listdir(path), ["mine"])

    def test_what_a_killed_driver_left_makes_room_for_the_next_one(self):
        path = self.work / "out"
        temporary = path / "_temporary"
        temporary.mkdir(parents=True)
        (temporary / "_owner").touch()
        (temporary / "part-00000.0.0.1").write_text("half")
        os.link(temporary / "part-00000.0.0.1", path / "part-00000")
        with OutputFolder(str(path)) as folder:
            with self.assertRaisesRegex(aios.AlreadyExists, "another job"):
                OutputFolder(str(path))
            with PartWriter(str(path), 0, "a") as writer:
                writer.write(memoryview(b"whole"))
                part = writer.finish()
            folder.commit([part], {})
        self.assertEqual(sorted(os.listdir(path)), ["_SUCCESS", "manifest.json", "part-00000"])
        self.assertEqual((path / "part-00000").read_text(), "whole")

    def test_a_part_that_somebody_put_there_is_not_replaced(self):
        path = str(self.work / "out")
        with self.assertRaises(FileExistsError), OutputFolder(path) as folder:
            with PartWriter(path, 0, "a") as writer:
                part = writer.finish()
            Path(path, "part-00000").write_text("kept")
            folder.commit([part], {})
        self.assertEqual(Path(path, "part-00000").read_text(), "kept")


class Graphs(Case):
    """Batches of a graph's partitions, and of a template's."""

    def setUp(self):
        super().setUp()
        self.addCleanup(os.environ.pop, "AIOSCTL", None)
        os.environ["AIOSCTL"] = instance.aiosctl
        self.output = str(self.work / "out")

    def plan(self, graph, *options):
        """As aiosctl hands it to the driver."""
        recorder = self.work / "python"
        recorder.write_text('#!/bin/sh\nwhile [ "$1" != --plan-fd ]; do shift; done\n'
                            'cat "/proc/self/fd/$2"\n')
        recorder.chmod(0o755)
        done = subprocess.run([instance.aiosctl, "graph", "run", graph, "--engine", "spark", "--master",
                               "x", "--output", self.output, *options], text=True, capture_output=True,
                              env={**os.environ, "AIOS_PYTHON": str(recorder)}, check=True)
        return json.loads(done.stdout)

    def job(self, plan, **options):
        return graphs.GraphJob("graphs", json.dumps(plan["template"]) if plan["template"] else "",
                               self.output, 1024, **options)

    def chains(self, count=5):
        """As many partitions, which share what they only read."""
        (self.work / "numbers").write_bytes(struct.pack("64f", *range(64)))
        graph = {"codelets": {"axpy": {"module": "vector.so", "function": "axpy"}},
                 "buffers": {"x": {"load": "numbers"}}, "tasks": []}
        for i in range(count):
            graph["buffers"][f"y{i}"] = {"bytes": 256, "keep": True}
            graph["tasks"].append({"name": f"t{i}", "codelet": "axpy", "grid": [1], "arguments":
                                   [{"u32": 64}, {"f32": i}], "buffers": [["x", "read"], [f"y{i}", "read_write"]]})
        return self.write("graph.json", json.dumps(graph).encode())

    def test_batches_of_a_graph_make_what_one_machine_makes(self):
        plan = self.plan(self.chains())
        self.assertEqual((plan["template"], len(plan["parts"])), (None, 5))
        batches = graphs.batches_of(list(map(json.dumps, plan["parts"])), [], 2)
        self.assertEqual([len(batch) for batch in batches], [2, 3])
        with OutputFolder(self.output) as folder:
            ran = [graphs.run_batch(self.job(plan), batch, f"0.0.{batch.first}") for batch in batches]
            again = graphs.run_batch(self.job(plan), batches[0], "0.1.9")
            folder.commit([*again.parts, *ran[1].parts], {})
        self.assertEqual([one["number"] for both in ran for one in both.partitions], list(range(5)))
        self.assertEqual(sorted(os.listdir(self.output)),
                         ["_SUCCESS", "manifest.json", *(f"y{i}" for i in range(5))])
        for i in range(5):
            self.assertEqual(Path(self.output, f"y{i}").read_bytes(),
                             struct.pack("64f", *(i * x for x in range(64))))

    def test_pictures_have_their_own_numbers_in_every_batch(self):
        for i in range(5):
            self.write(f"{i}.png", pictures.png_of([[(40 * i, 0, 0)] * 4] * 3))
        inputs = sorted(str(path) for path in self.work.glob("*.png"))
        plan = self.plan(ROOT / "abi/examples/pictures.json", "--input", *inputs)
        self.assertEqual(plan["parts"], inputs)
        with OutputFolder(self.output) as folder:
            ran = [graphs.run_batch(self.job(plan), batch, "0.0.0") for batch in graphs.batches_of(
                [], list(map(splits.whole, inputs)), 2)]
            folder.commit([part for one in ran for part in one.parts], {})
        for i, path in enumerate(inputs):
            self.assertEqual(ran[i > 1].partitions[i if i < 2 else i - 2]["input"], path)
            counts = struct.unpack("256I", Path(self.output, f"part-{i:05}.grey-counts").read_bytes())
            self.assertEqual(counts[(77 * 40 * i + 128) // 256], 12)

    def test_bad_pictures_are_skipped_up_to_the_limit_of_all_batches(self):
        for i in range(4):
            whole = pictures.png_of([[(40 * i, 0, 0)] * 40] * 30)
            self.write(f"{i}.png", whole[:-40] if i % 2 else whole)
        inputs = sorted(str(path) for path in self.work.glob("*.png"))
        plan = self.plan(ROOT / "abi/examples/pictures.json", "--input", *inputs)
        batches = graphs.batches_of([], list(map(splits.whole, inputs)), 2)
        one, two = (self.job(plan, max_bad_records=most) for most in (1, 2))
        with OutputFolder(self.output) as folder:
            ran = [graphs.run_batch(one, batch, "0.0.0") for batch in batches]
            folder.commit([part for batch in ran for part in batch.parts], {})
        partitions = [partition for batch in ran for partition in batch.partitions]
        self.assertEqual([partition["skipped"] for partition in partitions], [False, True] * 2)
        self.assertEqual(graphs.check_skipped(two, partitions), 2)
        with self.assertRaisesRegex(aios.Corrupt, "3.png: one bad input more than the 1 that may be"):
            graphs.check_skipped(one, partitions)
        self.assertEqual(sorted(os.listdir(self.output)), ["_SUCCESS", "manifest.json", *(
            f"part-{i:05}.{kind}-counts" for i in (0, 2) for kind in ("edge", "grey"))])

    def test_what_is_wrong_on_a_host_is_raised_and_what_is_wrong_anywhere_is_a_value(self):
        picture = self.write("cut.png", pictures.png_of([[(1, 2, 3)] * 40] * 30)[:-30])
        plan = self.plan(ROOT / "abi/examples/pictures.json", "--input", picture)
        cut = graphs.batches_of([], [splits.whole(picture)], 1)[0]
        with OutputFolder(self.output) as folder:
            failed = graphs.run_batch(self.job(plan), cut, "0.0.0")
            self.assertIsInstance(failed, job.Failed)
            self.assertRegex(str(failed.error()), "cut.png: decode: .*ends in the middle")
            os.unlink(picture)
            with self.assertRaisesRegex(aios.NotFound, "cut.png: .*same path on every host"):
                graphs.run_batch(self.job(plan), cut, "0.1.1")
            self.write("cut.png", b"another")
            self.assertIn("changed since", graphs.run_batch(self.job(plan), cut, "0.2.2").text)
            self.assertEqual(os.listdir(os.path.join(folder.path, "_temporary")), ["_owner"])

    def test_a_codelet_that_a_host_lacks_is_tried_on_others(self):
        plan = self.plan(self.chains(1))
        batch = graphs.batches_of(list(map(json.dumps, plan["parts"])), [], 1)[0]
        for module, function, words in (("later.so", "axpy", "later.so"), ("vector.so", "later", "later")):
            plan["parts"][0]["codelets"]["axpy"] = {"module": module, "function": function}
            batch = graphs.batches_of([json.dumps(plan["parts"][0])], [], 1)[0]
            with OutputFolder(self.output), self.assertRaisesRegex(aios.Error, words):
                graphs.run_batch(self.job(plan), batch, "0.0.0")
        os.environ["AIOSCTL"] = "/nowhere/aiosctl"
        with OutputFolder(self.output), self.assertRaisesRegex(aios.NotSupported, "AIOSCTL names it"):
            graphs.run_batch(self.job(plan), batch, "0.0.0")

    def test_a_host_that_does_not_answer_is_lost_and_a_task_that_takes_too_long_is_not(self):
        plan = self.plan(self.chains(1))
        batch = graphs.batches_of(list(map(json.dumps, plan["parts"])), [], 1)[0]
        late = {"asked": None, "error": {"code": "timed_out", "text": "too late"}}
        for said in (late, {**late, "partitions": []}):
            double = self.write("double-of-aiosctl", f"#!/bin/sh\necho '{json.dumps(said)}'\nexit 1\n".encode())
            os.chmod(double, 0o700)
            os.environ["AIOSCTL"] = str(double)
            with OutputFolder(self.output):
                if "partitions" in said:
                    failed = graphs.run_batch(self.job(plan), batch, "0.0.0")
                    self.assertIsInstance(failed.error(), aios.TimedOut)
                else:
                    with self.assertRaisesRegex(aios.Unreachable, "too late") as raised:
                        graphs.run_batch(self.job(plan), batch, "0.0.0")
                    self.assertTrue(is_host_lost(raised.exception))

    def test_a_host_without_an_instance_is_lost(self):
        plan = self.plan(self.chains(1))
        batch = graphs.batches_of(list(map(json.dumps, plan["parts"])), [], 1)[0]
        self.addCleanup(os.environ.__setitem__, "AIOS_SOCKET", os.environ["AIOS_SOCKET"])
        os.environ["AIOS_SOCKET"] = str(self.work / "nobody.sock")
        with OutputFolder(self.output), self.assertRaises(aios.Unreachable) as raised:
            graphs.run_batch(self.job(plan), batch, "0.0.0")
        self.assertTrue(is_host_lost(raised.exception))


class Plans(Case):
    def test_every_byte_is_in_one_piece_and_in_order(self):
        sizes = [0, 1, 5 * MIB, 3, 2 * MIB + 17, 1] + [10] * 300
        for i, size in enumerate(sizes):
            self.write(f"{i:03}", bytes(size))
        plan = splits.plan([str(self.work)], 1)
        self.assertEqual((plan.input_files, plan.input_bytes), (len(sizes), sum(sizes)))
        at = {}
        pieces = [piece for split in plan.splits for piece in split.pieces]
        for piece in pieces:
            self.assertEqual(piece.offset, at.get(piece.path, 0))
            at[piece.path] = piece.offset + piece.length
        self.assertEqual(sum(at.values()), sum(sizes))
        self.assertEqual(list(at), sorted(at))
        self.assertTrue(all(len(split.pieces) <= splits.MAX_PIECES for split in plan.splits))
        self.assertEqual([split.number for split in plan.splits], list(range(len(plan.splits))))

    def test_links_and_what_is_no_file_is_passed_over_in_folders_and_refused_by_name(self):
        self.write("file", b"x")
        os.symlink("file", self.work / "link")
        os.mkfifo(self.work / "pipe")
        self.assertEqual(splits.plan([str(self.work)], 1).input_files, 1)
        with self.assertRaises(aios.InvalidArgument):
            splits.plan([str(self.work / "pipe")], 1)
        with self.assertRaises(FileNotFoundError):
            splits.plan([str(self.work / "nothing")], 1)

    def test_damaged_compressed_files_are_named(self):
        whole = gzip.compress(b"text " * 1000)
        for name, data in (("cut.gz", whole[:-9]), ("garbage.zst", b"not packed at all"),
                           ("tail.gz", whole + b"tail")):
            with self.subTest(name), self.assertRaisesRegex(aios.Corrupt, f"{name}: "):
                splits.plan([self.write(name, data)], 1)


class Types(unittest.TestCase):
    @unittest.skipUnless(os.path.exists("/usr/bin/mypy"), "mypy is not installed")
    def test_mypy_finds_nothing_strictly(self):
        package = ROOT / "services/cluster"
        checked = subprocess.run(
            ["/usr/bin/mypy", "--strict", "--ignore-missing-imports", "--cache-dir",
             instance.work / "mypy", package / "aios_cluster", package / "local_cluster.py"],
            env={**os.environ, "MYPYPATH": str(ROOT / "abi/python")}, capture_output=True, text=True,
            check=False)
        self.assertEqual(checked.returncode, 0, checked.stdout + checked.stderr)
