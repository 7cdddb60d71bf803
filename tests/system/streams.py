"""Standard error that cannot be written: what aiosctl does goes on without its messages."""

import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "support"))
from instance import COMMAND_TIMEOUT_S, Failure, Instance, expect, run_test  # noqa: E402

CANNOT_RUN = 127


def run(instance, words, **streams):
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams}
    try:
        return subprocess.run(instance.command(*words), env=instance.environment, check=False,
                              timeout=COMMAND_TIMEOUT_S, **streams)
    except subprocess.TimeoutExpired as late:
        raise Failure(f"{words} hung") from late


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


def main():
    with Instance(sys.argv[1]) as instance:
        source = instance.work / "words.txt"
        source.write_bytes(b"one two three two\n" * 1000)
        messages_end_nothing(instance, source)


if __name__ == "__main__":
    sys.exit(run_test(main))
