"""Counts words under Hadoop's Streaming contract: the reducer."""

import sys

key, total, keys = None, 0, 0


def end():
    if key is not None:
        sys.stdout.buffer.write(key + b"\t%d\n" % total)


for line in sys.stdin.buffer:
    this, _, value = line.rstrip(b"\n").partition(b"\t")
    if this != key:
        end()
        key, total, keys = this, 0, keys + 1
    total += int(value)
end()
print(f"reporter:counter:Words,different,{keys}", file=sys.stderr)
