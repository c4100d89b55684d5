"""The spatial transformer as a whole, put in front of other networks, and looked into."""

import itertools

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import resnet18

from stn_models import (
    GRID_GENERATORS,
    AffineGrid,
    LocalizationNet,
    ParallelTransformers,
    Sampler,
    SpatialTransformer,
    injected_thetas,
    insert_spatial_transformer,
    make_grid,
    make_transformer,
    recorded_transforms,
)

pytestmark = pytest.mark.filterwarnings("ignore:Since version 1.3.0, affine_grid behavior:UserWarning")

NAMES = list(GRID_GENERATORS)
RIGHT = torch.tensor([[1.0, 0.0, 0.5, 0.0, 1.0, 0.0]])  # reads a quarter of the width further right
ROTATED = torch.tensor([[0.866, -0.5, 0.1, 0.5, 0.866, -0.2]])


def random_image(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def torch_warp(image: Tensor, theta: Tensor, size: tuple[int, int], align_corners: bool = False) -> Tensor:
    """The affine warp by torch's own functions."""
    count = len(image)
    matrices = theta.expand(count, 6).view(count, 2, 3)
    points = functional.affine_grid(matrices, (count, 1, *size), align_corners=align_corners)
    return functional.grid_sample(image, points, align_corners=align_corners)


def hooks(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


def small_network() -> nn.Sequential:
    """Two transformers, before and behind a convolution."""
    return nn.Sequential(make_transformer(1, (8, 12)), nn.Conv2d(1, 2, 3), make_transformer(2, (6, 10), "attention"))


# --- SpatialTransformer ---


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("size", [(28, 28), (9, 14), (33, 17), (1, 6)], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_transformer_starts_as_the_identity(name: str, size: tuple[int, int], align_corners: bool) -> None:
    image, grid = random_image(2, 3, *size), make_grid(name, size, align_corners)
    transformer = SpatialTransformer(LocalizationNet(nn.Flatten(), image[0].numel(), grid), grid)
    torch.testing.assert_close(transformer(image), image, atol=2e-5, rtol=0)


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("output_size", [(9, 14), (5, 20), (1, 1)], ids=str)
def test_transformer_equals_torchs_own_warp(output_size: tuple[int, int], align_corners: bool) -> None:
    image, grid = random_image(3, 2, 9, 14), AffineGrid(output_size, align_corners)
    transformer = SpatialTransformer(LocalizationNet(nn.Flatten(), 2 * 9 * 14, grid), grid)
    with injected_thetas(transformer, [ROTATED]):
        warped = transformer(image)
    torch.testing.assert_close(warped, torch_warp(image, ROTATED, output_size, align_corners), atol=1e-5, rtol=0)


def test_convention_transformer_reads_from_where_theta_points() -> None:
    image = torch.arange(8.0).reshape(1, 1, 2, 4)
    transformer = make_transformer(1, (2, 4))
    with injected_thetas(transformer, [RIGHT]):
        assert transformer(image)[0, 0].tolist() == [[1.0, 2.0, 3.0, 0.0], [5.0, 6.0, 7.0, 0.0]]


@pytest.mark.parametrize("align_corners", [False, True])
def test_default_sampler_follows_the_grid(align_corners: bool) -> None:
    transformer = SpatialTransformer(nn.Identity(), AffineGrid((3, 5), align_corners))
    assert transformer.sampler.align_corners is align_corners


@pytest.mark.parametrize("align_corners", [False, True])
def test_grid_and_sampler_that_disagree_are_refused(align_corners: bool) -> None:
    message = f"^align_corners differs: grid generator {align_corners}, sampler {not align_corners}$"
    with pytest.raises(ValueError, match=message):
        SpatialTransformer(nn.Identity(), AffineGrid((3, 5), align_corners), Sampler(align_corners=not align_corners))


@pytest.mark.parametrize("name", NAMES)
def test_gradients_of_a_whole_transformer_are_right(name: str) -> None:
    torch.manual_seed(3)
    grid = make_grid(name, (3, 4))
    localization = LocalizationNet(nn.Sequential(nn.Flatten(), nn.Linear(20, 4), nn.Tanh()), 4, grid)
    transformer = SpatialTransformer(localization, grid).double()
    nn.init.normal_(localization.regression.weight, std=0.1)
    nn.init.normal_(localization.regression.bias, mean=0.05, std=0.01)
    with torch.no_grad():
        localization.regression.bias += grid.identity()
    weight, bias = localization.regression.weight, localization.regression.bias

    def warp(image: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        changed = {"localization.regression.weight": weight, "localization.regression.bias": bias}
        output: Tensor = torch.func.functional_call(transformer, changed, (image,))
        return output

    image = random_image(2, 1, 4, 5, seed=4).double().requires_grad_()
    assert torch.autograd.gradcheck(warp, (image, weight, bias))


def test_transformer_learns_to_undo_a_shift() -> None:
    y, x = torch.meshgrid(torch.linspace(-1, 1, 16), torch.linspace(-1, 1, 24), indexing="ij")
    wanted = torch.exp(-8 * (x**2 + y**2))[None, None]
    shifted = torch.exp(-8 * ((x - 0.3) ** 2 + y**2))[None, None]
    grid = make_grid("attention", (16, 24))
    transformer = SpatialTransformer(LocalizationNet(nn.AvgPool2d(8), 6, grid), grid)
    optimizer = torch.optim.Adam(transformer.parameters(), lr=0.01)
    for _ in range(60):
        loss = (transformer(shifted) - wanted).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert transformer.localization(shifted)[0, 1].item() == pytest.approx(0.3, abs=0.03)


# --- autocast ---


def test_autocast_samples_in_float32() -> None:
    image, transformer = random_image(2, 3, 40, 56), make_transformer(3, (40, 56))
    with injected_thetas(transformer, [ROTATED]), torch.autocast("cpu", torch.bfloat16):
        warped = transformer(image)
    assert warped.dtype == torch.float32
    rounded = ROTATED.bfloat16().float()  # what an injected theta can be at worst
    errors = [(warped - torch_warp(image, theta, (40, 56))).abs().max() for theta in (ROTATED, rounded)]
    assert min(errors) < 1e-4


def test_autocast_builds_the_grid_in_float32() -> None:
    transformer = make_transformer(1, (200, 300))
    seen: list[Tensor] = []
    transformer.sampler.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[1]))
    with torch.autocast("cpu", torch.bfloat16):
        transformer(random_image(1, 1, 200, 300))
    expected = functional.affine_grid(torch.eye(2, 3)[None], (1, 1, 200, 300), align_corners=False)
    torch.testing.assert_close(seen[0], expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_untrained_transformer_is_the_identity_under_autocast_too(name: str) -> None:
    image, transformer = random_image(2, 1, 28, 40), make_transformer(1, (28, 40), name)
    with torch.autocast("cpu", torch.bfloat16):
        warped = transformer(image)
    torch.testing.assert_close(warped, image, atol=2e-5, rtol=0)


def test_autocast_keeps_theta_in_float32() -> None:
    transformer = make_transformer(1, (28, 40), "tps")
    with recorded_transforms(transformer) as calls, torch.autocast("cpu", torch.bfloat16):
        transformer(random_image(1, 1, 28, 40))
    torch.testing.assert_close(calls[0].theta, transformer.grid.identity()[None])  # checks the type as well


# --- ParallelTransformers, make_transformer ---


def test_parallel_transformers_join_transformer_by_transformer() -> None:
    image = random_image(2, 3, 8, 12)
    model = ParallelTransformers([make_transformer(3, (8, 12), output_size=(5, 7)) for _ in range(2)])
    thetas = [RIGHT, ROTATED]
    with injected_thetas(model, thetas):
        output = model(image)
    assert output.shape == (2, 6, 5, 7)
    expected = torch.cat([torch_warp(image, theta, (5, 7)) for theta in thetas], dim=1)
    torch.testing.assert_close(output, expected, atol=1e-5, rtol=0)


def test_parallel_transformers_need_one_common_output_size() -> None:
    transformers = [make_transformer(1, (8, 8)), make_transformer(1, (8, 8), output_size=(4, 6))]
    with pytest.raises(ValueError, match=r"^parallel transformers need one common output size, got \[\(4, 6\), \(8, 8"):
        ParallelTransformers(transformers)


def test_parallel_transformers_need_at_least_one() -> None:
    with pytest.raises(ValueError, match=r"need one common output size, got \[\]$"):
        ParallelTransformers([])


def test_made_transformer_keeps_the_size_unless_given_another() -> None:
    image = random_image(2, 3, 9, 14)
    assert make_transformer(3, (9, 14))(image).shape == (2, 3, 9, 14)
    assert make_transformer(3, (9, 14), "tps", (4, 6))(image).shape == (2, 3, 4, 6)


# --- insert_spatial_transformer ---


def test_resnet_with_a_transformer_before_layer1_starts_as_the_same_network() -> None:
    model, image = resnet18(weights=None).eval(), random_image(2, 3, 64, 96)
    with torch.no_grad():
        before = model(image)
        assert insert_spatial_transformer(model, "layer1", example=image) is model
        after = model(image)
    assert model.layer1.transformer.grid.output_size == (16, 24)
    torch.testing.assert_close(after, before, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_inserted_transformer_warps_what_reaches_the_submodule(name: str) -> None:
    model, image = nn.Sequential(nn.Conv2d(3, 5, 3), nn.Conv2d(5, 2, 1)), random_image(2, 3, 10, 14)
    first, second = model
    insert_spatial_transformer(model, "1", example=image, grid=name)
    transformer = model[1].transformer
    assert transformer.grid.name == name
    grid = transformer.grid
    theta = grid.identity()[None] + 0.1
    features = first(image)
    expected = second(functional.grid_sample(features, grid(theta).expand(2, -1, -1, -1), align_corners=False))
    with injected_thetas(model, [theta]):
        torch.testing.assert_close(model(image), expected, atol=1e-5, rtol=1e-5)


def test_transformers_in_series_are_used_in_order_and_all_learn() -> None:
    model, image = resnet18(weights=None, num_classes=4).requires_grad_(False), random_image(2, 3, 32, 48)
    for name in ("conv1", "layer1", "layer2.0.conv1", "layer3"):
        insert_spatial_transformer(model, name, example=image)
    with recorded_transforms(model) as calls:
        logits = model(image)
    assert [call.name for call in calls] == [
        f"{name}.transformer" for name in ("conv1", "layer1", "layer2.0.conv1", "layer3")
    ]
    assert [tuple(call.image.shape[1:]) for call in calls] == [(3, 32, 48), (64, 8, 12), (64, 8, 12), (128, 4, 6)]
    functional.cross_entropy(logits, torch.tensor([0, 3])).backward()
    for call in calls:
        gradient = call.transformer.localization.regression.bias.grad
        assert gradient is not None
        assert gradient.abs().sum() > 0, call.name


def test_two_transformers_can_stand_before_the_same_submodule() -> None:
    model, image = nn.Sequential(nn.Conv2d(1, 2, 3)), random_image(1, 1, 8, 12)
    expected = model(image)
    insert_spatial_transformer(model, "0", example=image)
    insert_spatial_transformer(model, "0", example=image)
    with recorded_transforms(model) as calls:
        torch.testing.assert_close(model(image), expected, atol=1e-5, rtol=1e-5)
    assert [call.name for call in calls] == ["0.transformer", "0.module.transformer"]


def test_a_ready_transformer_needs_no_example() -> None:
    model, transformer = nn.Sequential(nn.Conv2d(1, 2, 3)), make_transformer(1, (8, 12), "tps", (6, 6))
    insert_spatial_transformer(model, "0", transformer=transformer)
    assert model[0].transformer is transformer
    assert model(random_image(1, 1, 8, 12)).shape == (1, 2, 4, 4)


def test_further_arguments_of_the_submodule_pass_through() -> None:
    class Scale(nn.Module):
        def forward(self, image: Tensor, factor: float, *, offset: float) -> Tensor:
            return image * factor + offset

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = Scale()

        def forward(self, image: Tensor) -> Tensor:
            scaled: Tensor = self.scale(image, 2.0, offset=1.0)
            return scaled

    image = random_image(1, 1, 8, 12)
    model = insert_spatial_transformer(Network(), "scale", example=image)
    torch.testing.assert_close(model(image), 2 * image + 1, atol=1e-5, rtol=0)


def test_parameters_keep_their_names_below_module() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3))
    insert_spatial_transformer(model, "0", example=random_image(1, 1, 8, 12))
    assert {"0.module.weight", "0.module.bias", "0.transformer.localization.regression.bias"} <= set(model.state_dict())


def test_the_example_changes_no_statistics_and_leaves_no_hook() -> None:
    model = nn.Sequential(nn.BatchNorm2d(1), nn.Conv2d(1, 2, 3)).train()
    insert_spatial_transformer(model, "1", example=random_image(2, 1, 8, 12))
    assert model[0].num_batches_tracked == 0
    assert model.training
    assert hooks(model) == 0


def test_frozen_parts_stay_in_evaluation_mode() -> None:
    model = nn.Sequential(nn.BatchNorm2d(1), nn.Conv2d(1, 2, 3)).train()
    model[0].eval()
    insert_spatial_transformer(model, "1", example=random_image(2, 1, 8, 12))
    assert not model[0].training
    assert model.training


def test_a_transformer_for_a_network_in_float64_is_in_float64() -> None:
    model, image = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Conv2d(2, 1, 1)).double(), random_image(2, 1, 8, 12).double()
    insert_spatial_transformer(model, "1", example=image)
    assert model(image).dtype == torch.float64


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("layer11", "did you mean layer1"),
        ("layer1.0.conv9", "did you mean layer1.0.conv"),
        ("zzz", "there are conv1, bn1"),
    ],
)
def test_wrong_submodule_name_gets_a_hint(name: str, hint: str) -> None:
    with pytest.raises(ValueError, match=f"^the model has no submodule '{name}'; {hint}"):
        insert_spatial_transformer(resnet18(weights=None), name, example=random_image(1, 3, 32, 32))


def test_empty_submodule_name_gets_a_hint_that_says_something() -> None:
    with pytest.raises(ValueError, match=r"^the model has no submodule ''; (there are|did you mean \w)"):
        insert_spatial_transformer(nn.Sequential(nn.Flatten()), "", example=random_image(1, 1, 8, 8))


def test_a_submodule_that_gets_no_feature_map_is_refused() -> None:
    model = resnet18(weights=None)
    with pytest.raises(ValueError, match=r"^'fc' receives a tensor of shape \(1, 512\); it must be \(N, C, H"):
        insert_spatial_transformer(model, "fc", example=random_image(1, 3, 32, 32))
    assert hooks(model) == 0


def test_a_submodule_that_the_example_never_reaches_is_refused() -> None:
    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.unused = nn.Conv2d(1, 1, 1)

        def forward(self, image: Tensor) -> Tensor:
            return image

    with pytest.raises(ValueError, match="the example never reaches 'unused'"):
        insert_spatial_transformer(Network(), "unused", example=random_image(1, 1, 8, 8))


def test_neither_example_nor_transformer_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^give an example batch to build a transformer for, or a ready transformer$"):
        insert_spatial_transformer(resnet18(weights=None), "layer1")


def test_unknown_grid_leaves_the_network_as_it_was() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3))
    with pytest.raises(ValueError, match="no grid generator 'afine'"):
        insert_spatial_transformer(model, "0", example=random_image(1, 1, 8, 8), grid="afine")
    assert isinstance(model[0], nn.Conv2d)


def test_an_example_that_the_network_refuses_leaves_it_as_it_was() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Conv2d(2, 2, 3)).train()
    with pytest.raises(RuntimeError, match="to have 1 channels"):
        insert_spatial_transformer(model, "1", example=random_image(1, 3, 8, 8))
    assert model.training
    assert hooks(model) == 0


# --- recorded_transforms ---


def test_recording_tells_what_each_transformer_did() -> None:
    model, image = small_network(), random_image(2, 1, 8, 12)
    thetas = [ROTATED, torch.tensor([[0.5, 0.1, -0.2], [0.8, 0.0, 0.3]])]
    with injected_thetas(model, thetas), recorded_transforms(model) as calls:
        output = model(image)
    first, second = calls
    assert (first.name, second.name) == ("0", "2")
    assert first.transformer is model[0]
    assert torch.equal(first.image, image)
    assert torch.equal(first.theta, ROTATED.expand(2, 6))
    torch.testing.assert_close(first.output, torch_warp(image, ROTATED, (8, 12)), atol=1e-5, rtol=0)
    assert torch.equal(second.image, model[1](first.output))
    assert torch.equal(second.theta, thetas[1])
    assert torch.equal(second.output, output)


@pytest.mark.parametrize("order", list(itertools.permutations(("record", "inject"))), ids="-".join)
def test_recording_shows_the_theta_that_was_used_whichever_block_is_outside(order: tuple[str, str]) -> None:
    model, image = make_transformer(1, (8, 12)), random_image(1, 1, 8, 12)
    recording, injecting = recorded_transforms(model), injected_thetas(model, [RIGHT])
    if order == ("record", "inject"):
        with recording as calls, injecting:
            model(image)
    else:
        with injecting, recording as calls:
            model(image)
    torch.testing.assert_close(calls[0].output, torch_warp(image, RIGHT, (8, 12)), atol=1e-5, rtol=0)
    torch.testing.assert_close(calls[0].theta, RIGHT)


def test_a_transformer_used_twice_is_recorded_twice() -> None:
    transformer = make_transformer(1, (8, 12))
    model = nn.Sequential(transformer, nn.ReLU(), transformer)
    with recorded_transforms(model) as calls:
        model(random_image(1, 1, 8, 12))
        model(random_image(1, 1, 8, 12))
    assert [call.name for call in calls] == ["0"] * 4


def test_recording_a_transformer_itself_or_a_plain_network() -> None:
    transformer, image = make_transformer(1, (8, 12)), random_image(1, 1, 8, 12)
    with recorded_transforms(transformer) as calls:
        transformer(image)
    assert [call.name for call in calls] == [""]
    with recorded_transforms(nn.Flatten()) as calls:
        assert calls == []


def test_recording_ends_with_its_block() -> None:
    model, image = small_network(), random_image(2, 1, 8, 12)
    with recorded_transforms(model) as calls:
        model(image)
        assert hooks(model) > 0
    model(image)
    assert len(calls) == 2
    assert hooks(model) == 0


def test_recording_ends_when_the_network_fails() -> None:
    model = small_network()
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"), recorded_transforms(model):
        model(random_image(2, 1, 20, 20))
    assert hooks(model) == 0


# --- injected_thetas ---


def test_injected_identities_switch_trained_transformers_off() -> None:
    model, image = small_network(), random_image(2, 1, 8, 12)
    expected = model[1](image)
    for index in (0, 2):
        nn.init.normal_(model[index].localization.regression.weight)
    assert not torch.allclose(model(image), expected, atol=1e-2)
    with injected_thetas(model):
        torch.testing.assert_close(model(image), expected, atol=1e-5, rtol=0)


def test_injected_theta_may_differ_from_row_to_row() -> None:
    model, image = make_transformer(1, (8, 12)), random_image(2, 1, 8, 12)
    with injected_thetas(model, [torch.cat([RIGHT, ROTATED])]):
        output = model(image)
    torch.testing.assert_close(output[:1], torch_warp(image[:1], RIGHT, (8, 12)), atol=1e-5, rtol=0)
    torch.testing.assert_close(output[1:], torch_warp(image[1:], ROTATED, (8, 12)), atol=1e-5, rtol=0)


def test_injection_ends_with_its_block() -> None:
    model, image = make_transformer(1, (8, 12)), random_image(1, 1, 8, 12)
    before = model(image)
    with injected_thetas(model, [RIGHT]):
        assert not torch.allclose(model(image), before)
    assert torch.equal(model(image), before)
    assert hooks(model) == 0


def test_injection_ends_when_the_block_fails() -> None:
    model = small_network()
    with pytest.raises(KeyError, match="mine"), injected_thetas(model):
        raise KeyError("mine")
    assert hooks(model) == 0


def test_theta_for_another_batch_size_is_refused_and_leaves_no_hook() -> None:
    model = make_transformer(1, (8, 12))
    with pytest.raises(RuntimeError, match="expanded size"), injected_thetas(model, [ROTATED.expand(3, 6)]):
        model(random_image(2, 1, 8, 12))
    assert hooks(model) == 0


@pytest.mark.parametrize("count", [0, 1, 3])
def test_wrong_number_of_thetas_is_refused_and_leaves_no_hook(count: int) -> None:
    model = small_network()
    with (
        pytest.raises(ValueError, match=f"^{count} thetas for 2 transformers$"),
        injected_thetas(model, [ROTATED] * count),
    ):
        pass
    assert hooks(model) == 0
