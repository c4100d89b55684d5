"""Theta over the training pictures: measured as training sees them, kept beside untouched weights."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from stn_models import Architecture, Checkpoint, load_checkpoint, make_transformer, save_checkpoint
from stn_runtime import PreprocessSpec
from stn_runtime.model.manifest import read_theta
from stn_training import TrainConfig
from stn_training.calibration import measure_theta, record_theta, record_threshold
from stn_training.data.data_module import ImageData
from stn_training.data.labelled_images import LabelledImages
from stn_training.fit import load_data

SPEC = PreprocessSpec(16, 16, 1)


class Brightness(nn.Module):
    """Theta is the mean of the picture, moved by a number of its own in each of the six parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.offsets = nn.Parameter(torch.arange(6.0) / 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image.mean(dim=(1, 2, 3))[:, None] + self.offsets


def grey(levels: np.ndarray, augment: tuple[str, ...] = ()) -> ImageData:
    """Training pictures of one grey level each."""
    images = torch.from_numpy(levels.astype(np.uint8)).view(-1, 1, 1, 1).expand(-1, 16, 16, 1)
    data = LabelledImages(images, torch.zeros(len(levels), dtype=torch.long), ("a", "b"), "grey")
    return ImageData(data, data, TrainConfig("mnist", "fcn", {"image_size": 16}, augment=augment), SPEC)


@pytest.fixture
def network() -> nn.Module:
    transformer = make_transformer(1, (16, 16))
    transformer.localization = Brightness()
    return transformer.eval()


def test_the_mean_is_that_of_every_training_picture(network: nn.Module) -> None:
    levels = np.arange(250)
    statistics = measure_theta(network, grey(levels))
    assert statistics is not None
    assert statistics.pictures == 250
    assert statistics.mean == pytest.approx(levels.mean() / 255 + np.arange(6) / 10, rel=1e-5)


def test_a_pixel_is_one_of_what_the_transformer_samples(network: nn.Module) -> None:
    statistics = measure_theta(network, grey(np.full(250, 51)))  # theta never moves: a quarter of 2 / 16 counts
    assert statistics is not None
    apart = np.array(statistics.mean)
    apart[2] += 0.25 * 2 / 16
    assert statistics.distances(apart) == pytest.approx(1, rel=1e-4)


def test_of_many_pictures_a_bounded_number_is_measured(network: nn.Module) -> None:
    statistics = measure_theta(network, grey(np.arange(10_300) % 256))
    assert statistics is not None
    assert statistics.pictures == 10_000
    assert statistics.mean[0] == pytest.approx(127.5 / 255, abs=0.01)  # from all over


def test_pictures_are_measured_as_training_augments_them(network: nn.Module) -> None:
    plain, jittered = (measure_theta(network, grey(np.full(250, 128), augment)) for augment in ((), ("jitter",)))
    assert plain is not None
    assert jittered is not None
    level = np.array(plain.mean)
    assert plain.distances(level + 0.1) > plain.limit
    assert jittered.distances(level + 0.1) < jittered.limit
    assert measure_theta(network, grey(np.full(250, 128), ("jitter",))) == jittered


def test_a_run_ends_with_statistics_that_its_own_pictures_keep_to(learned: Path) -> None:
    _, described = load_checkpoint(learned / "model.safetensors")
    assert described.theta is not None
    statistics = read_theta(described.theta, "learned")
    assert statistics.pictures == 1257  # of scikit-learn's 1797 digits, 540 are for validation and test
    scale_x, _, _, _, scale_y, _ = statistics.mean
    assert 0.3 < scale_x < 1.5
    assert 0.3 < scale_y < 1.5


def test_measuring_again_gives_the_same_and_leaves_the_weights_alone(learned: Path, tmp_path: Path) -> None:
    checkpoint = tmp_path / "model.safetensors"
    shutil.copy(learned / "model.safetensors", checkpoint)
    _, before = load_checkpoint(checkpoint)
    config = TrainConfig.from_mapping(before.training["config"], "config")
    statistics = record_theta(checkpoint, load_data(config))
    _, after = load_checkpoint(checkpoint)
    assert before.theta is not None
    assert after == before
    assert read_theta(before.theta, "before") == statistics
    weights, expected = load_file(checkpoint), load_file(learned / "model.safetensors")
    assert all(torch.equal(weights[key], expected[key]) for key in expected)


def test_a_run_ends_with_a_threshold_found_on_its_validation_pictures(learned: Path, tmp_path: Path) -> None:
    checkpoint = tmp_path / "model.safetensors"
    shutil.copy(learned / "model.safetensors", checkpoint)
    _, described = load_checkpoint(checkpoint)
    data = load_data(TrainConfig.from_mapping(described.training["config"], "config"))
    labelling = record_threshold(checkpoint, data.val)
    assert labelling is not None
    assert labelling.threshold == described.threshold
    assert labelling.pictures == len(data.val)
    assert labelling.right >= 0.99 * labelling.labelled > 0


def test_the_threshold_keeps_the_reject_class_without_labels(tmp_path: Path) -> None:
    network = Architecture("fcn", {"image_size": 16, "classes": 2}).build()
    save_checkpoint(tmp_path / "m.safetensors", network, described_as("digit", "nothing"))
    levels = torch.arange(240, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 16, 16, 1)
    data = LabelledImages(levels, (torch.arange(240) % 2), ("digit", "nothing"), "grey", reject=1)
    labelling = record_threshold(tmp_path / "m.safetensors", data)
    _, after = load_checkpoint(tmp_path / "m.safetensors")
    assert labelling is not None
    assert (labelling.rejected, after.threshold) == (120, labelling.threshold)
    assert labelling.mistaken <= 1 or not labelling.holds


def described_as(*labels: str) -> Checkpoint:
    preprocess = {"height": 16, "width": 16, "channels": 1, "fit": "stretch", "interpolation": "area"}
    return Checkpoint(Architecture("fcn", {"image_size": 16, "classes": 2}), labels, preprocess, reject="nothing")
