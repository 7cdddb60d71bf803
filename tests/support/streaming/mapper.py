"""Counts words under Hadoop's Streaming contract: the mapper."""

import sys

words = 0
for line in sys.stdin.buffer:
    for word in line.split():
        sys.stdout.buffer.write(word + b"\t1\n")
        words += 1
sys.stderr.write(f"reporter:counter:Words,seen,{words}\nreporter:status:done\nmapped\n")
