"""MapReduce jobs, their progress, and how they are ended."""

import collections
import signal

import aios
from common import Case, Thread, build_folder

TEXT = "to be or not to be\n" * 2000


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
