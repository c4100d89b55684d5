"""Pictures in, predictions out, each number worked out by hand."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from stn_runtime import Classifier, ImageReadError, ModelContractError, PreprocessSpec, Score, TransformerSpec
from stn_runtime.images.preprocessing import Fit
from stn_runtime.images.writing import write_image


@pytest.fixture
def grey(grey_model: Path) -> Classifier:
    return Classifier(grey_model, threads=1)


@pytest.fixture
def rgb(rgb_model: Path) -> Classifier:
    return Classifier(rgb_model, threads=1)


def _plain(level: int, height: int = 6, width: int = 8) -> NDArray[np.uint8]:
    return np.full((height, width), level, np.uint8)


@pytest.mark.parametrize(
    ("level", "label", "probabilities"),
    [(0, "dark", (1, 0, 0)), (51, "dark", (0.64, 0.32, 0.04)), (204, "bright", (0.04, 0.32, 0.64))],
)
def test_the_most_probable_label_wins(grey: Classifier, level: int, label: str, probabilities: tuple[float]) -> None:
    prediction = grey.predict(_plain(level))
    assert prediction.label == label
    assert prediction.confidence == pytest.approx(max(probabilities), abs=1e-6)
    found = {score.label: score.probability for score in prediction.top}
    assert found == pytest.approx(dict(zip(("dark", "middle", "bright"), probabilities, strict=True)), abs=1e-6)


def test_labels_are_listed_best_first(grey: Classifier) -> None:
    assert [score.label for score in grey.predict(_plain(204)).top] == ["bright", "middle", "dark"]


def test_of_equal_probabilities_the_first_label_comes_first(grey: Classifier) -> None:
    assert [score.label for score in grey.predict(_plain(0)).top] == ["dark", "middle", "bright"]


@pytest.mark.parametrize(("topk", "listed"), [(1, 1), (2, 2), (3, 3), (99, 3)])
def test_topk_says_how_many_labels_are_listed(grey_model: Path, topk: int, listed: int) -> None:
    prediction = Classifier(grey_model, threads=1, topk=topk).predict(_plain(255))
    assert len(prediction.top) == listed
    assert prediction.top[0] == Score("bright", 1.0)


@pytest.mark.parametrize("topk", [0, -1])
def test_topk_below_one_is_refused(grey_model: Path, topk: int) -> None:
    with pytest.raises(ValueError, match=f"topk must be at least 1, got {topk}"):
        Classifier(grey_model, topk=topk)


@pytest.mark.parametrize("label", ["red", "green", "blue"])
def test_arrays_are_rgb(rgb: Classifier, label: str) -> None:
    picture = np.zeros((11, 9, 3), np.uint8)
    picture[:, :, ("red", "green", "blue").index(label)] = 255
    prediction = rgb.predict(picture)
    assert prediction.label == label
    assert prediction.confidence == pytest.approx(256 / 258, abs=1e-6)


def test_a_grey_picture_serves_a_colour_network_and_the_other_way_round(rgb: Classifier, grey: Classifier) -> None:
    assert rgb.predict(_plain(200)).confidence == pytest.approx(1 / 3, abs=1e-6)
    assert grey.predict(np.full((6, 8, 3), 255, np.uint8)).label == "bright"


def test_one_picture_gives_one_prediction_and_a_list_gives_a_list(grey: Classifier) -> None:
    assert grey.predict(_plain(0)).label == "dark"
    several = grey.predict([_plain(0)])
    assert isinstance(several, list)
    assert [prediction.label for prediction in several] == ["dark"]
    assert grey.predict([]) == []


def test_a_batch_of_mixed_sizes_and_colours_keeps_its_order(grey: Classifier) -> None:
    pictures = [_plain(255, 3, 200), np.zeros((50, 1, 3), np.uint8), _plain(128, 1, 1), _plain(0, 300, 7)]
    predictions = grey.predict(pictures)
    assert [prediction.label for prediction in predictions] == ["bright", "dark", "middle", "dark"]
    for picture, prediction in zip(pictures, predictions, strict=True):
        np.testing.assert_allclose(prediction.outline, grey.predict(picture).outline)


def test_paths_and_names_of_files_are_read(rgb: Classifier, tmp_path: Path) -> None:
    path = tmp_path / "blau größe.png"
    write_image(path, np.full((4, 4, 3), (0, 0, 255), np.uint8))
    assert rgb.predict(path).label == "blue"
    assert rgb.predict(str(path)).label == "blue"
    assert [prediction.label for prediction in rgb.predict([path, path])] == ["blue", "blue"]


def test_a_file_that_is_no_picture_is_named(grey: Classifier, tmp_path: Path) -> None:
    (tmp_path / "x.png").write_text("hello")
    with pytest.raises(ImageReadError, match=r"x\.png: cannot be decoded as an image"):
        grey.predict(tmp_path / "x.png")


@pytest.mark.parametrize("picture", [np.zeros((6, 8), np.float32), np.zeros((1, 6, 8, 3), np.uint8)], ids=["f", "n"])
def test_an_array_that_is_no_picture_is_refused(grey: Classifier, picture: NDArray[np.uint8]) -> None:
    with pytest.raises(ValueError, match="an image must be"):
        grey.predict(picture)


def test_theta_is_given_as_numbers(grey: Classifier) -> None:
    assert grey.predict(_plain(9)).theta == (0.5, 0.0, 0.25, 0.0, 0.5, -0.25)


CORNERS = {
    # The outline's corners in [-1, 1] are x -0.25 and 0.75, y -0.75 and 0.25; the picture is 60 high, 160 wide.
    # stretch: x = 80 u + 79.5, y = 30 v + 29.5
    "stretch": [(59.5, 7.0), (139.5, 7.0), (139.5, 37.0), (59.5, 37.0)],
    # letterbox into 6 x 8: scaled by 1/20 to 3 rows, one black row above them: y = 20 (3 v + 3 - 1) - 0.5
    "letterbox": [(59.5, -5.5), (139.5, -5.5), (139.5, 54.5), (59.5, 54.5)],
    # crop: scaled by 1/10, the input covers 60 x 80: x = 40 u + 79.5
    "crop": [(69.5, 7.0), (109.5, 7.0), (109.5, 37.0), (69.5, 37.0)],
}


@pytest.mark.parametrize("fit", CORNERS)
def test_the_outline_is_in_pixels_of_the_picture(build_model: Callable[..., Path], fit: Fit) -> None:
    model = Classifier(build_model(preprocess=PreprocessSpec(6, 8, 1, fit=fit)), threads=1)
    outline = model.predict(_plain(5, 60, 160)).outline
    assert outline.shape == (1, 32, 2)
    np.testing.assert_allclose(outline[0, ::8], CORNERS[fit], atol=1e-4)


@pytest.mark.parametrize(("fit", "seen"), [("crop", (0, 4, 12, 20)), ("letterbox", None), ("stretch", None)])
def test_a_prediction_says_which_pixels_the_network_saw(
    build_model: Callable[..., Path], fit: Fit, seen: tuple[int, int, int, int] | None
) -> None:
    classifier = Classifier(build_model(1, preprocess=PreprocessSpec(6, 8, 1, fit)))
    prediction = classifier.predict(np.zeros((12, 24), np.uint8))
    assert prediction.seen == (seen or (0, 0, 12, 24))
    assert not prediction.samples_beyond
    (of_reduced,) = classifier.predict([np.zeros((12, 24), np.uint8)], [(24, 48)])
    assert of_reduced.seen == tuple(2 * edge for edge in prediction.seen or ())


def test_a_transformer_inside_the_network_has_no_outline(build_model: Callable[..., Path]) -> None:
    inside = TransformerSpec("body.stn", "affine", (0, 6), (6, 8), (3, 4), "bilinear", "zeros", False, False)
    prediction = Classifier(build_model(transformers=(inside,)), threads=1).predict(_plain(5))
    assert prediction.outline.shape == (0, 32, 2)
    assert len(prediction.theta) == 6


def test_rectified_is_what_the_classifier_saw(grey: Classifier, rgb: Classifier) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    seen = rgb.predict(picture).rectified
    np.testing.assert_array_equal(seen, picture[1:4, 2:6])
    seen = grey.predict(picture[:, :, 0]).rectified
    np.testing.assert_array_equal(seen, picture[1:4, 2:6, 0])


def test_latency_is_told_by_stage_for_each_picture(grey: Classifier) -> None:
    latency = grey.predict([_plain(0), _plain(1)])[1].latency_ms
    assert list(latency) == ["decode", "resize", "infer"]
    assert all(0 <= value < 5000 for value in latency.values())


def test_raw_outputs_are_had_by_name(grey: Classifier, expected_of: Callable[..., dict[str, NDArray]]) -> None:
    image = np.random.default_rng(3).integers(0, 256, (6, 8, 1), np.uint8)
    outputs = grey.run(np.stack([image, image]))
    for name, values in expected_of(image).items():
        np.testing.assert_allclose(outputs[name][1], values, atol=1e-6, err_msg=name)


def test_an_unknown_model_lists_the_released_ones() -> None:
    with pytest.raises(ModelContractError, match=r"^nonesuch: no such file and no released model .*\(released: "):
        Classifier("nonesuch")


def test_a_name_of_any_length_is_one_sentence() -> None:
    with pytest.raises(ModelContractError, match="no such file"):
        Classifier("m" * 5000)


def test_aligned_corners_end_at_the_centres_of_border_pixels(build_model: Callable[..., Path]) -> None:
    edges = TransformerSpec("stn", "affine", (0, 6), (6, 8), (3, 4), "bilinear", "zeros", False, True)
    centres = TransformerSpec("stn", "affine", (0, 6), (6, 8), (3, 4), "bilinear", "zeros", True, True)
    outer, inner = (
        Classifier(build_model(transformers=(spec,)), threads=1).predict(_plain(5, 60, 160)).outline
        for spec in (edges, centres)
    )
    centre = np.array([79.5, 29.5])  # of a picture 160 wide and 60 high
    np.testing.assert_allclose(inner - centre, (outer - centre) * [7 / 8, 5 / 6], atol=1e-3)
