"""kill -9 of each process of a running job, one after the other.

When a CPU context or the CPU driver dies, the job completes with the same bytes. When the
scheduler, storage, the MapReduce server or the supervisor dies, the job ends within 10 s with the
same bytes or a clear error. When its client dies or is interrupted, its context goes with it. In
every case the system then runs the job again, and nothing is left of it after shutdown.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "support"))
from corpus import make_cut, same_bytes, write_reference  # noqa: E402
from instance import COMMAND_TIMEOUT_S, Instance, expect, run_test, wait_until  # noqa: E402

CUT_BYTES = 40_000_000
# Small enough that the job spills, so that storage is part of it.
BUDGET_MB = 16
END_TIMEOUT_S = 10
ATTEMPTS = 8

MUST_COMPLETE = ("context", "cpu")
MAY_FAIL = ("scheduler", "storage", "mapreduce", "supervisor")
# The program that started the job, and the signal it gets.
CLIENTS = {"client": signal.SIGKILL, "interrupted client": signal.SIGINT}


class Campaign:
    def __init__(self, instance):
        self.instance = instance
        self.cut = instance.work / "cut"
        self.reference = instance.work / "reference"
        self.runs = 0

    def start_job(self):
        self.runs += 1
        output = self.instance.work / f"output-{self.runs}"
        job = self.instance.start("mapreduce", "run", "wordcount", "--input", self.cut, "--output",
                                  output, "--threads", 2, "--memory-mb", BUDGET_MB)
        return job, output

    def check_output(self, output, what):
        expect(same_bytes(self.reference, output / "part-00000"), f"{what}: wrong bytes")
        expect((output / "_SUCCESS").is_file(), f"{what}: no _SUCCESS")

    def finish(self, job, timeout_s, what):
        try:
            _, errors = job.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            self.instance.remember()
            job.kill()
            job.communicate()
            expect(False, f"{what}: the job did not end within {timeout_s} s of the kill")
        return errors.strip()

    def victim_pid(self, victim, job):
        if victim in CLIENTS:
            return job.pid
        if victim == "context":
            contexts = self.instance.contexts()
            return contexts[0]["pid"] if contexts else 0
        return self.instance.pid_of(victim)

    def strike(self, victim):
        """Kills the victim while a job runs; the job and its output."""
        for _ in range(ATTEMPTS):
            job, output = self.start_job()
            # The job's context shows that its tasks are running.
            wait_until(lambda: self.instance.contexts() or job.poll() is not None,
                       COMMAND_TIMEOUT_S, "the job has a context")
            pid = self.victim_pid(victim, job)
            if pid and job.poll() is None:
                os.kill(pid, CLIENTS.get(victim, signal.SIGKILL))
                if victim in CLIENTS or job.poll() is None:
                    return job, output
            self.finish(job, COMMAND_TIMEOUT_S, victim)
        expect(False, f"{victim}: the job was over before it could be struck, {ATTEMPTS} times")

    def run_again(self, victim):
        job, output = self.start_job()
        errors = self.finish(job, COMMAND_TIMEOUT_S, f"{victim}: afterwards")
        expect(job.returncode == 0, f"{victim}: afterwards the job fails: {errors}")
        self.check_output(output, f"{victim}: afterwards")

    def client_case(self, victim):
        job, output = self.strike(victim)
        self.finish(job, END_TIMEOUT_S, victim)
        expect(job.returncode != 0, f"{victim}: the job completed all the same")
        expect(not (output / "_SUCCESS").exists(), f"{victim}: failed, and yet _SUCCESS")
        wait_until(lambda: not self.instance.contexts(), END_TIMEOUT_S, f"{victim}: no context")
        print(f"{victim}: gone, and its context with it", flush=True)
        self.run_again(victim)

    def server_case(self, victim):
        must_complete = victim in MUST_COMPLETE
        job, output = self.strike(victim)
        errors = self.finish(job, COMMAND_TIMEOUT_S if must_complete else END_TIMEOUT_S, victim)
        last = errors.splitlines()[-1] if errors else ""
        if job.returncode == 0:
            self.check_output(output, victim)
            print(f"{victim}: killed; the job completed with the same bytes", flush=True)
        else:
            expect(not must_complete, f"{victim}: the job failed: {last}")
            expect(job.returncode in (1, 3) and last,
                   f"{victim}: the job ended with {job.returncode} and said '{last}'")
            expect(not (output / "_SUCCESS").exists(), f"{victim}: failed, and yet _SUCCESS")
            print(f"{victim}: killed; the job ended: {last}", flush=True)
        self.instance.wait_running()
        self.instance.remember()
        self.run_again(victim)


def main():
    with Instance(sys.argv[1]) as instance:
        campaign = Campaign(instance)
        make_cut(campaign.cut, CUT_BYTES)
        write_reference(campaign.cut, campaign.reference)
        for victim in sys.argv[2:] or (*MUST_COMPLETE, *MAY_FAIL, *CLIENTS):
            if victim in CLIENTS:
                campaign.client_case(victim)
            else:
                campaign.server_case(victim)


if __name__ == "__main__":
    sys.exit(run_test(main))
