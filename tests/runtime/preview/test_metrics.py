"""What is counted of a run."""

import os
import subprocess
import sys
import time

import numpy as np
import pytest

from stn_runtime import Prediction
from stn_runtime.preview.metrics import Tally
from stn_runtime.records.record import Record


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def _record(label: str = "7", sure: bool = True, uncertain: str | None = None, **latency_ms: float) -> Record:
    nothing = np.empty((0, 0, 2), np.float32)
    prediction = Prediction(label, 0.9, (), (), nothing, None, latency_ms, np.ones(1, np.float32))
    return Record("cam", 0, None, prediction, sure=sure, uncertain=uncertain)


def _lost(source: str, why: str | None = None) -> Record:
    return Record(source, 0, None, None, why, event="source_lost")


def _samples(tally: Tally) -> dict[str, float]:
    """The exposition as Prometheus reads it: the value behind each name with its labels."""
    lines = tally.exposition({"events": 2, "pictures": 1}, 5).removesuffix("\n").split("\n")
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}


def test_frames_errors_and_labels_are_counted() -> None:
    tally = Tally(live=False)
    for label in ("7", "1", "7"):
        tally.count(_record(label))
    tally.count(Record("x.jpg", 0, None, None, "x.jpg: is empty"))
    tally.count(_record("3", sure=False, uncertain="two readings are as likely"))
    samples = _samples(tally)
    assert samples["stn_frames_total"] == 5
    assert samples["stn_errors_total"] == 1
    assert {name: value for name, value in samples.items() if name.startswith("stn_labels")} == {
        'stn_labels_total{label="1"}': 1,
        'stn_labels_total{label="7"}': 2,
    }
    assert samples["stn_unsure_total"] == 1
    assert samples["stn_uncertain_total"] == 1
    assert samples['stn_clients{stream="events"}'] == 2
    assert samples["stn_dropped_events_total"] == 5


def test_the_rate_is_of_the_spans_between_frames() -> None:
    clock = Clock()
    tally = Tally(live=True, clock=clock)
    assert tally.state().rate == 0
    for now in (100.0, 100.5, 101.0):
        clock.now = now
        tally.count(_record())
    assert tally.state().rate == 2.0  # two spans of half a second, not three frames in one


def test_the_rate_falls_to_nothing_when_frames_stay_away() -> None:
    clock = Clock()
    tally = Tally(live=True, clock=clock)
    for now in (100.0, 100.5, 101.0):
        clock.now = now
        tally.count(_record())
    clock.now = 120.0
    assert tally.state().rate == 0


def test_a_camera_is_healthy_while_its_pictures_are_fresh() -> None:
    clock = Clock()
    tally = Tally(live=True, stale_seconds=10, clock=clock)
    assert (tally.state().name, tally.state().healthy) == ("starting", False)
    tally.count(_record())
    clock.now += 10
    assert (tally.state().name, tally.state().healthy, tally.state().age) == ("running", True, 10)
    clock.now += 2
    state = tally.state()
    assert (state.name, state.healthy, state.reason) == ("stalled", False, "no new picture for 12 s")


def test_errors_do_not_keep_a_camera_healthy() -> None:
    clock = Clock()
    tally = Tally(live=True, stale_seconds=10, clock=clock)
    tally.count(_record())
    clock.now += 11
    tally.count(Record("cam", 1, None, None, "cam: damaged frame"))
    assert tally.state().name == "stalled"


def test_a_run_over_files_is_healthy_however_long_a_file_takes() -> None:
    clock = Clock()
    tally = Tally(live=False, stale_seconds=10, clock=clock)
    assert (tally.state().name, tally.state().healthy) == ("starting", True)
    tally.count(_record())
    clock.now += 1000
    assert (tally.state().name, tally.state().healthy) == ("running", True)


def test_a_lost_source_is_unhealthy_until_it_is_back() -> None:
    tally = Tally(live=True)
    tally.count(_record())
    tally.count(_lost("cam", "cam: stopped sending frames"))
    tally.count(_lost("other"))
    state = tally.state()
    assert (state.name, state.healthy) == ("lost", False)
    assert state.reason == "cam: stopped sending frames; other: is lost"
    for source in ("cam", "other"):
        tally.count(Record(source, 0, None, None, event="source_back"))
    assert tally.state().healthy
    samples = _samples(tally)
    assert samples['stn_source_lost_total{source="cam"}'] == 1
    assert samples['stn_source_back_total{source="other"}'] == 1
    assert samples["stn_frames_total"] == 1  # an event is no frame


def test_the_latency_histogram_is_cumulative_and_in_seconds() -> None:
    tally = Tally(live=False)
    for milliseconds in (1.0, 1.1, 30.0, 4000.0):
        tally.count(_record(infer=milliseconds))
    samples = _samples(tally)

    def bucket(bound: str) -> float:
        return samples[f'stn_stage_seconds_bucket{{stage="infer",le="{bound}"}}']

    assert [bucket(bound) for bound in ("0.001", "0.0025", "0.025", "0.05", "2.5", "+Inf")] == [1, 2, 2, 3, 3, 4]
    assert samples['stn_stage_seconds_sum{stage="infer"}'] == pytest.approx(4.0321)
    assert samples['stn_stage_seconds_count{stage="infer"}'] == 4


@pytest.mark.parametrize(
    ("name", "escaped"),
    [('a"b', r"a\"b"), ("a\\b", r"a\\b"), ("a\nb", r"a\nb"), ("größe", "größe"), (os.fsdecode(b"\xe9"), r"\\udce9")],
)
def test_a_label_s_value_is_escaped(name: str, escaped: str) -> None:
    tally = Tally(live=False)
    tally.count(_lost(name))
    assert _samples(tally)[f'stn_source_lost_total{{source="{escaped}"}}'] == 1
    tally.exposition({}, 0).encode("utf-8")


def test_every_family_is_described_before_its_samples_and_once() -> None:
    tally = Tally(live=True)
    tally.count(_record(infer=1.0))
    lines = tally.exposition({"events": 0}, 0).splitlines()
    described = [line.split()[2] for line in lines if line.startswith("# TYPE")]
    assert len(described) == len(set(described))
    family = ""
    for line in lines:
        if line.startswith("# TYPE"):
            family = line.split()[2]
        elif not line.startswith("#"):
            assert line.startswith(family)


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="Linux tells a process's memory in /proc")
def test_memory_and_start_of_the_process_are_told() -> None:
    assert 10e6 < _samples(Tally(live=False))["process_resident_memory_bytes"] < 100e9
    code = "from stn_runtime.preview.metrics import Tally; print(Tally(live=False).exposition({}, 0))"
    before = time.time()
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    (start,) = (float(line.split()[1]) for line in told.splitlines() if line.startswith("process_start_time_seconds"))
    assert before - 1 < start < time.time() + 1
