"""Jobs on a Spark cluster of this machine: their output is that of the single-machine engine, byte for
byte, whether nothing dies, or an executor, a whole AIOS, or a worker's network in the middle.

usage: spark_jobs.py AIOSCTL LIBAIOS PYTHON     PYTHON: of tools/setup.sh's cluster_python

Exit code 77, skipped: there is no Spark.
"""

import csv
import gzip
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE.parent / "support"))
import spark_graphs  # noqa: E402
import pictures  # noqa: E402
from instance import Failure, descendants, expect, run_test, wait_until  # noqa: E402
from jobs import build_module, parts_of  # noqa: E402

SKIPPED = 77
WORKERS, REDUCERS = 3, 3
DEVICE_JOBS = ("image-histogram", "k-means")
JOB_S = 200
STREAMING_PYTHON = "/usr/bin/python3"
INPUT_FILES, FILE_BYTES = 48, 1 << 20
# What Spark waits for before it gives a silent executor up; on a real cluster minutes.
IMPATIENT = ["spark.network.timeout=12s", "spark.network.timeoutInterval=5s",
             "spark.executor.heartbeatInterval=2s",
             "spark.storage.blockManagerHeartbeatTimeoutMs=12s", "spark.rpc.askTimeout=10s",
             "spark.shuffle.io.connectionTimeout=8s", "spark.shuffle.io.maxRetries=1",
             "spark.shuffle.io.retryWait=1s", "spark.excludeOnFailure.timeout=1m",
             "spark.scheduler.excludeOnFailure.unschedulableTaskSetTimeout=2s",
             "spark.python.worker.memory=64m", "spark.executor.memory=480m",
             # No task before every worker has its executor: whichever is harmed has part in the job.
             f"spark.cores.max={WORKERS}", "spark.scheduler.minRegisteredResourcesRatio=1.0",
             "spark.scheduler.maxRegisteredResourcesWaitingTime=60s"]
# A dozen of Java's machines that live for seconds, on few processors: to compile well takes longer than
# it saves.
BRIEF_JAVA = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"


class Cluster:
    def __init__(self, aiosctl, library, python, folder):
        self.aiosctl, self.python, self.folder = aiosctl, python, folder
        self.environment = {**{k: v for k, v in os.environ.items() if k != "AIOS_SOCKET"},
                            "AIOS_LIBRARY": library, "JAVA_TOOL_OPTIONS": BRIEF_JAVA}
        self.jobs, self.asked = 0, []

    def tool(self, action, *more):
        done = subprocess.run([self.python, ROOT / "services/cluster/local_cluster.py", action, *more,
                               "--folder", self.folder], env=self.environment, text=True,
                              capture_output=True, check=False)
        expect(done.returncode == 0, f"tools/cluster {action}: {done.stderr.strip()}")
        return done.stdout

    def __enter__(self):
        exports = self.tool("up", str(WORKERS), "--aiosctl", self.aiosctl)
        self.environment |= dict(re.findall(r"^export (\w+)=(.*)$", exports, re.MULTILINE))
        self.state = json.loads((self.folder / "cluster.json").read_text())
        return self

    def __exit__(self, kind, value, trace):
        if kind is not None:
            for log in sorted(self.folder.glob("*.log")):
                print(f"-- {log.name}", *log.read_text(errors="replace").splitlines()[-15:],
                      sep="\n", flush=True)
        self.tool("down")
        left = [pid for pid in self.state["processes"].values() if descendants(pid)]
        expect(kind is not None or not left, f"tools/cluster down left {left}")

    def ctl(self, worker, *arguments):
        return subprocess.run([self.aiosctl, "--state", self.folder / f"node-{worker}",
                               *map(str, arguments)], env=self.environment, text=True,
                              capture_output=True, check=False)

    def output(self):
        self.jobs += 1
        return self.folder / f"output-{self.jobs}"

    def alone(self, job, inputs, *arguments, options=()):
        """The parts that the single-machine engine makes."""
        output = self.output()
        done = self.ctl(1, "mapreduce", "run", *words(job), "--input", *many(inputs), "--output",
                        output, *reducers_of(job), *options,
                        *(["--", *arguments] if arguments else []))
        expect(done.returncode == 0, f"the single-machine engine: {done.stderr}")
        return parts_of(output)

    def start(self, job, inputs, output, *arguments, options=(), **environment):
        settings = [word for one in IMPATIENT for word in ("--conf", one)]
        return subprocess.Popen(
            [self.aiosctl, "--state", self.folder / "node-1", "mapreduce", "run", *words(job),
             "--engine", "spark", "--input", *many(inputs), "--output", output, *reducers_of(job),
             "--json", *options, *settings, *(["--", *arguments] if arguments else [])],
            env=self.environment | environment, text=True, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE)

    def later(self, what, job, inputs, *arguments, options=(), said=None, check=None):
        """Asks for a job that `all_at_once` runs: with the output of the single-machine engine, or, where it
        is `said` why, without any. `check` is given what it told at its end."""
        expected = None if said else self.alone(job, inputs, *arguments, options=options)
        output, recorded = self.output(), self.folder / "recorded"
        with self.start(job, inputs, output, *arguments, options=options, RECORDED=str(recorded),
                        AIOS_PYTHON=str(HERE / "record_driver")) as running:
            errors = running.communicate(timeout=JOB_S)[1]
        expect(running.returncode == 0, f"{what}: {errors}")
        named, _, *words_of = recorded.read_text(encoding="utf-8").split("\0")[:-1]
        self.asked.append((what, output, expected, said, check, {
            "socket": named, "arguments": words_of[1:], "said": f"{output}.said"}))

    def all_at_once(self):
        """In one application, one after the other."""
        jobs = self.folder / "jobs.json"
        jobs.write_text(json.dumps([one[-1] for one in self.asked]))
        with subprocess.Popen([self.python, HERE / "several_jobs.py", jobs], env=self.environment,
                              text=True, stdout=subprocess.PIPE) as running:
            for what, output, expected, said, check, asked in self.asked:
                began = time.monotonic()
                code = running.stdout.readline().strip()
                told = Path(asked["said"]).read_text(encoding="utf-8")
                if said:
                    expect(code == "1" and all(one in told for one in said) and not output.exists(),
                           f"{what}: {code} {told[-1000:]}")
                    print(f"{what}: {told.strip().splitlines()[-1]}", flush=True)
                    continue
                expect(code == "0", f"{what}: exit code {code}: {told[-3000:]}")
                facts = self.same(what, output, expected, told, began)
                if check:
                    check(facts)
            running.communicate(timeout=JOB_S)
        expect(running.returncode == 0, "the application with several jobs fails at its end")

    def job(self, what, job, inputs, expected, *arguments, options=(), meanwhile=None):
        began = time.monotonic()
        output = self.output()
        running = self.start(job, inputs, output, *arguments, options=options)
        try:
            if meanwhile:
                meanwhile(running)
            printed, errors = running.communicate(timeout=JOB_S)
        except subprocess.TimeoutExpired:
            raise Failure(f"{what}: not within {JOB_S} s") from None
        finally:
            running.kill()
        expect(running.returncode == 0, f"{what}: exit code {running.returncode}: {errors[-3000:]}")
        return self.same(what, output, expected, printed, began)

    @staticmethod
    def same(what, output, expected, printed, began):
        expect(parts_of(output) == expected,
               f"{what}: another output than the single-machine engine's")
        facts = json.loads(printed.splitlines()[-1])
        expect(facts["blocks"] == facts["splits"] * facts["parts"] or facts["job"] == "k-means",
               f"{what}: {facts['blocks']} blocks of {facts['splits']} splits")
        print(f"{what}: the same output; {facts['blocks']} blocks, {facts['block_bytes']} bytes of "
              f"{facts['input_bytes']} through Spark; {time.monotonic() - began:.1f} s", flush=True)
        return facts

    def put(self, path, name):
        done = self.ctl(1, "fs", "put", path, name)
        expect(done.returncode == 0, f"fs put: {done.stderr}")

    def await_task(self, worker, running):
        """The job has begun on this worker: its executor has a job of AIOS there."""
        def begun():
            expect(running.poll() is None, "the job ended before it could be disturbed")
            return "app-" in self.ctl(worker, "jobs", "--json").stdout

        wait_until(begun, JOB_S, f"a task on worker {worker}")

    def executors(self, worker):
        """Java below the worker, which is Java itself."""
        below = descendants(self.state["processes"][f"worker-{worker}"])
        return [pid for pid in below if b"CoarseGrainedExecutorBackend" in command_line(pid)]


def words(job):
    """A job, or the options that name its programs."""
    return [job] if isinstance(job, (str, Path)) else list(job)


def many(inputs):
    return inputs if isinstance(inputs, list) else [inputs]


def reducers_of(job):
    """Jobs on devices write two parts of their own."""
    return [] if job in DEVICE_JOBS else ["--reducers", str(REDUCERS)]


def command_line(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def write_input(folder, files):
    folder.mkdir()
    words = random.Random(12345)
    for number in range(files):
        some = [f"w{words.randrange(9973)}" for _ in range(1000)]
        line = " ".join(some)
        lines = "".join(f"{line} {number}-{i % 100}\n" for i in range(FILE_BYTES // len(line)))
        (folder / f"{number:02}.txt").write_text(lines)


def no_master(cluster, inputs):
    """Where nobody listens it is said at once, with aiosctl's code for it."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        master = f"spark://127.0.0.1:{closed.getsockname()[1]}"
    done = cluster.ctl(1, "mapreduce", "run", "wordcount", "--engine", "spark", "--master", master,
                       "--input", inputs, "--output", cluster.output())
    expect(done.returncode == 3 and master in done.stderr,
           f"no master: {done.returncode} {done.stderr[-1000:]}")
    print(f"no master: {done.stderr.strip().splitlines()[-1]}", flush=True)


def pipe(cluster, inputs):
    """The same two programs, unchanged, under AIOS and under Spark's pipe."""
    mapper, reducer = (f"{STREAMING_PYTHON} {HERE.parent / 'support/streaming' / name}.py"
                       for name in ("mapper", "reducer"))
    ours, theirs = cluster.output(), cluster.output()
    done = cluster.ctl(1, "mapreduce", "run", "--mapper", mapper, "--reducer", reducer, "--input",
                       inputs, "--output", ours, "--reducers", REDUCERS)
    expect(done.returncode == 0, f"Streaming under AIOS: {done.stderr}")
    done = subprocess.run([cluster.python, HERE / "pipe_job.py", "local[2]", mapper, reducer, inputs,
                           theirs, str(REDUCERS)], env=cluster.environment, text=True,
                          capture_output=True, check=False)
    expect(done.returncode == 0, f"Spark's pipe: {done.stderr[-3000:]}")
    lines = [sorted(text.splitlines()) for text in (b"".join(parts_of(ours)), theirs.read_bytes())]
    expect(lines[0] == lines[1] and lines[0], "Spark's pipe has another output than AIOS")
    print(f"Streaming: the same {len(lines[0])} lines under AIOS and Spark's pipe", flush=True)
    cluster.later("the same programs on the hosts", ("--mapper", mapper, "--reducer", reducer), inputs)


FUSSY = """
#include <aios/mapreduce.hpp>
#include <cstdlib>
struct Job : aios::mapreduce::Lines {
  using Value = std::uint64_t;
  void map(std::string_view line, auto& out) {
    if (line == "crash") std::abort();
    out.emit(line, 1);
  }
};
AIOS_MAPREDUCE_JOB(Job)
"""


def bad_records(cluster):
    """In compressed input: the rest of it is counted, and each is told."""
    folder = cluster.folder / "fussy"
    folder.mkdir()
    lines = [f"line {i % 97}\n" for i in range(5000)]
    lines[3000] = "crash\n"
    (folder / "plain").write_text("".join(lines))
    (folder / "packed.gz").write_bytes(gzip.compress("".join(lines).encode()))
    module = build_module(cluster.folder, FUSSY, "fussy")
    skip = ["--skip-bad-records=2"]
    at = sum(map(len, lines[:3000]))
    expected = [{"file": str(folder / name), "offset": at, "why": "crashed"}
                for name in ("packed.gz", "plain")]

    def check(facts):
        expect(facts["skipped_records"] == expected, f"skipped: {facts['skipped_records']}")

    cluster.later("bad records", module, folder, options=skip, check=check)


def locked_in(cluster, inputs):
    """On a host, too, a program reaches no socket: not even that of the host's AIOS."""
    script = cluster.folder / "call.py"
    script.write_text("import socket\n"
                      "try:\n    socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)\n"
                      "except PermissionError:\n    print('refused')\n")
    job = ("--mapper", f"{STREAMING_PYTHON} {script}", "--reducer", "uniq")
    cluster.later("programs that try to call", job, inputs)
    expected = cluster.asked[-1][2]
    expect(sorted(expected) == [b"", b"", b"refused\n"], f"on one machine: {expected}")


def cut_records(cluster):
    """Splits of CSV begin where records do, and so does the sample that a sort needs."""
    path = cluster.folder / "rows.csv"
    source = random.Random(5)
    with open(path, "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["number", "text"])
        for i in range(90_000):
            rows.writerow([i, f'{source.randrange(10**6)},\n"{i % 7}"\n{i}'])

    def check(facts):
        expect(facts["splits"] > 2, f"{facts['splits']} splits")

    cluster.later("CSV", "sort", path, options=["--input-format=csv", "--field=text"], check=check)
    expect(all(cluster.asked[-1][2]), "a part of the sorted fields is empty")


def chain_of_objects(cluster):
    """Three jobs, over objects of the storage where the driver runs, and a file beside them."""
    source = random.Random(6)
    lines = ["".join(json.dumps({"t": f"w{source.randrange(500)} common\n{i}"}) + "\n"
                     for i in range(3000)) for _ in range(4)]
    path = cluster.folder / "lines.jsonl"
    for number, text in enumerate(lines):
        path.write_text(text)
        if number:
            cluster.put(path, f"texts/{number}")
    options = ["--input-format=jsonl", "--field=t"]
    inputs = ["aios:texts/", str(path)]
    cluster.later("a chain over objects", "tf-idf", inputs, options=options)
    expect(b"\taios:texts/1\t" in b"".join(cluster.asked[-1][2]), "no object among the documents")
    cluster.later("a missing object", "wordcount", ["aios:nothing"],
                  said=["aios:nothing", "no such object"])
    # What is the job's own fault is told in its own words.
    cluster.later("an argument too few", "wordcount", path, options=["--then", "grep"],
                  said=["stage 2 (grep)", "usage"])


def images(cluster):
    """Decoded and counted on the hosts, each some of them."""
    folder = cluster.folder / "images"
    folder.mkdir()
    source = random.Random(7)
    for number in range(14):
        image = [[tuple(source.randbytes(3)) for _ in range(20 + number)] for _ in range(15)]
        (folder / f"{number:02}\t.png").write_bytes(pictures.png_of(image))
    (folder / "05.jpg").write_bytes(pictures.jpeg([[30, 200], [90, 0]]))
    (folder / "07.jpg").write_bytes(b"no picture")
    (folder / "08.jpg").write_bytes(b"")
    skip = ["--skip-bad-records=2"]
    inputs = [folder, folder / "05.jpg"]

    def check(facts):
        expect(facts["records"] == 16 and facts["counters"]["images"] == 16, f"{facts}")
        skipped = [(one["file"], one["why"]) for one in facts["skipped_records"]]
        expect(skipped == [(str(folder / "07.jpg"), "invalid_argument"),
                           (str(folder / "08.jpg"), "corrupt")], f"skipped: {skipped}")

    cluster.later("images", "image-histogram", inputs, options=skip, check=check)


def k_means(cluster):
    """The same bits, though no host has all points."""
    source = random.Random(8)
    inputs = []
    for name in ("points-1", "points-2"):
        inputs.append(cluster.folder / name)
        inputs[-1].write_text("".join(
            f"{source.gauss(i % 5 * 9, 1):.3f},{source.gauss(i % 3 * 7, 1):.3f}\n"
            for i in range(50_000)))
    arguments = ["k=5", "iterations=2", "seed=2"]

    def check(facts):
        expect(facts["counters"] == {"points": 100_000, "dimensions": 2, "iterations": 2,
                                     "converged": 0} and
               "not converged after 2" in facts["notes"][0], f"{facts}")
        # Of 7 chunks, when they are sampled, in two steps, and for two parts; and the pieces of splits
        # that chunks are made of.
        carried, pieces = 7 * (1 + 2 + 2), facts["blocks"] - 7 * (1 + 2 + 2)
        expect(facts["splits"] > 1 and max(facts["splits"], 7) <= pieces < facts["splits"] + 7,
               f"{carried} blocks beside the pieces: {facts}")
        expect(facts["block_bytes"] > 200_000, f"fewer bytes than points: {facts}")

    cluster.later("k-means", "k-means", inputs, *arguments, check=check)
    done = cluster.ctl(1, "mapreduce", "run", "k-means", "--engine", "spark", "--master", "local",
                       "--input", *inputs, "--output", cluster.output())
    expect(done.returncode == 1 and "k is missing; the arguments are k=" in done.stderr, f"{done}")


def all_tests(cluster):
    inputs = cluster.folder / "input"
    write_input(inputs, INPUT_FILES)
    counted = cluster.alone("wordcount", inputs)
    few = cluster.folder / "few"
    write_input(few, 4)
    cluster.later("wordcount", "wordcount", few)
    cluster.later("grep", "grep", few, "w99")
    cluster.later("sort", "sort", few)
    pipe(cluster, few)
    bad_records(cluster)
    locked_in(cluster, few / "00.txt")
    cut_records(cluster)
    chain_of_objects(cluster)
    images(cluster)
    k_means(cluster)
    cluster.all_at_once()
    no_master(cluster, inputs)
    settings = [word for one in IMPATIENT for word in ("--conf", one)]
    spark_graphs.batch_of_pictures(cluster, ROOT, settings)
    spark_graphs.lost_instance(cluster, settings)

    def kill_executor(running):
        cluster.await_task(1, running)
        for pid in cluster.executors(1):
            os.kill(pid, signal.SIGKILL)

    cluster.job("an executor is killed", "wordcount", inputs, counted, meanwhile=kill_executor)

    def kill_instance(running):
        cluster.await_task(2, running)
        status = json.loads(cluster.ctl(2, "status", "--json").stdout)
        os.kill(status["pid"], signal.SIGKILL)

    cluster.job("a whole AIOS is killed", "wordcount", inputs, counted, meanwhile=kill_instance)

    def cut_network(running):
        cluster.await_task(3, running)
        subprocess.run(["ip", "link", "set", f"{cluster.state['network']}v3", "down"], check=True)

    if "network" in cluster.state:
        cluster.job("a worker is cut off", "wordcount", inputs, counted, meanwhile=cut_network)
    else:
        print("a worker is cut off: not tried, for lack of network namespaces", flush=True)


def main():
    aiosctl, library, python = map(os.path.abspath, sys.argv[1:4])
    if subprocess.run([python, "-c", "import pyspark"], capture_output=True,
                      check=False).returncode if os.path.exists(python) else True:
        print("no Spark: tools/test fetches it from the network, which there is none of")
        return SKIPPED
    with tempfile.TemporaryDirectory(prefix="aios-cluster-") as folder:
        return run_test(lambda: with_cluster(Cluster(aiosctl, library, python, Path(folder))))


def with_cluster(cluster):
    with cluster:
        all_tests(cluster)


if __name__ == "__main__":
    sys.exit(main())
