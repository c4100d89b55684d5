"""Events a second, measured over the last seconds."""

from collections import deque

_MOST_MOMENTS = 256  # bounds the memory where events are very frequent


class RateMeter:
    """Measures events a second as (n - 1) / span: n events have n - 1 intervals between them.

    It reads no clock: callers pass moments in seconds, which never decrease. Threads that share a meter need a lock.

    Args:
        seconds: Older events do not count, except that the last two always count while the last one is not older.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._moments: deque[float] = deque(maxlen=_MOST_MOMENTS)

    def count(self, moment: float) -> float | None:
        """Count an event at a moment; return the rate, or None before there are two moments."""
        self._moments.append(moment)
        return self.rate(moment)

    def rate(self, now: float) -> float | None:
        """Return the rate at a moment, or None when no rate is known: too few events, or the last one is too old."""
        if not self._moments or now - self._moments[-1] > self._seconds:
            return None
        while len(self._moments) > 2 and now - self._moments[0] > self._seconds:
            self._moments.popleft()
        span = self._moments[-1] - self._moments[0]
        return (len(self._moments) - 1) / span if span > 0 else None
