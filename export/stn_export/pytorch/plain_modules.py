"""Modules as people keep them made plain for an export: compiled, data-parallel, averaged, in double precision."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from stn_runtime import InputError

_UNSUPPORTED = {torch.float64: "float64", torch.bfloat16: "bfloat16"}
"""Types in which onnxruntime has no convolution on a CPU."""


@contextmanager
def plain_module(module: nn.Module, example: Sequence[Tensor] = ()) -> Iterator[nn.Module]:
    """Give a module as PyTorch's exporter takes it while the block runs; afterwards everything is as it was.

    What ``torch.compile`` made runs as it is written, ``DataParallel``, ``DistributedDataParallel`` and
    ``AveragedModel`` are replaced by what they hold, also inside the module, and every part is in evaluation mode. A
    module in float64 or bfloat16 is in float32, with a warning.

    Args:
        module: Any module.
        example: One batch of its inputs, of which one in float64 or bfloat16 is warned of, too.

    Raises:
        InputError: It holds TorchScript.
    """
    plain = _held(module)
    _check_script(plain)
    kinds = {tensor.dtype for tensor in [*plain.parameters(), *example]} & set(_UNSUPPORTED)
    if kinds:
        warnings.warn(
            f"{type(plain).__name__} is in {_UNSUPPORTED[kinds.pop()]}, in which onnxruntime has no convolution on a "
            "CPU; it is exported in float32",
            stacklevel=4,
        )
    with ExitStack() as stack:
        stack.enter_context(torch.compiler.set_stance("force_eager"))
        stack.enter_context(_parts_unwrapped(plain))
        stack.enter_context(_evaluation_mode(plain))
        stack.enter_context(_single_precision(plain))
        yield plain


def in_single_precision(tensor: Tensor) -> Tensor:
    """Return a tensor in float32 where it is in a type that is not exported."""
    return tensor.float() if tensor.dtype in _UNSUPPORTED else tensor


def _held(module: nn.Module) -> nn.Module:
    """Return what wrappers around a module hold, or the module itself."""
    while True:
        if isinstance(module, nn.DataParallel | DistributedDataParallel | AveragedModel):
            held = module.module
        else:
            held = dict(module.named_children()).get("_orig_mod")  # what torch.compile keeps its module as
        if not isinstance(held, nn.Module):
            return module
        module = held


def _check_script(module: nn.Module) -> None:
    """Raise ``InputError`` where a module is or holds TorchScript."""
    for name, part in module.named_modules():
        if isinstance(part, torch.jit.ScriptModule):
            where = f"{type(module).__name__}: its part '{name}'" if name else "the module"
            raise InputError(
                f"{where} is TorchScript (torch.jit.script or torch.jit.trace), which PyTorch's exporter does not "
                "take: export the module that it was made from, or write it with torch.onnx.export(..., dynamo=False, "
                "opset_version=20) and give that file to 'stn optimize'"
            )


@contextmanager
def _parts_unwrapped(module: nn.Module) -> Iterator[None]:
    """Replace wrapped parts of a module by what they hold while the block runs."""
    replaced: list[tuple[nn.Module, str, nn.Module]] = []
    waiting, seen = [module], {module}
    while waiting:
        parent = waiting.pop()
        for name, part in list(parent.named_children()):
            plain = _held(part)
            if plain is not part:
                replaced.append((parent, name, part))
            if plain not in seen:
                seen.add(plain)
                waiting.append(plain)
    try:
        for parent, name, part in replaced:
            setattr(parent, name, _held(part))
        yield
    finally:
        for parent, name, part in replaced:
            setattr(parent, name, part)


@contextmanager
def _evaluation_mode(module: nn.Module) -> Iterator[None]:
    """Put a module into evaluation mode while the block runs; afterwards each part has its own mode again."""
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        yield
    finally:
        for part in training:
            part.training = True


@contextmanager
def _single_precision(module: nn.Module) -> Iterator[None]:
    """Put parameters and buffers that are in float64 or bfloat16 into float32 while the block runs.

    A module in float32 keeps its buffers in float64, which its code may want.
    """
    if not any(tensor.dtype in _UNSUPPORTED for tensor in module.parameters()):
        yield
        return
    kept = [(tensor, tensor.data) for tensor in [*module.parameters(), *module.buffers()]]
    try:
        for tensor, values in kept:
            tensor.data = in_single_precision(values)
        yield
    finally:
        for tensor, values in kept:
            tensor.data = values
