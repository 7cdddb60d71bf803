"""Partitions of a graph of tasks on a host, whatever the engine: its `aiosctl graph run` runs them.

All partitions of a batch are given to the host's scheduler together, which places their tasks on its
devices by what it has learned there. A partition depends on nothing but its description, and what it
keeps is moved to where the attempt's files are, so it may be done again, or twice at once, anywhere: a
task that is not idempotent is no exception, for another attempt has other buffers. `aiosctl` is found
on PATH, or named by AIOSCTL, and ends with the process that asked for the batch.
"""

import json
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aios
from aios import errors

from .host import HostSilent
from .job import FAULT_OF_THE_JOB, Failed, retried
from .output import MANIFEST, Part, attempt_path
from .splits import Piece, open_unchanged

MAX_BATCH = 256
MAX_TOLD = 300
CANNOT_RUN = (126, 127)
UNREACHABLE = 3
# What a task says of its input is so on every host.
_FAULTS = (*FAULT_OF_THE_JOB, errors.Corrupt, errors.TooLarge)


@dataclass(frozen=True)
class GraphJob:
    """What every batch needs beside its description."""

    name: str  # the engine's name for the application: at most 31 letters, digits, '.', '_', '-'
    template: str  # a graph file; empty: every partition is one of its own
    output: str
    memory_mb: int
    max_bad_records: int = 0  # inputs of a template that are bad


@dataclass(frozen=True)
class Batch:
    """Partitions that follow one another."""

    first: int  # the number of the first
    graphs: tuple[str, ...]  # of each partition its graph file
    inputs: tuple[Piece, ...]  # or, of a template, its input

    def __len__(self) -> int:
        return len(self.graphs) + len(self.inputs)


@dataclass(frozen=True)
class Ran:
    partitions: list[dict[str, Any]]  # as in abi/schema/graph-run.json
    parts: list[Part]


def batches_of(graphs: list[str], inputs: list[Piece], count: int) -> list[Batch]:
    """About `count` of them, of equal numbers of partitions."""
    total = len(graphs) + len(inputs)
    count = min(total, max(count, -(-total // MAX_BATCH)))
    cuts = [total * i // count for i in range(count + 1)]
    return [Batch(begin, tuple(graphs[begin:end]), tuple(inputs[begin:end]))
            for begin, end in zip(cuts, cuts[1:])]


def host_name() -> str:
    """As Spark's worker knows it: several may be on one machine."""
    return os.environ.get("SPARK_LOCAL_IP") or socket.gethostname()


def run_batch(job: GraphJob, batch: Batch, attempt: str) -> Ran | Failed:
    """What it keeps is on disk afterwards, as `attempt` of it."""
    try:
        return retried(lambda: _run(job, batch, attempt), _FAULTS)
    except aios.Error as error:
        raise errors.error_of(error.code, f"{host_name()}: {error}") from None


def _run(job: GraphJob, batch: Batch, attempt: str) -> Ran:
    for piece in batch.inputs:
        open_unchanged(piece).close()
    folder = attempt_path(job.output, f"batch-{batch.first}", attempt)
    with tempfile.TemporaryDirectory(prefix="aios-graph-") as own:
        graph = Path(own, "graph.json")
        graph.write_text(job.template or _merged(batch.graphs), encoding="utf-8")
        inputs = [piece.path for piece in batch.inputs]
        said = _aiosctl(job.name, ["graph", "run", str(graph), "--json", "--output", folder,
                                   "--memory-mb", str(job.memory_mb), *_skip_option(job),
                                   *(["--input", *inputs] if inputs else [])])
    partitions = [{**one, "number": batch.first + one["number"], "host": host_name(),
                   "attempt": attempt} for one in said["partitions"]]
    if len(partitions) != len(batch):
        raise errors.VersionMismatch(f"{len(batch)} partitions of a graph are {len(partitions)} here; "
                                     f"is AIOS the same everywhere?")
    return Ran(partitions, _publish(job, folder, partitions, attempt))


def _skip_option(job: GraphJob) -> list[str]:
    return [f"--skip-bad-records={job.max_bad_records}"] if job.max_bad_records else []


def check_skipped(job: GraphJob, partitions: Iterable[dict[str, Any]]) -> int:
    """How many partitions were skipped for their inputs; an error when they are more than may be. A
    batch knows only of its own."""
    skipped = [one for one in partitions if one["skipped"]]
    if len(skipped) > job.max_bad_records:
        more = skipped[job.max_bad_records]
        raise errors.error_of(int(errors.Code[more["error"]["code"].upper()]),
                              f"{more['input']}: one bad input more than the {job.max_bad_records} "
                              f"that may be skipped: {more['error']['text']}")
    return len(skipped)


def _merged(graphs: Iterable[str]) -> str:
    """One graph file of several, whose names are those of one graph."""
    whole: dict[str, Any] = {"codelets": {}, "buffers": {}, "tasks": []}
    for text in graphs:
        one = json.loads(text)
        whole["codelets"].update(one["codelets"])
        whole["buffers"].update(one["buffers"])
        whole["tasks"] += one["tasks"]
    return json.dumps(whole)


def _aiosctl(job_name: str, arguments: list[str]) -> dict[str, Any]:
    """What it says as JSON; what it fails with is raised."""
    program = os.environ.get("AIOSCTL") or "aiosctl"
    try:
        done = subprocess.run(["setpriv", "--pdeathsig", "KILL", program, *arguments],
                              stdin=subprocess.DEVNULL, capture_output=True, check=False,
                              env={**os.environ, "AIOS_JOB": job_name})
    except OSError as error:
        raise errors.NotSupported(f"cannot run setpriv, of util-linux: {error.strerror}") from None
    if done.returncode in CANNOT_RUN:
        raise errors.NotSupported(f"cannot run {program}; AIOSCTL names it")
    told = done.stderr.decode("utf-8", "replace").strip()[-MAX_TOLD:]
    if done.returncode == UNREACHABLE:
        raise errors.Unreachable(told)
    try:
        said: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        raise errors.Internal(f"{program} ended with {done.returncode} and said: {told}") from None
    if said["error"] is None:
        return said
    failure = errors.error_of(int(errors.Code[said["error"]["code"].upper()]), said["error"]["text"])
    # Tasks that ran too long are told by partition; without any it was AIOS that did not answer.
    if isinstance(failure, errors.TimedOut) and "partitions" not in said:
        raise HostSilent(str(failure))
    raise failure


def _publish(job: GraphJob, folder: str, partitions: list[dict[str, Any]], attempt: str
             ) -> list[Part]:
    """Moves what the batch kept to the files of the attempt, under the names that it will have."""
    with open(os.path.join(folder, MANIFEST), encoding="utf-8") as file:
        kept = {one["name"]: one for one in json.load(file)["parts"]}
    parts = []
    for one in partitions:
        names = [(name, f"part-{one['number']:05}.{name.partition('.')[2]}" if job.template else name)
                 for name in one["outputs"]]
        for own, name in names:
            os.rename(os.path.join(folder, own), attempt_path(job.output, name, attempt))
            parts.append(Part(name, attempt, kept[own]["bytes"], kept[own]["xxh3"]))
        one["outputs"] = [name for _, name in names]
    shutil.rmtree(folder)
    return parts
