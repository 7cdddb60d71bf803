"""Apache Spark as the engine: it schedules, carries blocks and recovers; the AIOS of each host maps
and reduces.

A job is two stages. Map tasks are given descriptions of splits and return R records each, one
opaque block per partition; Spark shuffles these M x R blocks, never the rows in them. Reduce tasks
merge the blocks of a partition and write a part. A chain is several such jobs, one after the other, of
one application. A lost executor, host or block is Spark's to notice
and to have made again. An AIOS that dies takes no JVM with it: its tasks fail there, and with
`spark.excludeOnFailure` no more are sent to that executor.
"""

import os
import re
import socket
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pyspark import SparkConf, SparkContext, TaskContext

import aios
from aios import errors

from . import images, kmeans, objects, splits
from .job import (Failed, Job, Reduced, map_split, record_begins, reduce_partition, sample_input,
                  sound, total_counters, unpacked_size)
from .node import too_many_bad
from .output import OutputFolder, attempt_path
from .records import LATER_STAGE, Records
from .splits import Piece, Plan, Split
from .streaming import Programs

# What the blocks need; everything else is as the cluster, or the caller, has it.
SETTINGS = {
    "spark.shuffle.compress": "false",  # blocks are
    "spark.shuffle.spill.compress": "false",
    "spark.excludeOnFailure.enabled": "true",
    # When every executor is excluded because of one task, what that fails with is told this late.
    "spark.scheduler.excludeOnFailure.unschedulableTaskSetTimeout": "30s",
    "spark.task.maxFailures": "8",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
}
MAX_NAME_BYTES = 31
CONNECT_S = 5.0
_OF_AIOS = re.compile(r"^\s*aios\.errors\.(\w+): (.+)$", re.MULTILINE)
_OF_JAVA = re.compile(r"^: (?:[\w.$]+Exception: )?(.+)$", re.MULTILINE)
_LOG_SETTINGS = Path(__file__).with_name("log4j2.properties").as_uri()


@dataclass(frozen=True)
class Stage:
    """A job, alone or of a chain: its module, and what it is called."""

    label: str
    module: bytes
    arguments: tuple[str, ...] = ()


@dataclass(frozen=True)
class Report:
    """Of a chain: records are those of its first job, keys those of its last, the rest is of all."""

    parts: int
    splits: int
    input_files: int
    input_bytes: int
    records: int
    distinct_keys: int
    output_bytes: int
    blocks: int  # that went through shuffles; of k-means those of all its steps
    block_bytes: int
    seconds: float
    counters: dict[str, int]
    skipped_records: list[dict[str, Any]]  # file, offset, why
    notes: list[str]  # that whoever reads the output should know


def this_attempt() -> str:
    """Of the task of Spark's that this process runs."""
    context = TaskContext.get()
    assert context is not None
    return f"{context.stageId()}.{context.attemptNumber()}.{context.taskAttemptId()}"


def _map_stage(job: Job, some: Iterable[Split]) -> Iterator[tuple[int, tuple[int, bytes | Failed]]]:
    for split in some:
        made = map_split(job, split)
        if isinstance(made, Failed):
            yield 0, (split.number, made)
            return
        for partition, block in enumerate(made):
            yield partition, (split.number, block)


def _reduce_stage(job: Job, number: int, received: Iterable[tuple[int, tuple[int, bytes | Failed]]]
                  ) -> Iterator[Reduced | Failed]:
    blocks: dict[int, bytes] = {}
    for _, (split, block) in received:
        if isinstance(block, Failed):
            yield block
            return
        blocks[split] = block
    yield reduce_partition(job, number, this_attempt(), blocks)


def _boundaries(context: SparkContext, job: Job, plan: Plan) -> bytes:
    """Chosen on one host, for all."""
    if job.partitions == 1 or not plan.splits:
        return b""
    chosen = context.parallelize([plan.sample], 1).map(
        lambda sample: sample_input(job, sample)).collect()[0]
    if isinstance(chosen, Failed):
        raise chosen.error()
    return bytes(chosen)


def _sizes(context: SparkContext, paths: list[str]) -> list[int]:
    """Of compressed inputs, found out where they are read."""
    if not paths:
        return []
    found: list[int] = sound(context.parallelize(paths, len(paths)).map(unpacked_size).collect())
    return found


def _begins(context: SparkContext, records: Records, asked: list[tuple[Piece, list[int]]]
            ) -> list[list[int]]:
    """Where records begin, found out where files are read."""
    if not asked:
        return []
    found: list[list[int]] = sound(context.parallelize(asked, len(asked)).map(
        lambda one: record_begins(records, *one)).collect())
    return found


def _skipped(plan: Plan, parts: list[Reduced], most: int) -> list[dict[str, Any]]:
    """The records that were, in order; an error when they are more than may be."""
    all_of = sorted((plan.splits[split].pieces[piece].name, offset, code)
                    for one in parts for split, piece, offset, code in one.facts.skipped)
    if len(all_of) > most:
        name, offset, code = all_of[most]
        raise too_many_bad(name, offset, errors.error_of(code, "see --skip-bad-records"), most)
    return [{"file": name, "offset": offset, "why": errors.Code(code).name.lower()}
            for name, offset, code in all_of]


def _execute(context: SparkContext, job: Job, plan: Plan) -> list[Reduced]:
    if not job.device_job:
        job = replace(job, boundaries=_boundaries(context, job, plan))
    # The job has the module in it, which every task would otherwise carry.
    shared = context.broadcast(job)
    mapped = context.parallelize(plan.splits, max(len(plan.splits), 1)).mapPartitions(
        lambda some: _map_stage(shared.value, some))
    reduced = mapped.partitionBy(job.partitions, lambda partition: partition).mapPartitionsWithIndex(
        lambda number, some: _reduce_stage(shared.value, number, some))
    results: list[Reduced] = sound(reduced.collect())
    return sorted(results, key=lambda one: one.part.name)


def name_of(context: SparkContext) -> str:
    """Of the job of AIOS that the application has on every host."""
    name = "".join(c if c.isalnum() and c.isascii() or c in "._-" else "-"
                   for c in context.applicationId)
    return name[-MAX_NAME_BYTES:]


def reason(error: Exception) -> str:
    """What is to be told of a page of Java: what a task said in the end, else the first cause."""
    text = str(error)
    told = [why for name, why in _OF_AIOS.findall(text) if hasattr(errors, name)]
    java = _OF_JAVA.search(text)
    lines = text.splitlines() or [type(error).__name__]
    return str(told[-1] if told else java[1] if java else lines[0])


def _reach(master: str) -> None:
    """`Unreachable` at once where nobody listens: Spark itself asks for a minute."""
    if not master.startswith("spark://"):
        return
    why = "write spark://HOST:PORT"
    for place in master.removeprefix("spark://").split(","):
        host, _, port = place.rpartition(":")
        if not host or not port.isdecimal():
            raise errors.InvalidArgument(f"--master {master}: {why}")
        try:
            socket.create_connection((host.strip("[]"), int(port)), CONNECT_S).close()
            return
        except (OSError, OverflowError) as error:
            why = getattr(error, "strerror", None) or str(error)
    raise errors.Unreachable(f"no Spark at {master}: {why}")


def connect(master: str, label: str, extra: dict[str, str]) -> SparkContext:
    """A driver in this process, at most one. `Unreachable`: there is no such cluster."""
    _reach(master)
    conf = SparkConf().setMaster(master).setAppName(label)
    for name, value in {**SETTINGS, **extra}.items():
        conf.set(name, value)
    conf.set("spark.driver.extraJavaOptions", f"-Dlog4j2.configurationFile={_LOG_SETTINGS} " +
             conf.get("spark.driver.extraJavaOptions", ""))
    # The workers' Python is the environment's that this is, by the same path on every host.
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    try:
        context = SparkContext(conf=conf)
    except Exception as error:  # what py4j raises has no class of its own for this
        raise errors.Unreachable(f"no Spark at {master}: {reason(error)}") from None
    return context


class Run:
    """Of one job or chain, into one output folder."""

    def __init__(self, context: SparkContext, stages: Sequence[Stage], folder: OutputFolder, job: Job,
                 inputs: Sequence[str], device_job: Mapping[str, Any]):
        """`job` has what all stages have in common."""
        self._context = context
        self._stages = stages
        self._folder = folder
        self._job = job
        self._inputs = inputs
        self._device_job = device_job
        self.splits = self.blocks = self.block_bytes = 0
        self.counters: dict[str, int] = {}
        self.skipped: list[dict[str, Any]] = []
        self.notes: list[str] = []
        self.first: Plan | None = None  # what the first stage read
        self.records = 0

    def execute(self) -> list[Reduced]:
        """The parts of the last stage."""
        plan = self.first = self._plan(
            *objects.bring(self._inputs, self._folder.temporary("objects")))
        job = replace(self._job, names=plan.names)
        if job.device_job == kmeans.NAME:
            return self._k_means(replace(job, module=self._stages[0].module), plan)
        # What lies between two stages is never committed, and removed when the second one is done.
        with ExitStack() as read:
            for number, stage in enumerate(self._stages[:-1], 1):
                with ExitStack() as written:
                    made = written.enter_context(
                        OutputFolder(self._folder.temporary(f"stage-{number}")))
                    parts = self._stage(number, stage,
                                        replace(job, output=made.path, is_last=False), plan)
                    plan = self._plan_of(number, made, parts)
                    read.close()
                    read.push(written.pop_all())
                job = replace(job, records=LATER_STAGE)
            parts = self._stage(len(self._stages), self._stages[-1], job, plan)
        return parts

    def _k_means(self, job: Job, plan: Plan) -> list[Reduced]:
        from . import spark_kmeans  # which needs this module

        led = spark_kmeans.lead(self._context, job, plan, dict(self._device_job))
        self._count(1, plan, led.parts)
        self.blocks += led.carried.blocks
        self.block_bytes += led.carried.size_bytes
        self.counters, self.notes = led.counters, led.notes
        return led.parts

    def _plan(self, paths: Sequence[str], known_as: Mapping[str, str]) -> Plan:
        context, records = self._context, self._job.records
        threads = context.defaultParallelism
        if self._job.device_job == images.NAME:
            return splits.plan_whole(paths, threads, known_as)
        plan = splits.plan(paths, threads, lambda packed: _sizes(context, packed), known_as)
        return splits.align(plan, lambda asked: _begins(context, records, asked)
                            ) if records.are_cut else plan

    def _plan_of(self, number: int, made: OutputFolder, parts: Sequence[Reduced]) -> Plan:
        """Of what a stage wrote, which is plain text, for the one after it."""
        known_as = {attempt_path(made.path, one.part.name, one.part.attempt):
                    f"stage-{number}/{one.part.name}" for one in parts}
        return splits.plan(list(known_as), self._context.defaultParallelism, known_as=known_as)

    def _stage(self, number: int, stage: Stage, job: Job, plan: Plan) -> list[Reduced]:
        job = replace(job, module=stage.module, arguments=stage.arguments)
        try:
            parts = _execute(self._context, job, plan)
            self.skipped += _skipped(plan, parts, job.max_bad_records)
        except aios.Error as error:
            if len(self._stages) == 1:
                raise
            raise errors.error_of(error.code, f"stage {number} ({stage.label}): {error}") from None
        self._count(number, plan, parts)
        return parts

    def _count(self, number: int, plan: Plan, parts: Sequence[Reduced]) -> None:
        self.splits += len(plan.splits)
        self.blocks += sum(one.blocks for one in parts)
        self.block_bytes += sum(one.block_bytes for one in parts)
        for name, value in total_counters(parts).items():
            self.counters[name] = self.counters.get(name, 0) + value
        if number == 1:
            self.records = sum(one.facts.records for one in parts)


def run(context: SparkContext, stages: Sequence[Stage], inputs: list[str], output: str, *,
        reducers: int, memory_bytes: int, task_limit_s: float, max_bad_records: int = 0,
        programs: Programs | None = None, input_format: str = "", field: str = "",
        device_job: Mapping[str, Any] | None = None) -> Report:
    """Runs a job, or a chain of them, on a cluster and blocks until its output is complete and on disk.

    Files of input and output lie at the same path on every host and here; objects are those of the
    instance here. `device_job` is the one that the module is for, if it is for one: its name and its
    arguments, as aiosctl has checked them. Raises what `Instance.mapreduce` raises, and `Unreachable`
    when Spark gives up: no host could do it.
    """
    began = time.monotonic()
    records = Records.named(input_format, field)
    of_devices = str((device_job or {}).get("name", ""))
    if of_devices not in ("", images.NAME, kmeans.NAME):
        raise errors.NotSupported(f"{of_devices}: no engine for many machines has this job")
    with OutputFolder(output) as folder:
        job = Job(name_of(context), b"", (), images.PARTS if of_devices else reducers, folder.path,
                  memory_bytes, task_limit_s, max_bad_records=max_bad_records, programs=programs,
                  records=records, device_job=of_devices)
        done = Run(context, stages, folder, job, inputs, device_job or {})
        parts = done.execute()
        assert done.first is not None
        skipped = sorted(done.skipped, key=lambda one: (one["file"], one["offset"]))
        report = Report(
            len(parts), done.splits, done.first.input_files, done.first.input_bytes, done.records,
            sum(one.facts.distinct_keys for one in parts), sum(one.part.size_bytes for one in parts),
            done.blocks, done.block_bytes, time.monotonic() - began, done.counters, skipped,
            done.notes)
        facts: dict[str, Any] = {
            "job": stages[0].label, "arguments": list(stages[0].arguments) if programs is None else
            [programs.mapper, programs.reducer], "inputs": inputs}
        if records.name != "text":
            facts["input_format"] = records.name
        if field:
            facts["field"] = field
        if len(stages) > 1:
            facts["then"] = [{"job": one.label, "arguments": list(one.arguments)}
                             for one in stages[1:]]
        facts |= {"input_files": report.input_files, "input_bytes": report.input_bytes,
                  "records": report.records, "distinct_keys": report.distinct_keys,
                  "counters": report.counters, "skipped_records": skipped}
        folder.commit([one.part for one in parts], facts)
    return report
