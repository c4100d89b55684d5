"""Theta in terms that a person knows: exact for known maps, the same for every grid generator."""

import csv
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from stn_models import Architecture, Sampler, SpatialTransformer, make_grid
from stn_runtime.cli import main
from stn_training.data.distortions import rotated_translated_scaled
from stn_training.data.labelled_images import LabelledImages
from stn_training.evaluation.thetas import QUANTITIES, affine_part, decomposed, measure_thetas, rows, save_thetas


def region(angle: float, scale: float, shear: float, x: float, y: float) -> torch.Tensor:
    """The affine map onto a region of a picture: sheared, scaled, turned counter-clockwise, moved."""
    radians = math.radians(angle)
    turn = torch.tensor([[math.cos(radians), math.sin(radians)], [-math.sin(radians), math.cos(radians)]])
    linear = turn @ torch.tensor([[1.0, shear], [0.0, 1.0]]) * scale
    return torch.cat([linear, torch.tensor([[2 * x], [2 * y]])], dim=1)


@pytest.mark.parametrize(
    "known", [(0, 1, 0, 0, 0), (30, 0.5, 0, 0.1, -0.2), (-75, 1.5, 0.4, -0.3, 0.3), (179, 0.2, -0.8, 0, 0.5)]
)
def test_a_map_is_decomposed_into_what_it_was_made_of(known: tuple[float, ...]) -> None:
    found = decomposed(region(*known)[None])[0]
    np.testing.assert_allclose(found, known, atol=1e-4)


def test_a_region_that_is_turned_counter_clockwise_has_a_positive_angle() -> None:
    """Its upper right corner then lies above its upper left one; y points down."""
    matrix = region(20, 1, 0, 0, 0)
    left, right = (matrix @ torch.tensor([x, -1.0, 1.0]) for x in (-1.0, 1.0))
    assert right[1] < left[1]
    assert decomposed(matrix[None])[0, 0] == pytest.approx(20, abs=1e-4)


def test_a_flat_region_has_no_shear_and_everything_else_is_finite() -> None:
    found = decomposed(torch.tensor([[[1.0, 0.0, 0.2], [0.0, 0.0, 0.0]]]))[0]
    assert torch.isnan(found[2])
    assert torch.isfinite(found[[0, 1, 3, 4]]).all()


def test_every_grid_has_the_affine_part_that_its_theta_says() -> None:
    known = region(25, 0.6, 0, 0.1, 0.05)
    cosine, sine = known[0, 0], known[1, 0]
    thetas = {
        "affine": known.flatten(),
        "similarity": torch.tensor([math.atan2(sine, cosine), math.hypot(cosine, sine), known[0, 2], known[1, 2]]),
        "projective": torch.cat([known.flatten(), torch.zeros(2)]),
    }
    for name, theta in thetas.items():
        size = (8, 8) if name == "similarity" else (9, 7)  # it is rigid in pixels
        np.testing.assert_allclose(affine_part(make_grid(name, size), theta[None])[0], known, atol=1e-5, err_msg=name)
    tps = make_grid("tps", (16, 16))
    moved = tps.identity() + 0.1 * tps.translations()[0]
    np.testing.assert_allclose(affine_part(tps, moved[None])[0], [[1, 0, 0.1], [0, 1, 0]], atol=1e-4)


def test_an_angle_is_one_in_pixels_also_where_the_picture_is_wide() -> None:
    class Wide(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            grid = make_grid("similarity", (20, 40))
            self.transformer = SpatialTransformer(Always(torch.tensor([0.5, 0.7, 0.0, 0.0])), grid, Sampler())

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            output: torch.Tensor = self.transformer(image)
            return output

    data = LabelledImages(torch.zeros(2, 20, 40, 1, dtype=torch.uint8), torch.tensor([0, 1]), ("a", "b"), "hand")
    (found,) = measure_thetas(Wide(), data)
    np.testing.assert_allclose(found.found[0], [-math.degrees(0.5), 0.7, 0, 0, 0], atol=1e-4)


class Always(nn.Module):
    """One theta for every picture."""

    def __init__(self, theta: torch.Tensor) -> None:
        super().__init__()
        self.theta = theta

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.theta.expand(len(image), -1)


def digits_as_placed() -> LabelledImages:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(60, 1, 28, 28, generator=generator)
    placed = rotated_translated_scaled(images, generator)
    pictures = (placed.images * 255).to(torch.uint8).permute(0, 2, 3, 1)
    labels = torch.arange(60) % 3
    return LabelledImages(pictures, labels, ("a", "b", "c"), "hand", None, placed.placements)


def test_a_transformer_that_undoes_the_distortion_has_no_error() -> None:
    data = digits_as_placed()
    network = Architecture("st-fcn", {"image_size": 42}).build().eval()
    transformer = next(module for module in network.modules() if isinstance(module, SpatialTransformer))
    assert data.placements is not None
    answers = iter(data.placements.flatten(1).split(200))
    transformer.localization.register_forward_hook(lambda *_: next(answers))
    (found,) = measure_thetas(network, data)
    errors = found.errors()
    assert errors is not None
    np.testing.assert_allclose(errors, 0, atol=1e-3)
    table = list(rows([found], data))
    assert {(row.label, row.quantity) for row in table} == {
        (label, quantity) for label in ("all", "a", "b", "c") for quantity in QUANTITIES
    }
    own = found.found[data.labels.numpy() == 1, 1]
    (row,) = [row for row in table if (row.label, row.quantity) == ("b", "scale")]
    assert (row.pictures, row.median) == (20, pytest.approx(np.median(own)))
    assert row.percentile_5 <= row.median <= row.percentile_95


def test_errors_of_angles_go_the_shorter_way_around() -> None:
    data = digits_as_placed()
    network = Architecture("st-fcn", {"image_size": 42}).build().eval()
    (found,) = measure_thetas(network, data)
    errors = found.errors()
    assert errors is not None
    assert np.abs(errors[:, 0]).max() <= 180
    assert found.true is not None
    found.true[:] = 179.0
    found.found[:] = -179.0
    again = found.errors()
    assert again is not None
    np.testing.assert_allclose(again[:, 0], 2)


def test_pictures_are_drawn_for_many_classes_with_long_names(tmp_path: Path) -> None:
    names = tuple(f"a very long name of class {number}" for number in range(30))
    images = torch.zeros(90, 42, 42, 1, dtype=torch.uint8)
    data = LabelledImages(images, torch.arange(90) % 30, names, "hand")
    network = Architecture("st-fcn", {"image_size": 42, "classes": 30}).build().eval()
    save_thetas(measure_thetas(network, data), data, tmp_path / "thetas.png")
    assert (tmp_path / "thetas.png").stat().st_size > 10_000


def test_the_command_writes_figures_and_a_picture(
    learned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = learned / "model.safetensors"
    assert main(["evaluate", str(model), "sklearn-digits", "--thetas", "--output", str(tmp_path)]) == 0
    assert "angle, degrees" in capsys.readouterr().out
    with (tmp_path / "thetas.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert len(table) == 11 * len(QUANTITIES)  # all, and ten classes
    assert {row["median_error"] for row in table} == {""}
    assert (tmp_path / "thetas.png").is_file()
