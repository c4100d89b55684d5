"""Opening a model file in onnxruntime, with threads and execution provider chosen openly, within bounds.

A file from a stranger may ask for endless work or endless memory, while it is opened (onnxruntime computes constants
ahead) and when it runs. Both happen on a thread that is watched; over the bounds onnxruntime is told to stop, which it
does between two nodes and two turns of a loop, and the caller gets an exception. A single node that takes for ever goes
on until the process ends, which the command line then does at once. A process of its own would also outlive a crash of
onnxruntime, but would open every model twice; no hostile file has made it crash so far.
"""

import contextlib
import io
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import onnxruntime as ort

from ..errors import LONGEST_MESSAGE, InputError, ModelContractError, printable
from ..machine.cpus import usable_cpus
from ..machine.memory import free_memory
from ..machine.threads import OverLimitError, run_within
from .contract import check_graph
from .manifest import METADATA_KEY, Manifest

T = TypeVar("T")


class NoManifestError(ModelContractError):
    """A file that loads, but that ``stn export`` did not write."""


CLASSIFIER_KEY = "stn_edge_classifier"
"""Metadata of a file of the split form: the graph behind the warp, an ONNX file as base64."""

_AUTO_PROVIDERS = ("CUDAExecutionProvider", "CPUExecutionProvider")
_SECONDS = 60.0  # for opening a file, and for its first run
_COMPILING_SECONDS = 3600.0  # TensorRT and its like build the network first, which takes minutes on small devices
_MOST_MEMORY = 4 << 30  # bytes for the same, beside what the size of the file explains
_FILES = 8  # so many times the size of a file, for copies of its weights in other layouts and types
_LEAST_MEMORY = 256 << 20  # where little is free, the system may still find as much
_LONGEST_REASON = 200  # characters of onnxruntime's own message


def open_session(
    model: Path | bytes,
    *,
    threads: int | None = None,
    providers: Sequence[str] | None = None,
    spin: bool = True,
    optimize: bool = True,
    name: str | None = None,
) -> ort.InferenceSession:
    """Return an onnxruntime session for a model file.

    Args:
        model: The file, or its bytes.
        threads: Number of threads within an operator; None takes one for each CPU that this process may use.
        providers: Execution providers in order of preference, none of which may be missing; None takes CUDA where
            there is one, else the CPU, and so does ["auto"].
        spin: Whether idle threads spin, which answers sooner, or sleep, which leaves the CPUs to others.
        optimize: Whether onnxruntime may rewrite the graph.
        name: Name of the model in error messages; None takes the path.

    Raises:
        ModelContractError: The file cannot be loaded, or not within the bounds of time and memory; one sentence.
        InputError: A provider that was named is not available.
    """
    name = name or (str(model) if isinstance(model, Path) else "the model")
    is_auto = providers is None or list(providers) == ["auto"]
    wanted = _choose_providers(None if is_auto else providers)
    options = _session_options(threads, spin, optimize)
    settings = [_provider_options(provider, options.intra_op_num_threads) for provider in wanted]
    place = str(model) if isinstance(model, Path) else model

    def stop() -> None:
        if hasattr(options, "set_load_cancellation_flag"):  # onnxruntime 1.22
            options.set_load_cancellation_flag(True)

    printed = io.StringIO()  # where onnxruntime falls back to another provider, it prints why
    try:
        with contextlib.redirect_stdout(printed):
            session = within_bounds(
                lambda: ort.InferenceSession(place, options, providers=wanted, provider_options=settings),
                stop,
                "opening it",
                name,
                model,
                wanted,
            )
    except ModelContractError:
        raise
    except Exception as error:  # onnxruntime's exceptions share no base class but this one
        fault = _fault_of(model) or f"onnxruntime cannot load it ({reason_of(error)}); copy or export the model again"
        raise ModelContractError(f"{name}: {fault}") from error
    session.disable_fallback()  # in the middle of a run
    for line in printed.getvalue().splitlines():
        sys.stderr.write(f"{printable(line, LONGEST_MESSAGE)}\n")
    _check_names(session, name)
    if session.get_providers()[0] != wanted[0]:
        fault = f"execution provider {wanted[0]} could not be started; onnxruntime took {session.get_providers()[0]}"
        if not is_auto:
            raise InputError(fault)
        sys.stderr.write(f"{fault}\n")
    return session


def _fault_of(model: Path | bytes) -> str | None:
    """Return what a file that is no model is, and what to do, where that is plain."""
    if isinstance(model, bytes):
        return None
    try:
        with model.open("rb") as file:
            beginning = file.read(64)
    except OSError as error:
        return f"cannot be read ({error.strerror or error})"
    if not beginning:
        return "is empty (0 bytes); copy or export the model again"
    if beginning.startswith(b"version https://git-lfs"):
        return "is a Git LFS pointer, not the model; run 'git lfs pull' where it comes from"
    return None


def _check_names(session: ort.InferenceSession, name: str) -> None:
    """Refuse a file whose inputs and outputs cannot be read later, since their names or sizes are not UTF-8."""
    try:
        for entry in (*session.get_inputs(), *session.get_outputs()):
            _ = entry.name, entry.type, entry.shape
    except UnicodeDecodeError as error:
        raise ModelContractError(f"{name}: a name in its graph is not text; the file is damaged") from error


def within_bounds(
    action: Callable[[], T],
    stop: Callable[[], object],
    what: str,
    name: str,
    model: Path | bytes,
    providers: Sequence[str],
) -> T:
    """Return what an action of onnxruntime returns, unless it takes too long or too much memory.

    The bounds are a minute, an hour where a provider compiles; and of the memory that is free three quarters, at most
    4 GiB beside eight times the file.

    Args:
        action: Opens or runs the model.
        stop: Tells onnxruntime to stop.
        what: What the action does, as the subject of a sentence.
        name: Name of the model in messages.
        model: The file, or its bytes.
        providers: Its execution providers.

    Raises:
        ModelContractError: It was over the bounds, and was given up.
        Exception: Whatever the action raised.
    """
    size = len(model) if isinstance(model, bytes) else _size_of(model)
    memory = max(_LEAST_MEMORY, min(free_memory() * 3 // 4, _MOST_MEMORY + _FILES * size))
    seconds = _SECONDS if set(providers) <= set(_AUTO_PROVIDERS) else _COMPILING_SECONDS
    try:
        return run_within(action, stop, seconds, memory)
    except OverLimitError as error:
        raise ModelContractError(
            f"{name}: {what} {error}; run no file whose origin you do not know, or take a smaller network"
        ) from error


def reason_of(error: BaseException) -> str:
    """Return onnxruntime's message, which may quote any name in a file, as one short printable line."""
    return printable(" ".join(str(error)[: 10 * _LONGEST_REASON].split()), _LONGEST_REASON)


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # opening it tells why
        return 0


def _choose_providers(providers: Sequence[str] | None) -> list[str]:
    """Return the execution providers to ask for; None chooses."""
    available = ort.get_available_providers()
    if isinstance(providers, str):
        raise TypeError(f"providers must be a list of names, got {providers!r}")
    if providers is None:
        return [provider for provider in _AUTO_PROVIDERS if provider in available]
    if not providers:
        raise InputError("no execution provider is named; leave them out, or name one such as CPUExecutionProvider")
    missing = [provider for provider in providers if provider not in available]
    if missing:
        raise InputError(f"execution provider {missing[0]} is not available here; there are {', '.join(available)}")
    return list(providers)


def _provider_options(provider: str, threads: int) -> dict[str, str]:
    """Return what a provider is told beside the session's options.

    OpenVINO counts its threads by itself, and computes in bfloat16 or float16 where the device is faster in it, which
    moves sampling points; it is held to the file's own precision.
    """
    if provider == "OpenVINOExecutionProvider":
        return {"precision": "ACCURACY", "num_of_threads": str(threads)}
    return {}


def _session_options(threads: int | None, spin: bool, optimize: bool) -> ort.SessionOptions:
    options = ort.SessionOptions()
    # Both are set from the CPU set: onnxruntime's own choice hangs or fails in containers that pin CPUs.
    options.intra_op_num_threads = threads or usable_cpus()
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    # An arena keeps the most that was ever needed, and is no faster on small networks.
    options.enable_cpu_mem_arena = False
    if not optimize:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    if not spin:
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def read_metadata(session: ort.InferenceSession, source: str) -> dict[str, str]:
    """Return the metadata of an open model file.

    Raises:
        ModelContractError: It is damaged.
    """
    try:
        metadata: dict[str, str] = session.get_modelmeta().custom_metadata_map
    except UnicodeDecodeError as error:
        raise ModelContractError(f"{source}: its metadata is not text; the file is damaged") from error
    return metadata


def read_manifest(session: ort.InferenceSession, source: str) -> Manifest:
    """Return the manifest of an open model file, after checking the graph against it.

    Raises:
        NoManifestError: There is none.
        ModelContractError: It is damaged, or the graph is not what it says.
    """
    metadata = read_metadata(session, source)
    if METADATA_KEY not in metadata:
        keys = printable(", ".join(printable(key, 60) for key in sorted(metadata)), 300) or "none"
        raise NoManifestError(
            f"{source}: no '{METADATA_KEY}' metadata (found: {keys}), so its labels and its input are unknown; "
            "take a file that 'stn export' wrote"
        )
    manifest = Manifest.from_json(metadata[METADATA_KEY], source)
    check_graph(session, manifest, source)
    return manifest
