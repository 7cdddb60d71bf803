"""A context that stands still in the middle of a job: its tasks are done in another one, and the output is
that of a job that nobody disturbed. A job in which nothing is late has no second attempts.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/support"))
from corpus import make_cut, write_reference  # noqa: E402
from instance import Instance, expect, run_test, stat_fields, wait_until  # noqa: E402

CUT_BYTES = 40_000_000
JOB_S = 90
TRIES = 8
CALM_TRIES = 4


class Jobs:
    def __init__(self, instance):
        self.instance = instance
        self.cut = instance.work / "cut"
        make_cut(self.cut, CUT_BYTES)
        self.reference = instance.work / "reference"
        write_reference(self.cut, self.reference)
        self.count = 0

    def start(self):
        self.count += 1
        self.output = self.instance.work / f"output-{self.count}"
        return self.instance.start("mapreduce", "run", "wordcount", "--input", self.cut, "--output",
                                   self.output, "--threads", 2, "--memory-mb", 16, "--json")

    def finish(self, job, what):
        """The report of a job that has to complete."""
        try:
            printed, errors = job.communicate(timeout=JOB_S)
        except subprocess.TimeoutExpired:
            print(self.listed(), self.instance.contexts(), flush=True)
            job.kill()
            job.communicate()
            expect(False, f"{what}: the job does not end within {JOB_S} s")
        expect(job.returncode == 0, f"{what}: the job fails: {errors}")
        expect((self.output / "part-00000").read_bytes() == self.reference.read_bytes(),
               f"{what}: the output is another")
        names = sorted(path.name for path in self.output.iterdir())
        expect(names == ["_SUCCESS", "manifest.json", "part-00000"], f"{what}: leaves {names}")
        return json.loads(printed.splitlines()[-1])

    def listed(self):
        jobs = json.loads(self.instance.ctl("mapreduce", "jobs", "--json"))
        return jobs[0] if jobs else None

    def stopped(self, phase):
        """A job whose context was stopped while it was in that phase, and the context."""
        for _ in range(TRIES):
            job = self.start()
            contexts = wait_until(lambda job=job: self.instance.contexts() or job.poll() is not None,
                                  JOB_S, "the job has a context")
            # Some tasks have to end first: the others are judged by them.
            wait_until(lambda job=job: job.poll() is not None or self.is_in(phase), JOB_S, phase)
            if contexts is not True and job.poll() is None:
                os.kill(contexts[0]["pid"], signal.SIGSTOP)
                if self.is_in(phase):
                    return job, contexts[0]["pid"]
                os.kill(contexts[0]["pid"], signal.SIGCONT)
            self.finish(job, phase)
        expect(False, f"{phase}: {TRIES} jobs were over before they could be stopped there")

    def is_in(self, phase):
        listed = self.listed()
        return listed is not None and listed["phase"] == phase and listed["percent"] >= 30


def standing_still(jobs, phase):
    job, pid = jobs.stopped(phase)
    report = jobs.finish(job, phase)
    expect(report["second_attempts"] >= 1 and report["second_attempts_won"] >= 1,
           f"{phase}: nobody took over: {report}")
    wait_until(lambda: (stat_fields(pid) or "Z")[0] in "ZX", JOB_S, "the stopped context is ended")
    wait_until(lambda: not jobs.instance.contexts(), JOB_S, "no context is left")
    print(f"stopped in {phase}: {report['seconds']:.1f} s, {report['second_attempts']} second attempts, "
          f"{report['second_attempts_won']} won", flush=True)


def calm(jobs):
    """On a machine that others keep busy a task may be late indeed: not every time."""
    seen = []
    for _ in range(CALM_TRIES):
        report = jobs.finish(jobs.start(), "calm")
        seen.append(report["second_attempts"])
        if seen[-1] == 0:
            print(f"nobody late: {report['seconds']:.1f} s, no second attempt", flush=True)
            return
    expect(False, f"calm jobs had second attempts: {seen}")


def main():
    with Instance(sys.argv[1]) as instance:
        jobs = Jobs(instance)
        calm(jobs)
        standing_still(jobs, "map")
        standing_still(jobs, "reduce")


if __name__ == "__main__":
    sys.exit(run_test(main))
