"""The network as it leaves PyTorch: uint8 pictures in, probabilities and what the transformers did out."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from stn_models import TransformCall, recorded_transforms
from stn_runtime import PreprocessSpec, TransformerSpec


@dataclass(frozen=True)
class Outputs:
    """What the exported graph returns, in this order; None is left out.

    Attributes:
        probabilities: (N, K), after softmax.
        theta: (N, P), the parameters of all transformers, joined in order of use.
        outline: (N, T, 4 m, 2), the border of each sampling grid in normalised coordinates of its input.
        rectified: (N, h, w, C) uint8, what the classifier saw.
    """

    probabilities: Tensor
    theta: Tensor | None
    outline: Tensor | None
    rectified: Tensor | None

    def named(self) -> dict[str, Tensor]:
        """Return the outputs that are there, by name."""
        return {name: value for name, value in vars(self).items() if value is not None}


class Deployment(nn.Module):
    """Wraps a classifier for export: its own forward, with the model file's inputs and outputs around it.

    Args:
        model: Maps images (N, C, H, W) in [0, 1] to logits (N, K); in evaluation mode.
        spec: The network's input.
        with_rectified: Whether to return the warped picture: that of the last transformer, where they are in series.
    """

    def __init__(self, model: nn.Module, spec: PreprocessSpec, with_rectified: bool = True) -> None:
        super().__init__()
        self.model = model
        self.transformers = describe_transformers(model, spec)
        self._rectified = _last_on_pixels(model, spec) if with_rectified else None

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return the values of ``Outputs.named`` for pictures (N, H, W, C) uint8."""
        return tuple(self.outputs(image).named().values())

    def outputs(self, image: Tensor) -> Outputs:
        """Return the outputs by name for pictures (N, H, W, C) uint8."""
        kind = next((parameter.dtype for parameter in self.model.parameters()), torch.float32)
        planes = image.permute(0, 3, 1, 2).clone(memory_format=torch.contiguous_format)  # networks may use view()
        pixels = planes.to(kind) / 255
        with recorded_transforms(self.model) as calls:
            probabilities = self.model(pixels).softmax(dim=-1)
        if not calls:
            return Outputs(probabilities, None, None, None)
        rectified = None
        if self._rectified is not None:
            levels = (calls[self._rectified].output.clamp(0, 1) * 255).round()
            rectified = levels.to(torch.uint8).permute(0, 2, 3, 1)
        return Outputs(
            probabilities,
            torch.cat([call.theta for call in calls], dim=1),
            _stacked([call.transformer.grid.outline(call.theta) for call in calls]),
            rectified,
        )


def _stacked(outlines: Sequence[Tensor]) -> Tensor:
    """Return outlines (N, 4 m, 2) of several transformers as one tensor (N, T, 4 m, 2), with the largest m.

    Points are added to the others on the straight lines between their corners.
    """
    most = max(outline.shape[1] for outline in outlines)
    return torch.stack([_densified(outline, most) for outline in outlines], dim=1)


def _densified(outline: Tensor, count: int) -> Tensor:
    corners = outline.shape[1]
    if corners == count:
        return outline
    steps = torch.arange(count // corners, dtype=outline.dtype)[:, None, None] * (corners / count)
    between = outline[:, None] + steps * (outline.roll(-1, dims=1) - outline)[:, None]  # (N, steps, corners, 2)
    return between.transpose(1, 2).flatten(1, 2)


def describe_transformers(model: nn.Module, spec: PreprocessSpec) -> tuple[TransformerSpec, ...]:
    """Return the manifest's description of each transformer that ``model`` uses, in order of use.

    Args:
        model: The network, in evaluation mode.
        spec: The network's input.
    """
    pixels, calls = _trial(model, spec)
    described, first = [], 0
    for call in calls:
        grid, sampler = call.transformer.grid, call.transformer.sampler
        last = first + grid.theta_size
        described.append(
            TransformerSpec(
                name=call.name,
                grid=grid.name,
                theta=(first, last),
                input_size=(call.image.shape[2], call.image.shape[3]),
                output_size=grid.output_size,
                interpolation=sampler.interpolation,
                padding=sampler.padding,
                align_corners=sampler.align_corners,
                on_image=call.image is pixels,
            )
        )
        first = last
    return tuple(described)


def _last_on_pixels(model: nn.Module, spec: PreprocessSpec) -> int | None:
    """Return which use of a transformer makes the last picture: of the image, or of another transformer's picture."""
    pixels, calls = _trial(model, spec)
    pictures, last = [pixels], None
    for index, call in enumerate(calls):
        if any(call.image is picture for picture in pictures):
            pictures.append(call.output)
            last = index
    return last


def _trial(model: nn.Module, spec: PreprocessSpec) -> tuple[Tensor, list[TransformCall]]:
    """Run ``model`` once on a black picture; return the picture and each use of a transformer."""
    pixels = torch.zeros(1, spec.channels, spec.height, spec.width)
    with torch.no_grad(), recorded_transforms(model) as calls:
        model(pixels)
    return pixels, calls
