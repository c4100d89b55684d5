"""The counts of a run and of its clients as Prometheus metrics."""

from collections.abc import Iterator, Mapping
from itertools import accumulate

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from .metrics import BUCKETS, ClientCounts, LatencyHistogram, RunMetrics

MEDIA_TYPE = "text/plain; version=0.0.4"
"""Media type of the text that ``prometheus_client.generate_latest`` writes from a registry."""

_BOUNDS = (*map(str, BUCKETS), "+Inf")


def metrics_registry(metrics: RunMetrics, clients: ClientCounts) -> CollectorRegistry:
    """Return a registry with the metrics of a run, of its clients and, on Linux, of the process."""
    registry = CollectorRegistry()
    registry.register(RunCollector(metrics, clients))
    ProcessCollector(registry=registry)
    return registry


class RunCollector(Collector):
    """Collects the metrics of a run and of its clients whenever Prometheus asks.

    Args:
        metrics: Counts of the run.
        clients: Counts of the preview's clients.
    """

    def __init__(self, metrics: RunMetrics, clients: ClientCounts) -> None:
        self._metrics, self._clients = metrics, clients

    def collect(self) -> Iterator[Metric]:
        """Yield each metric family with its present samples."""
        state, counts = self._metrics.state(), self._metrics.counts()
        yield CounterMetricFamily("stn_frames", "Frames with a result or an error.", state.frames)
        yield CounterMetricFamily("stn_errors", "Frames without a result.", state.errors)
        yield _counter("stn_labels", "Results by label.", "label", counts.labels)
        yield CounterMetricFamily("stn_unsure", "Results whose confidence was below the threshold.", counts.unsure)
        yield CounterMetricFamily("stn_rejected", "Results of the class that means no other.", counts.rejected)
        yield CounterMetricFamily("stn_uncertain", "Results reported as uncertain.", counts.uncertain)
        yield _counter("stn_source_lost", "How often a source was lost.", "source", counts.lost)
        yield _counter("stn_source_back", "How often it came back.", "source", counts.back)
        yield _latency(counts.stages)
        yield GaugeMetricFamily("stn_frame_rate", "Recent results per second.", round(state.rate, 3))
        if state.age is not None:
            yield GaugeMetricFamily("stn_newest_result_age_seconds", "Age of the newest result.", state.age)
        yield GaugeMetricFamily("stn_healthy", "1 when /healthz answers 200.", int(state.healthy))
        clients = GaugeMetricFamily("stn_clients", "Clients that are connected.", labels=["stream"])
        for stream, number in sorted(self._clients.streams.items()):
            clients.add_metric([stream], number)
        yield clients
        lost_records = self._clients.lost_records
        yield CounterMetricFamily("stn_dropped_events", "Records lost on clients too slow.", lost_records)


def _counter(name: str, help_text: str, label: str, values: Mapping[str, int]) -> CounterMetricFamily:
    family = CounterMetricFamily(name, help_text, labels=[label])
    for text, value in sorted(values.items()):
        family.add_metric([_utf8(text)], value)
    return family


def _latency(stages: Mapping[str, LatencyHistogram]) -> HistogramMetricFamily:
    family = HistogramMetricFamily("stn_stage_seconds", "Time a frame by stage.", labels=["stage"])
    for stage, histogram in sorted(stages.items()):
        cumulative = accumulate(histogram.counts)
        family.add_metric([_utf8(stage)], list(zip(_BOUNDS, cumulative, strict=True)), round(histogram.total, 9))
    return family


def _utf8(text: str) -> str:
    r"""Return a label's value with each byte that is not UTF-8 spelled out: "caf\xe9" of a file name as "caf\udce9"."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
