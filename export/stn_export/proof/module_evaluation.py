"""A PyTorch module as the original of a proof: its samplers watched, its arithmetic disturbed by rounding."""

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from torch import Tensor, nn
from torch._decomp import decomposition_table
from torch._ops import OpOverload
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from .evaluation import LARGEST_THETA, Array, Evaluation, Held, SamplerModes, Sampling

_SAMPLERS = {"aten::grid_sampler", "aten::grid_sampler_2d", "aten::grid_sampler_3d"}
_NORMALISATIONS = {"aten::native_batch_norm", "aten::native_group_norm", "aten::native_layer_norm"}
"""Operators that compute a mean inside, whose rounding moves all numbers of a channel alike."""

_INTERPOLATIONS = ("bilinear", "nearest", "bicubic")  # by the number that PyTorch's operator takes
_PADDINGS = ("zeros", "border", "reflection")


class ModuleOriginal:
    """A module whose graph is to be proven.

    Args:
        module: In evaluation mode, on the CPU.
        around: Returns a context in which a module runs, such as one with injected thetas; by default none.
    """

    def __init__(
        self, module: nn.Module, around: Callable[[nn.Module], AbstractContextManager[None]] | None = None
    ) -> None:
        self._module = module
        self._around = around or (lambda _: nullcontext())
        self._copy: nn.Module | None = None

    def evaluate(self, inputs: Sequence[Array]) -> Evaluation:
        """Return one run of the module."""
        return self._run(self._module, [torch.from_numpy(np.array(values)) for values in inputs])

    def disturbed(self, inputs: Sequence[Array], seed: int, held: Held | None = None) -> Evaluation:
        """Return a run in which inputs and operators' results are moved by at most one unit in the last place."""
        if self._copy is None:
            self._copy = copy.deepcopy(self._module)  # a buffer that its code fills must not keep disturbed values
        generator = torch.Generator().manual_seed(seed)
        moved = [_disturbed(torch.from_numpy(np.array(values)), generator) for values in inputs]
        return self._run(self._copy, moved, _Rounding(generator), held)

    def sample(self, image: Array, grid: Array, modes: SamplerModes) -> Array:
        """Return what ``grid_sample`` makes of an image and a grid."""
        sampled: Array = functional.grid_sample(
            torch.from_numpy(image),
            torch.from_numpy(grid),
            modes.interpolation,
            modes.padding,
            modes.align_corners,
        ).numpy()
        return sampled

    def _run(
        self,
        module: nn.Module,
        inputs: Sequence[Tensor],
        rounding: "_Rounding | None" = None,
        held: Held | None = None,
    ) -> Evaluation:
        watcher = _Watcher(max((len(tensor) for tensor in inputs if tensor.ndim), default=1), rounding, held)
        with torch.no_grad(), self._around(module), watcher:
            outputs = module(*inputs)
        leaves = tuple(leaf.detach().numpy().copy() for leaf in tree_leaves(outputs) if isinstance(leaf, Tensor))
        return Evaluation(leaves, tuple(watcher.samplings), watcher.small)


class _Rounding(TorchDispatchMode):  # type: ignore[no-untyped-call]  # PyTorch's own
    """Moves what each operator returns by at most one unit in the last place while a block runs.

    This is Monte Carlo arithmetic: Parker, "Monte Carlo Arithmetic: exploiting randomness in floating-point
    arithmetic", 1997.

    Args:
        generator: Draws the rounding.
    """

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.generator = generator

    def __torch_dispatch__(
        self,
        func: OpOverload,
        types: Iterable[type],
        args: Sequence[object] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        """Return an operator's result, moved; a view of an argument stays as it is, since the argument was moved."""
        schema = func._schema
        if schema.name in _NORMALISATIONS and func in decomposition_table:
            with self:
                return decomposition_table[func](*args, **(kwargs or {}))
        result: object = func(*args, **(kwargs or {}))
        if schema.is_mutable:
            for leaf in tree_leaves(result):
                if isinstance(leaf, Tensor):
                    leaf.copy_(_disturbed(leaf, self.generator))
            return result
        if any(returned.alias_info is not None for returned in schema.returns):
            return result
        return tree_map(lambda leaf: _disturbed(leaf, self.generator) if isinstance(leaf, Tensor) else leaf, result)


class _Watcher(TorchDispatchMode):  # type: ignore[no-untyped-call]  # PyTorch's own
    """Records samplers and small tensors while a module runs.

    Args:
        batch: Number of batch elements.
        rounding: Moves what operators return; None where nothing is moved.
        held: Values that samplers and thetas take from another run.
    """

    def __init__(self, batch: int, rounding: _Rounding | None, held: Held | None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.samplings: list[Sampling] = []
        self.small: dict[int, Array] = {}
        self._most = LARGEST_THETA * batch
        self._rounding, self._held = rounding, held
        self._number = -1  # of the operator that runs
        self._makers: dict[tuple[int, torch.Size], int] = {}  # of tensors, by where they lie
        self._computed: dict[int, Array] = {}  # instead of what is held

    def __torch_dispatch__(
        self,
        func: OpOverload,
        types: Iterable[type],
        args: Sequence[object] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        """Return an operator's result, moved or held where that is asked for."""
        self._number += 1
        with self._rounding or nullcontext():
            result: object = func(*args, **(kwargs or {}))
        if not isinstance(result, Tensor):
            return result
        if func._schema.name in _SAMPLERS:
            return self._record(args, result)
        if result.is_floating_point() and 0 < result.numel() <= self._most:
            self.small[self._number] = result.detach().numpy().copy()
        if self._held is not None and self._number in self._held.values:
            self._computed[self._number] = result.detach().numpy().copy()
            result = _like(result, self._held.values[self._number])
        if result.layout == torch.strided:
            self._makers[result.data_ptr(), result.shape] = self._number
        return result

    def _record(self, args: Sequence[object], sampled: Tensor) -> Tensor:
        image, grid, interpolation, padding, align_corners = args
        if not isinstance(image, Tensor) or not isinstance(grid, Tensor):
            raise TypeError("grid_sampler takes tensors")
        if self._held is not None and len(self.samplings) < len(self._held.sampled):
            sampled = _like(sampled, self._held.sampled[len(self.samplings)])
        modes = SamplerModes(
            _INTERPOLATIONS[int(str(interpolation))], _PADDINGS[int(str(padding))], bool(align_corners)
        )
        read, places, result = (value.detach().numpy().copy() for value in (image, grid, sampled))
        maker = self._makers.get((image.data_ptr(), image.shape), -1)
        self.samplings.append(Sampling(self._computed.get(maker, read), places, result, modes, maker))
        self._makers[sampled.data_ptr(), sampled.shape] = -1  # the next sampler reads what is held already
        return sampled


def _like(result: Tensor, values: Array) -> Tensor:
    """Return the values of another run, or the result itself where they have another shape."""
    return torch.from_numpy(values).clone() if values.shape == result.shape else result


def _disturbed(tensor: Tensor, generator: torch.Generator) -> Tensor:
    """Return a tensor whose numbers, but for whole ones, are moved by at most one unit in the last place."""
    if not tensor.is_floating_point() or tensor.layout != torch.strided:
        return tensor
    unit = torch.finfo(tensor.dtype).eps
    noise = torch.rand(tensor.shape, generator=generator) * (2 * unit) - unit
    return torch.where(tensor == tensor.round(), tensor, tensor * (1 + noise).to(tensor.dtype))
