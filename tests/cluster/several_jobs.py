"""Runs what aiosctl asked the driver for, several times, in one Spark application: beginning one takes longer
than all of these jobs.

usage: several_jobs.py JOBS.json     a list of {"arguments": […], "socket": PATH, "said": PATH}

Prints a line with the exit code of each; what it said goes to the file `said`.
"""

import contextlib
import json
import os
import sys
from pathlib import Path

from aios_cluster import __main__ as driver
from aios_cluster import spark


def main():
    jobs = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    connect, context = spark.connect, None

    def connect_once(*arguments):
        nonlocal context
        if context is None:
            context = connect(*arguments)
            context.end, context.stop = context.stop, lambda: None
        return context

    spark.connect = connect_once
    for job in jobs:
        os.environ["AIOS_SOCKET"] = job["socket"]
        sys.argv = ["aios_cluster", *job["arguments"]]
        with open(job["said"], "w", encoding="utf-8") as said, contextlib.redirect_stdout(said), \
                contextlib.redirect_stderr(said):
            code = driver.main()
        print(code, flush=True)
    context.end()


if __name__ == "__main__":
    main()
