"""Finds the record on which a split's map task fails, and gets past it: services/mapreduce/suspect.hpp.

What a task said of where it was is only the first guess: all before the record is mapped, then the
record alone, and it is bad when it fails alone. A guess that was wrong is halved.
"""

SKIP_ONE_RECORD = 2**32 - 1
# Where halving begins when a task does not say how far it came.
FIRST_LIMIT = 1 << 16


def _limit(records: int) -> int:
    return min(max(records, 1), SKIP_ONE_RECORD - 1)


class Suspect:
    def __init__(self) -> None:
        self.skipping = False  # the next task passes over the bad record
        self._within = 0  # the bad record is among so many next ones
        self._limit = 0  # of the next task; 0: nothing is suspected

    @property
    def record_limit(self) -> int:
        """How many records the next task takes; 0: all."""
        return SKIP_ONE_RECORD if self.skipping else self._limit

    def failed(self, record: int) -> bool:
        """The task failed, at its `record`th by its own account; 0: it does not say. True when it had
        this record alone: the next task would skip it."""
        if self._limit == 1:
            self.skipping = True
            return True
        if self._limit:
            self._within = self._limit
            self._limit = _limit(self._within // 2)
        elif record:
            self._within, self._limit = record, _limit(record - 1)
        else:
            self._within, self._limit = 2 * FIRST_LIMIT, _limit(FIRST_LIMIT)
        return False

    def succeeded(self, records: int) -> None:
        """The task took so many."""
        if not self._limit:
            return
        self._within = 0 if self.skipping else self._within - min(self._within, records)
        self.skipping = False
        if not self._within:
            self._limit = 0  # found, or not to be found again
        elif records < self._limit:
            self._limit -= records
        else:
            self._limit = _limit(self._within // 2)
