"""Apache Spark as the engine: it schedules, carries blocks and recovers; the AIOS of each host maps
and reduces.

A job is two stages. Map tasks are given descriptions of splits and return R records each, one
opaque block per partition; Spark shuffles these M x R blocks, never the rows in them. Reduce tasks
merge the blocks of a partition and write a part. A lost executor, host or block is Spark's to notice
and to have made again. An AIOS that dies takes no JVM with it: its tasks fail there, and with
`spark.excludeOnFailure` no more are sent to that executor.
"""

import os
import re
import socket
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pyspark import SparkConf, SparkContext, TaskContext

from aios import errors

from . import splits
from .job import (Failed, Job, Reduced, map_split, reduce_partition, sample_input,
                  total_counters, unpacked_size)
from .node import too_many_bad
from .output import OutputFolder
from .splits import Plan, Split
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
class Report:
    parts: int
    splits: int
    input_files: int
    input_bytes: int
    records: int
    distinct_keys: int
    output_bytes: int
    blocks: int  # that went through the shuffle
    block_bytes: int
    seconds: float
    counters: dict[str, int]
    skipped_records: list[dict[str, Any]]  # file, offset, why


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
    found = context.parallelize(paths, len(paths)).map(unpacked_size).collect()
    for one in found:
        if isinstance(one, Failed):
            raise one.error()
    return [int(one) for one in found]


def _skipped(plan: Plan, parts: list[Reduced], most: int) -> list[dict[str, Any]]:
    """The records that were, in order; an error when they are more than may be."""
    all_of = sorted((plan.splits[split].pieces[piece].path, offset, code)
                    for one in parts for split, piece, offset, code in one.facts.skipped)
    if len(all_of) > most:
        path, offset, code = all_of[most]
        raise too_many_bad(path, offset, errors.error_of(code, "see --skip-bad-records"), most)
    return [{"file": path, "offset": offset, "why": errors.Code(code).name.lower()}
            for path, offset, code in all_of]


def _execute(context: SparkContext, job: Job, plan: Plan) -> list[Reduced]:
    job = replace(job, boundaries=_boundaries(context, job, plan))
    # The job has the module in it, which every task would otherwise carry.
    shared = context.broadcast(job)
    mapped = context.parallelize(plan.splits, max(len(plan.splits), 1)).mapPartitions(
        lambda some: _map_stage(shared.value, some))
    reduced = mapped.partitionBy(job.partitions, lambda partition: partition).mapPartitionsWithIndex(
        lambda number, some: _reduce_stage(shared.value, number, some))
    results = reduced.collect()
    for one in results:
        if isinstance(one, Failed):
            raise one.error()
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


def run(context: SparkContext, module: bytes, arguments: Iterable[str], inputs: list[str],
        output: str, *, label: str, reducers: int, memory_bytes: int, task_limit_s: float,
        max_bad_records: int = 0, programs: Programs | None = None) -> Report:
    """Runs a job on a cluster and blocks until its output is complete and on disk.

    Input and output lie at the same path on every host and here. Raises what `Instance.mapreduce`
    raises, and `Unreachable` when Spark gives up: no host could do it.
    """
    began = time.monotonic()
    plan = splits.plan(inputs, context.defaultParallelism, lambda paths: _sizes(context, paths))
    with OutputFolder(output) as folder:
        job = Job(name_of(context), module, tuple(arguments), reducers, folder.path, memory_bytes,
                  task_limit_s, names=plan.names, max_bad_records=max_bad_records,
                  programs=programs)
        parts = _execute(context, job, plan)
        report = Report(
            len(parts), len(plan.splits), plan.input_files, plan.input_bytes,
            sum(one.facts.records for one in parts),
            sum(one.facts.distinct_keys for one in parts), sum(one.part.size_bytes for one in parts),
            sum(one.blocks for one in parts), sum(one.block_bytes for one in parts),
            time.monotonic() - began, total_counters(parts), _skipped(plan, parts, max_bad_records))
        facts: dict[str, Any] = {
            "job": label, "inputs": inputs,
            "arguments": list(job.arguments) if programs is None else [programs.mapper,
                                                                       programs.reducer],
            "input_files": report.input_files, "input_bytes": report.input_bytes,
            "records": report.records, "distinct_keys": report.distinct_keys,
            "counters": report.counters,
            "skipped_records": [{"file": one["file"], "offset": one["offset"]}
                                for one in report.skipped_records]}
        folder.commit([one.part for one in parts], facts)
    return report
