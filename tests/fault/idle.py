"""A booted system that has nothing to do uses under 0.5% of one CPU over 10 s, in all."""

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "support"))
from instance import Instance, descendants, expect, run_test  # noqa: E402

SETTLE_S = 2
MEASURE_S = 10
MAX_SHARE = 0.005


def used_s(pids):
    """CPU time of all threads, in seconds, as the scheduler of Linux counts it."""
    total_ns = 0
    for pid in pids:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            total_ns += int((thread / "schedstat").read_text(encoding="ascii").split()[0])
    return total_ns / 1e9


def main():
    with Instance(sys.argv[1]) as instance:
        # Not to see the end of the boot as idling.
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
