"""Kills at random points of a MapReduce job: its context, the servers it needs, its own program.

usage: job_kills.py AIOSCTL LIBAIOS [--points N] [--seed S] [--phases P,...] [--victims V,...]

    map      input is mapped, and no sorted run is on its way
    shuffle  sorted runs are on their way to storage or back
    reduce   runs are merged, and none is on its way
    commit   all is merged; the program puts the parts into place

That a point is in its phase is proven: the program, its contexts and storage are stopped, the service is
asked until it says the same twice, and only if that is the phase wanted the victim is killed and the
others go on. Whatever is killed but the program itself, the job completes. A program that was killed
leaves what the next job there removes. After each point the output is that of a job that nobody harmed,
byte for byte, and of the job there is nothing else: no file, region, object, process.
"""

import argparse
import collections
import contextlib
import faulthandler
import json
import os
import random
import re
import shutil
import signal
import sqlite3
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PYTHON = "/usr/bin/python3"  # Debian's, with Debian's packages, whatever else is called python3
sys.path[:0] = [str(ROOT / "tests/support"), str(ROOT / "abi/python")]
from corpus import make_cut, write_reference  # noqa: E402
from instance import Instance, expect, run_test, stat_fields, wait_until  # noqa: E402

CUT_BYTES = 24_000_000
# So small that nearly all sorted runs go to storage.
BUDGET_MB = 16
REDUCERS = 8
JOB_S = 60
SETTLE_S = 20
# How often a job is begun for one point: a phase may be over before it is seen.
TRIES = 40
# The supervisor gives up a server that dies ten times a minute, and the kernel a supervisor that does.
PATIENT = "restart = { count = 100000 }"
MAX_SUPERVISORS, WINDOW_S = 7, 60

PHASES = ("map", "shuffle", "reduce", "commit")
SERVERS = ("cpu", "storage", "mapreduce", "scheduler", "supervisor")
PROGRAMS = {"program": signal.SIGKILL, "interrupted program": signal.SIGINT}
VICTIMS = ("context", *SERVERS, *PROGRAMS)

MAP, REDUCE, DONE = 0, 1, 2  # proto::mapreduce::Phase
JOB_NEXT = 8
Progress = collections.namedtuple("Progress", (
    "mapped_bytes merge_bytes merged_bytes records distinct_keys tasks attempts spilled_bytes phase "
    "skipped_records transfers second_attempts second_attempts_won reserved"))
PROGRESS = struct.Struct("<8Q6I")


class Watch:
    """What the MapReduce service says of the job, asked over a link of our own."""

    def __init__(self, instance):
        import aios

        lock = (ROOT / "abi/proto/protocols.lock").read_text(encoding="utf-8")
        of_service = lock[lock.index("protocol mapreduce version"):]
        version = int(re.match(r"protocol mapreduce version (\d+)", of_service)[1])
        reply = of_service[of_service.index(f"method {JOB_NEXT} job_next"):]
        self.at, size = map(int, re.search(r"^ +(\d+) (\d+) progress$", reply, re.MULTILINE).groups())
        expect(size == PROGRESS.size, "this test does not know the service's Progress")
        self.attached = aios.attach(instance.state / "aios.sock")
        self.service = self.attached.connect("mapreduce", version)

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        self.service.close()
        self.attached.close()

    def look(self):
        """Of the only job there is; None: there is none."""
        reply = self.service.call(JOB_NEXT, struct.pack("<Q", 0), 10)
        if struct.unpack_from("<Q", reply)[0] == 0:
            return None
        return Progress(*PROGRESS.unpack_from(reply, self.at))


def phase_of(progress):
    if progress.phase == DONE:
        return "commit"
    if progress.transfers:
        return "shuffle"
    return {MAP: "map", REDUCE: "reduce"}.get(progress.phase)


class Job:
    def __init__(self, instance, cut, output):
        self.program = instance.start("mapreduce", "run", "wordcount", "--input", cut, "--output",
                                      output, "--reducers", REDUCERS, "--threads", 2,
                                      "--memory-mb", BUDGET_MB, "--json")
        self.output = output
        self.killed = False

    def over(self):
        return self.program.poll() is not None

    def finish(self, instance, what):
        """What it said at the end."""
        try:
            return self.program.communicate(timeout=JOB_S)[1].strip()
        except subprocess.TimeoutExpired:
            instance.remember()
            self.program.kill()
            self.program.communicate()
            expect(False, f"{what}: the job does not end within {JOB_S} s")


class Stopped:
    """Processes that stand still, from when they do until the end of the block."""

    def __init__(self, pids):
        self.pids = pids

    def __enter__(self):
        for pid in self.pids:
            send(pid, signal.SIGSTOP)
        for pid in self.pids:
            wait_until(lambda pid=pid: (stat_fields(pid) or "Z")[0] in "TtZX", JOB_S, "it stands still")

    def __exit__(self, kind, value, trace):
        for pid in self.pids:
            send(pid, signal.SIGCONT)


def send(pid, number):
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass  # it has ended meanwhile


class Campaign:
    def __init__(self, instance, watch, random_source):
        self.instance, self.watch, self.random = instance, watch, random_source
        self.cut = instance.work / "cut"
        self.jobs = 0
        self.supervisors = collections.deque(maxlen=MAX_SUPERVISORS)
        make_cut(self.cut, CUT_BYTES)
        self.expected, self.commit_s = self.unharmed()

    def output(self):
        self.jobs += 1
        return self.instance.work / f"output-{self.jobs}"

    def unharmed(self):
        """The parts that are expected of every job, which are right; and how long a commit takes."""
        job = Job(self.instance, self.cut, self.output())
        done = None
        while not job.over():
            progress = self.watch.look()
            if done is None and progress is not None and progress.phase == DONE:
                done = time.monotonic()
            if done is not None and not (job.output / "_temporary").exists():
                break
        commit_s = time.monotonic() - (done or time.monotonic())
        errors = job.finish(self.instance, "unharmed")
        expect(job.program.returncode == 0, f"unharmed, the job fails: {errors}")
        parts = parts_of(job.output)
        reference = self.instance.work / "reference"
        write_reference(self.cut, reference)
        lines = b"".join(parts).splitlines(keepends=True)
        expect(sorted(lines, key=lambda line: line.split(b"\t")[0]) ==
               reference.read_bytes().splitlines(keepends=True), "unharmed, it counts wrong")
        return parts, commit_s

    # ---- reaching a point ----

    def strike(self, phase, victim, what):
        """Kills the victim of a job in this phase; the job."""
        for _ in range(TRIES):
            pids = {one["name"]: one["pid"] for one in self.instance.processes()
                    if one["kind"] == "server"}
            job = Job(self.instance, self.cut, self.output())
            if self.reach(phase, victim, pids, job):
                return job
            errors = job.finish(self.instance, what)
            expect(job.program.returncode == 0, f"{what}: not harmed yet, the job fails: {errors}")
            self.check_complete(job, what)
            if phase == "commit":
                self.commit_s *= 0.7  # it was measured on a slower disk than this one is now
        expect(False, f"{what}: {TRIES} jobs were over before that could be reached")

    def reach(self, phase, victim, pids, job):
        """Kills the victim somewhere in the phase; False: the job went past."""
        share = self.random.random()
        contexts = wait_until(lambda: self.instance.contexts() or job.over(), JOB_S, "a context")
        if contexts is True:
            return False
        pids |= {"context": contexts[0]["pid"]} | dict.fromkeys(PROGRAMS, job.program.pid)
        while not job.over():
            progress = self.watch.look()
            if progress is None or (phase != "commit" and progress.phase == DONE):
                return False
            if phase_of(progress) != phase or not self.is_there(progress, phase, share):
                continue
            with Stopped([job.program.pid, *(one["pid"] for one in contexts), pids["storage"]]):
                if self.proven(phase, job):
                    send(pids[victim], PROGRAMS.get(victim, signal.SIGKILL))
                    job.killed = victim in PROGRAMS
                    return True
        return False

    def is_there(self, progress, phase, share):
        """The job is this far in what the phase stands for."""
        if phase == "commit":
            time.sleep(share * self.commit_s * 0.8)
            return True
        mapped = progress.mapped_bytes / CUT_BYTES
        merged = progress.merged_bytes / progress.merge_bytes if progress.merge_bytes else 0
        done = {"map": mapped, "shuffle": (mapped + merged) / 2, "reduce": merged}[phase]
        return done >= share * 0.9

    def proven(self, phase, job):
        """Nothing moves, and it is that phase."""
        before = self.watch.look()
        while True:
            progress = self.watch.look()
            if progress is None or job.over():
                return False
            if progress == before:
                break
            before = progress
        if phase == "commit" and not (job.output / "_temporary").exists():
            return False
        return phase_of(progress) == phase

    # ---- afterwards ----

    def check_complete(self, job, what):
        names = sorted(path.name for path in job.output.iterdir())
        wanted = ["_SUCCESS", "manifest.json", *(f"part-{i:05}" for i in range(REDUCERS))]
        expect(names == wanted, f"{what}: the output folder has {names}")
        expect(parts_of(job.output) == self.expected, f"{what}: the output has other bytes")

    def supervisor_or_another(self, now):
        if len(self.supervisors) == MAX_SUPERVISORS and now - self.supervisors[0] < WINDOW_S:
            return self.random.choice([one for one in VICTIMS if one != "supervisor"])
        self.supervisors.append(now)
        return "supervisor"

    def check_program_gone(self, job, victim, what):
        """Of a job whose program was killed there is all or, after the next job there, nothing."""
        expect(victim == "interrupted program" or job.program.returncode == -signal.SIGKILL,
               f"{what}: the program ended with {job.program.returncode}")
        if victim == "interrupted program":
            expect(not job.output.exists(), f"{what}: an interrupted job leaves its folder")
        complete = (job.output / "_SUCCESS").exists()
        again = Job(self.instance, self.cut, job.output)
        errors = again.finish(self.instance, f"{what}: again")
        if complete:
            expect(again.program.returncode == 1 and "not empty" in errors,
                   f"{what}: a complete output is not kept: {errors}")
        else:
            expect(again.program.returncode == 0, f"{what}: again: {errors}")
        self.check_complete(again, f"{what}: again")

    def leftovers(self):
        """What there is that a job has made."""
        left = [] if self.watch.look() is None else ["a job of the service"]
        left += [f"context {one['pid']}" for one in self.instance.contexts()]
        left += [f"job {one}" for one in self.listed("jobs") if one["name"].startswith("mr-")]
        left += [f"region {one['name']}" for one in self.listed("regions")
                 if one["name"] in ("mapreduce", "mapreduce-job")]
        left += self.spilled()
        return left

    def spilled(self):
        """Objects of the service, which storage shows to nobody else: in a copy of what it knows."""
        copy = self.instance.work / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        copy.mkdir()
        for path in (self.instance.state / "storage").glob("meta.db*"):
            if not path.name.endswith("-shm"):
                shutil.copy(path, copy)
        try:
            with contextlib.closing(sqlite3.connect(copy / "meta.db")) as database:
                return [f"object {name}" for name, in database.execute(
                    "SELECT name FROM objects WHERE space = 's:mapreduce'")]
        except sqlite3.DatabaseError as error:
            return [f"storage is still writing: {error}"]

    def listed(self, what):
        return json.loads(self.instance.ctl(what, "--json"))

    def check_nothing_left(self, what):
        deadline = time.monotonic() + SETTLE_S
        while left := self.leftovers():
            expect(time.monotonic() < deadline, f"{what}: still there after {SETTLE_S} s: {left}")
            time.sleep(0.05)

    def point(self, number, phase, victim):
        began = time.monotonic()
        if victim == "supervisor":
            victim = self.supervisor_or_another(began)
        what = f"point {number}: {victim} killed in {phase}"
        job = self.strike(phase, victim, what)
        errors = job.finish(self.instance, what)
        self.instance.wait_running()
        self.instance.remember()
        if job.killed and job.program.returncode != 0:
            self.check_program_gone(job, victim, what)
        else:
            expect(job.program.returncode == 0, f"{what}: the job fails: {errors}")
            self.check_complete(job, what)
        self.check_nothing_left(what)
        for path in job.output.iterdir():
            path.unlink()
        print(f"{what}: {time.monotonic() - began:.1f} s", flush=True)


def parts_of(output):
    return [path.read_bytes() for path in sorted(output.glob("part-*"))]


def chosen_points(count, phases, victims, random_source):
    """Every phase as often as any other, and so every victim."""
    deck = []
    for number in range(count):
        deck = deck or random_source.sample(victims, len(victims))
        yield number + 1, phases[number % len(phases)], deck.pop()


def options(arguments):
    parser = argparse.ArgumentParser(prog="job_kills.py")
    parser.add_argument("--points", type=int, default=100)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--phases", type=lambda text: text.split(","), default=list(PHASES))
    parser.add_argument("--victims", type=lambda text: text.split(","), default=list(VICTIMS))
    chosen = parser.parse_args(arguments)
    for one in (*chosen.phases, *chosen.victims):
        if one not in (*PHASES, *VICTIMS):
            parser.error(f"no phase or victim is called {one}")
    return chosen


def main():
    chosen = options(sys.argv[3:])
    print(f"seed {chosen.seed}, {chosen.points} points", flush=True)
    random_source = random.Random(chosen.seed)
    in_phase = collections.Counter()
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as manifest:
        text = (ROOT / "services/supervisor/aios.toml").read_text(encoding="utf-8")
        manifest.write(text.replace("[instance]", f"[instance]\n{PATIENT}", 1))
        manifest.flush()
        campaign_in(Path(manifest.name), chosen, random_source, in_phase)
    print("points by phase:", ", ".join(f"{phase} {in_phase[phase]}" for phase in PHASES))
    expect(all(in_phase[phase] for phase in chosen.phases), "some phase has no point")


def campaign_in(manifest, chosen, random_source, in_phase):
    with Instance(sys.argv[1], manifest) as instance, Watch(instance) as watch:
        campaign = Campaign(instance, watch, random_source)
        for number, phase, victim in chosen_points(chosen.points, chosen.phases, chosen.victims,
                                                   random_source):
            campaign.point(number, phase, victim)
            in_phase[phase] += 1


if __name__ == "__main__":
    if os.path.realpath(sys.executable) != os.path.realpath(PYTHON):
        os.execv(PYTHON, [PYTHON, *sys.argv])
    faulthandler.register(signal.SIGUSR2)
    sys.argv[1:3] = map(os.path.abspath, sys.argv[1:3])
    os.environ["AIOS_LIBRARY"] = sys.argv[2]
    sys.exit(run_test(main))
