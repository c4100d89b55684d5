"""The classifiers: sizes, shapes, and where the transformer sits in them."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from stn_models import GRID_GENERATORS, REGISTRY, SpatialTransformer, injected_thetas, recorded_transforms
from stn_models.classifiers import cifar_small, cifar_wide, cnn, fcn, st_cnn, st_fcn, st_vgg
from stn_models.localization import VotingLocalizationNet

GRIDS = list(GRID_GENERATORS)
IDENTITY = torch.tensor([[1.0, 0, 0, 0, 1, 0]])
HALF = IDENTITY / 2
PLAIN, TRANSFORMED = {"fcn": fcn, "cnn": cnn}, {"st-fcn": st_fcn, "st-cnn": st_cnn}
INPUTS = {  # what each network takes by default, (C, H, W)
    "fcn": (1, 28, 28),
    "cnn": (1, 28, 28),
    "st-fcn": (1, 42, 42),
    "st-cnn": (1, 42, 42),
    "st-vgg": (3, 64, 64),
    "st-search": (3, 160, 160),
    "vgg": (3, 48, 48),
    "speller": (3, 64, 64),
    "cifar-small": (3, 32, 32),
    "cifar-wide": (3, 32, 32),
}


def narrow(name: str, **options: object) -> nn.Module:
    """A network that is quick to build: 8 units wide instead of a search for its parameter budget."""
    return REGISTRY[name](**({"width": 8} if not name.startswith("cifar") else {}), **options)


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def layer_shapes(model: nn.Module, image: Tensor) -> list[tuple[int, ...]]:
    """The output of each convolution, pooling and linear layer for one image, in order of use."""
    shapes: list[tuple[int, ...]] = []
    layers = [module for module in model.modules() if isinstance(module, nn.Conv2d | nn.MaxPool2d | nn.Linear)]
    for layer in layers:
        layer.register_forward_hook(lambda _module, _inputs, output: shapes.append(tuple(output.shape[1:])))
    model.eval()(image)
    return shapes


def linear_layers(model: nn.Module) -> Iterator[tuple[int, int]]:
    for module in model.modules():
        if isinstance(module, nn.Linear):
            yield module.in_features, module.out_features


# --- parameter counts ---


def test_small_cifar_network_has_exactly_39884_parameters() -> None:
    assert parameters(cifar_small()) == 39_884


def test_wide_cifar_network_has_the_parameters_of_its_layers() -> None:
    localization = (3 * 49 * 64 + 64) + (64 * 25 * 128 + 128) + (128 * 16 * 32 + 32) + (32 * 6 + 6)
    classifier = (3 * 25 * 32 + 32) + (32 * 25 * 64 + 64) + (64 * 25 * 50 + 50) + (50 * 10 + 10)
    assert parameters(cifar_wide()) == localization + classifier == 414_422


@pytest.mark.parametrize("image_size", [28, 42, 60])
@pytest.mark.parametrize("name", list(PLAIN))
def test_plain_networks_of_the_paper_have_its_parameter_budget(name: str, image_size: int) -> None:
    assert parameters(PLAIN[name](image_size=image_size)) == pytest.approx(400_000, rel=0.02)


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("image_size", [28, 42, 60])
@pytest.mark.parametrize("name", list(TRANSFORMED))
def test_transformer_networks_of_the_paper_have_its_parameter_budget(name: str, image_size: int, grid: str) -> None:
    assert parameters(TRANSFORMED[name](image_size=image_size, grid=grid)) == pytest.approx(400_000, rel=0.02)


@pytest.mark.parametrize("name", list(TRANSFORMED))
def test_parallel_transformers_share_the_budget_and_feed_one_classifier(name: str) -> None:
    options = {"channels": 3, "mean": (0.1, 0.2, 0.3), "classes": 19, "image_size": 42}
    two = TRANSFORMED[name](transformers=2, **options).eval()
    assert parameters(two) == pytest.approx(400_000, rel=0.02)
    image = torch.rand(2, 3, 42, 42)
    with recorded_transforms(two) as calls:
        logits = two(image)
    assert logits.shape == (2, 19)
    assert len({call.name for call in calls}) == 2
    nets = [list(call.transformer.localization.parameters()) for call in calls]
    assert not any(torch.equal(one, other) for one, other in zip(*nets, strict=True) if one.ndim == 4)
    # each sees what its own transformer makes: another theta of the second alone changes the answer
    with injected_thetas(two, [IDENTITY, HALF]):
        assert (two(image) - logits).abs().max() > 1e-4


def test_one_transformer_keeps_the_names_that_older_checkpoints_have() -> None:
    assert "transformer.localization.regression.weight" in st_cnn(width=8).state_dict()


@pytest.mark.parametrize("name", list(TRANSFORMED))
def test_a_damaged_number_of_transformers_builds_none(name: str) -> None:
    with pytest.raises(ValueError, match=r"^99999 parallel transformers are too many; 8 is the most$"):
        TRANSFORMED[name](transformers=99_999)


def test_a_given_width_is_taken_as_it_is() -> None:
    assert parameters(fcn(image_size=6, width=7, classes=3)) == (36 * 7 + 7) + (7 * 7 + 7) + (7 * 3 + 3)
    assert parameters(cnn(image_size=28, width=4)) == (81 * 4 + 4) + (4 * 49 * 4 + 4) + (4 * 2 * 2 * 10 + 10)


def test_budget_takes_the_nearest_width() -> None:
    hidden = next(linear_layers(fcn()))[1]
    counts = {width: 785 * width + (width + 1) * width + (width + 1) * 10 for width in (hidden - 1, hidden, hidden + 1)}
    assert min(counts, key=lambda width: abs(counts[width] - 400_000)) == hidden


# --- shapes ---


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("name", list(REGISTRY))
def test_every_network_returns_one_logit_a_class(name: str, batch: int) -> None:
    logits = narrow(name, classes=7).eval()(torch.rand(batch, *INPUTS[name]))
    assert logits.shape == ((batch, 5, 7) if name == "speller" else (batch, 7))  # at each of five positions
    assert logits.isfinite().all()


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("name", ["st-fcn", "st-cnn", "st-vgg", "cifar-small", "cifar-wide"])
def test_every_network_takes_every_grid(name: str, grid: str) -> None:
    model = narrow(name, grid=grid).eval()
    with recorded_transforms(model) as calls:
        assert model(torch.rand(2, *INPUTS[name])).shape == (2, 10)
    assert [call.transformer.grid.name for call in calls] == [grid]


@pytest.mark.parametrize("image_size", [28, 29, 42, 43, 60, 61])
@pytest.mark.parametrize("name", ["fcn", "cnn", "st-fcn", "st-cnn"])
def test_networks_of_the_paper_take_odd_and_even_sizes(name: str, image_size: int) -> None:
    model = REGISTRY[name](image_size=image_size, width=8, channels=3, mean=(0.5,) * 3, std=(0.5,) * 3)
    assert model(torch.rand(2, 3, image_size, image_size)).shape == (2, 10)


@pytest.mark.parametrize(("image_size", "output_size"), [(64, 32), (48, 48), (33, 17), (96, 40)])
def test_small_vgg_samples_its_output_size(image_size: int, output_size: int) -> None:
    model = st_vgg(image_size=image_size, output_size=output_size, width=8, channels=1, mean=(0.5,), std=(0.5,)).eval()
    with recorded_transforms(model) as calls:
        assert model(torch.rand(2, 1, image_size, image_size)).shape == (2, 10)
    assert calls[0].output.shape == (2, 1, output_size, output_size)


def test_wide_cifar_network_has_the_layers_it_should() -> None:
    assert layer_shapes(cifar_wide(), torch.rand(1, 3, 32, 32)) == [
        (64, 26, 26), (64, 13, 13), (128, 9, 9), (128, 4, 4), (32,), (6,),
        (32, 28, 28), (32, 14, 14), (64, 10, 10), (64, 5, 5), (50,), (10,),
    ]  # fmt: skip


def test_small_cifar_network_has_the_layers_it_should() -> None:
    assert layer_shapes(cifar_small(), torch.rand(1, 3, 32, 32)) == [
        (8, 26, 26), (8, 13, 13), (10, 9, 9), (10, 4, 4), (32,), (6,),
        (10, 28, 28), (10, 14, 14), (20, 10, 10), (20, 5, 5), (50,), (10,),
    ]  # fmt: skip


def test_cnn_of_the_paper_pools_upwards() -> None:
    assert layer_shapes(cnn(image_size=21, width=8), torch.rand(1, 1, 21, 21)) == [
        (8, 13, 13), (8, 7, 7), (8, 1, 1), (10,)
    ]  # fmt: skip


@pytest.mark.parametrize(("image_size", "side"), [(28, 28), (41, 41), (42, 21), (60, 30)])
def test_larger_images_are_halved_behind_the_transformer(image_size: int, side: int) -> None:
    classifier_input = list(linear_layers(st_fcn(image_size=image_size, width=8)))[-3][0]
    assert classifier_input == side**2


def test_fully_connected_networks_have_the_paper_s_layers() -> None:
    assert list(linear_layers(fcn(width=9))) == [(784, 9), (9, 9), (9, 10)]
    assert list(linear_layers(st_fcn(width=9))) == [(1764, 32), (32, 32), (32, 6), (441, 9), (9, 9), (9, 10)]


# --- behaviour ---


@pytest.mark.parametrize("name", ["st-fcn", "st-cnn", "st-vgg", "cifar-small", "cifar-wide"])
def test_untrained_network_samples_the_image_as_it_is(name: str) -> None:
    options = {"output_size": 64} if name == "st-vgg" else {}
    model, image = narrow(name, **options).eval(), torch.rand(2, *INPUTS[name])
    with recorded_transforms(model) as calls:
        model(image)
    torch.testing.assert_close(calls[0].output, image, atol=2e-5, rtol=0)


@pytest.mark.parametrize("name", ["st-fcn", "st-cnn", "st-vgg", "cifar-small", "cifar-wide"])
def test_convention_image_is_sampled_first_and_normalised_after(name: str) -> None:
    channels = INPUTS[name][0]
    model = narrow(name, mean=(0.25,) * channels, std=(0.5,) * channels).eval()
    seen: list[Tensor] = []
    model.classifier.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    with injected_thetas(model, [torch.tensor([[1.0, 0.0, 9.0, 0.0, 1.0, 9.0]])]):  # far outside the picture
        model(torch.ones(1, *INPUTS[name]))
    assert seen[0].unique().tolist() == [-0.5]  # black, normalised: (0 - 0.25) / 0.5


@pytest.mark.parametrize("name", ["st-fcn", "st-cnn", "st-vgg"])
def test_sampling_options_reach_grid_and_sampler(name: str) -> None:
    model = narrow(name, interpolation="nearest", padding="border", align_corners=True)
    (transformer,) = (module for module in model.modules() if isinstance(module, SpatialTransformer))
    sampler = transformer.sampler
    assert (sampler.interpolation, sampler.padding, sampler.align_corners) == ("nearest", "border", True)
    assert transformer.grid.align_corners


@pytest.mark.parametrize("name", ["fcn", "cnn"])
def test_plain_networks_have_no_transformer(name: str) -> None:
    assert not any(isinstance(module, SpatialTransformer) for module in narrow(name).modules())


@pytest.mark.parametrize("name", list(REGISTRY))
def test_gradient_reaches_every_parameter_after_the_first_step(name: str) -> None:
    torch.manual_seed(1)
    model = narrow(name)
    for module in model.modules():
        if isinstance(module, SpatialTransformer):
            net = module.localization
            nn.init.normal_((net.head if isinstance(net, VotingLocalizationNet) else net.regression).weight, std=1e-3)
    model(torch.rand(4, *INPUTS[name])).square().sum().backward()
    assert [key for key, value in model.named_parameters() if value.grad is None or not value.grad.any()] == []


@pytest.mark.parametrize("name", list(REGISTRY))
def test_same_seed_makes_the_same_network(name: str) -> None:
    states = []
    for _ in range(2):
        torch.manual_seed(11)
        states.append(REGISTRY[name]().state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


# --- sizes that do not work ---


@pytest.mark.parametrize("image_size", [20, 15, 0])
def test_cnn_says_which_size_is_the_least(image_size: int) -> None:
    message = f"^{image_size} x {image_size} pixels are too few for a 9 x 9 and a 7 x 7 convolution; 21 is the least$"
    with pytest.raises(ValueError, match=message):
        cnn(image_size=image_size)


def test_least_size_of_the_cnn_works() -> None:
    assert cnn(image_size=21)(torch.rand(1, 1, 21, 21)).shape == (1, 10)


def test_small_images_are_refused_by_the_localisation_net() -> None:
    with pytest.raises(ValueError, match=r"^27 x 27 pixels are too few for the layers behind them"):
        st_cnn(image_size=27)


def test_small_outputs_are_refused_by_the_vgg() -> None:
    with pytest.raises(ValueError, match=r"^7 x 7 pixels are too few for the layers behind them"):
        st_vgg(output_size=7)


@pytest.mark.parametrize("name", ["st-fcn", "st-cnn", "st-vgg", "cifar-small", "cifar-wide"])
def test_unknown_grid_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"^no grid generator 'afine'; choose from attention, similarity, affine"):
        REGISTRY[name](grid="afine")
