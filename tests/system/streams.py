"""Standard input, output and error that are closed or cannot be written: messages are best effort, results
are not, and no other file takes their places."""

import json
import os
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "support"))
from instance import COMMAND_TIMEOUT_S, Failure, Instance, expect, run_test  # noqa: E402

DATA = b"what is in the object\n"
CANNOT_RUN = 127
# sh closes what the first word says, and becomes the rest.
CLOSED = 'shut=$1; shift; eval "exec \\"\\$@\\" $shut"'
# Commands that print what they found, as text or JSON.
PRINTING = [["status"], ["ps", "--json"], ["fs", "ls"], ["fs", "stat", "kept"], ["tasks"], ["models"], ["jobs"],
            ["devices", "--json"], ["logs", "kernel"], ["help"], ["fs", "cat", "kept"],
            ["simulate", "--generate", "lu:2", "--devices", "cpu:1"],
            ["simulate", "--generate", "lu:2", "--devices", "cpu:1", "--json"]]


def run(instance, words, **streams):
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams}
    try:
        return subprocess.run(instance.command(*words), env=instance.environment, check=False,
                              timeout=COMMAND_TIMEOUT_S, **streams)
    except subprocess.TimeoutExpired as late:
        raise Failure(f"{words} hung") from late


def run_closed(instance, words, shut):
    """With the streams closed that `shut` names as sh does: "<&- 2>&-"."""
    command = ["/bin/sh", "-c", CLOSED, "sh", shut, *instance.command(*words)]
    try:
        return subprocess.run(command, env=instance.environment, check=False, timeout=COMMAND_TIMEOUT_S,
                              input=b"", capture_output=True)
    except subprocess.TimeoutExpired as late:
        raise Failure(f"{words} {shut} hung") from late


def messages_end_nothing(instance, source):
    output = instance.work / "counted"
    with open("/dev/full", "wb", buffering=0) as full:
        job = ["mapreduce", "run", "wordcount", "--input", source, "--output", output, "--then", "sort"]
        ended = run(instance, job, stderr=full)
        expect(ended.returncode == 0 and (output / "part-00000").exists(), f"{ended}")
        for words, code in ((["run", "--memory", "64M", "--", "true"], 0),
                            (["run", "--", "/no/such"], CANNOT_RUN),
                            (["simulate", "--graph", "/no/such"], 1),
                            (["fs", "cat", "none"], 1)):
            ended = run(instance, words, stderr=full)
            expect(ended.returncode == code, f"{words}: {ended}")
        bad = instance.work / "bad.toml"
        bad.write_text("[server.echo\n", encoding="utf-8")
        other = [instance.aiosctl, "--state", instance.work / "other", "boot", "--detach", "--manifest", bad]
        ended = subprocess.run(other, env=instance.environment, stderr=full, stdout=subprocess.DEVNULL,
                               timeout=COMMAND_TIMEOUT_S, check=False)
        expect(ended.returncode == 1, f"{ended}")


def results_that_are_lost_are_told(instance):
    for words in PRINTING:
        expect(run(instance, words).returncode == 0, f"{words} fails anyway")
        with open("/dev/full", "wb", buffering=0) as full:
            ended = run(instance, words, stdout=full)
        expect(ended.returncode == 1, f"{words}: exit code {ended.returncode}: {ended.stderr}")
        expect(ended.stderr.count(b"cannot write standard output") == 1, f"{words}: {ended.stderr}")


def pipes_that_nobody_reads_are_none_of_it(instance):
    for words in (["status"], ["ps", "--json"]):
        for ignores in (True, False):
            reader, writer = os.pipe()
            os.close(reader)
            # Where nobody ignores it, the signal ends the command, as it does any other.
            ended = run(instance, words, stdout=writer, restore_signals=not ignores)
            os.close(writer)
            expect(ended.stderr == b"", f"{words}: {ended}")


def closed_streams_are_taken_by_nothing(instance, source):
    for shut in ("<&-", ">&-", "2>&-", "<&- >&- 2>&-"):
        ended = run_closed(instance, ["status", "--json"], shut)
        expect(ended.returncode == 0, f"status {shut}: {ended}")
        if ">&-" not in shut.replace("2>&-", ""):
            expect(json.loads(ended.stdout)["pid"] == instance.kernel_pid, f"status {shut}: {ended}")
    ended = run_closed(instance, ["fs", "cat", "kept"], ">&-")
    expect(ended.returncode == 0 and ended.stdout == b"", f"{ended}")
    # What cannot be read is not an empty object.
    ended = run_closed(instance, ["fs", "put", "-", "new"], "<&-")
    expect(ended.returncode == 1 and b"cannot read standard input" in ended.stderr, f"{ended}")
    expect("new" not in instance.ctl("fs", "ls"), "an object was made of a closed input")
    output = instance.work / "closed"
    job = ["mapreduce", "run", "wordcount", "--input", source, "--output", output]
    ended = run_closed(instance, job, "<&- >&- 2>&-")
    expect(ended.returncode == 0 and (output / "part-00000").exists(), f"{ended}")


def instances_begin_without_streams(instance):
    instance.remember()
    instance.ctl("shutdown")
    ended = run_closed(instance, ["boot", "--detach"], "<&- >&- 2>&-")
    expect(ended.returncode == 0, f"{ended}")
    instance.kernel_pid = instance.status()["pid"]


def main():
    with Instance(sys.argv[1]) as instance:
        source = instance.work / "words.txt"
        source.write_bytes(b"one two three two\n" * 1000)
        kept = instance.work / "kept"
        kept.write_bytes(DATA)
        instance.ctl("fs", "put", kept, "kept")
        messages_end_nothing(instance, source)
        results_that_are_lost_are_told(instance)
        pipes_that_nobody_reads_are_none_of_it(instance)
        closed_streams_are_taken_by_nothing(instance, source)
        instances_begin_without_streams(instance)


if __name__ == "__main__":
    sys.exit(run_test(main))
