"""python3 -m aios_cluster run MODULE --input F... --output DIR --master URL: `aiosctl mapreduce run
--engine spark` starts it. Exit codes are those of aiosctl: 0 done, 1 failed, 2 usage, 3 no cluster.
"""

import argparse
import json
import sys
from pathlib import Path

import aios
from aios import errors

MIB = 1 << 20


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python3 -m aios_cluster")
    run = parser.add_subparsers(required=True).add_parser("run")
    run.add_argument("--input", nargs="+", required=True)
    run.add_argument("--output", required=True)
    run.add_argument("--master", required=True)
    run.add_argument("--label", default="job")
    run.add_argument("--reducers", type=int, default=1)
    run.add_argument("--memory-mb", type=int, default=512)
    run.add_argument("--task-limit-s", type=float, default=0.0)
    run.add_argument("--skip-bad-records", type=int, default=0)
    run.add_argument("--mapper", default="")
    run.add_argument("--reducer", default="")
    run.add_argument("--file", action="append", default=[])
    run.add_argument("--conf", action="append", default=[], metavar="NAME=VALUE")
    run.add_argument("--json", action="store_true")
    run.add_argument("module")
    run.add_argument("arguments", nargs=argparse.REMAINDER)
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
    module = Path(chosen.module).read_bytes()
    context = spark.connect(chosen.master, chosen.label, settings)
    try:
        report = spark.run(context, module, chosen.arguments, chosen.input, chosen.output,
                           label=chosen.label, reducers=chosen.reducers,
                           memory_bytes=chosen.memory_mb * MIB,
                           task_limit_s=chosen.task_limit_s,
                           max_bad_records=chosen.skip_bad_records,
                           programs=Programs.named(chosen.mapper, chosen.reducer, chosen.file)
                           if chosen.mapper else None)
    finally:
        context.stop()
    if chosen.json:
        print(json.dumps({"job": chosen.label, "engine": "spark", **vars(report)}))
        return
    print(f"{chosen.label}: {report.input_bytes / 1e6:.1f} MB of input in {report.input_files} "
          f"files, {report.seconds:.2f} s, {report.input_bytes / 1e6 / report.seconds:.0f} MB/s")
    print(f"{report.records} records, {report.distinct_keys} distinct keys; {report.splits} splits")
    print(f"through Spark: {report.blocks} blocks ({report.splits} x {report.parts}), "
          f"{report.block_bytes / 1e6:.1f} MB, and no rows")
    for name, value in report.counters.items():
        print(f"{name}: {value}")
    for one in report.skipped_records:
        print(f"skipped: {one['file']}, at byte {one['offset']} ({one['why']})")
    print(f"output: {chosen.output} in {report.parts} part{'s' if report.parts != 1 else ''}, "
          f"{report.output_bytes / 1e6:.1f} MB")


def main() -> int:
    chosen = _arguments().parse_args()
    try:
        _run(chosen)
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
