"""What a run has done so far, counted for monitoring: its state in a few words, and as Prometheus text."""

import os
import time
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Literal

from ..records.record import Record

STALE_SECONDS = 15.0
"""A camera whose newest result is older counts as stalled, unless its options say otherwise."""

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)  # seconds
_RATE_SECONDS = 5.0
_RATE_FRAMES = 256
_PROC = Path("/proc/self")

Sample = tuple[Mapping[str, str], float]


@dataclass(frozen=True)
class State:
    """How a run is doing.

    Attributes:
        name: "starting" before the first picture; "lost" when a source is; "stalled" when a camera's newest picture
            is too old; else "running".
        reason: One sentence when there is something to mend.
        healthy: Whether all is well: a run over files is until it ends, one of a camera when its picture is fresh.
        frames: With a result or an error.
        errors: Frames without a result.
        rate: Results a second of late, (n - 1) / span.
        age: Seconds since the newest result; None before the first.
    """

    name: Literal["starting", "running", "lost", "stalled"]
    reason: str | None
    healthy: bool
    frames: int
    errors: int
    rate: float
    age: float | None


@dataclass
class _Histogram:
    counts: list[int] = field(default_factory=lambda: [0] * (len(_BUCKETS) + 1))
    total: float = 0.0  # seconds

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(_BUCKETS, seconds)] += 1
        self.total += seconds


class Tally:
    """Counts records; one thread counts, others may read.

    Args:
        live: Whether the frames are a camera's, so that an old one means trouble.
        stale_seconds: How old a camera's newest result may be.
        clock: Seconds, monotonic.
    """

    def __init__(
        self, live: bool, stale_seconds: float = STALE_SECONDS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.live, self.stale_seconds = live, stale_seconds
        self._clock = clock
        self._lock = Lock()
        self._frames = self._errors = self._unsure = self._uncertain = 0
        self._labels: Counter[str] = Counter()
        self._events: Counter[tuple[str, str]] = Counter()
        self._lost: dict[str, str] = {}
        self._stages: dict[str, _Histogram] = {}
        self._moments: deque[float] = deque(maxlen=_RATE_FRAMES)

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
            self._moments.append(now)
            self._unsure += not record.sure
            self._uncertain += record.uncertain is not None
            if record.sure:
                self._labels[record.prediction.label] += 1
            for stage, milliseconds in record.prediction.latency_ms.items():
                self._stages.setdefault(stage, _Histogram()).add(milliseconds / 1000)

    def _count_event(self, event: str, record: Record) -> None:
        self._events[event, record.source] += 1
        if event == "source_lost":
            self._lost[record.source] = record.error or f"{record.source}: is lost"
        else:
            self._lost.pop(record.source, None)

    def state(self) -> State:
        """Return how the run is doing."""
        now = self._clock()
        with self._lock:
            moments, lost = list(self._moments), list(self._lost.values())
            frames, errors = self._frames, self._errors
        age = now - moments[-1] if moments else None
        name: Literal["starting", "running", "lost", "stalled"] = "running"
        reason = None
        if lost:
            name, reason = "lost", "; ".join(lost)
        elif age is None:
            name, reason = "starting", "no picture yet"
        elif self.live and age > self.stale_seconds:
            name, reason = "stalled", f"no new picture for {age:.0f} s"
        healthy = name == "running" or (name == "starting" and not self.live)
        return State(name, reason, healthy, frames, errors, _rate(moments, now), age)

    def exposition(self, clients: Mapping[str, int], dropped: int) -> str:
        """Return everything as Prometheus text, format 0.0.4.

        Args:
            clients: How many are connected, by stream.
            dropped: How many records did not reach clients that were too slow.
        """
        state = self.state()
        with self._lock:
            labels, events = dict(self._labels), dict(self._events)
            stages = {name: (list(entry.counts), entry.total) for name, entry in self._stages.items()}
            unsure, uncertain = self._unsure, self._uncertain
        lines = _family("stn_frames_total", "counter", "Frames with a result or an error.", state.frames)
        lines += _family("stn_errors_total", "counter", "Frames without a result.", state.errors)
        lines += _family("stn_labels_total", "counter", "Results by label.", _by("label", labels))
        lines += _family("stn_unsure_total", "counter", "Results whose confidence was below --conf.", unsure)
        lines += _family("stn_uncertain_total", "counter", "Results reported as uncertain.", uncertain)
        for event, help_text in (("lost", "How often a source was lost."), ("back", "How often it came back.")):
            times = {source: count for (name, source), count in events.items() if name == f"source_{event}"}
            lines += _family(f"stn_source_{event}_total", "counter", help_text, _by("source", times))
        lines += _latency(stages)
        lines += _family("stn_frame_rate", "gauge", "Recent results per second.", round(state.rate, 3))
        if state.age is not None:
            lines += _family("stn_newest_result_age_seconds", "gauge", "Age of the newest result.", state.age)
        lines += _family("stn_healthy", "gauge", "1 when /healthz answers 200.", int(state.healthy))
        lines += _family("stn_clients", "gauge", "Clients that are connected.", _by("stream", clients))
        lines += _family("stn_dropped_events_total", "counter", "Records lost on clients too slow.", dropped)
        return "\n".join(lines + _process()) + "\n"


def _rate(moments: list[float], now: float) -> float:
    recent = [moment for moment in moments if now - moment <= _RATE_SECONDS]
    span = recent[-1] - recent[0] if recent else 0.0
    return (len(recent) - 1) / span if span > 0 else 0.0


def _family(name: str, kind: str, help_text: str, samples: float | Iterable[Sample]) -> list[str]:
    if isinstance(samples, int | float):
        samples = [({}, samples)]
    return [f"# HELP {name} {help_text}", f"# TYPE {name} {kind}", *(_sample(name, *sample) for sample in samples)]


def _by(name: str, values: Mapping[str, float]) -> list[Sample]:
    return [({name: key}, value) for key, value in sorted(values.items())]


def _sample(name: str, labels: Mapping[str, str], value: float) -> str:
    inner = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
    return f"{name}{{{inner}}} {value}" if inner else f"{name} {value}"


def _escaped(text: str) -> str:
    """Return a label's value as the format wants it; a name that is not UTF-8 shows its bytes."""
    text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _latency(stages: Mapping[str, tuple[list[int], float]]) -> list[str]:
    name = "stn_stage_seconds"
    lines = [f"# HELP {name} Time a frame by stage.", f"# TYPE {name} histogram"]
    for stage, (counts, total) in sorted(stages.items()):
        running = 0
        for bound, count in zip((*map(str, _BUCKETS), "+Inf"), counts, strict=True):
            running += count
            lines.append(_sample(f"{name}_bucket", {"stage": stage, "le": bound}, running))
        lines.append(_sample(f"{name}_sum", {"stage": stage}, round(total, 9)))
        lines.append(_sample(f"{name}_count", {"stage": stage}, running))
    return lines


def _process() -> list[str]:
    """Return memory and start time of the process where Linux tells them (proc(5)), under Prometheus' own names."""
    try:
        pages = int((_PROC / "statm").read_text(encoding="ascii").split()[1])
        stat = (_PROC / "stat").read_bytes()
    except (OSError, ValueError):
        return []
    ticks = int(stat.rpartition(b")")[2].split()[19])  # the name in brackets may hold anything
    started = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + ticks / os.sysconf("SC_CLK_TCK")
    memory = pages * os.sysconf("SC_PAGE_SIZE")
    return [
        *_family("process_resident_memory_bytes", "gauge", "Memory of the process.", memory),
        *_family("process_start_time_seconds", "gauge", "Unix time of its start.", round(started, 2)),
    ]
