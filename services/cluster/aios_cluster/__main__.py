"""python3 -m aios_cluster run MODULE --input F... --output DIR --master URL: `aiosctl mapreduce run
--engine spark` starts it, and `aiosctl graph run --engine spark` the same with `graph --plan-fd FD`.
Exit codes are those of aiosctl: 0 done, 1 failed, 2 usage, 3 no cluster.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import aios
from aios import errors

MIB = 1 << 20


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python3 -m aios_cluster")
    actions = parser.add_subparsers(required=True)
    run, graph = actions.add_parser("run"), actions.add_parser("graph")
    for action, memory_mb in ((run, 512), (graph, 1024)):
        action.add_argument("--output", required=True)
        action.add_argument("--master", required=True)
        action.add_argument("--label", default="job")
        action.add_argument("--memory-mb", type=int, default=memory_mb)
        action.add_argument("--conf", action="append", default=[], metavar="NAME=VALUE")
        action.add_argument("--json", action="store_true")
        action.add_argument("--skip-bad-records", type=int, default=0)
    run.add_argument("--input", nargs="+", required=True)
    run.add_argument("--reducers", type=int, default=1)
    run.add_argument("--task-limit-s", type=float, default=0.0)
    run.add_argument("--mapper", default="")
    run.add_argument("--reducer", default="")
    run.add_argument("--file", action="append", default=[])
    run.add_argument("--input-format", default="")
    run.add_argument("--field", default="")
    run.add_argument("--device-job", type=json.loads)  # {"name": …, and its arguments}
    # {"label": …, "module": PATH, "arguments": […]}: a job of a chain, after the first.
    run.add_argument("--then", action="append", default=[], type=json.loads)
    run.add_argument("module")
    run.add_argument("arguments", nargs=argparse.REMAINDER)
    run.set_defaults(work=_run)
    graph.add_argument("--plan-fd", type=int, required=True)
    graph.set_defaults(work=_run_graph)
    return parser


def _settings(pairs: list[str]) -> dict[str, str]:
    settings = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name.startswith("spark."):
            raise errors.InvalidArgument(f"--conf {pair}: write spark.NAME=VALUE")
        settings[name] = value
    return settings


def _run(chosen: argparse.Namespace) -> None:
    from . import spark  # Spark takes long to load, and may not be there
    from .streaming import Programs

    settings = _settings(chosen.conf)
    stages = [spark.Stage(one["label"], Path(one["module"]).read_bytes(), tuple(one["arguments"]))
              for one in ({"label": chosen.label, "module": chosen.module,
                           "arguments": chosen.arguments}, *chosen.then)]
    context = spark.connect(chosen.master, chosen.label, settings)
    try:
        report = spark.run(context, stages, chosen.input, chosen.output,
                           reducers=chosen.reducers, memory_bytes=chosen.memory_mb * MIB,
                           task_limit_s=chosen.task_limit_s,
                           max_bad_records=chosen.skip_bad_records,
                           programs=Programs.named(chosen.mapper, chosen.reducer, chosen.file)
                           if chosen.mapper else None,
                           input_format=chosen.input_format, field=chosen.field,
                           device_job=chosen.device_job)
    finally:
        context.stop()
    if chosen.json:
        print(json.dumps({"job": chosen.label, "engine": "spark", **vars(report)}))
        return
    print(f"{chosen.label}: {report.input_bytes / 1e6:.1f} MB of input in {report.input_files} "
          f"files, {report.seconds:.2f} s, {report.input_bytes / 1e6 / report.seconds:.0f} MB/s")
    print(f"{report.records} records, {report.distinct_keys} distinct keys; {report.splits} splits")
    print(f"through Spark: {report.blocks} blocks of {report.splits} splits, "
          f"{report.block_bytes / 1e6:.1f} MB, and no rows")
    for name, value in report.counters.items():
        print(f"{name}: {value}")
    for one in report.skipped_records:
        print(f"skipped: {one['file']}, at byte {one['offset']} ({one['why']})")
    for note in report.notes:
        print(note)
    print(f"output: {chosen.output} in {report.parts} part{'s' if report.parts != 1 else ''}, "
          f"{report.output_bytes / 1e6:.1f} MB")


def _run_graph(chosen: argparse.Namespace) -> None:
    from . import spark, spark_graphs

    settings = _settings(chosen.conf)
    template, descriptions = spark_graphs.read_plan(chosen.plan_fd)
    context = spark.connect(chosen.master, chosen.label, settings)
    try:
        report = spark_graphs.run(context, template, descriptions, chosen.output,
                                  label=chosen.label, memory_mb=chosen.memory_mb,
                                  max_bad_records=chosen.skip_bad_records)
    finally:
        context.stop()
    if chosen.json:
        print(json.dumps({"asked": None, "in_time": None, "error": None, "failed": 0, "tasks": [],
                          "graph": chosen.label, "engine": "spark", "actual_s": report.seconds,
                          "partitions": report.partitions, "skipped": report.skipped,
                          "output": chosen.output,
                          "descriptions": report.descriptions,
                          "description_bytes": report.description_bytes}))
        return
    _print_hosts(report.partitions)
    count = len(report.partitions)
    print(f"{chosen.label}: " + ("one partition, so one host ran all of it" if count == 1 else
                                 f"{count} partitions") + f", {report.seconds:.2f} s")
    for one in report.partitions:
        if one["skipped"]:
            print(f"skipped: {one['input']}: {one['error']['text']}")
    print(f"through Spark: {report.descriptions} descriptions, {report.description_bytes / 1e3:.1f} kB, "
          f"and no rows")
    print(f"output: {chosen.output} in {report.output_files} files, "
          f"{report.output_bytes / 1e6:.1f} MB")


def _print_hosts(partitions: list[dict[str, Any]]) -> None:
    """What each has done, and what its scheduler had thought that it would take."""
    for host in sorted({one["host"] for one in partitions}):
        own = [one for one in partitions if one["host"] == host]
        devices: dict[str, int] = {}
        for one in own:
            for name, tasks in one["devices"].items():
                devices[name] = devices.get(name, 0) + tasks
        ran = sum(one["compute_s"] for one in own)
        predicted = sum(one["predicted_s"] or 0 for one in own)
        unknown = sum(one["unpredicted_tasks"] for one in own)
        print(f"{host}: {len(own)} partitions, tasks on " +
              ", ".join(f"{name}: {devices[name]}" for name in sorted(devices)) +
              f"; they ran {ran:.3f} s, predicted {predicted:.3f} s" +
              (f" without {unknown} that were not known yet" if unknown else ""))


def main() -> int:
    chosen = _arguments().parse_args()
    try:
        chosen.work(chosen)
        return 0
    except KeyboardInterrupt:
        print("aiosctl: cancelled", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        print(f"aiosctl: no Python package {error.name}; tools/cluster makes an environment with "
              f"Spark, or install pyspark into the one that AIOS_PYTHON names", file=sys.stderr)
        return 1
    except aios.Error as error:
        print(f"aiosctl: {error}", file=sys.stderr)
        return 3 if isinstance(error, errors.Unreachable) else 1
    except OSError as error:
        print(f"aiosctl: {error.filename}: {error.strerror}", file=sys.stderr)
        return 1
    except Exception as error:  # what Spark raises
        from .spark import reason

        print(f"aiosctl: Spark gave up: {reason(error)}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
