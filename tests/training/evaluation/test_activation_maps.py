"""Activation maps are high where the answer comes from, and are drawn on what the classifier sees."""

from collections.abc import Callable
from pathlib import Path

import cv2
import pytest
import torch
from torch import nn

from stn_models import Architecture
from stn_runtime.cli import main
from stn_training.evaluation.activation_maps import activation_maps, map_tiles

Refusal = Callable[..., str]


class Bright(nn.Module):
    """Label 1 speaks for red, label 0 for green: by a mean over the picture of what is there."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Conv2d(3, 2, 1, bias=False)
        with torch.no_grad():
            self.features.weight.copy_(torch.tensor([[0.0, 1, 0], [1, 0, 0]])[..., None, None])

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.features(image).mean(dim=(2, 3))


def test_a_map_is_high_where_the_label_is_seen() -> None:
    image = torch.zeros(1, 3, 20, 30)
    image[0, 0, 2:8, 3:9] = 1  # red at the upper left
    image[0, 1, 12:18, 20:28] = 1  # green at the lower right
    red, green = activation_maps(Bright().eval(), image.expand(2, -1, -1, -1).clone(), [1, 0])
    assert red.shape == (20, 30)
    for found, wanted in ((red, image[0, 0]), (green, image[0, 1])):
        assert torch.equal(found, wanted)


def test_maps_leave_gradients_and_hooks_behind_of_none() -> None:
    network = Architecture("vgg", {"transformer": ("affine@input",), "width": 4, "image_size": 32}).build().eval()
    images = torch.rand(3, 3, 32, 32)
    maps = activation_maps(network, images.clone(), [0, 1, 2])
    assert maps.shape == (3, 32, 32)
    assert 0 <= maps.min() <= maps.max() <= 1
    assert all(parameter.grad is None for parameter in network.parameters())
    assert not [module for module in network.modules() if module._forward_hooks]
    tiles = map_tiles(network, images, [0, 1, 2])
    assert tiles is not None
    assert len(tiles) == 3


def test_networks_without_maps_are_told_apart() -> None:
    flat = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).eval()
    assert map_tiles(flat, torch.rand(1, 1, 8, 8), [0]) is None
    speller = Architecture("speller", {"image_size": 16, "width": 2, "hidden": 8}).build().eval()
    with pytest.raises(ValueError, match="gives an image several labels"):
        activation_maps(speller, torch.rand(1, 3, 16, 16), [0])


def test_the_command_draws_them(learned: Path, tmp_path: Path, refusal: Refusal) -> None:
    model = str(learned / "model.safetensors")
    assert main(["evaluate", model, "sklearn-digits", "--maps", "--output", str(tmp_path)]) == 0
    assert cv2.imread(str(tmp_path / "maps.png")).std() > 10
    assert "give a folder" in refusal("evaluate", model, "sklearn-digits", "--maps")
    assert "is no checkpoint" in refusal("evaluate", "digits", "sklearn-digits", "--maps", "--output", tmp_path)
