"""The command doctor: what this device, or a model on a target, cannot do, and what mends it.

It has to run where nothing else does, so that it imports onnxruntime and OpenCV only once they are known to load.
"""

import argparse
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from ..errors import InputError, MissingDependencyError
from ..machine.interpreter import PIP
from ..model.zoo import find_model, released_models
from .camera_check import check_cameras
from .display_check import check_display
from .extras_check import check_extras
from .finding import Finding
from .memory_check import check_memory
from .onnxruntime_check import check_onnxruntime, local_providers
from .opencv_check import check_opencv
from .package_check import PACKAGES, Attempt, check_numpy, try_package
from .processor_check import check_processor
from .python_check import check_python

if TYPE_CHECKING:
    from .sampler_check import SamplerResult

_OTHER_PROVIDER = "avoid it: stn run SOURCE --providers CPUExecutionProvider; or update onnxruntime"


def add_doctor_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what ``stn doctor`` takes."""
    parser.add_argument("model", nargs="?", help="check this model on this device, instead of the device itself")
    parser.add_argument("--target", metavar="NAME", help="check the model's graph for a target, such as tensorrt")
    parser.add_argument("--samplers", action="store_true", help="list every kind of sampler, not only those that fail")
    parser.add_argument("--providers", nargs="+", metavar="EP", help="execution providers to test (default: all here)")


def doctor(args: argparse.Namespace) -> int:
    """Examine a model for a target, a model on this device, or this device; return 1 when something will fail."""
    if args.model is not None:
        if args.samplers or args.providers:
            raise InputError("--samplers and --providers test this device: leave the model out")
        path = find_model(args.model)
        return _examine_model(path) if args.target is None else _examine_graph(path, args.target)
    if args.target is not None:
        raise InputError(
            f"--target {args.target} looks into a model: give one, as in 'stn doctor model.onnx --target NAME'"
        )
    return _examine_device(args.providers, args.samplers)


def _examine_device(providers: Sequence[str] | None, every: bool) -> int:
    attempts = _try_packages()
    has_engine = bool(attempts["numpy"].version and attempts["onnxruntime"].version)
    chosen = _choose(providers) if has_engine else []
    broken = _tell(_device_findings(attempts))
    if has_engine:
        broken += _tell(_sampler_findings(chosen, every))
    sys.stdout.write(f"BROKEN: {', '.join(dict.fromkeys(broken))}\n" if broken else "nothing is broken\n")
    return 1 if broken else 0


def _device_findings(attempts: Mapping[str, Attempt]) -> Iterator[Finding]:
    all_load = all(attempt.version for attempt in attempts.values())
    yield check_python()
    yield check_processor(_onnxruntime_cpus() if all_load else None)
    yield from check_memory()
    yield check_numpy(attempts["numpy"])
    yield from check_onnxruntime(attempts["onnxruntime"])
    yield from check_opencv(attempts["OpenCV"])
    if all_load:
        yield check_display()
    yield from check_cameras()
    yield check_extras()
    if all_load:
        yield from _model_findings(released_models())
    else:
        yield Finding("models", "note", "not tried, since a package that they need is BROKEN")


def _onnxruntime_cpus() -> int:
    from ..machine.cpus import usable_cpus

    return usable_cpus()


def _model_findings(models: Mapping[str, Path]) -> Iterator[Finding]:
    from .model_check import check_released

    faults = [check_released(path) for path in tqdm(models.values(), "models", leave=False, disable=None)]
    yield from filter(None, faults)
    if not models:
        yield Finding("models", "warning", "none is installed: stn run needs --model FILE")
    if len(models) > (broken := sum(fault is not None for fault in faults)):
        yield Finding("models", "ok", f"{len(models) - broken} of {len(models)} released ones answer as recorded")


def _examine_model(path: Path) -> int:
    """Examine a model on this device, and its graph for a CPU where the export room is installed."""
    attempts = _try_packages()
    if not all(attempt.version for attempt in attempts.values()):
        checked = [
            check_numpy(attempts["numpy"]),
            *check_onnxruntime(attempts["onnxruntime"]),
            *check_opencv(attempts["OpenCV"]),
        ]
        _tell(finding for finding in checked if finding.state == "BROKEN")
        return 1
    from .model_check import check_model

    if _tell(check_model(path)):
        return 1
    try:
        return _examine_graph(path, "cpu")
    except MissingDependencyError:
        _tell(
            [Finding("graph", "note", f"not checked; to check it, also for targets: {PIP} install 'stn-edge[export]'")]
        )
        return 0


def _examine_graph(path: Path, target: str) -> int:
    try:
        commands = import_module("stn_export.commands")
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"looking into a model needs package '{error.name}', which is not installed: "
            f"{PIP} install 'stn-edge[export]'"
        ) from error
    status: int = commands.print_findings(path, target)
    return status


def _try_packages() -> dict[str, Attempt]:
    return {name: try_package(name) for name in tqdm(PACKAGES, "packages", leave=False, disable=None)}


def _tell(findings: Iterable[Finding]) -> list[str]:
    """Print findings as they come; return the names of what is broken."""
    broken = []
    for finding in findings:
        sys.stdout.write(f"{finding}\n")
        sys.stdout.flush()
        if finding.state == "BROKEN":
            broken.append(finding.name)
    return broken


def _choose(providers: Sequence[str] | None) -> Sequence[str]:
    here = local_providers()
    missing = sorted(set(providers or ()) - set(here))
    if missing:
        raise InputError(f"execution provider {missing[0]} is not available here; there are {', '.join(here)}")
    return providers or here


def _sampler_findings(providers: Sequence[str], every: bool) -> Iterator[Finding]:
    """Yield how each provider samples, after a table of what samples wrongly, or of every kind.

    A provider is broken that samples a kind wrongly, or runs none; a kind that one refuses or leaves to another is no
    fault.
    """
    from .sampler_check import KINDS, check_samplers

    checks = tqdm(check_samplers(providers), "samplers", KINDS * len(providers), leave=False, disable=None)
    results = list(checks)
    _print_table([result for result in results if every or not result.is_right])
    for provider in dict.fromkeys(result.provider for result in results):
        yield _summary([result for result in results if result.provider == provider])


def _print_table(shown: Sequence["SamplerResult"]) -> None:
    if shown:
        sys.stdout.write(f"{'provider':<24} opset  {'sampler':<30} {'error':>8} {'us':>8}  ran on\n")
    for result in shown:
        kind = f"{result.interpolation}, {result.padding}{', align_corners' if result.align_corners else ''}"
        sys.stdout.write(
            f"{result.provider:<24} {result.opset:>5}  {kind:<30} {result.error:>8.1e} {result.microseconds:>8.1f}  "
            f"{result.ran_on}{'' if result.is_right or result.is_refused else '  WRONG'}\n"
        )


def _summary(results: Sequence["SamplerResult"]) -> Finding:
    provider, refused = results[0].provider, [result for result in results if result.is_refused]
    if len(refused) == len(results):
        return Finding("GridSample", "BROKEN", f"{provider}: runs no kind of it ({refused[0].ran_on})", _OTHER_PROVIDER)
    wrong = [result for result in results if not result.is_right and not result.is_refused]
    own = [result for result in results if result.is_right and not result.is_elsewhere]
    elsewhere = sorted({result.ran_on for result in results if result.is_elsewhere})
    fast = [
        result.microseconds
        for result in own
        if (result.interpolation, result.padding, result.align_corners) == ("bilinear", "zeros", False)
    ]
    opsets = ", ".join(map(str, sorted({result.opset for result in results})))
    speed = f", the default one in {min(fast):.0f} us" if fast else ""
    note = f"; the others ran on {', '.join(elsewhere)}" if elsewhere else ""
    sentence = f"{provider}: {len(own)} of {len(results)} kinds as specified (opsets {opsets}){speed}{note}"
    if wrong:
        return Finding("GridSample", "BROKEN", sentence, _OTHER_PROVIDER)
    return Finding("GridSample", "ok" if own else "warning", sentence)
