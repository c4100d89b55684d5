"""A sweep spoils pictures by known amounts, and an unspoiled one counts as evaluation does."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Generator, Tensor

from stn_runtime.cli import main
from stn_training.evaluation import sweep as sweeps
from stn_training.evaluation.accuracy import evaluate, load_test_images, open_subject
from stn_training.evaluation.sweep import AXES, Axis, Point, save_sweep, sweep

NEUTRAL = {"rotation": 0, "scale": 1, "shift": 0, "shear": 0, "noise": 0}


@pytest.fixture
def pictures() -> Tensor:
    """A bright square left of the middle of a dark picture."""
    images = torch.full((3, 1, 40, 40), 0.25)
    images[:, :, 16:24, 8:16] = 1.0
    return images


def middle(image: Tensor) -> tuple[float, float]:
    """(x, y) of the brightness above the background, pixels from the picture's middle."""
    weight = (image[0] - 0.25).clamp(min=0)
    positions = torch.arange(40) - 19.5
    total = weight.sum()
    return float((weight.sum(0) * positions).sum() / total), float((weight.sum(1) * positions).sum() / total)


@pytest.mark.parametrize("name", AXES)
def test_every_axis_holds_the_picture_as_it_is(name: str, pictures: Tensor) -> None:
    assert NEUTRAL[name] in AXES[name].values
    assert tuple(sorted(AXES[name].values)) == AXES[name].values
    same = AXES[name].apply(pictures, NEUTRAL[name], Generator().manual_seed(0))
    torch.testing.assert_close(same, pictures, atol=1e-4, rtol=0)


def test_a_picture_turns_counter_clockwise_and_is_scaled_about_its_centre(pictures: Tensor) -> None:
    generator = Generator().manual_seed(0)
    assert middle(pictures[0]) == pytest.approx((-8, 0), abs=0.01)
    turned = AXES["rotation"].apply(pictures, 90, generator)
    assert middle(turned[0]) == pytest.approx((0, 8), abs=0.1)  # from the left to the bottom
    larger = AXES["scale"].apply(pictures, 2, generator)
    assert middle(larger[0])[0] == pytest.approx(-13.5, abs=2.5)
    smaller = AXES["scale"].apply(pictures, 0.5, generator)
    assert middle(smaller[0]) == pytest.approx((-4, 0), abs=0.1)
    assert (smaller > 0.3).sum() < (pictures > 0.3).sum() / 3


def test_pictures_that_are_not_square_are_turned_and_sheared_without_being_stretched(pictures: Tensor) -> None:
    wide = torch.nn.functional.pad(pictures, (40, 40), value=0.25)  # 40 x 120, the square 8 pixels left of the middle
    turned = AXES["rotation"].apply(wide, 90, Generator())[..., 40:80]
    assert middle(turned[0]) == pytest.approx((0, 8), abs=0.1)
    assert float((turned - 0.25).sum()) == pytest.approx(float((pictures - 0.25).sum()), rel=0.02)
    sheared, square = (AXES["shear"].apply(images, 0.4, Generator()) for images in (wide, pictures))
    torch.testing.assert_close(sheared[..., 48:72], square[..., 8:32], atol=1e-4, rtol=0)
    shifted = AXES["shift"].apply(wide, 0.1, Generator().manual_seed(0))[..., 40:80]
    places = np.array([middle(image) for image in shifted]) - (-8, 0)
    np.testing.assert_allclose(np.hypot(*places.T), 4, atol=0.1)


def test_a_shift_goes_as_far_as_it_says_in_any_direction(pictures: Tensor) -> None:
    shifted = AXES["shift"].apply(pictures, 0.1, Generator().manual_seed(0))
    places = np.array([middle(image) for image in shifted]) - (-8, 0)
    np.testing.assert_allclose(np.hypot(*places.T), 4, atol=0.1)
    assert len({tuple(place.round()) for place in places}) > 1


def test_beyond_the_border_its_pixels_repeat(pictures: Tensor) -> None:
    smaller = AXES["scale"].apply(pictures, 0.4, Generator())
    assert float(smaller[:, :, 0].min()) == float(smaller[:, :, 0].max()) == 0.25


def test_unspoiled_pictures_are_counted_as_evaluation_does(learned: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    axes = {name: Axis(axis.label, (NEUTRAL[name],), axis.apply) for name, axis in AXES.items()}
    monkeypatch.setattr(sweeps, "AXES", axes)
    subject = open_subject(str(learned / "model.safetensors"))
    data = load_test_images("sklearn-digits", "test", "", subject.spec, Path("none"), 0)
    points = sweep([subject], data, 0)
    assert [point.axis for point in points] == list(AXES)
    assert {point.accuracy for point in points} == {evaluate(subject, data).accuracy}


def test_noise_and_turning_do_harm_and_a_seed_repeats_them(learned: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    axes = {"rotation": Axis("r", (0, 90), AXES["rotation"].apply), "noise": Axis("n", (0.4,), AXES["noise"].apply)}
    monkeypatch.setattr(sweeps, "AXES", axes)
    subject = open_subject(str(learned / "model.safetensors"))
    data = load_test_images("sklearn-digits", "test", "", subject.spec, Path("none"), 0)
    points = sweep([subject], data, 3)
    as_it_is, turned, noisy = (point.accuracy for point in points)
    assert turned < as_it_is - 0.2
    assert noisy < as_it_is
    assert sweep([subject], data, 3) == points


def test_models_with_long_names_are_drawn(tmp_path: Path) -> None:
    points = [
        Point(f"runs/{'long-' * 12}{model}.onnx", name, value, 0.5, None if model else 0.25)
        for model in range(3)
        for name, axis in AXES.items()
        for value in axis.values
    ]
    save_sweep(points, tmp_path / "sweep.png")
    assert (tmp_path / "sweep.png").stat().st_size > 10_000


def test_the_command_writes_figures_and_a_picture(
    learned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeps, "MOST_PICTURES", 20)
    model = learned / "model.safetensors"
    assert main(["evaluate", str(model), "sklearn-digits", "--sweep", "--output", str(tmp_path)]) == 0
    with (tmp_path / "sweep.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == sum(len(axis.values) for axis in AXES.values())
    assert all(row["accuracy_at_identity"] for row in rows)
    assert (tmp_path / "sweep.png").is_file()
