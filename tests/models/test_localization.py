"""Localisation nets: they start as the identity, and their parameters can be told from the rest."""

import math

import pytest
import torch
from torch import nn

from stn_models import (
    GRID_GENERATORS,
    AffineGrid,
    LocalizationNet,
    ParallelTransformers,
    SpatialTransformer,
    conv_features,
    localization_parameters,
    make_grid,
    make_transformer,
    recorded_transforms,
)
from stn_models.localization import VotingLocalizationNet, flat_size

IDENTITIES = {
    "attention": [1.0, 0.0, 0.0],
    "similarity": [0.0, 1.0, 0.0, 0.0],
    "affine": [1.0, 0.0, 0.0, 0.0, 1.0, 0.0],
    "projective": [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0],
    "tps": [c for y in (-1, -1 / 3, 1 / 3, 1) for x in (-1, -1 / 3, 1 / 3, 1) for c in (x, y)],
}


@pytest.mark.parametrize("name", list(GRID_GENERATORS))
def test_untrained_net_says_identity_whatever_the_image(name: str) -> None:
    net = LocalizationNet(*conv_features(3, (9, 14)), make_grid(name, (9, 14)))
    theta = net(100 * torch.randn(4, 3, 9, 14))
    torch.testing.assert_close(theta, torch.tensor([IDENTITIES[name]] * 4))


def test_only_the_bias_of_the_last_layer_learns_first_and_then_everything_does() -> None:
    net = LocalizationNet(*conv_features(1, (8, 8)), AffineGrid((8, 8)))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        net(torch.rand(4, 1, 8, 8)).square().sum().backward()
        optimizer.step()
    gradients = {name: parameter.grad for name, parameter in net.named_parameters()}
    assert all(gradient is not None and gradient.abs().sum() > 0 for gradient in gradients.values()), gradients.keys()


def test_features_of_any_shape_are_flattened() -> None:
    net = LocalizationNet(nn.AdaptiveAvgPool2d((2, 3)), 12, AffineGrid((5, 7)))
    assert net(torch.rand(3, 2, 5, 7)).shape == (3, 6)


def test_wrong_feature_count_fails_at_the_first_use() -> None:
    net = LocalizationNet(nn.Flatten(), 11, AffineGrid((5, 7)))
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        net(torch.rand(3, 2, 5, 7))


def test_localization_parameters_are_those_of_the_nets_and_no_others() -> None:
    model = nn.Sequential(make_transformer(1, (8, 8)), nn.Conv2d(1, 2, 3), make_transformer(2, (6, 6), "tps"))
    expected = [*model[0].localization.parameters(), *model[2].localization.parameters()]
    found = list(localization_parameters(model))
    assert [id(parameter) for parameter in found] == [id(parameter) for parameter in expected]


def test_a_net_that_two_transformers_share_gives_its_parameters_once() -> None:
    grid = AffineGrid((8, 8))
    net = LocalizationNet(*conv_features(1, (8, 8)), grid)
    model = ParallelTransformers([SpatialTransformer(net, grid), SpatialTransformer(net, grid)])
    assert len(list(localization_parameters(model))) == len(list(net.parameters()))


def test_nested_nets_give_their_parameters_once() -> None:
    inner = LocalizationNet(nn.Flatten(), 64, AffineGrid((8, 8)))
    outer = LocalizationNet(inner, 6, AffineGrid((8, 8)))
    assert len(list(localization_parameters(outer))) == 4


def test_a_plain_network_has_no_localization_parameters() -> None:
    assert list(localization_parameters(nn.Linear(2, 2))) == []


def test_flat_size_counts_what_one_image_becomes() -> None:
    assert flat_size(nn.Conv2d(3, 4, 3), 3, (5, 8)) == 4 * 3 * 6
    assert flat_size(nn.Flatten(), 2, (5, 8)) == 80


@pytest.mark.parametrize("training", [True, False])
def test_flat_size_leaves_mode_and_statistics_as_they_were(training: bool) -> None:
    features = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)).train(training)
    flat_size(features, 1, (5, 8))
    assert features.training is training
    assert features[1].training is training
    assert features[1].num_batches_tracked == 0


def test_flat_size_says_when_the_image_is_too_small() -> None:
    features = nn.Conv2d(1, 2, 5).train()
    with pytest.raises(ValueError, match=r"^9 x 3 pixels are too few for the layers behind them \("):
        flat_size(features, 1, (3, 9))
    assert features.training


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (5, 2), (28, 28), (33, 57)], ids=str)
def test_conv_features_take_images_of_any_size(size: tuple[int, int]) -> None:
    features, count = conv_features(3, size, filters=4, hidden=6)
    assert count == 6
    assert features(torch.rand(2, 3, *size)).shape == (2, 6)


def test_conv_features_halve_the_image_twice() -> None:
    features, _ = conv_features(1, (28, 20), filters=5)
    assert [module.in_features for module in features.modules() if isinstance(module, nn.Linear)] == [5 * 7 * 5]


class Marked(nn.Module):
    """A feature map of 4 x 4 cells: where the brightest spot of the image lies."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return nn.functional.max_pool2d(image, 4)


@pytest.mark.parametrize("name", list(GRID_GENERATORS))
def test_the_vote_of_the_best_cell_places_the_grid_on_it(name: str) -> None:
    grid = make_grid(name, (5, 5))
    net = VotingLocalizationNet(Marked(), 1, (4, 4), grid)
    with torch.no_grad():
        net.head.weight[0] = 10.0  # the score
        net.head.bias[1] = math.log(0.25)  # the scale
    image = torch.zeros(1, 1, 16, 16)
    image[0, 0, 5, 14] = 1.0  # in the last column of the second row of cells
    corners = grid.outline(net(image))[0, :: grid.outline_points_per_side]
    centre, half = torch.tensor([0.75, -0.25]), 0.25
    expected = centre + half * torch.tensor([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])
    torch.testing.assert_close(corners, expected, atol=1e-3, rtol=0)


def test_of_two_places_the_better_one_is_chosen_and_not_their_middle() -> None:
    grid = make_grid("attention", (5, 5))
    net = VotingLocalizationNet(Marked(), 1, (4, 4), grid)
    with torch.no_grad():
        net.head.weight[0] = 10.0
    image = torch.zeros(1, 1, 16, 16)
    image[0, 0, 1, 1], image[0, 0, 14, 14] = 1.0, 0.8
    assert net(image)[0, 1:].tolist() == pytest.approx([-0.75, -0.75], abs=0.01)


def test_votes_are_recorded_with_the_theta_that_they_gave() -> None:
    grid = make_grid("similarity", (5, 5))
    transformer = SpatialTransformer(VotingLocalizationNet(Marked(), 1, (4, 4), grid), grid)
    with recorded_transforms(transformer) as calls:
        transformer(torch.rand(3, 1, 16, 16))
    assert calls[0].votes is not None
    scores, votes = calls[0].votes
    assert (scores.shape, votes.shape) == ((3, 16), (3, 4, 16))
    torch.testing.assert_close(transformer.localization.tally(scores, votes), calls[0].theta)
