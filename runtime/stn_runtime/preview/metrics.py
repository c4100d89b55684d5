"""Counts and health of a run; needs none of the packages for serving."""

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock
from typing import Literal

from ..machine.rate import RateMeter
from ..records.record import Record

STALE_SECONDS = 15.0
"""A camera whose newest result is older counts as stalled, unless its options say otherwise."""

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""Upper bounds of the latency histogram's buckets, in seconds; one more bucket has no bound."""

_RATE_SECONDS = 5.0

StateName = Literal["starting", "running", "lost", "stalled"]


@dataclass(frozen=True)
class RunState:
    """The state and health of a run at one moment.

    Attributes:
        name: "starting" before the first result; "lost" while a source is lost; "stalled" when a camera's newest
            result is too old; "running" otherwise.
        reason: One sentence why the run is not "running", or None.
        healthy: Whether the run is well. A run over files is healthy from its start; a run over cameras is healthy
            while it is "running".
        frames: Number of frames with a result or an error.
        errors: Number of frames without a result.
        rate: Results a second over the last seconds, (n - 1) / span; 0 when unknown.
        age: Seconds since the newest result; None before the first.
    """

    name: StateName
    reason: str | None
    healthy: bool
    frames: int
    errors: int
    rate: float
    age: float | None


@dataclass
class LatencyHistogram:
    """How often a stage took how long.

    Attributes:
        counts: Number of frames in each bucket, (len(BUCKETS) + 1,); not cumulative.
        total: Sum of all times in seconds.
    """

    counts: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS) + 1))
    total: float = 0.0

    def add(self, seconds: float) -> None:
        """Add the time of one frame."""
        self.counts[bisect_left(BUCKETS, seconds)] += 1
        self.total += seconds

    def copy(self) -> "LatencyHistogram":
        """Return a copy that does not change with this one."""
        return LatencyHistogram(list(self.counts), self.total)


@dataclass(frozen=True)
class RunCounts:
    """Counts of a run since its start, copied at one moment.

    Attributes:
        unsure: Number of results whose confidence was below the threshold.
        rejected: Number of results whose best label was the one that means none of the others; none of them counts as
            unsure, or by its label.
        uncertain: Number of results that were reported as uncertain.
        labels: Number of results by label.
        lost: Number of losses by source.
        back: Number of returns by source.
        stages: Latency by stage.
    """

    unsure: int
    rejected: int
    uncertain: int
    labels: dict[str, int]
    lost: dict[str, int]
    back: dict[str, int]
    stages: dict[str, LatencyHistogram]


@dataclass
class ClientCounts:
    """Counts of the preview's clients; only the server's thread reads and changes them.

    Attributes:
        streams: Number of connected clients by stream.
        lost_records: Number of records that clients did not get because they read too slowly.
    """

    streams: dict[str, int] = field(default_factory=lambda: {"events": 0, "pictures": 0})
    lost_records: int = 0


class RunMetrics:
    """Counts records and derives the run's health; one thread counts, and other threads may read.

    Args:
        live: Whether the frames come from cameras, so that an old result means trouble.
        stale_seconds: Age at which a camera's newest result is too old.
        clock: Returns monotonic seconds.
    """

    def __init__(
        self, live: bool, stale_seconds: float = STALE_SECONDS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.live, self.stale_seconds = live, stale_seconds
        self._clock = clock
        self._lock = Lock()
        self._frames = self._errors = self._unsure = self._rejected = self._uncertain = 0
        self._labels: Counter[str] = Counter()
        self._events: dict[str, Counter[str]] = {"source_lost": Counter(), "source_back": Counter()}
        self._loss_reasons: dict[str, str] = {}  # by source, while that source is lost
        self._stages: dict[str, LatencyHistogram] = {}
        self._rate = RateMeter(_RATE_SECONDS)
        self._newest_result: float | None = None

    def count(self, record: Record) -> None:
        """Count one record."""
        now = self._clock()
        with self._lock:
            if record.event is not None:
                self._count_event(record.event, record)
                return
            self._frames += 1
            if record.prediction is None:
                self._errors += 1
                return
            self._newest_result = now
            self._rate.count(now)
            self._unsure += not record.sure and not record.rejected
            self._rejected += record.rejected
            self._uncertain += record.uncertain is not None
            if record.label is not None:
                self._labels[record.label] += 1
            for stage, milliseconds in record.prediction.latency_ms.items():
                self._stages.setdefault(stage, LatencyHistogram()).add(milliseconds / 1000)

    def _count_event(self, event: str, record: Record) -> None:
        self._events.setdefault(event, Counter())[record.source] += 1
        if event == "source_lost":
            self._loss_reasons[record.source] = record.error or f"{record.source}: is lost"
        else:
            self._loss_reasons.pop(record.source, None)

    def state(self) -> RunState:
        """Return the state of the run now."""
        now = self._clock()
        with self._lock:
            age = now - self._newest_result if self._newest_result is not None else None
            loss_reasons = list(self._loss_reasons.values())
            frames, errors = self._frames, self._errors
            rate = self._rate.rate(now) or 0.0
        name: StateName = "running"
        reason = None
        if loss_reasons:
            name, reason = "lost", "; ".join(loss_reasons)
        elif age is None:
            name, reason = "starting", "no picture yet"
        elif self.live and age > self.stale_seconds:
            name, reason = "stalled", f"no new picture for {age:.0f} s"
        healthy = name == "running" or (name == "starting" and not self.live)
        return RunState(name, reason, healthy, frames, errors, rate, age)

    def counts(self) -> RunCounts:
        """Return a copy of the counts."""
        with self._lock:
            return RunCounts(
                self._unsure,
                self._rejected,
                self._uncertain,
                dict(self._labels),
                dict(self._events["source_lost"]),
                dict(self._events["source_back"]),
                {stage: histogram.copy() for stage, histogram in self._stages.items()},
            )
