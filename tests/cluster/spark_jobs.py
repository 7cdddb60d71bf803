"""Jobs on a Spark cluster of this machine: their output is that of the single-machine engine, byte for
byte, whether nothing dies, or an executor, a whole AIOS, or a worker's network in the middle.

usage: spark_jobs.py AIOSCTL LIBAIOS PYTHON     PYTHON: of tools/setup.sh's cluster_python

Exit code 77, skipped: there is no Spark.
"""

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
from instance import Failure, descendants, expect, run_test, wait_until  # noqa: E402

SKIPPED = 77
WORKERS, REDUCERS = 3, 3
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
             "spark.python.worker.memory=64m", "spark.executor.memory=480m"]


class Cluster:
    def __init__(self, aiosctl, library, python, folder):
        self.aiosctl, self.python, self.folder = aiosctl, python, folder
        self.environment = {**{k: v for k, v in os.environ.items() if k != "AIOS_SOCKET"},
                            "AIOS_LIBRARY": library}
        self.jobs = 0

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
        done = self.ctl(1, "mapreduce", "run", *words(job), "--input", inputs, "--output", output,
                        "--reducers", REDUCERS, *options, *(["--", *arguments] if arguments else []))
        expect(done.returncode == 0, f"the single-machine engine: {done.stderr}")
        return parts(output)

    def start(self, job, inputs, output, *arguments, options=()):
        settings = [word for one in IMPATIENT for word in ("--conf", one)]
        return subprocess.Popen(
            [self.aiosctl, "mapreduce", "run", *words(job), "--engine", "spark", "--input", inputs,
             "--output", output, "--reducers", str(REDUCERS), "--json", *options, *settings,
             *(["--", *arguments] if arguments else [])],
            env=self.environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

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
        expect(parts(output) == expected, f"{what}: another output than the single-machine engine's")
        left = sorted(path.name for path in output.iterdir() if not path.name.startswith("part-"))
        expect(left == ["_SUCCESS", "manifest.json"], f"{what}: leaves {left}")
        facts = json.loads(printed.splitlines()[-1])
        expect(facts["blocks"] == facts["splits"] * REDUCERS,
               f"{what}: {facts['blocks']} blocks of {facts['splits']} splits")
        print(f"{what}: the same output; {facts['blocks']} blocks, {facts['block_bytes']} bytes of "
              f"{facts['input_bytes']} through Spark; {time.monotonic() - began:.1f} s", flush=True)
        return facts

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


def command_line(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def parts(output):
    return [path.read_bytes() for path in sorted(output.glob("part-*"))]


def write_input(folder, files):
    folder.mkdir()
    words = random.Random(12345)
    for number in range(files):
        some = [f"w{words.randrange(9973)}" for _ in range(1000)]
        line = " ".join(some)
        lines = "".join(f"{line} {number}-{i % 100}\n" for i in range(FILE_BYTES // len(line)))
        (folder / f"{number:02}.txt").write_text(lines)


def bad_jobs(cluster, inputs):
    """What is the job's own fault is told in its own words, and leaves no folder."""
    output = cluster.output()
    running = cluster.start("wordcount", inputs, output, "surplus")
    _, errors = running.communicate(timeout=JOB_S)
    expect(running.returncode == 1 and "takes no arguments" in errors,
           f"an argument too many: {running.returncode} {errors[-1000:]}")
    expect(not output.exists(), "a job that failed leaves its folder")
    print(f"an argument too many: {errors.strip().splitlines()[-1]}", flush=True)


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
    lines = [sorted(text.splitlines()) for text in (b"".join(parts(ours)), theirs.read_bytes())]
    expect(lines[0] == lines[1] and lines[0], "Spark's pipe has another output than AIOS")
    print(f"Streaming: the same {len(lines[0])} lines under AIOS and Spark's pipe", flush=True)
    cluster.job("the same programs on the hosts", ("--mapper", mapper, "--reducer", reducer), inputs,
                parts(ours))


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
    source, module = cluster.folder / "fussy.cpp", cluster.folder / "fussy.so"
    source.write_text(FUSSY)
    subprocess.run(["c++", "-std=c++20", "-O1", "-fPIC", "-shared", "-I", ROOT / "abi/include", source,
                    "-o", module], check=True)
    skip = ["--skip-bad-records=2"]
    facts = cluster.job("bad records", module, folder, cluster.alone(module, folder, options=skip),
                        options=skip)
    at = sum(map(len, lines[:3000]))
    expected = [{"file": str(folder / name), "offset": at, "why": "crashed"}
                for name in ("packed.gz", "plain")]
    expect(facts["skipped_records"] == expected, f"skipped: {facts['skipped_records']}")


def all_tests(cluster):
    inputs = cluster.folder / "input"
    write_input(inputs, INPUT_FILES)
    counted = cluster.alone("wordcount", inputs)
    cluster.job("wordcount", "wordcount", inputs, counted)
    cluster.job("grep", "grep", inputs, cluster.alone("grep", inputs, "w99"), "w99")
    few = cluster.folder / "few"
    write_input(few, 4)
    cluster.job("sort", "sort", few, cluster.alone("sort", few))
    pipe(cluster, few)
    bad_records(cluster)
    no_master(cluster, inputs)
    bad_jobs(cluster, inputs)
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
