"""Schedules and the range test: the rates that they say are those that the optimiser takes."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stn_runtime import InputError
from stn_runtime.cli import main
from stn_training import TrainConfig
from stn_training.fit import find_rate
from stn_training.optimisation.rate_finder import HIGHEST, LOWEST, STEPS, RangeTest
from stn_training.optimisation.schedule import SCHEDULES, draw_schedule, rate_share
from tests.training.conftest import Refusal


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("steps", [1, 2, 100])
def test_a_share_is_positive_and_at_most_1(schedule: str, steps: int) -> None:
    share = rate_share(schedule, steps)
    values = [share(step) for step in range(steps)]
    assert all(0 < value <= 1 for value in values)


def test_one_cycle_rises_for_a_fifth_and_then_falls() -> None:
    values = [rate_share("onecycle", 1001)(step) for step in range(1001)]
    peak = values.index(max(values))
    assert abs(peak - 200) <= 1
    assert values[:peak] == sorted(values[:peak])
    assert values[peak:] == sorted(values[peak:], reverse=True)
    assert values[0] == pytest.approx(1 / 25, rel=0.01)
    assert values[-1] < 1e-4


def test_steps_are_a_tenth_from_a_half_on_and_a_hundredth_from_three_quarters_on() -> None:
    share = rate_share("step", 100)
    assert [share(0), share(49), share(50), share(74), share(75)] == pytest.approx([1, 1, 0.1, 0.1, 0.01])


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_schedule_is_drawn(schedule: str, tmp_path: Path) -> None:
    for steps in (1, 5000):
        draw_schedule(schedule, steps, 1, 1e-3, 0.1, tmp_path / "schedule.png")
        assert (tmp_path / "schedule.png").stat().st_size > 5000


def found(losses: list[float]) -> RangeTest:
    test = RangeTest(1.0)
    test.losses = losses
    test.rates = [LOWEST * (HIGHEST / LOWEST) ** (step / (STEPS - 1)) for step in range(len(losses))]
    return test


def test_a_tenth_of_the_rate_with_the_lowest_loss_is_suggested(tmp_path: Path) -> None:
    losses = [2.0 - 1.5 * math.exp(-(((step - 150) / 30) ** 2)) for step in range(STEPS)]
    test = found(losses)
    assert test.suggestion() == pytest.approx(test.rates[150] / 10, rel=0.1)
    assert found([*losses[:180], math.nan]).suggestion() == test.suggestion()
    found([*losses[:180], math.nan]).draw(tmp_path / "lr.png")
    assert (tmp_path / "lr.png").stat().st_size > 5000


def test_every_group_keeps_its_share_of_the_rate_and_a_loss_that_grows_ends_the_test() -> None:
    groups = [{"lr": 0.0, "initial_lr": 0.02}, {"lr": 0.0, "initial_lr": 0.002}]
    test = RangeTest(0.02)
    trainer: Any = SimpleNamespace(optimizers=[SimpleNamespace(param_groups=groups)], should_stop=False)
    for loss in [1.0] * 30 + [1e6]:
        assert not trainer.should_stop
        test.on_train_batch_start(trainer)
        first, second = (group["lr"] for group in groups)
        assert first == pytest.approx(test.rates[-1])
        assert second == pytest.approx(first / 10)
        test.on_train_batch_end(trainer, None, {"loss": loss})
    assert trainer.should_stop


def test_the_command_names_a_rate_and_trains_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["train", "sklearn-digits", "--model", "fcn", "--options", '{"image_size": 28, "width": 16}']
    assert main([*arguments, "--find-lr", "--batch-size", "64", "--output", str(tmp_path / "run")]) == 0
    told = capsys.readouterr().out
    rate = float(told.split("--lr ")[1])
    assert 1e-4 <= rate <= 1e-1
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["lr.png"]
    assert main([*arguments, "--lr", str(rate), "--epochs", "2", "--output", str(tmp_path / "run")]) == 0
    assert (tmp_path / "run" / "schedule.png").is_file()


def test_a_loss_that_is_not_finite_from_the_start_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "stn_training.module.functional.cross_entropy", lambda logits, *_, **__: logits.sum() * math.nan
    )
    with pytest.raises(InputError, match="the loss is not finite from the first step on; look at the data"):
        find_rate(TrainConfig("sklearn-digits", "fcn", {"image_size": 28}), tmp_path / "lr.png")


def test_a_resumed_run_has_its_rate(learned: Path, refusal: Refusal) -> None:
    assert "leave out --find-lr" in refusal("train", "--resume", learned, "--find-lr")
