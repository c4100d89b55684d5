"""The training step: who learns at which rate, on which schedule, and what the theta monitor says."""

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from stn_models import (
    AffineGrid,
    Architecture,
    LocalizationNet,
    SimilarityGrid,
    SpatialTransformer,
    TransformCall,
    injected_thetas,
)
from stn_training.config import TrainConfig
from stn_training.module import (
    ClassifierTraining,
    mixed_up,
    parameter_groups,
    placement_loss,
    signed_area,
    theta_statistics,
)


def config(**values: Any) -> TrainConfig:  # noqa: ANN401
    return TrainConfig("sklearn-digits", "fcn", **{"lr": 0.1, "stn_lr_scale": 0.01, **values})


def call(*thetas: list[float]) -> TransformCall:
    grid = AffineGrid((10, 10))
    transformer = SpatialTransformer(LocalizationNet(nn.Flatten(), 100, grid), grid)
    image = torch.zeros(len(thetas), 1, 10, 10)
    return TransformCall("t", transformer, image, torch.tensor(thetas), image)


def statistics(*calls: TransformCall) -> tuple[float, float, float]:
    values = theta_statistics(list(calls))
    return tuple(float(values[f"theta_{name}"]) for name in ("determinant", "scale", "outside"))  # type: ignore[return-value]


@pytest.mark.parametrize("name", ["st-cnn", "st-fcn", "st-vgg", "cifar-small"])
def test_exactly_the_localisation_nets_learn_at_the_lower_rate(name: str) -> None:
    model = Architecture(name).build()
    named = {id(parameter): key for key, parameter in model.named_parameters()}
    rest, localization = parameter_groups(model, config())
    slow = {named[id(parameter)] for parameter in localization["params"]}
    fast = {named[id(parameter)] for parameter in rest["params"]}
    assert slow == {key for key in named.values() if "localization" in key}
    assert fast == set(named.values()) - slow
    assert len(slow) + len(fast) == len(localization["params"]) + len(rest["params"])
    assert (rest["lr"], localization["lr"]) == (0.1, pytest.approx(0.001))


def test_a_network_without_a_transformer_has_one_group() -> None:
    model = Architecture("fcn", {"width": 8}).build()
    (group,) = parameter_groups(model, config())
    assert group["params"] == list(model.parameters())
    assert group["lr"] == 0.1


def test_two_transformers_that_share_a_localisation_net_list_it_once() -> None:
    grid = AffineGrid((10, 10))
    shared = LocalizationNet(nn.Flatten(), 100, grid)
    model = nn.Sequential(SpatialTransformer(shared, grid), SpatialTransformer(shared, grid), nn.Conv2d(1, 1, 1))
    rest, localization = parameter_groups(model, config())
    assert len(localization["params"]) == 2
    assert len(rest["params"]) == 2


@pytest.mark.parametrize(
    ("theta", "expected"),
    [
        ([1, 0, 0, 0, 1, 0], (1, 1, 0)),
        ([0.5, 0, 0, 0, 0.5, 0], (0.25, 0.5, 0)),
        ([-1, 0, 0, 0, 1, 0], (-1, 1, 0)),
        ([0, 1, 0, 1, 0, 0], (-1, 1, 0)),
        ([0, -1, 0, 1, 0, 0], (1, 1, 0)),
        ([0.25, 0, 0, 0, 1, 0], (0.25, 0.5, 0)),
        ([2, 0, 0, 0, 2, 0], (4, 2, 0.64)),  # of ten points 0.1 to 0.9 a side apart, 6 x 6 lie inside
        ([1, 0, 1, 0, 1, 0], (1, 1, 0.5)),
        ([1, 0, 5, 0, 1, 0], (1, 1, 1)),
        ([0, 0, 0, 0, 0, 0], (0, 0, 0)),
    ],
    ids=["identity", "half", "mirrored", "transposed", "turned", "narrow", "double", "shifted", "gone", "collapsed"],
)
def test_theta_statistics_by_hand(theta: list[float], expected: tuple[float, float, float]) -> None:
    assert statistics(call(theta)) == pytest.approx(expected, abs=1e-5)


def test_theta_statistics_average_over_images_and_transformers() -> None:
    whole, half, mirrored = [1.0, 0, 0, 0, 1, 0], [0.5, 0, 0, 0, 0.5, 0], [-1.0, 0, 0, 0, 1, 0]
    assert statistics(call(whole, half)) == pytest.approx((0.625, 0.75, 0), abs=1e-5)
    assert statistics(call(whole, half), call(mirrored, half)) == pytest.approx((0.125, 0.75, 0), abs=1e-5)


def test_theta_statistics_take_every_grid() -> None:
    grid = SimilarityGrid((12, 12))
    transformer = SpatialTransformer(LocalizationNet(nn.Flatten(), 144, grid), grid)
    image = torch.zeros(1, 1, 12, 12)
    theta = torch.tensor([[math.pi / 3, 0.5, 0.1, 0.1]])
    assert statistics(TransformCall("t", transformer, image, theta, image)) == pytest.approx((0.25, 0.5, 0), abs=1e-5)


SQUARE = [(-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0)]


@pytest.mark.parametrize(
    ("outline", "area"),
    [
        (SQUARE, 4.0),
        (SQUARE[::-1], -4.0),
        ([(0.0, 0.0), (2.0, 0.0), (0.0, 1.0)], 1.0),
        ([(5.0, 5.0), (5.0, 6.0), (8.0, 5.0)], -1.5),
        ([(0.0, 0.0), (1.0, 1.0), (2.0, 2.0)], 0.0),
    ],
)
def test_an_area_is_positive_clockwise_with_y_down(outline: list[tuple[float, float]], area: float) -> None:
    assert signed_area(torch.tensor([outline])).tolist() == pytest.approx([area], abs=1e-5)


def rates(settings: TrainConfig, steps: int, model: nn.Module | None = None) -> list[list[float]]:
    module = ClassifierTraining(model or Architecture("st-fcn", {"image_size": 12, "width": 4}).build(), settings, 10)
    module._trainer = SimpleNamespace(estimated_stepping_batches=steps)  # type: ignore[assignment]
    made = module.configure_optimizers()
    optimizer, schedule = made["optimizer"], made["lr_scheduler"]
    assert isinstance(schedule, dict)
    assert schedule["interval"] == "step"
    seen = []
    for _ in range(steps):
        seen.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        schedule["scheduler"].step()
    return seen


def test_step_divides_the_rate_by_ten_at_a_half_and_at_three_quarters() -> None:
    seen = rates(config(schedule="step", optimizer="sgd"), 8)
    assert [rate for rate, _ in seen] == pytest.approx([0.1] * 4 + [0.01] * 2 + [0.001] * 2)
    assert [slow / rate for rate, slow in seen] == pytest.approx([0.01] * 8)


def test_onecycle_rises_to_the_rate_of_each_group_and_falls_to_nothing() -> None:
    seen = rates(config(), 100)
    fast, slow = [rate for rate, _ in seen], [rate for _, rate in seen]
    assert max(fast) == pytest.approx(0.1)
    assert 15 <= fast.index(max(fast)) <= 20
    assert fast[0] < 0.01
    assert fast[-1] < 1e-4
    assert max(slow) == pytest.approx(0.001)


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 6, 7, 10])
def test_onecycle_takes_any_number_of_steps(steps: int) -> None:
    assert len(rates(config(), steps)) == steps


def test_onecycle_takes_five_steps() -> None:
    assert len(rates(config(), 5)) == 5


def test_the_optimiser_is_the_one_that_was_asked_for() -> None:
    module = ClassifierTraining(
        Architecture("fcn", {"width": 4}).build(), config(optimizer="sgd", weight_decay=0.3), 10
    )
    module._trainer = SimpleNamespace(estimated_stepping_batches=8)  # type: ignore[assignment]
    sgd = module.configure_optimizers()["optimizer"]
    assert isinstance(sgd, torch.optim.SGD)
    assert (sgd.defaults["momentum"], sgd.defaults["nesterov"], sgd.defaults["weight_decay"]) == (0.9, True, 0.3)
    module.config = config()
    assert isinstance(module.configure_optimizers()["optimizer"], torch.optim.AdamW)


def test_dropout_of_a_batch_follows_from_seed_epoch_and_number() -> None:
    def draw(seed: int, epoch: int, batch: int = 0) -> Tensor:
        module = ClassifierTraining(nn.Identity(), config(seed=seed), 10)
        module._trainer = SimpleNamespace(current_epoch=epoch, global_rank=0)  # type: ignore[assignment]
        module.on_train_batch_start((torch.empty(0), torch.empty(0), torch.empty(0)), batch)
        return torch.rand(4)

    assert torch.equal(draw(0, 3), draw(0, 3))
    assert not torch.equal(draw(0, 3), draw(0, 4))
    assert not torch.equal(draw(0, 3), draw(1, 3))
    assert not torch.equal(draw(0, 3), draw(0, 3, 1))


def test_the_training_loss_is_cross_entropy_with_label_smoothing() -> None:
    logits = torch.tensor([[2.0, 0.0, -1.0]])
    module = ClassifierTraining(nn.Identity(), config(label_smoothing=0.3), 3)
    loss = module.training_step((logits, torch.tensor([0]), torch.empty(0)), 0)
    log_total = math.log(math.exp(2) + 1 + math.exp(-1))
    expected = -(0.8 * (2 - log_total) + 0.1 * (0 - log_total) + 0.1 * (-1 - log_total))
    assert float(loss) == pytest.approx(expected, rel=1e-5)


def with_one_device(module: ClassifierTraining) -> ClassifierTraining:
    strategy = SimpleNamespace(reduce=lambda totals, reduce_op: totals)
    module._trainer = SimpleNamespace(strategy=strategy, current_epoch=0, global_rank=0)  # type: ignore[assignment]
    return module


def test_validation_watches_the_transformer() -> None:
    model = Architecture("st-fcn", {"image_size": 12, "width": 4}).build().eval()
    module = with_one_device(ClassifierTraining(model, config(), 10))
    with torch.no_grad(), injected_thetas(model, [torch.tensor([[0.5, 0, 0, 0, -0.5, 0]])]):
        module.validation_step((torch.rand(3, 1, 12, 12), torch.tensor([0, 1, 2]), torch.empty(0)), 0)
    metrics = module.epoch_metrics()
    assert set(metrics) == {"val_loss", "val_accuracy", "theta_determinant", "theta_scale", "theta_outside"}
    assert metrics["theta_determinant"] == pytest.approx(-0.25)


def test_the_metrics_of_an_epoch_are_means_over_images_whatever_the_batches() -> None:
    module = with_one_device(ClassifierTraining(nn.Identity(), config(), 3))
    logits, labels = torch.tensor([[4.0, 0, 0], [0, 4.0, 0], [0, 4.0, 0]]), torch.tensor([0, 1, 2])
    for part in (slice(0, 2), slice(2, 3)):
        module.validation_step((logits[part], labels[part], torch.empty(0)), 0)
    metrics = module.epoch_metrics()
    assert metrics["val_accuracy"] == pytest.approx(2 / 3)
    assert metrics["val_loss"] == pytest.approx(float(nn.functional.cross_entropy(logits, labels)), rel=1e-6)
    assert module.epoch_metrics() == {}


def test_mixup_mixes_images_and_targets_by_the_same_share() -> None:
    images = torch.eye(4).view(4, 4, 1, 1)  # each image says whose it is
    mixed, targets = mixed_up(images, torch.arange(4), 4, 0.4, torch.Generator().manual_seed(3))
    assert torch.allclose(mixed.view(4, 4), targets)
    assert torch.allclose(targets.sum(dim=1), torch.ones(4))
    again = mixed_up(images, torch.arange(4), 4, 0.4, torch.Generator().manual_seed(3))[1]
    assert torch.equal(targets, again)


def test_the_placement_loss_is_zero_at_the_placement_and_ignores_what_is_unknown() -> None:
    theta = torch.tensor([[0.5, 0, 0.2, 0, 0.5, -0.1], [1.0, 0, 0, 0, 1.0, 0]])
    placements = torch.stack([theta[0].view(2, 3), torch.full((2, 3), torch.nan)])
    assert float(placement_loss(call(*theta.tolist()), placements)) == pytest.approx(0, abs=1e-6)
    moved = placements.clone()
    moved[0, :, 2] += 0.25  # half a half side of the box
    assert float(placement_loss(call(*theta.tolist()), moved)) == pytest.approx(0.5, abs=0.03)


def test_the_placement_loss_of_votes_trains_the_scores_towards_the_right_vote() -> None:
    grid = AffineGrid((10, 10))
    right = torch.tensor([0.5, 0, 0.2, 0, 0.5, -0.1])
    votes = torch.stack([right + 0.5, right, -right], dim=1)[None].requires_grad_()
    scores = torch.zeros(1, 3, requires_grad=True)
    transformer = SpatialTransformer(LocalizationNet(nn.Flatten(), 100, grid), grid)
    image = torch.zeros(1, 1, 10, 10)
    voted = TransformCall("t", transformer, image, right[None], image, (scores, votes))
    loss = placement_loss(voted, right.view(1, 2, 3))
    assert float(loss) == pytest.approx(math.log(3), abs=1e-3)  # of three alike scores one is right
    loss.backward()
    assert scores.grad is not None
    assert scores.grad[0].tolist() == pytest.approx([1 / 3, -2 / 3, 1 / 3], abs=1e-3)


def test_the_localisation_nets_rate_can_be_lowered_alone() -> None:
    module = ClassifierTraining(
        Architecture("st-fcn", {"image_size": 12, "width": 4}).build(), config(schedule="constant"), 10, None, 0.1
    )
    module._trainer = SimpleNamespace(estimated_stepping_batches=8)  # type: ignore[assignment]
    groups = module.configure_optimizers()["optimizer"].param_groups
    assert [group["lr"] for group in groups] == pytest.approx([0.1, 0.0001])
