"""The metrics of a run as Prometheus reads them."""

import os
import subprocess
import sys
import time

import numpy as np
import pytest

pytest.importorskip("prometheus_client")

from prometheus_client import Metric, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from stn_runtime import Prediction
from stn_runtime.preview.metrics import ClientCounts, RunMetrics
from stn_runtime.preview.prometheus import metrics_registry
from stn_runtime.records.record import Record

FAMILIES = {
    "stn_frames": ("counter", set()),
    "stn_errors": ("counter", set()),
    "stn_labels": ("counter", {"label"}),
    "stn_unsure": ("counter", set()),
    "stn_rejected": ("counter", set()),
    "stn_uncertain": ("counter", set()),
    "stn_source_lost": ("counter", {"source"}),
    "stn_source_back": ("counter", {"source"}),
    "stn_stage_seconds": ("histogram", {"stage", "le"}),
    "stn_frame_rate": ("gauge", set()),
    "stn_newest_result_age_seconds": ("gauge", set()),
    "stn_healthy": ("gauge", set()),
    "stn_clients": ("gauge", {"stream"}),
    "stn_dropped_events": ("counter", set()),
}
"""Type and labels by family; the samples of counters end in "_total"."""


def _record(label: str = "7", **latency_ms: float) -> Record:
    no_outline = np.empty((0, 0, 2), np.float32)
    return Record("cam", 0, None, Prediction(label, 0.9, (), (), no_outline, None, latency_ms, np.ones(1, np.float32)))


def _event(source: str, event: str) -> Record:
    return Record(source, 0, None, None, event=event)  # type: ignore[arg-type]


def _families(metrics: RunMetrics, clients: ClientCounts | None = None) -> list[Metric]:
    text = generate_latest(metrics_registry(metrics, clients or ClientCounts())).decode("utf-8")
    return list(text_string_to_metric_families(text))


def _value(families: list[Metric], name: str, **labels: str) -> float:
    (value,) = [s.value for family in families for s in family.samples if (s.name, s.labels) == (name, labels)]
    return float(value)


def test_every_family_has_its_type_and_labels_and_is_described_once() -> None:
    metrics = RunMetrics(live=True)
    metrics.count(_record(infer=1.0))
    for event in ("source_lost", "source_back"):
        metrics.count(_event("cam", event))
    families = [family for family in _families(metrics) if family.name.startswith("stn_")]
    labels = {family.name: set().union(*(sample.labels for sample in family.samples)) for family in families}
    assert {family.name: (family.type, labels[family.name]) for family in families} == FAMILIES
    assert len(families) == len(FAMILIES)
    assert all(family.documentation for family in families)


def test_counters_have_the_values_of_the_run() -> None:
    metrics = RunMetrics(live=False)
    for label in ("7", "1", "7"):
        metrics.count(_record(label))
    metrics.count(Record("x.jpg", 0, None, None, "x.jpg: is empty"))
    metrics.count(_event("cam", "source_lost"))
    families = _families(metrics, ClientCounts({"events": 2, "pictures": 1}, lost_records=5))
    assert _value(families, "stn_frames_total") == 4
    assert _value(families, "stn_errors_total") == 1
    assert _value(families, "stn_labels_total", label="7") == 2
    assert _value(families, "stn_source_lost_total", source="cam") == 1
    assert _value(families, "stn_clients", stream="events") == 2
    assert _value(families, "stn_dropped_events_total") == 5
    assert _value(families, "stn_healthy") == 0


def test_a_run_without_results_has_no_age() -> None:
    assert "stn_newest_result_age_seconds" not in {family.name for family in _families(RunMetrics(live=True))}


def test_the_registry_follows_the_run_and_its_clients() -> None:
    metrics, clients = RunMetrics(live=False), ClientCounts()
    registry = metrics_registry(metrics, clients)
    assert b"\nstn_frames_total 0.0\n" in generate_latest(registry)
    metrics.count(_record())
    clients.streams["pictures"] += 1
    text = generate_latest(registry)
    assert b"\nstn_frames_total 1.0\n" in text
    assert b'\nstn_clients{stream="pictures"} 1.0\n' in text


def test_the_latency_histogram_is_cumulative_and_in_seconds() -> None:
    metrics = RunMetrics(live=False)
    for milliseconds in (1.0, 1.1, 30.0, 4000.0):
        metrics.count(_record(infer=milliseconds))
    families = _families(metrics)
    bounds = ("0.001", "0.0025", "0.025", "0.05", "2.5", "+Inf")
    counts = [_value(families, "stn_stage_seconds_bucket", stage="infer", le=bound) for bound in bounds]
    assert counts == [1, 2, 2, 3, 3, 4]
    assert _value(families, "stn_stage_seconds_sum", stage="infer") == pytest.approx(4.0321)
    assert _value(families, "stn_stage_seconds_count", stage="infer") == 4


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ('a"b', 'a"b'),
        ("a\\b", "a\\b"),
        ("a\nb", "a\nb"),
        ("größe", "größe"),
        (os.fsdecode(b"caf\xe9"), r"caf\udce9"),
    ],
)
def test_a_label_keeps_its_text_and_spells_out_what_is_not_utf8(name: str, label: str) -> None:
    metrics = RunMetrics(live=False)
    metrics.count(_event(name, "source_lost"))
    assert _value(_families(metrics), "stn_source_lost_total", source=label) == 1


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="only Linux has the process's figures in /proc")
def test_memory_and_start_of_the_process_are_there() -> None:
    assert 10e6 < _value(_families(RunMetrics(live=False)), "process_resident_memory_bytes") < 100e9
    code = (
        "from prometheus_client import generate_latest\n"
        "from stn_runtime.preview.metrics import ClientCounts, RunMetrics\n"
        "from stn_runtime.preview.prometheus import metrics_registry\n"
        "print(generate_latest(metrics_registry(RunMetrics(live=False), ClientCounts())).decode())"
    )
    before = time.time()
    text = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    start = _value(list(text_string_to_metric_families(text)), "process_start_time_seconds")
    assert before - 2 < start < time.time() + 2  # Linux gives the time of boot in whole seconds
