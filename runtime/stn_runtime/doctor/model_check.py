"""Whether model files answer on this device as they did where they were made, and what samples in them."""

from pathlib import Path

from ..errors import InputError, printable
from ..model.golden import golden_image, replay
from ..model.network import Network
from ..model.parity import Parity
from ..model.session import NoManifestError
from .finding import Finding
from .profiling import profile_nodes


def check_released(path: Path) -> Finding | None:
    """Return what is wrong with a released model here, or None when it answers as recorded."""
    try:
        network = Network(path)
        result = replay(network)
    except InputError as error:
        return Finding("models", "BROKEN", str(error), "reinstall stn-edge from its checkout or wheel")
    return None if result.passed else _differs("models", path.name, result, network)


def check_model(path: Path) -> list[Finding]:
    """Return how one model file fares here: whether it loads, answers as recorded, and which provider samples."""
    try:
        network = Network(path)
        result = replay(network)
    except NoManifestError:
        sentence = f"{path.name} loads here; 'stn export' did not write it, so it carries no answers to compare with"
        return [Finding("model", "note", sentence)]
    except InputError as error:
        return [Finding("model", "BROKEN", str(error))]
    manifest = network.manifest
    export = manifest.export
    kind = f"{printable(manifest.name)}, {len(manifest.labels)} classes, {export.form}, {export.precision}, "
    kind += ", ".join(filter(None, (f"opset {export.opset}", manifest.label_rule())))
    return [
        Finding("model", "ok", f"{path.name}: {kind}"),
        _answers(path.name, result, network),
        Finding("sampler", "ok", _sampler(path, network)),
    ]


def _answers(name: str, result: Parity, network: Network) -> Finding:
    if not result.passed:
        return _differs("answers", name, result, network)
    worst, apart = max(result.differences.items(), key=lambda entry: entry[1] / result.allowed(entry[0]))
    return Finding("answers", "ok", f"as recorded, {result.pictures} golden vectors; {worst} {apart:.1e} apart at most")


def _differs(check: str, name: str, result: Parity, network: Network) -> Finding:
    apart = ", ".join(
        f"{output} {value:.1e} (allowed {result.allowed(output):.1e})"
        for output, value in result.differences.items()
        if not value <= result.allowed(output)
    )
    labels = f"{result.labels_differ} of {result.pictures} labels differ" if result.labels_differ else ""
    is_on_cpu = network.session.get_providers()[0] == "CPUExecutionProvider"
    other = "use another provider: stn run SOURCE --providers CPUExecutionProvider"
    return Finding(
        check,
        "BROKEN",
        f"{name} does NOT answer as recorded: {'; '.join(filter(None, (apart, labels)))}",
        f"update onnxruntime, or {'copy the file again: it may be damaged' if is_on_cpu else other}",
    )


def _sampler(path: Path, network: Network) -> str:
    """Return where the spatial transformers of a network sample; onnxruntime's profile tells of each node."""
    export = network.manifest.export
    if not network.manifest.transformers:
        return "none: the network has no spatial transformer"
    if export.form == "split":
        return "OpenCV on the CPU, between the two graphs"
    provider = network.session.get_providers()[0]
    image = golden_image(network.manifest.golden[0], network.manifest.preprocess)
    ran_on = {node[1] for node in profile_nodes(path, provider, {"image": image}) if node[0] == "GridSample"}
    if not ran_on:
        how = "in primitive operators" if export.form == "portable" else "in no GridSample that onnxruntime tells of"
        return f"{how}, on {provider}"
    return f"GridSample on {', '.join(sorted(ran_on))}"
