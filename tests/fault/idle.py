"""A system that has nothing to do uses under 0.5% of one CPU over 10 s, in all, whatever it did before."""

import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "support"))
from instance import Instance, descendants, expect, run_test  # noqa: E402

SETTLE_S = 2
OBJECTS = 40
MEASURE_S = 10
MAX_SHARE = 0.005


def used_s(pids):
    """CPU time of all threads, in seconds, as the scheduler of Linux counts it."""
    total_ns = 0
    for pid in pids:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            total_ns += int((thread / "schedstat").read_text(encoding="ascii").split()[0])
    return total_ns / 1e9


def work(instance):
    """Something for storage, the scheduler, contexts and MapReduce."""
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder) / "text"
        text.write_text("something to count\n" * 10000, encoding="ascii")
        for i in range(OBJECTS):
            instance.ctl("fs", "put", str(text), f"text{i}")
            instance.ctl("fs", "get", f"text{i}", f"{folder}/copy{i}")
        instance.ctl("mapreduce", "run", "wordcount", "--input", str(text), "--output",
                     f"{folder}/words")


def main():
    with Instance(sys.argv[1]) as instance:
        work(instance)
        # Not to see the end of it as idling.
        time.sleep(SETTLE_S)
        pids = descendants(instance.kernel_pid)
        before = used_s(pids)
        begin = time.monotonic()
        time.sleep(MEASURE_S)
        share = (used_s(pids) - before) / (time.monotonic() - begin)
        print(f"{len(pids)} processes used {share:.3%} of a CPU")
        expect(share < MAX_SHARE, f"idle, they use {share:.3%} of a CPU; at most {MAX_SHARE:.1%}")


if __name__ == "__main__":
    sys.exit(run_test(main))
