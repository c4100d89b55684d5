"""The command doctor: what this device, or a model on a target, cannot do, and what mends it."""

import argparse
import platform
import sys
from collections.abc import Sequence
from importlib import import_module

import onnxruntime as ort
from tqdm import tqdm

from .errors import InputError, MissingDependencyError
from .sampler_check import KINDS, OPSETS, SamplerResult, check_samplers
from .zoo import find_model

_REMOTE = "AzureExecutionProvider"  # sends work to a server; it runs nothing here


def add_doctor_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what ``stn doctor`` takes."""
    parser.add_argument("model", nargs="?", help="look at this .onnx file instead of at the device")
    parser.add_argument("--target", metavar="NAME", help="where the model is to run (default: cpu)")
    parser.add_argument("--samplers", action="store_true", help="list every kind of sampler, not only those that fail")
    parser.add_argument("--providers", nargs="+", metavar="EP", help="execution providers to test (default: all here)")


def doctor(args: argparse.Namespace) -> int:
    """Examine a model for a target, or this device; return 1 when something will fail."""
    if args.model is not None:
        if args.samplers or args.providers:
            raise InputError("--samplers and --providers test this device: leave the model out")
        return _examine_model(args.model, args.target or "cpu")
    if args.target is not None:
        raise InputError(
            f"--target {args.target} looks into a model: give one, as in 'stn doctor model.onnx --target NAME'"
        )
    sys.stdout.write(f"python       {platform.python_version()} on {platform.machine()}, {platform.system()}\n")
    here = [provider for provider in ort.get_available_providers() if provider != _REMOTE]
    sys.stdout.write(f"onnxruntime  {ort.__version__}, providers {', '.join(here)}\n")
    missing = sorted(set(args.providers or ()) - set(here))
    if missing:
        raise InputError(f"execution provider {missing[0]} is not available here; there are {', '.join(here)}")
    chosen = args.providers or here
    checks = tqdm(check_samplers(chosen), "samplers", KINDS * len(chosen), leave=False, disable=None)
    return _report_samplers(list(checks), args.samplers)


def _examine_model(model: str, target: str) -> int:
    path = find_model(model)
    try:
        commands = import_module("stn_export.commands")
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"looking into a model needs package '{error.name}', which is not installed: pip install 'stn-edge[export]'"
        ) from error
    status: int = commands.print_findings(path, target)
    return status


def _report_samplers(results: Sequence[SamplerResult], every: bool) -> int:
    """Print what samples right and how fast.

    Returns:
        1 when a kind is sampled wrongly, or a provider runs none; a kind that one refuses or leaves to another is
        no fault.
    """
    shown = [result for result in results if every or not result.is_right]
    if shown:
        sys.stdout.write(f"{'provider':<24} opset  {'sampler':<30} {'error':>8} {'us':>8}  ran on\n")
    for result in shown:
        kind = f"{result.interpolation}, {result.padding}{', align_corners' if result.align_corners else ''}"
        sys.stdout.write(
            f"{result.provider:<24} {result.opset:>5}  {kind:<30} {result.error:>8.1e} {result.microseconds:>8.1f}  "
            f"{result.ran_on}{'' if result.is_right or result.is_refused else '  WRONG'}\n"
        )
    wrong = any(not result.is_right and not result.is_refused for result in results)
    for provider in dict.fromkeys(result.provider for result in results):
        own = [result for result in results if result.provider == provider]
        sys.stdout.write(_summary(own) + "\n")
        wrong |= all(result.is_refused for result in own)
    return 1 if wrong else 0


def _summary(results: Sequence[SamplerResult]) -> str:
    provider, refused = results[0].provider, [result for result in results if result.is_refused]
    if len(refused) == len(results):
        return f"GridSample   {provider}: runs no kind of it ({refused[0].ran_on})"
    own = [result for result in results if result.is_right and not result.is_elsewhere]
    elsewhere = sorted({result.ran_on for result in results if result.is_elsewhere})
    fast = [
        result.microseconds
        for result in own
        if (result.interpolation, result.padding, result.align_corners) == ("bilinear", "zeros", False)
    ]
    speed = f", the default one in {min(fast):.0f} us" if fast else ""
    note = f"; the others ran on {', '.join(elsewhere)}" if elsewhere else ""
    return (
        f"GridSample   {provider}: {len(own)} of {len(results)} kinds as specified "
        f"(opsets {', '.join(map(str, OPSETS))}){speed}{note}"
    )
