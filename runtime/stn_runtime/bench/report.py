"""What ``stn bench`` measured, as a table for a person and as plain values for JSON."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ..commands.tuning import Tuning
from ..errors import printable
from .cold_start import ColdStart
from .comparison import Agreement, Ratio
from .host import Host
from .timing import STAGES, Latency

_HEAD = f"{'p50 ms':>10}{'p95 ms':>10}{'p99 ms':>10}{'images/s':>10}{'passes':>8}"
_PARTS = {"start_ms": "Python", "import_ms": "imports", "open_ms": "model", "first_ms": "first picture"}


@dataclass(frozen=True)
class Model:
    """The file that was measured.

    Attributes:
        name: Name or path, as on the command line.
        sha256: Digest of the file, hexadecimal.
        size: Bytes.
        form: Export form.
        precision: Precision of weights and activations.
        opset: Opset of the standard operators.
        target: The engine that the file was exported for.
    """

    name: str
    sha256: str
    size: int
    form: str
    precision: str
    opset: int
    target: str


@dataclass(frozen=True)
class Picture:
    """The picture that a model was measured with.

    Attributes:
        path: The file; None for a picture made for the measurement.
        size: Bytes of the file.
        width: Pixels.
        height: Pixels.
        decoded: (width, height) of the decoded picture, pixels.
    """

    path: str | None
    size: int
    width: int
    height: int
    decoded: tuple[int, int]


@dataclass(frozen=True)
class Comparison:
    """Another model, measured in turns with the first.

    Attributes:
        model: The other model.
        ratios: Ratio of the times, by stage.
        agreement: None where the labels differ, so that answers cannot be compared.
    """

    model: Model
    ratios: Mapping[str, Ratio]
    agreement: Agreement | None


@dataclass(frozen=True)
class Report:
    """All that was measured.

    Attributes:
        model: The file.
        host: The machine.
        threads: Number of onnxruntime's threads.
        provider: The execution provider.
        picture: The classified picture.
        stages: Latency of one picture, by stage of ``stn run``; 'whole' is all of them together.
        batches: Latency of the network alone, by batch size.
        cold_start: Median of several starts of a process.
        comparison: Comparison with another model; None without one.
        tuning: Engines and numbers of threads against each other; None where one was asked for.
        warnings: Why the figures may be worth less; sentences.
    """

    model: Model
    host: Host
    threads: int
    provider: str
    picture: Picture
    stages: Mapping[str, Latency]
    batches: Mapping[int, Latency]
    cold_start: ColdStart
    comparison: Comparison | None
    tuning: Tuning | None
    warnings: tuple[str, ...]

    def table(self) -> str:
        """Return the report for a person, without the warnings."""
        parts = [self._head(), self._stages(), self._batches(), self._cold_start()]
        if self.tuning is not None:
            parts.append("\n".join(_setups(self.tuning)))
        if self.comparison is not None:
            parts.append("\n".join(_compared(self.model, self.comparison)))
        return "\n\n".join(parts)

    def _head(self) -> str:
        host, picture = self.host, self.picture
        load = "" if host.load is None else f", load {host.load:.2f}"
        governor = "" if host.governor is None else f", governor {host.governor}"
        width, height = picture.decoded
        reduced = "" if width == picture.width else f", decoded to {width} x {height} as 'stn run' does"
        return "\n".join(
            [
                _described("model", self.model),
                f"machine    {host.cpu} ({host.system}), {host.usable_cpus} of {host.cpus} CPUs{load}{governor}",
                f"run on     {self.provider}, threads: {self.threads}",
                f"versions   {', '.join(f'{name} {version}' for name, version in host.versions.items())}",
                f"picture    {picture.path or 'generated for this measurement'}: {picture.width} x {picture.height}, "
                f"{picture.size / 1e3:.0f} kB{reduced}",
            ]
        )

    def _stages(self) -> str:
        rows = [f"{'one picture':<14}{_HEAD}"]
        rows += [_row(name, self.stages[name]) for name in (*STAGES, "whole")]
        return "\n".join(rows)

    def _batches(self) -> str:
        rows = [_row(f"infer x {batch}", latency) for batch, latency in self.batches.items()]
        return "\n".join([f"{'batch':<14}{_HEAD}", *rows])

    def _cold_start(self) -> str:
        start = vars(self.cold_start)
        parts = ", ".join(f"{name} {start[key]:.0f}" for key, name in _PARTS.items())
        peak = self.cold_start.peak_memory_bytes
        memory = "" if peak is None else f"; at most {peak / 1e6:.0f} MB of memory"
        return f"first label of a new process after {self.cold_start.whole_ms:.0f} ms ({parts}){memory}"


def _described(title: str, model: Model) -> str:
    return (
        f"{title:<11}{model.name}: {model.size / 1e6:.2f} MB, {model.form}, {model.precision}, opset {model.opset}, "
        f"target {printable(model.target)}, sha256 {model.sha256[:16]}"
    )


def _row(name: str, latency: Latency) -> str:
    times = "".join(f"{value:>10.3f}" for value in (latency.p50_ms, latency.p95_ms, latency.p99_ms))
    return f"{name:<14}{times}{latency.images_per_second:>10.1f}{latency.passes:>8}"


def _setups(tuning: Tuning) -> Iterator[str]:
    """Yield each engine and number of threads, and which one ``stn run --tune`` takes from now on."""
    best = tuning.best
    yield f"{'engine':<32}{'threads':>8}{'p50 ms':>10}{'ratio':>10}"
    for setup in tuning.setups:
        mark = "  'stn run --tune' takes this" if setup is best else ""
        name = ", ".join(setup.providers)
        yield f"{name:<32}{setup.threads:>8}{setup.ms:>10.3f}{setup.ms / best.ms:>10.3f}{mark}"
    yield from (f"{name}: not measured ({reason})" for name, reason in tuning.refused.items())


def _compared(first: Model, comparison: Comparison) -> Iterator[str]:
    yield _described("other", comparison.model)
    yield f"{'in turns':<14}{'model ms':>10}{'other ms':>10}{'ratio':>10}  95 % interval    rounds"
    for name, ratio in comparison.ratios.items():
        yield (
            f"{name:<14}{ratio.first_ms:>10.3f}{ratio.other_ms:>10.3f}{ratio.ratio:>10.3f}  "
            f"{ratio.low:>5.3f} to {ratio.high:<5.3f}  {ratio.rounds:>8}"
        )
    agreement = comparison.agreement
    if agreement is None:
        yield "their labels differ, so their answers were not compared"
        return
    difference = "not a number" if agreement.largest_difference is None else f"{agreement.largest_difference:.2g}"
    yield (
        f"same label for {agreement.same_labels} of {agreement.pictures} pictures, "
        f"largest difference of a probability {difference}"
    )
