"""Which frames have a record already."""

from collections.abc import Iterable

import numpy as np


class Done:
    """The records that an interrupted run has written.

    Names are kept as hashes of 64 bits, since there may be millions of them.

    Args:
        records: Source and frame number of each record.
    """

    def __init__(self, records: Iterable[tuple[str, int]] = ()) -> None:
        self._last: dict[str, int] = {}  # frames of videos and cameras, of which there are few
        hashes = np.fromiter(map(self._noted, records), np.int64)
        self.records = len(hashes)
        self._hashes, counts = np.unique(hashes, return_counts=True)
        self._counts = counts.astype(np.uint32)
        self._left = self._counts.copy()

    def last(self, source: str) -> int:
        """Return the number of the last frame of a source that has a record; -1 without any."""
        return self._last.get(_printable(source), 0 if self.count(source) else -1)

    def _noted(self, record: tuple[str, int]) -> int:
        source = _printable(record[0])
        if record[1]:
            self._last[source] = max(record[1], self._last.get(source, 0))
        return hash(source)

    def count(self, source: str) -> int:
        """Return how many records there are of a source."""
        at = self._place(source)
        return int(self._counts[at]) if at is not None else 0

    def take(self, source: str) -> bool:
        """Return whether there is a record of a source that was not taken yet, and take it."""
        at = self._place(source)
        if at is None or not self._left[at]:
            return False
        self._left[at] -= 1
        return True

    def _place(self, source: str) -> int | None:
        if not self.records:
            return None
        sought = hash(_printable(source))
        at = min(int(np.searchsorted(self._hashes, sought)), len(self._hashes) - 1)
        return at if self._hashes[at] == sought else None


def _printable(source: str) -> str:
    """Return a name as a results file holds it, where bytes that are no UTF-8 are spelled out."""
    return source.encode("utf-8", "backslashreplace").decode("utf-8")
