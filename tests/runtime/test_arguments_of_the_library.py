"""Numbers and names that no call can mean are a programmer's error, said at the call."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from stn_runtime import CameraOptions, Classifier, Selection, classify, open_source
from stn_runtime.images.writing import write_image


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "picture.png"
    write_image(path, np.full((8, 8), 200, np.uint8))
    return path


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: Selection(stride=0), "stride must be at least 1, got 0"),
        (lambda: Selection(max_fps=-1.0), "max_fps must be above 0"),
        (lambda: Selection(max_fps=float("nan")), "max_fps must be above 0"),
        (lambda: CameraOptions(size=(0, 480)), r"size must be above 0, got \(0, 480\)"),
        (lambda: CameraOptions(rate=0.0), "rate must be above 0"),
        (lambda: CameraOptions(stall_seconds=-1.0), "stall_seconds must be above 0"),
        (lambda: open_source([]), "no source is named"),
    ],
)
def test_a_number_that_means_nothing_is_refused_at_once(call: Callable[[], object], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        call()


@pytest.mark.parametrize("threads", [0, -1])
def test_a_classifier_has_a_thread(grey_model: Path, threads: int) -> None:
    with pytest.raises(ValueError, match=rf"threads must be at least 1, got {threads}"):
        Classifier(grey_model, threads=threads)


def test_one_provider_is_a_list_of_one(grey_model: Path) -> None:
    with pytest.raises(TypeError, match=r"providers must be a list of names, got 'CPUExecutionProvider'"):
        Classifier(grey_model, providers="CPUExecutionProvider")


def test_no_picture_is_lost_for_want_of_a_size(grey_model: Path) -> None:
    image = np.zeros((8, 8), np.uint8)
    with pytest.raises(ValueError, match="sizes must be one for each picture, got 1 for 2"):
        Classifier(grey_model).predict([image, image], [(8, 8)])


@pytest.mark.parametrize("limit", [0, -3])
def test_a_limit_that_lets_no_frame_through_is_refused(grey_model: Path, picture: Path, limit: int) -> None:
    with pytest.raises(ValueError, match=rf"limit must be at least 1, got {limit}"):
        next(classify(open_source(picture), Classifier(grey_model), limit=limit))


@pytest.mark.parametrize("threshold", [-0.1, 1.5, 80, float("nan")])
def test_a_threshold_that_no_confidence_can_be_compared_with_is_refused(
    grey_model: Path, picture: Path, threshold: float
) -> None:
    with pytest.raises(ValueError, match=rf"threshold must be from 0 to 1, got {threshold}"):
        next(classify(open_source(picture), Classifier(grey_model), threshold=threshold))


def test_a_path_is_a_source_like_its_name(picture: Path) -> None:
    for source in (picture, str(picture), [picture]):
        assert [frame.source for frame in open_source(source)] == [str(picture)]


def test_a_number_is_no_source_and_the_error_says_how_a_camera_is_named() -> None:
    with pytest.raises(TypeError, match=r"such as '0' for the first camera, got 0$"):
        open_source(0)  # type: ignore[arg-type]
