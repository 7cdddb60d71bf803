"""A Streaming mapper and reducer under Spark's pipe, as they would be without AIOS.

usage: pipe_job.py MASTER MAPPER REDUCER INPUT OUTPUT PARTS     by a Python that has Spark

The output's lines are those of all parts together, in no order.
"""

import sys
from pathlib import Path

from pyspark import SparkConf, SparkContext


def main():
    master, mapper, reducer, source, output, parts = sys.argv[1:]
    conf = SparkConf().setMaster(master).setAppName("pipe").set("spark.ui.enabled", "false")
    with SparkContext(conf=conf) as context:
        mapped = context.textFile(source, 4).pipe(mapper, checkCode=True)
        by_key = mapped.map(lambda line: (line.split("\t")[0], line))
        # Within a partition sorted by key, as the contract has it.
        sorted_lines = by_key.repartitionAndSortWithinPartitions(int(parts)).values()
        lines = sorted_lines.pipe(reducer, checkCode=True).collect()
    Path(output).write_text("".join(line + "\n" for line in lines), encoding="utf-8")


if __name__ == "__main__":
    main()
