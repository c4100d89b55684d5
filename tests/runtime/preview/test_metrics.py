"""Counts and health of a run."""

from dataclasses import replace

import numpy as np

from stn_runtime import Prediction
from stn_runtime.preview.metrics import BUCKETS, RunMetrics
from stn_runtime.records.record import Record


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def _record(label: str = "7", sure: bool = True, uncertain: str | None = None, **latency_ms: float) -> Record:
    no_outline = np.empty((0, 0, 2), np.float32)
    prediction = Prediction(label, 0.9, (), (), no_outline, None, latency_ms, np.ones(1, np.float32))
    return Record("cam", 0, None, prediction, sure=sure, uncertain=uncertain)


def _lost(source: str, error: str | None = None) -> Record:
    return Record(source, 0, None, None, error, event="source_lost")


def test_frames_errors_and_labels_are_counted() -> None:
    metrics = RunMetrics(live=False)
    for label in ("7", "1", "7"):
        metrics.count(_record(label))
    metrics.count(Record("x.jpg", 0, None, None, "x.jpg: is empty"))
    metrics.count(_record("3", sure=False, uncertain="two readings are as likely"))
    state, counts = metrics.state(), metrics.counts()
    assert (state.frames, state.errors) == (5, 1)
    assert counts.labels == {"1": 1, "7": 2}
    assert (counts.unsure, counts.uncertain) == (1, 1)


def test_a_rejected_result_counts_neither_by_its_label_nor_as_unsure() -> None:
    metrics = RunMetrics(live=False)
    for sure in (True, False):
        metrics.count(replace(_record("nothing", sure), rejected=True))
    counts = metrics.counts()
    assert (counts.labels, counts.unsure, counts.rejected) == ({}, 0, 2)


def test_latency_is_counted_in_seconds_in_the_first_bucket_that_holds_it() -> None:
    metrics = RunMetrics(live=False)
    for milliseconds in (1.0, 1.1, 30.0, 4000.0):
        metrics.count(_record(infer=milliseconds))
    histogram = metrics.counts().stages["infer"]
    assert dict(zip((*BUCKETS, None), histogram.counts, strict=True)) == {
        **dict.fromkeys((*BUCKETS, None), 0),
        **{0.001: 1, 0.0025: 1, 0.05: 1, None: 1},
    }
    assert abs(histogram.total - 4.0321) < 1e-9


def test_counts_that_were_read_do_not_change_with_the_run() -> None:
    metrics = RunMetrics(live=False)
    metrics.count(_record(infer=1.0))
    counts = metrics.counts()
    metrics.count(_record(infer=1.0))
    metrics.count(_lost("cam"))
    assert (counts.labels, counts.lost, sum(counts.stages["infer"].counts)) == ({"7": 1}, {}, 1)


def test_the_rate_counts_the_intervals_between_frames() -> None:
    clock = Clock()
    metrics = RunMetrics(live=True, clock=clock)
    assert metrics.state().rate == 0
    for now in (100.0, 100.5, 101.0):
        clock.now = now
        metrics.count(_record())
    assert metrics.state().rate == 2.0  # two spans of half a second, not three frames in one


def test_the_rate_falls_to_zero_when_no_frames_come() -> None:
    clock = Clock()
    metrics = RunMetrics(live=True, clock=clock)
    for now in (100.0, 100.5, 101.0):
        clock.now = now
        metrics.count(_record())
    clock.now = 120.0
    assert metrics.state().rate == 0


def test_a_camera_is_healthy_while_its_pictures_are_fresh() -> None:
    clock = Clock()
    metrics = RunMetrics(live=True, stale_seconds=10, clock=clock)
    assert (metrics.state().name, metrics.state().healthy) == ("starting", False)
    metrics.count(_record())
    clock.now += 10
    assert (metrics.state().name, metrics.state().healthy, metrics.state().age) == ("running", True, 10)
    clock.now += 2
    state = metrics.state()
    assert (state.name, state.healthy, state.reason) == ("stalled", False, "no new picture for 12 s")


def test_errors_do_not_keep_a_camera_healthy() -> None:
    clock = Clock()
    metrics = RunMetrics(live=True, stale_seconds=10, clock=clock)
    metrics.count(_record())
    clock.now += 11
    metrics.count(Record("cam", 1, None, None, "cam: damaged frame"))
    assert metrics.state().name == "stalled"


def test_a_run_over_files_is_healthy_however_long_a_file_takes() -> None:
    clock = Clock()
    metrics = RunMetrics(live=False, stale_seconds=10, clock=clock)
    assert (metrics.state().name, metrics.state().healthy) == ("starting", True)
    metrics.count(_record())
    clock.now += 1000
    assert (metrics.state().name, metrics.state().healthy) == ("running", True)


def test_a_lost_source_is_unhealthy_until_it_is_back() -> None:
    metrics = RunMetrics(live=True)
    metrics.count(_record())
    metrics.count(_lost("cam", "cam: stopped sending frames"))
    metrics.count(_lost("other"))
    state = metrics.state()
    assert (state.name, state.healthy) == ("lost", False)
    assert state.reason == "cam: stopped sending frames; other: is lost"
    for source in ("cam", "other"):
        metrics.count(Record(source, 0, None, None, event="source_back"))
    assert metrics.state().healthy
    counts = metrics.counts()
    assert counts.lost == counts.back == {"cam": 1, "other": 1}
    assert metrics.state().frames == 1  # an event is not a frame
