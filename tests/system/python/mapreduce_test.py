"""MapReduce jobs, their progress, and how they are ended."""

import collections
import json
import signal
import struct
import subprocess

import aios
from aios import mapreduce
from common import ROOT, Case, Thread, build_folder

TEXT = "to be or not to be\n" * 2000
FUSSY = """
#include <aios/mapreduce.hpp>
struct Job : aios::mapreduce::Lines {
  using Value = std::uint64_t;
  void map(std::string_view line, auto& out) {
    if (line == "refuse") throw aios::mapreduce::Failure("no such line is welcome");
    out.emit(line, 1);
  }
};
AIOS_MAPREDUCE_JOB(Job)
"""


class Interruption(Exception):
    pass


class Jobs(Case):
    def setUp(self):
        self.instance = self.attach()
        self.work = self.folder()
        self.output = self.work / "output"
        for number in range(4):
            (self.work / f"{number}.txt").write_text(TEXT, encoding="utf-8")
        self.module = build_folder() / "services/mapreduce/jobs/wordcount.so"

    def inputs(self):
        return sorted(self.work.glob("*.txt"))

    def run_job(self, on_progress=None, **options):
        return self.instance.mapreduce(self.module, self.inputs(), self.output,
                                       on_progress=on_progress, **options)

    def test_a_job_counts_words_and_tells_its_progress(self):
        seen = []
        result = self.run_job(seen.append, reducers=2, label="counting")
        counted = {}
        for part in self.output.glob("part-*"):
            for line in part.read_text(encoding="utf-8").splitlines():
                word, count = line.split("\t")
                counted[word] = int(count)
        self.assertEqual(counted, collections.Counter(TEXT.split() * 4))
        self.assertEqual(len(list(self.output.glob("part-*"))), 2)
        self.assertEqual(result.input_files, 4)
        self.assertEqual(result.progress.phase, aios.Phase.DONE)
        self.assertEqual(result.progress.input_bytes, 4 * len(TEXT))
        self.assertEqual(result.progress.distinct_keys, 4)
        self.assertGreater(result.elapsed_s, 0)
        self.assertTrue(seen)
        self.assertLessEqual(seen[0].mapped_bytes, seen[-1].mapped_bytes)

    def test_a_callback_that_answers_false_cancels(self):
        self.assertRaises(aios.Cancelled, self.run_job, lambda progress: False)
        self.assertEqual(list(self.output.glob("*")), [])
        self.run_job(lambda progress: None)

    def test_what_a_callback_raises_cancels_and_is_raised(self):
        def interrupt(progress):
            raise Interruption(progress.phase)

        self.assertRaises(Interruption, self.run_job, interrupt)
        self.assertEqual(list(self.output.glob("*")), [])

    def test_ctrl_c_ends_a_job(self):
        handler = signal.getsignal(signal.SIGINT)
        with self.assertRaises(KeyboardInterrupt):
            self.run_job(lambda progress: signal.raise_signal(signal.SIGINT))
        self.assertIs(signal.getsignal(signal.SIGINT), handler)

    def test_signals_that_mean_nothing_to_a_job_reach_their_handlers_and_leave_it_alone(self):
        seen = []

        def note(number, frame):
            seen.append(number)

        before = signal.signal(signal.SIGUSR1, note)
        self.addCleanup(signal.signal, signal.SIGUSR1, before)
        result = self.run_job(lambda progress: signal.raise_signal(signal.SIGUSR1))
        self.assertEqual(result.progress.phase, aios.Phase.DONE)
        self.assertTrue(seen)
        self.assertIs(signal.getsignal(signal.SIGUSR1), note)

    def test_jobs_run_in_threads_beside_each_other(self):
        def run_one(number):
            return self.instance.mapreduce(self.module, self.inputs(), self.work / str(number),
                                           on_progress=lambda progress: None)

        threads = [Thread(run_one, number) for number in range(2)]
        self.assertEqual({thread.result().progress.distinct_keys for thread in threads}, {4})

    def test_a_job_that_computes_on_devices_is_run_like_any_other(self):
        points = self.work / "points"
        points.write_text("0,0\n9,9\n0,1\n9,8\n", encoding="utf-8")
        module = self.module.with_name("k-means.so")
        seen = []
        result = self.instance.mapreduce(module, [points], self.output, arguments=["k=2"],
                                         on_progress=seen.append)
        self.assertEqual(result.counters["converged"], 1)
        self.assertEqual(result.progress.records, 4)
        self.assertEqual(result.progress.phase, aios.Phase.DONE)
        self.assertTrue(seen)
        centres = {line.split("\t", 1)[1] for line in
                   (self.output / "part-00000").read_text(encoding="utf-8").splitlines()}
        self.assertEqual(centres, {"2\t0,0.5", "2\t9,8.5"})
        self.assertRaises(aios.InvalidArgument, self.instance.mapreduce, module, [points],
                          self.work / "other", arguments=["k=5"])
        self.assertRaises(aios.Cancelled, self.instance.mapreduce, module, [points],
                          self.work / "other", arguments=["k=2"], on_progress=lambda _: False)
        self.assertFalse((self.work / "other").exists())

    def test_an_object_is_read_as_it_was_when_the_job_began(self):
        storage = self.instance.storage()
        large = b"word\n" * (4 << 20)  # more than is copied between two looks at the progress
        storage.put("mr/large", large)
        storage.put("mr/small", b"one\ttwo\none\ttwo\n")

        def run(number, inputs, **options):
            return self.instance.mapreduce(self.module, inputs, self.work / f"out-{number}", **options)

        result = run(0, ["aios:mr/large", "aios:mr/small"], input_format="csv:tab", field="1")
        self.assertEqual(result.progress.distinct_keys, 2)
        self.assertEqual(result.input_files, 2)
        looks = []

        def remove_at_second(progress):
            looks.append(progress)
            if len(looks) == 2:
                storage.remove("mr/large")

        with self.assertRaisesRegex(aios.SourceChanged, "aios:mr/large: was removed"):
            run(1, ["aios:mr/large"], on_progress=remove_at_second)
        self.assertFalse((self.work / "out-1").exists())
        storage.put("mr/large", large)
        looks.clear()

        def replace_at_second(progress):
            looks.append(progress)
            if len(looks) == 2:
                storage.put("mr/large", large)

        with self.assertRaisesRegex(aios.SourceChanged, "aios:mr/large: was replaced"):
            run(2, ["aios:mr/large"], on_progress=replace_at_second)
        looks.clear()

        def remove_when_read(progress):
            looks.append(progress)
            if progress.tasks and "mr/large" in [one.name for one in storage.list("mr/")]:
                storage.remove("mr/large")

        result = run(3, ["aios:mr/large"], on_progress=remove_when_read)
        self.assertEqual((self.work / "out-3/part-00000").read_text(), f"word\t{4 << 20}\n")
        self.assertEqual([one.name for one in storage.list("mr/")], ["mr/small"])
        self.assertRaisesRegex(aios.NotFound, "aios:mr/large", run, 4, ["aios:mr/large"])
        storage.remove("mr/small")

    def test_a_chain_gives_what_its_last_job_writes(self):
        sort = self.module.with_name("sort.so")
        grep = self.module.with_name("grep.so")
        self.run_job(then=[aios.Stage(grep, ["^b|^n"], "some"), aios.Stage(sort)])
        self.assertEqual((self.output / "part-00000").read_text(),
                         "be\t16000\t1\nnot\t8000\t1\n")
        self.assertEqual(sorted(path.name for path in self.output.glob("*")),
                         ["_SUCCESS", "manifest.json", "part-00000"])
        with self.assertRaisesRegex(aios.InvalidArgument, r"stage 3 \(last\)"):
            self.instance.mapreduce(self.module, self.inputs(), self.work / "failed",
                                    then=[aios.Stage(sort), aios.Stage(grep, label="last")])
        self.assertFalse((self.work / "failed").exists())
        self.assertRaises(aios.Quota, self.instance.mapreduce, self.module, self.inputs(),
                          self.work / "failed", then=[aios.Stage(sort)] * 32)
        self.assertRaises(aios.InvalidArgument, self.instance.mapreduce, self.module, self.inputs(),
                          self.work / "failed", input_format="xml")

    def test_bad_records_are_skipped_as_many_as_may_be(self):
        source, module = self.work / "job.cpp", self.work / "job.so"
        source.write_text(FUSSY, encoding="utf-8")
        subprocess.run(["c++", "-std=c++20", "-O1", "-fPIC", "-shared", "-I", ROOT / "abi/include",
                        source, "-o", module], check=True)
        text = self.work / "0.txt"
        text.write_text("fine\nrefuse\nfine\nrefuse\n", encoding="utf-8")
        self.assertRaises(aios.InvalidArgument, self.run_job, max_bad_records=-1)
        self.assertRaises(aios.InvalidArgument, self.run_job, max_bad_records=10**9)
        with self.assertRaisesRegex(aios.InvalidArgument, "0.txt, at byte 5: no such line"):
            self.instance.mapreduce(module, [text], self.output)
        with self.assertRaisesRegex(aios.InvalidArgument, "one bad record more than the 1 "):
            self.instance.mapreduce(module, [text], self.output, max_bad_records=1)
        result = self.instance.mapreduce(module, [text], self.output, max_bad_records=2)
        self.assertEqual((result.progress.skipped_records, result.progress.records), (2, 2))
        self.assertEqual((self.output / "part-00000").read_text(encoding="utf-8"), "fine\t2\n")
        manifest = json.loads((self.output / "manifest.json").read_text(encoding="utf-8"))
        self.assertEqual([one["offset"] for one in manifest["skipped_records"]], [5, 17])

    def test_splits_may_begin_where_records_do(self):
        path = self.work / "rows"
        path.write_bytes(b'a,"x\ny"\nb,c\n')
        with open(path, "rb") as file:
            for name, offsets, begins in (
                    ("csv", [0, 1, 5, 8, 9, 12, 99], [0, 8, 8, 8, 12, 12, 99]),
                    ("csv", [9, 1, 9], [12, 8, 12]), ("csv:c", [10], [12]), ("csv", [], []),
                    ("fixed:5", [1, 5, 6, 11], [5, 5, 10, 12]), ("jsonl", [3], [3]),
                    ("text", [7], [7])):
                self.assertEqual(mapreduce.align(name, file, offsets), begins, name)
            self.assertRaises(aios.InvalidArgument, mapreduce.align, "csv:ab", file, [1])
            self.assertEqual(file.tell(), 0)
        self.assertRaises(aios.Error, mapreduce.align, "csv", 10**6, [1])
        packed = mapreduce.pack_format("fixed:12", "3:4")
        # As struct InputFormat has it: fixed, by number, of 12 bytes, from 3 on, 4 of them.
        self.assertEqual(struct.unpack_from("<IIQQQ", packed), (3, 1, 12, 3, 4))
        self.assertRaises(aios.InvalidArgument, mapreduce.pack_format, "text", "3")
        self.assertRaises(aios.TooLarge, mapreduce.pack_format, "jsonl", "x" * 1025)

    def test_jobs_that_cannot_be_are_refused(self):
        self.assertRaises(aios.NotFound, self.instance.mapreduce, "/no/such.so", self.inputs(),
                          self.output)
        self.assertRaises(aios.NotFound, self.instance.mapreduce, self.module, ["/no/input"],
                          self.output)
        self.assertRaises(aios.InvalidArgument, self.instance.mapreduce, self.module, [],
                          self.output)
        self.assertRaises(aios.AlreadyExists, self.instance.mapreduce, self.module, self.inputs(),
                          self.work)
        self.assertRaises(TypeError, self.instance.mapreduce, self.module, "/one/input",
                          self.output)
        self.assertRaises(aios.InvalidArgument, self.run_job, reducers=-1)
