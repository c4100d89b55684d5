"""The spatial transformer, made of localisation net, grid generator and sampler; hooks that record or replace theta."""

import difflib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from .grid import GridGenerator, make_grid
from .localization import LocalizationNet, VotingLocalizationNet, conv_features, is_autocast
from .sampler import Sampler


class SpatialTransformer(nn.Module):
    """Warps its input by a transformation that it computes from that input (Jaderberg et al. 2015, figure 2).

    Under autocast, grid and sampler stay in float32, as theta does.

    Args:
        localization: Maps the input (N, C, H, W) to theta (N, P); usually a LocalizationNet.
        grid: Maps theta to the sampling grid.
        sampler: Reads the input on the grid.

    Raises:
        ValueError: Grid and sampler disagree about ``align_corners``.
    """

    def __init__(self, localization: nn.Module, grid: GridGenerator, sampler: Sampler | None = None) -> None:
        super().__init__()
        sampler = sampler if sampler is not None else Sampler(align_corners=grid.align_corners)
        if sampler.align_corners != grid.align_corners:
            raise ValueError(
                f"align_corners differs: grid generator {grid.align_corners}, sampler {sampler.align_corners}"
            )
        self.localization = localization
        self.grid = grid
        self.sampler = sampler

    def forward(self, image: Tensor) -> Tensor:
        """Return the warped input, (N, C, h, w), for ``image`` (N, C, H, W)."""
        theta = self.localization(image)
        if is_autocast(image):
            with torch.autocast(image.device.type, enabled=False):
                return self._sample(image.float(), theta.float())
        return self._sample(image, theta)

    def _sample(self, image: Tensor, theta: Tensor) -> Tensor:
        warped: Tensor = self.sampler(image, self.grid(theta))
        return warped


class ParallelTransformers(nn.Module):
    """Several transformers on the same input, their outputs joined over channels (paper, section 3.4).

    Args:
        transformers: One or more, all of the same output size.
    """

    def __init__(self, transformers: Sequence[SpatialTransformer]) -> None:
        super().__init__()
        sizes = {transformer.grid.output_size for transformer in transformers}
        if len(sizes) != 1:
            raise ValueError(f"parallel transformers need one common output size, got {sorted(sizes)}")
        self.transformers = nn.ModuleList(transformers)

    def forward(self, image: Tensor) -> Tensor:
        """Return (N, T C, h, w) for ``image`` (N, C, H, W): transformer by transformer, not channel by channel."""
        return torch.cat([transformer(image) for transformer in self.transformers], dim=1)


class TransformedInput(nn.Module):
    """A module with a spatial transformer in front of its first argument."""

    def __init__(self, transformer: nn.Module, module: nn.Module) -> None:
        super().__init__()
        self.transformer = transformer
        self.module = module

    def forward(self, image: Tensor, *args: object, **kwargs: object) -> object:
        """Return what the module makes of the transformed ``image`` (N, C, H, W)."""
        return self.module(self.transformer(image), *args, **kwargs)


def make_transformer(
    channels: int, size: tuple[int, int], grid: str = "affine", output_size: tuple[int, int] | None = None
) -> SpatialTransformer:
    """Return a transformer with a small convolutional localisation net.

    Args:
        channels: Channels of its input.
        size: (height, width) of its input.
        grid: A name in GRID_GENERATORS.
        output_size: (height, width) of its output; by default that of its input.
    """
    generator = make_grid(grid, output_size or size)
    return SpatialTransformer(LocalizationNet(*conv_features(channels, size), generator), generator)


def insert_spatial_transformer(
    model: nn.Module,
    name: str,
    *,
    example: Tensor | None = None,
    grid: str = "affine",
    transformer: nn.Module | None = None,
) -> nn.Module:
    """Put a spatial transformer in front of a submodule of any network; the network is changed in place.

    Args:
        model: Any module.
        name: The submodule's name, as in ``model.named_modules()``: ``layer1``, ``features.3``.
        example: A batch that ``model`` takes; it is run once to see what reaches the submodule.
        grid: Grid generator of the transformer that is made, a name in GRID_GENERATORS.
        transformer: A ready transformer, instead of ``example`` and ``grid``.

    Returns:
        ``model`` itself. The submodule is now ``<name>.module``, the transformer ``<name>.transformer``.

    Raises:
        ValueError: No such submodule; or not a feature map (N, C, H, W) that reaches it; or nothing to build from.
    """
    submodule = _submodule(model, name)
    if transformer is None:
        if example is None:
            raise ValueError("give an example batch to build a transformer for, or a ready transformer")
        features = input_of(model, name, example)
        _, channels, height, width = features.shape
        transformer = make_transformer(channels, (height, width), grid).to(features.device, features.dtype)
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, TransformedInput(transformer, submodule))
    return model


def input_of(model: nn.Module, name: str, example: Tensor) -> Tensor:
    """Return what reaches a submodule when ``model`` runs in evaluation mode.

    Args:
        model: Any module.
        name: The submodule's name, as in ``model.named_modules()``.
        example: A batch that ``model`` takes.

    Returns:
        A feature map (N, C, H, W).

    Raises:
        ValueError: No such submodule, or not a feature map (N, C, H, W) that reaches it.
    """
    submodule = _submodule(model, name)
    reached: list[tuple[object, ...]] = []
    handle = submodule.register_forward_pre_hook(lambda _, inputs: reached.append(inputs))
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        with torch.no_grad():
            model(example)
    finally:
        handle.remove()
        for module in training:
            module.training = True
    if not reached:
        raise ValueError(f"the example never reaches '{name}'")
    if not reached[0] or not isinstance(reached[0][0], Tensor):
        raise ValueError(f"'{name}' is not called with a tensor as its first positional argument")
    features = reached[0][0]
    if features.ndim != 4:
        raise ValueError(f"'{name}' receives a tensor of shape {tuple(features.shape)}; it must be (N, C, H, W)")
    return features


def _submodule(model: nn.Module, name: str) -> nn.Module:
    """Return the submodule of a name.

    Raises:
        ValueError: There is none; the message has those that are called nearly so.
    """
    modules: dict[str, nn.Module] = dict(model.named_modules(remove_duplicate=False))
    if not name or name not in modules:
        near = difflib.get_close_matches(name, filter(None, modules), n=3)
        hint = (
            f"; did you mean {' or '.join(near)}?" if near else f"; there are {', '.join(dict(model.named_children()))}"
        )
        raise ValueError(f"the model has no submodule '{name}'{hint}")
    return modules[name]


def localization_parameters(model: nn.Module) -> Iterator[nn.Parameter]:
    """Yield the parameters of every localisation net in ``model``, each once; they train at a lower rate."""
    nets = [module.localization for module in model.modules() if isinstance(module, SpatialTransformer)]
    nets += [module for module in model.modules() if isinstance(module, LocalizationNet)]
    yield from {id(parameter): parameter for net in nets for parameter in net.parameters()}.values()


@dataclass(frozen=True)
class TransformCall:
    """One use of a spatial transformer during a forward pass."""

    name: str  # as in model.named_modules()
    transformer: SpatialTransformer
    image: Tensor  # its input, (N, C, H, W)
    theta: Tensor  # (N, P)
    output: Tensor  # (N, C, h, w)
    votes: tuple[Tensor, Tensor] | None = None  # scores (N, cells) and votes (N, P, cells) that theta was chosen from


@contextmanager
def recorded_transforms(model: nn.Module) -> Iterator[list[TransformCall]]:
    """Collect each use of a spatial transformer, in order, while the block runs ``model``."""
    calls: list[TransformCall] = []
    thetas: dict[str, Tensor] = {}
    votes: dict[str, tuple[Tensor, Tensor]] = {}
    handles = []

    def watch(name: str, transformer: SpatialTransformer) -> None:
        def keep_theta(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            thetas[name] = inputs[0]

        def keep_call(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            calls.append(TransformCall(name, transformer, inputs[0], thetas[name], output, votes.get(name)))

        def keep_votes(_module: nn.Module, inputs: tuple[Tensor, Tensor]) -> None:
            votes[name] = inputs

        handles.append(transformer.grid.register_forward_pre_hook(keep_theta))
        handles.append(transformer.register_forward_hook(keep_call))
        if isinstance(transformer.localization, VotingLocalizationNet):
            handles.append(transformer.localization.tally.register_forward_pre_hook(keep_votes))

    for name, module in model.named_modules():
        if isinstance(module, SpatialTransformer):
            watch(name, module)
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def injected_thetas(model: nn.Module, thetas: Sequence[Tensor] | None = None) -> Iterator[None]:
    """Make every transformer of ``model`` use another theta than its localisation net's while the block runs.

    Args:
        model: Any module with spatial transformers.
        thetas: One tensor (1 or N, P) a transformer, in the order of ``model.named_modules()``; by default identities.
    """
    transformers = [module for module in model.modules() if isinstance(module, SpatialTransformer)]
    if thetas is None:
        thetas = [transformer.grid.identity()[None] for transformer in transformers]
    if len(thetas) != len(transformers):
        raise ValueError(f"{len(thetas)} thetas for {len(transformers)} transformers")

    def replace(transformer: SpatialTransformer, injected: Tensor) -> RemovableHandle:
        def hook(_module: nn.Module, _inputs: object, theta: Tensor) -> Tensor:
            return injected.to(theta).expand_as(theta)

        return transformer.localization.register_forward_hook(hook)

    handles = [replace(transformer, theta) for transformer, theta in zip(transformers, thetas, strict=True)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def held_at_identity(model: nn.Module) -> Iterator[None]:
    """Take the localisation nets out of every transformer of ``model`` while the block runs; theta is the identity.

    Unlike with ``injected_thetas`` they are not computed, so that time can be measured as well.
    """
    transformers = [module for module in model.modules() if isinstance(module, SpatialTransformer)]
    nets = [transformer.localization for transformer in transformers]
    for transformer in transformers:
        transformer.localization = _Constant(transformer.grid.identity())
    try:
        yield
    finally:
        for transformer, net in zip(transformers, nets, strict=True):
            transformer.localization = net


class _Constant(nn.Module):
    """The same theta for every image."""

    def __init__(self, theta: Tensor) -> None:
        super().__init__()
        self.theta = theta

    def forward(self, image: Tensor) -> Tensor:
        return self.theta.to(image).expand(len(image), -1)
