"""The command line: whatever makes no sense is refused with exit code 2, and what is wrong, where and what
would be right; what is named as a file may be a pipe; what is printed at boot is all that was booted."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "support"))
from graphs import FAILED, NUMBERS, Graphs, chain, checked  # noqa: E402
from instance import COMMAND_TIMEOUT_S, Instance, expect, run_test, wait_until  # noqa: E402

USAGE = 2
BOOTS = 3
STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z \d+\.\d{3} \S")
# Words of a command line, and what is said of it.
REFUSED = [
    (["bogus"], ["no command 'bogus'", "aiosctl help"]),
    (["stats"], ["no command 'stats'", "did you mean 'status'"]),
    (["fs", "gett", "x"], ["no command 'gett'", "did you mean 'get'", "aiosctl help fs"]),
    (["fs"], ["takes a command", "aiosctl help fs"]),
    ([], ["takes a command", "aiosctl help"]),
    (["help", "graph", "rum"], ["no command 'rum'", "did you mean 'run'"]),
    (["status", "--jsn"], ["no option '--jsn'", "did you mean '--json'"]),
    (["status", "now"], ["does not take 'now'", "aiosctl help status"]),
    (["run", "--processes", "0", "--", "true"], ["--processes", "at least 2, not '0'"]),
    (["run", "--memory", "lots", "--", "true"], ["--memory", "'lots'"]),
    (["run", "--env", "X=1", "--", "true"], ["--env requires --sandbox"]),
    (["run", "--sandbox", "--env", "9=1", "--", "true"], ["--env takes NAME", "'9=1'"]),
    (["run", "--sandbox", "--env", "NOT_HERE", "--", "true"], ["--env NOT_HERE", "no such variable"]),
    (["logs", "kernel", "-n", "-1"], ["--lines", "at least 0, not '-1'"]),
    (["explain", "-1"], ["TASK", "at least 1, not '-1'"]),
    (["trace", "-o", "x", "--for", "nan"], ["--for", "from 0 to 86400, not 'nan'"]),
    (["graph", "run", "x", "--deadline", "0"], ["--deadline", "'0' is no time from now"]),
    (["graph", "run", "x", "--deadline", "-1s"], ["--deadline", "'-1s' is no time from now"]),
    (["graph", "run", "x", "--memory-mb", "0"], ["--memory-mb", "from 1 to 16777216, not '0'"]),
    (["mapreduce", "cancel", "-1"], ["JOB", "at least 1, not '-1'"]),
    (["mapreduce", "cancel", "x"], ["JOB", "at least 1, not 'x'"]),
    (["mapreduce", "run", "wordcount", "--input", "", "--output", "y"], ["--input", "is empty"]),
    (["mapreduce", "run", "wordcount", "--input", "x", "--output", ""], ["--output", "is empty"]),
    (["mapreduce", "run", "wordcount", "--input", "x", "--output", "y", "--threads", "257"],
     ["--threads", "from 1 to 256, not '257'"]),
    (["mapreduce", "run", "--input", "x", "--output", "y"], ["name a JOB"]),
    (["mapreduce", "run", "grep", "--input", "x", "--output", "y", "--input-format", "xml"], ["'xml'"]),
    (["mapreduce", "run", "grep", "--input", "x", "--output", "y", "--then", ""],
     ["--then", "is empty"]),
    (["mapreduce", "run", "grep", "--input", "x", "--output", "y", "--engine", "spark"],
     ["needs --master"]),
    (["bench", "tasks", "--policy", "best"], ["--policy", "best", "learned"]),
    (["graph", "run", "x", "--engine", "spark"], ["needs --master", "aiosctl help graph run"]),
    (["crash", "storage", "--how", "boom"], ["--how", "boom", "kill", "abort", "hang"]),
    (["fs", "put", "", "x"], ["FILE", "is empty"]),
    (["shell", ""], ["FILE", "is empty"]),
    (["run", "--memory", "", "--strict", "--", "true"], ["--memory", "is empty"]),
    (["run", "--cpus", "", "--strict", "--", "true"], ["--cpus", "is empty"]),
    (["run", "--job", "", "--", "true"], ["--job", "is empty"]),
    (["boot", "--manifest", ""], ["--manifest", "is empty"]),
    (["boot", "--system", "--group", ""], ["--group", "is empty"]),
    (["doctor", "--manifest", ""], ["--manifest", "is empty"]),
    (["models", "--export", ""], ["--export", "is empty"]),
    (["mapreduce", "run", "", "--input", "x", "--output", "y"], ["JOB", "is empty"]),
    *((["mapreduce", "run", "wordcount", "--input", "x", "--output", "y", option, ""], [option, "is empty"])
      for option in ("--input-format", "--field", "--mapper", "--reducer")),
]


def bytes_of(instance, words, data=b""):
    """Standard output of aiosctl, which gets `data` by a pipe."""
    ended = subprocess.run(instance.command(*words), input=data, env=instance.environment,
                           capture_output=True, timeout=COMMAND_TIMEOUT_S, check=False)
    expect(ended.returncode == 0, f"{words}: {ended.stderr}")
    return ended.stdout


def what_makes_no_sense_is_said(instance):
    for words, texts in REFUSED:
        ended = instance.try_ctl(*words)
        expect(ended.returncode == USAGE, f"{words}: exit code {ended.returncode}: {ended.stderr}")
        expect(len(ended.stderr.splitlines()) <= 2 and len(ended.stderr) < 400,
               f"{words}: {ended.stderr}")
        for text in texts:
            expect(text in ended.stderr, f"{words}: no '{text}' in {ended.stderr}")


def help_is_had_by_name(instance):
    for words in (["fs", "get"], ["graph", "run"], ["simulate"], []):
        told = instance.ctl("help", *words)
        expect(told == instance.ctl(*words, "--help"), f"help {words}: {told}")
    expect("kill,abort,hang" in instance.ctl("help", "crash"), "the ways to crash are not listed")


def objects_come_from_pipes(instance):
    for size in (0, 1, 1 << 20, (5 << 20) + 3):
        data = os.urandom(size)
        bytes_of(instance, ["fs", "put", "-", "piped"], data)
        expect(bytes_of(instance, ["fs", "get", "piped", "-"]) == data, f"{size} bytes came back otherwise")
    stored = json.loads(bytes_of(instance, ["fs", "put", "-", "piped", "--json"], b"x\0\n"))
    expect(stored["size_bytes"] == 3, f"{stored}")
    expect(not (Path.cwd() / "-").exists(), "a file called - was made")
    # What Linux makes up as it is read has no size before.
    bytes_of(instance, ["fs", "put", "/proc/sys/kernel/ostype", "made-up"])
    expect(bytes_of(instance, ["fs", "get", "made-up", "-"]) == b"Linux\n", "no content was stored")
    named = instance.work / "-"
    bytes_of(instance, ["fs", "get", "piped", named])
    expect(named.read_bytes() == b"x\0\n", "a path that ends so is no file")


def what_needs_too_much_memory_is_named(instance):
    huge = instance.work / "huge"
    with open(huge, "wb") as file:
        file.truncate(1 << 42)
    graph = instance.work / "huge.json"
    graph.write_text(json.dumps({
        "codelets": {"add": {"module": "vector.so", "function": "vector_add"}},
        "buffers": {"wide": {"bytes": 1 << 40}},
        "tasks": [{"name": "one", "codelet": "add", "buffers": [["wide", "write"]]}]}), encoding="utf-8")
    for words, text in ((["fs", "put", huge, "huge"], f"{huge} takes 4.0 TiB of memory"),
                        (["graph", "run", graph], "buffer 'wide' takes 1.0 TiB of memory")):
        ended = instance.try_ctl(*words)
        expect(ended.returncode == 1 and text in ended.stderr, f"{words}: {ended}")


def records_cost_no_finished_work(graphs):
    """What cannot be opened is refused before anything runs; what cannot be written costs the record, and
    not what was kept. A run that fails leaves no record, or the one that was there."""
    work = graphs.instance.work
    kept = chain(1)
    kept["buffers"]["y"]["keep"] = True

    def run(graph, record, output):
        return graphs.instance.try_ctl("graph", "run", graphs.file(graph), "--json", "--record",
                                       record, "--output", work / output)

    def tasks():
        return graphs.instance.ctl("tasks", "--json")

    before = tasks()
    refused = run(kept, "/nowhere/x", "unmade")
    expect(refused.returncode == FAILED and "/nowhere/x" in refused.stderr, refused.stderr)
    expect(tasks() == before and not (work / "unmade").exists(),
           "it ran although its record could not be opened")
    full = run(kept, "/dev/full", "made")
    expect(full.returncode == FAILED and "/dev/full" in full.stderr, full.stderr)
    said = checked("graph-run", full.stdout)
    expect("/dev/full" in said["error"]["text"] and said["output"] == str(work / "made"), f"{said}")
    expect((work / "made/y").stat().st_size == 4 * NUMBERS, "what was kept is not there")
    kept["codelets"]["axpy"]["function"] = "no_such"
    expect(run(kept, work / "failed.json", "o").returncode == FAILED, "it did not fail")
    expect(not (work / "failed.json").exists(), "a failed run leaves an empty record")
    (work / "failed.json").write_text("an earlier one", encoding="utf-8")
    expect(run(kept, work / "failed.json", "o").returncode == FAILED, "it did not fail")
    expect((work / "failed.json").read_text(encoding="utf-8") == "an earlier one", "it is lost")


def sockets_have_relative_names(instance):
    """They are below the folder in which they are named."""
    def ctl(socket, *words):
        return subprocess.run([Path(instance.aiosctl).resolve(), "--state", instance.work / "second", "--socket", socket,
                               *words], env=instance.environment, cwd=instance.work, text=True,
                              capture_output=True, timeout=COMMAND_TIMEOUT_S, check=False)
    booted = ctl("relative.sock", "boot", "--detach")
    down = ctl(instance.work / "relative.sock", "shutdown")
    expect(booted.returncode == 0 and down.returncode == 0, f"{booted}, {down}")


def files_that_are_got_touch_no_others(instance):
    folder = instance.work / "got"
    folder.mkdir()
    data = os.urandom(1 << 20)
    bytes_of(instance, ["fs", "put", "-", "got"], data)
    mine, other, target = folder / "x.part", folder / "y.part", folder / "target"
    mine.write_bytes(b"mine")
    target.write_bytes(b"mine")
    other.symlink_to(target)
    for name in ("x", "y"):
        instance.ctl("fs", "get", "got", folder / name)
        expect((folder / name).read_bytes() == data and not (folder / name).is_symlink(), f"{name} is otherwise")
    expect(mine.read_bytes() == target.read_bytes() == b"mine" and other.is_symlink(), "another file was changed")
    expect(len(list(folder.iterdir())) == 5, f"{list(folder.iterdir())}")


def files_that_are_got_halfway_are_removed(instance):
    """Storage does not answer meanwhile: what is got stays in the middle until the signal."""
    folder = instance.work / "halfway"
    folder.mkdir()
    storage = instance.pid_of("storage")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(storage, signal.SIGSTOP)
        try:
            getting = instance.start("fs", "get", "got", folder / "x")
            wait_until(lambda: list(folder.iterdir()), COMMAND_TIMEOUT_S, "the unfinished file is there")
            getting.send_signal(number)
            getting.communicate(timeout=COMMAND_TIMEOUT_S)
        finally:
            os.kill(storage, signal.SIGCONT)
        expect(getting.returncode == -number and not list(folder.iterdir()),
               f"{getting.returncode}, {list(folder.iterdir())}")


def jobs_that_cannot_be_are_told_plainly(instance):
    ended = instance.try_ctl("run", "--memory", "1", "--", "true")
    expect(ended.returncode != 0 and ended.stderr.count("aiosctl:") == 1, f"{ended}")
    expect("--memory" in ended.stderr and "at least 4M, not '1'" in ended.stderr, f"{ended}")
    # What the kernel says comes without the name of a call.
    ended = instance.try_ctl("run", "--job", "a/b", "--", "true")
    expect(ended.returncode == 1 and ended.stderr.startswith("aiosctl: job names are of letters"),
           f"{ended}")


def logs_have_dates(instance):
    lines = instance.ctl("logs", "supervisor").splitlines()
    expect(lines and all(STAMP.match(line) for line in lines), f"{lines}")


def boot_names_every_server(instance):
    """Also one that is found up when the last of them is."""
    for _ in range(BOOTS):
        instance.remember()
        instance.ctl("shutdown")
        printed = instance.ctl("boot", "--detach")
        status = instance.status()
        instance.kernel_pid = status["pid"]
        shown = re.findall(r"^ +(\S+) +up after", printed, re.MULTILINE)
        expect(sorted(shown) == sorted(s["name"] for s in status["servers"]), printed)


def boot_says_once_why_not(instance):
    manifest = instance.work / "bad.toml"
    for text, word in (('[server.echo]\nbinary = "aios-none"\n', "aios-none"),
                       ("[server.echo\n", "bad.toml:1:")):
        manifest.write_text(text, encoding="utf-8")
        ended = subprocess.run([instance.aiosctl, "--state", instance.work / "other", "boot", "--detach",
                                "--manifest", manifest], env=instance.environment, text=True,
                               capture_output=True, timeout=COMMAND_TIMEOUT_S, check=False)
        expect(ended.returncode == 1 and ended.stderr.count(word) == 1, f"{ended}")
        # There is no instance in which to do it.
        expect("aiosctl restart" not in ended.stderr, f"{ended}")


def main():
    with Instance(sys.argv[1]) as instance:
        what_makes_no_sense_is_said(instance)
        help_is_had_by_name(instance)
        objects_come_from_pipes(instance)
        sockets_have_relative_names(instance)
        records_cost_no_finished_work(Graphs(instance))
        what_needs_too_much_memory_is_named(instance)
        files_that_are_got_touch_no_others(instance)
        files_that_are_got_halfway_are_removed(instance)
        jobs_that_cannot_be_are_told_plainly(instance)
        logs_have_dates(instance)
        boot_names_every_server(instance)
        boot_says_once_why_not(instance)


if __name__ == "__main__":
    sys.exit(run_test(main))
