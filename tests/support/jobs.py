"""MapReduce jobs, run by aiosctl, and what they leave behind."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

from instance import expect

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 60
# So many contexts in a row may be killed before they run a task.
MOST_UNUSED = 3


def build_module(folder, text, name="job"):
    """A job of one's own, from the text of its source."""
    source, target = folder / f"{name}.cpp", folder / f"{name}.so"
    source.write_text(text)
    subprocess.run(["c++", "-std=c++20", "-O2", "-fPIC", "-shared", "-I", ROOT / "abi/include", source,
                    "-o", target], check=True)
    return target


def parts_of(output):
    """A job's, as bytes; nothing else lies beside them."""
    left = sorted(path.name for path in output.iterdir() if not path.name.startswith("part-"))
    expect(left == ["_SUCCESS", "manifest.json"], f"the output folder has {left}")
    return [path.read_bytes() for path in sorted(output.glob("part-*"))]


def runs_a_task(instance):
    return any(task["state"] == "running" for task in json.loads(instance.ctl("tasks", "--json")))


def kill_contexts(instance, running, most, every_s):
    """Kills one every so often while a program runs, at most so many; how many those were. A job whose
    contexts end five times in a row before they run anything gets no more of them."""
    kills, unused, end = 0, 0, time.monotonic() + PATIENCE_S
    while running.poll() is None and time.monotonic() < end:
        contexts = instance.contexts() if kills < most else []
        if contexts and (unused < MOST_UNUSED or runs_a_task(instance)):
            unused = unused + 1 if unused < MOST_UNUSED else 0
            try:
                os.kill(contexts[kills % len(contexts)]["pid"], signal.SIGKILL)
                kills += 1
            except ProcessLookupError:
                pass  # it has ended meanwhile
        time.sleep(every_s)
    return kills


class Jobs:
    """Of one instance. The last one's output folder is `output`, what it said at its end `report`."""

    def __init__(self, instance):
        self.instance, self.work = instance, instance.work
        self.count = 0
        self.output = self.report = None

    def file(self, name, data):
        """With these bytes, or this text."""
        path = self.work / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
        return path

    def command(self, job, inputs, *options):
        """`job`: its name or module, in a list with arguments for it; or options that name programs."""
        self.count += 1
        self.output = self.work / f"output-{self.count}"
        words = job if isinstance(job, (list, tuple)) else [job]
        programs = str(words[0]).startswith("--")
        arguments = [] if programs or not words[1:] else ["--", *words[1:]]
        return ["mapreduce", "run", *(words if programs else words[:1]), "--input", *inputs, "--output",
                self.output, *options, *arguments]

    def run(self, job, inputs, *options):
        return self.instance.try_ctl(*self.command(job, inputs, "--json", *options))

    def parts(self, job, inputs, *options):
        done = self.run(job, inputs, *options)
        expect(done.returncode == 0, f"{job} of {inputs} {options}: {done.stderr}")
        self.report = json.loads(done.stdout.splitlines()[-1])
        return parts_of(self.output)

    def fails(self, what, words, job, inputs, *options, code=1):
        """It says all of `words`, and leaves nothing."""
        done = self.run(job, inputs, *options)
        print(f"{what}: {done.stderr.strip()}", flush=True)
        expect(done.returncode == code and all(word in done.stderr for word in words),
               f"{what}: {done}, and not {words}")
        expect(not self.output.exists(), f"{what}: leaves its folder")

    def manifest(self):
        return json.loads((self.output / "manifest.json").read_text())

    def while_contexts_are_killed(self, job, inputs, most, every_s):
        """The parts, though every so often a context was killed, and how many were."""
        running = self.instance.start(*self.command(job, inputs, "--json"))
        kills = kill_contexts(self.instance, running, most, every_s)
        out, err = running.communicate(timeout=PATIENCE_S)
        expect(running.returncode == 0, f"with killed contexts: {err}")
        self.report = json.loads(out.splitlines()[-1])
        print(f"{kills} contexts killed, {self.report['retries']} retries", flush=True)
        return parts_of(self.output), kills
