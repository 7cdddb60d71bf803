"""Graphs of tasks on the hosts of a cluster, with Apache Spark as the engine.

One stage: each of its tasks is given the description of a batch of partitions, runs them on its host's
AIOS, and returns which files came of which; the driver moves the files of the attempts that won into
place. Nothing else goes through Spark.
"""

import json
import os
import pickle
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from pyspark import SparkContext

from . import splits
from .graphs import Batch, GraphJob, Ran, batches_of, check_skipped, run_batch
from .job import Failed
from .output import OutputFolder, Part
from .spark import name_of, this_attempt

BATCHES_PER_CORE = 4


@dataclass(frozen=True)
class GraphReport:
    partitions: list[dict[str, Any]]
    skipped: int  # of these
    seconds: float
    descriptions: int  # what Spark carried, with nothing but reports back
    description_bytes: int
    output_files: int
    output_bytes: int


def read_plan(descriptor: int) -> tuple[str, list[Any]]:
    """What aiosctl made of the file: a template or "", and of each partition its graph, or the path of
    its input."""
    with os.fdopen(descriptor, encoding="utf-8") as file:
        plan = json.load(file)
    template = json.dumps(plan["template"]) if plan["template"] else ""
    return template, plan["parts"]


def _stage(job: GraphJob, some: Iterable[Batch]) -> Iterator[Ran | Failed]:
    for batch in some:
        yield run_batch(job, batch, this_attempt())


def _execute(context: SparkContext, job: GraphJob, batches: list[Batch]) -> list[Ran]:
    shared = context.broadcast(job)
    results = context.parallelize(batches, len(batches)).mapPartitions(
        lambda some: _stage(shared.value, some)).collect()
    ran = []
    for one in results:
        if isinstance(one, Failed):
            raise one.error()
        ran.append(one)
    return ran


def run(context: SparkContext, template: str, descriptions: list[Any], output: str, *, label: str,
        memory_mb: int, max_bad_records: int = 0) -> GraphReport:
    """Runs all partitions and blocks until what they keep is on disk.

    Inputs, modules that are files, and output lie at the same path on every host and here. Raises what
    a partition failed with, and what Spark raises when no host could do it.
    """
    began = time.monotonic()
    graphs = [] if template else [json.dumps(one) for one in descriptions]
    inputs = [splits.whole(one) for one in descriptions] if template else []
    batches = batches_of(graphs, inputs, BATCHES_PER_CORE * context.defaultParallelism)
    with OutputFolder(output) as folder:
        job = GraphJob(name_of(context), template, folder.path, memory_mb, max_bad_records)
        ran = _execute(context, job, batches)
        partitions = [one for batch in ran for one in batch.partitions]
        skipped = check_skipped(job, partitions)
        parts: list[Part] = [part for batch in ran for part in batch.parts]
        folder.commit(parts, {"graph": label, "skipped": skipped, "partitions": partitions})
    return GraphReport(partitions, skipped, time.monotonic() - began, len(batches),
                       sum(len(pickle.dumps(batch)) for batch in batches), len(parts),
                       sum(part.size_bytes for part in parts))
