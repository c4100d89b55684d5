"""Networks of torchvision as classifiers with transformers at the input and inside, and the messages for wrong ones."""

import re
from typing import Any

import pytest
import torch
from torch import nn

from stn_models import Architecture, ThinPlateSplineGrid, recorded_transforms
from stn_models.backbones import backbone_names

SMALL: dict[str, Any] = {"image_size": 32, "stem": "small", "classes": 3}


def outputs(name: str, options: dict[str, Any], height: int, width: int) -> torch.Tensor:
    model = Architecture(name, options).build().eval()
    with torch.no_grad():
        logits: torch.Tensor = model(torch.rand(2, options.get("channels", 3), height, width))
    return logits


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "shufflenet_v2_x0_5", "squeezenet1_1"])
def test_a_transformer_at_the_identity_changes_nothing(name: str) -> None:
    torch.manual_seed(0)
    model = Architecture(name, {**SMALL, "transformer": ["affine@input"]}).build().eval()
    pictures = torch.rand(2, 3, 32, 32)
    with torch.no_grad(), recorded_transforms(model) as calls:
        logits = model(pictures)
        plain = model.classifier(model.normalize(pictures))
    assert len(calls) == 1
    torch.testing.assert_close(logits, plain, atol=1e-4, rtol=1e-4)


def test_transformers_stand_at_the_input_and_inside() -> None:
    model = Architecture("resnet18", {**SMALL, "transformer": ["affine@input", "tps6@layer2"]}).build().eval()
    with torch.no_grad(), recorded_transforms(model) as calls:
        model(torch.rand(1, 3, 32, 32))
    assert [call.name for call in calls] == ["transformer", "classifier.layer2.transformer"]
    assert [tuple(call.image.shape) for call in calls] == [(1, 3, 32, 32), (1, 64, 32, 32)]
    plate = calls[1].transformer.grid
    assert isinstance(plate, ThinPlateSplineGrid)
    assert plate.points_per_side == 6


def test_our_own_small_network_takes_transformers_as_well() -> None:
    options = {"width": 8, "image_width": 64, "transformer": ["affine", "affine@stage2"], "mean": [0.5], "std": [0.25]}
    model = Architecture("vgg", options).build().eval()
    with torch.no_grad(), recorded_transforms(model) as calls:
        assert model(torch.rand(2, 3, 48, 64)).shape == (2, 10)
    assert [tuple(call.output.shape) for call in calls] == [(2, 3, 48, 64), (2, 8, 24, 32)]


def test_the_transformer_samples_raw_pixels_and_what_follows_is_normalised_as_for_imagenet() -> None:
    model = Architecture("squeezenet1_1", {"image_size": 32, "transformer": ["affine"]}).build().eval()
    seen: list[torch.Tensor] = []
    model.classifier.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        model(torch.ones(1, 3, 32, 32))
    centre = seen[0][0, :, 16, 16]
    torch.testing.assert_close(
        centre, (1 - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225]), atol=1e-3, rtol=1e-3
    )


def test_pictures_need_not_be_square() -> None:
    options = {"image_size": 64, "image_width": 128, "transformer": ["affine@input"], "output_size": 64, "classes": 3}
    model = Architecture("squeezenet1_1", options).build().eval()
    with torch.no_grad(), recorded_transforms(model) as calls:
        assert model(torch.rand(2, 3, 64, 128)).shape == (2, 3)
    assert calls[0].output.shape == (2, 3, 32, 64)


def test_a_small_stem_keeps_the_resolution() -> None:
    model = Architecture("resnet18", SMALL).build().eval()
    reached: list[torch.Size] = []
    model.classifier.layer1.register_forward_pre_hook(lambda _module, inputs: reached.append(inputs[0].shape))
    with torch.no_grad():
        model(torch.rand(1, 3, 32, 32))
    assert reached == [torch.Size([1, 64, 32, 32])]
    assert model.classifier.conv1.kernel_size == (3, 3)
    mobile = Architecture("mobilenet_v3_small", SMALL).build()
    halvings = [module for module in mobile.modules() if isinstance(module, nn.Conv2d) and module.stride == (2, 2)]
    assert len(halvings) == 3  # of five


def test_grey_pictures_reach_a_first_convolution_of_one_channel() -> None:
    assert outputs("mobilenet_v3_small", {**SMALL, "channels": 1}, 32, 32).shape == (2, 3)


def test_a_transformer_of_patches_takes_the_size_that_they_divide() -> None:
    assert Architecture("vit_b_32", {"image_size": 64}).build_without_memory()
    with pytest.raises(ValueError, match=r"^60 x 60 pixels \(height x width\) do not fit the network's layers \("):
        Architecture("vit_b_32", {"image_size": 60}).build_without_memory()


def test_complete_options_build_the_same_network() -> None:
    architecture = Architecture("squeezenet1_1", {"image_size": 32, "transformer": ["affine@input"]})
    again = Architecture("squeezenet1_1", architecture.complete())
    assert again.complete() == architecture.complete()
    assert list(again.build_without_memory().state_dict()) == list(architecture.build_without_memory().state_dict())


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("resnet81", {}, "no network 'resnet81'; did you mean resnet18 "),
        ("resnet18", {"transformer": ["affine@layr1"]}, "the model has no submodule 'layr1'; did you mean layer1 "),
        ("resnet18", {"transformer": ["afine@layer1"]}, "no grid generator 'afine'; choose from "),
        ("resnet18", {"transformer": ["tps99"]}, "no grid generator 'tps99'; choose from "),
        ("resnet18", {"transformer": ["affine@fc"]}, "'fc' receives a tensor of shape (1, 512); it must be "),
        (
            "resnet18",
            {"transformer": ["affine", "tps@input"]},
            "two transformers stand at one place: affine, tps@input",
        ),
        ("resnet18", {"stem": "tiny"}, "network 'resnet18': option 'stem' must be one of image, small; got 'tiny'"),
        ("alexnet", {"image_size": 64, "stem": "small"}, "the network does not begin with a halving, "),
        ("alexnet", {"image_size": 16}, "16 x 16 pixels are too few for the layers behind them ("),
        (
            "alexnet",
            {"image_size": 16, "transformer": ["affine@classifier"]},
            "16 x 16 pixels (height x width) do not fit the network's layers (",
        ),
        ("resnet18", {"mean": [0.5, 0.5]}, "network 'resnet18': option 'mean' has 2 numbers for 3 channels"),
        ("timm/resnet18", {}, "network 'timm/resnet18' needs package 'timm', which is not installed"),
    ],
)
def test_what_cannot_be_is_named(name: str, options: dict[str, Any], message: str) -> None:
    if name.startswith("timm/") and name in backbone_names():
        pytest.skip("timm is installed")
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        Architecture(name, options).build_without_memory()


def test_networks_of_timm_take_transformers_as_well() -> None:
    pytest.importorskip("timm")
    options = {"image_size": 32, "classes": 3, "channels": 1, "transformer": ["affine@input", "tps@blocks.1"]}
    assert "timm/mobilenetv3_small_050" in backbone_names()
    model = Architecture("timm/mobilenetv3_small_050", options).build().eval()
    with torch.no_grad(), recorded_transforms(model) as calls:
        assert model(torch.rand(2, 1, 32, 32)).shape == (2, 3)
    assert [call.name for call in calls] == ["transformer", "classifier.blocks.1.transformer"]


def test_an_unknown_network_of_timm_is_told_of_its_neighbours() -> None:
    pytest.importorskip("timm")
    with pytest.raises(ValueError, match="no network 'timm/resnet18x'; did you mean timm/resnet18"):
        Architecture("timm/resnet18x", {}).build_without_memory()
