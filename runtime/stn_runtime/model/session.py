"""Opening a model file in onnxruntime, with threads and execution provider chosen openly."""

import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path

import onnxruntime as ort

from ..errors import InputError, ModelContractError
from ..machine.cpus import usable_cpus
from .manifest import METADATA_KEY, Manifest

CLASSIFIER_KEY = "stn_edge_classifier"
"""Metadata of a file of the split form: the graph behind the warp, an ONNX file as base64."""

GRID = "grid_{}"
"""Outputs of the split form's localisation graph: the sampling grid of the transformer of that number."""

WARPED = "warped_{}"
"""Inputs of its classifier graph: what the transformer of that number sampled, (N, C, h, w) in [0, 1]."""

_AUTO_PROVIDERS = ("CUDAExecutionProvider", "CPUExecutionProvider")


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
        ModelContractError: The file cannot be loaded; one sentence.
        InputError: A provider that was named is not available.
    """
    name = name or (str(model) if isinstance(model, Path) else "the model")
    is_auto = providers is None or list(providers) == ["auto"]
    wanted = _choose_providers(None if is_auto else providers)
    options = _session_options(threads, spin, optimize)
    try:
        with contextlib.redirect_stdout(sys.stderr):  # where onnxruntime falls back, it prints so
            session = ort.InferenceSession(str(model) if isinstance(model, Path) else model, options, providers=wanted)
    except Exception as error:  # onnxruntime's exceptions share no base class but this one
        reason = " ".join(str(error).split())
        raise ModelContractError(
            f"{name}: onnxruntime cannot load it ({reason[:200]}); export the model again"
        ) from error
    session.disable_fallback()  # in the middle of a run
    if session.get_providers()[0] != wanted[0]:
        fault = f"execution provider {wanted[0]} could not be started; onnxruntime took {session.get_providers()[0]}"
        if not is_auto:
            raise InputError(fault)
        sys.stderr.write(f"{fault}\n")
    return session


def _choose_providers(providers: Sequence[str] | None) -> list[str]:
    """Return the execution providers to ask for; None chooses."""
    available = ort.get_available_providers()
    if providers is None:
        return [provider for provider in _AUTO_PROVIDERS if provider in available]
    if not providers:
        raise InputError("no execution provider is named; leave them out, or name one such as CPUExecutionProvider")
    missing = [provider for provider in providers if provider not in available]
    if missing:
        raise InputError(f"execution provider {missing[0]} is not available here; there are {', '.join(available)}")
    return list(providers)


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
        ModelContractError: There is none, it is damaged, or the graph is not what it says.
    """
    metadata = read_metadata(session, source)
    if METADATA_KEY not in metadata:
        found = ", ".join(sorted(metadata)) or "none"
        raise ModelContractError(
            f"{source}: no '{METADATA_KEY}' metadata (found: {found}); export it with 'stn export'"
        )
    manifest = Manifest.from_json(metadata[METADATA_KEY], source)
    _check_input(session, manifest, source)
    _check_outputs(session, manifest, source)
    if manifest.export.form != "split":
        check_probabilities(session, manifest, source)
    return manifest


def _check_input(session: ort.InferenceSession, manifest: Manifest, source: str) -> None:
    spec = manifest.preprocess
    inputs = session.get_inputs()
    expected = [spec.height, spec.width, spec.channels]
    if [entry.name for entry in inputs] != ["image"]:
        raise ModelContractError(f"{source}: inputs are {[entry.name for entry in inputs]}, expected only 'image'")
    batch, *size = inputs[0].shape
    if inputs[0].type != "tensor(uint8)" or size != expected:
        raise ModelContractError(
            f"{source}: input 'image' is {inputs[0].type} {inputs[0].shape}, "
            f"the manifest says tensor(uint8) N x {expected}"
        )
    if isinstance(batch, int) and batch != 1:
        raise ModelContractError(f"{source}: takes {batch} pictures at a time, expected any number, or one")


def _check_outputs(session: ort.InferenceSession, manifest: Manifest, source: str) -> None:
    outputs = {entry.name: entry for entry in session.get_outputs()}
    grids = [GRID.format(number) for number in range(len(manifest.transformers))]
    if manifest.export.form == "split":
        if list(outputs) != ["theta", "outline", *grids]:
            raise ModelContractError(
                f"{source}: is of the split form, but its outputs are {list(outputs)}; export it again"
            )
    elif tuple(outputs) != manifest.outputs:
        raise ModelContractError(f"{source}: outputs are {list(outputs)}, the manifest says {list(manifest.outputs)}")
    for name, rank in (("theta", 2), ("outline", 4), ("rectified", 4)):
        if name in outputs and len(outputs[name].shape) != rank:
            raise ModelContractError(
                f"{source}: output '{name}' is {outputs[name].shape}, expected {rank} dimensions; export it again"
            )
    parameters = manifest.transformers[-1].theta[1] if manifest.transformers else 0
    for name, expected_size in (("theta", parameters), ("outline", len(manifest.transformers))):
        if name in outputs and outputs[name].shape[1] != expected_size:
            raise ModelContractError(
                f"{source}: output '{name}' is {outputs[name].shape}, "
                f"the manifest's transformers need N x {expected_size}"
            )


def check_probabilities(session: ort.InferenceSession, manifest: Manifest, source: str) -> None:
    """Check that a graph answers one probability for each label.

    Raises:
        ModelContractError: It does not.
    """
    shape = {entry.name: entry.shape for entry in session.get_outputs()}.get("probabilities", [])
    if len(shape) != 2 or shape[1] != len(manifest.labels):
        raise ModelContractError(
            f"{source}: output 'probabilities' is {shape}, expected N x {len(manifest.labels)} labels"
        )
