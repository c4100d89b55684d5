"""Doubt by hand-drawn outlines and hand-made statistics; smoothing by hand-computed mixtures."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from stn_runtime import ExportSpec, Manifest, PreprocessSpec, Score
from stn_runtime.model.classifier import Prediction
from stn_runtime.model.doubt import doubt, outside_share
from stn_runtime.model.theta_statistics import ThetaStatistics
from stn_runtime.pipeline.smoothing import Smoother

FRAME = (60, 80)  # ten times the input of the manifest, 6 x 8: a pixel of it is 100 pixels of the frame
LABELS = ("dark", "middle", "bright")
IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
STATISTICS = ThetaStatistics(IDENTITY, tuple(tuple(row) for row in (10 * np.eye(6)).tolist()), 4.4, 1000)
SECONDS = 0.5
HALF = SECONDS * math.log(2)  # after which old and new weigh the same


def box(left: float, top: float, right: float, bottom: float) -> list[tuple[float, float]]:
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def predicted(
    probabilities: Sequence[float] = (0.7, 0.2, 0.1),
    theta: Sequence[float] = IDENTITY,
    **changes: Any,  # noqa: ANN401
) -> Prediction:
    best = sorted(range(len(probabilities)), key=lambda index: -probabilities[index])
    top = tuple(Score(LABELS[index], probabilities[index]) for index in best)
    outline = np.array([box(10, 10, 50, 40)], np.float32)
    values = np.array(probabilities, np.float32)
    prediction = Prediction(top[0].label, top[0].probability, top, tuple(theta), outline, None, {"infer": 2.0}, values)
    return replace(prediction, **changes)


def outlined(*polygons: Sequence[tuple[float, float]]) -> Prediction:
    return predicted(outline=np.array(polygons, np.float32))


@pytest.fixture
def manifest(manifest_of: Callable[..., Manifest]) -> Manifest:
    return manifest_of(1, theta=STATISTICS)


@pytest.mark.parametrize(
    ("polygon", "share"),
    [
        (box(1, 1, 3, 3), 0.0),
        (box(0, 0, 10, 8), 0.0),
        (box(-2, 2, 2, 4), 0.5),
        (box(9, -1, 11, 1), 0.75),
        (box(20, 20, 22, 23), 1.0),
        (box(-1, 0, 0, 8), 1.0),
        (box(-10, -8, 10, 8), 0.75),
        ([(-4, 0), (4, 0), (0, 4)], 0.5),
        ([(8, 4), (10, 2), (12, 4), (10, 6)], 0.5),  # a square on its corner
        ([(-3, 0), (3, 0), (3, 3), (2, 3), (2, 1), (-2, 1), (-2, 3), (-3, 3)], 0.5),  # a U
        ([(5, 5), (5, 5), (5, 5)], 0.0),
    ],
)
def test_the_share_outside_a_rectangle_by_hand(polygon: list[tuple[float, float]], share: float) -> None:
    points = np.array(polygon, np.float64)
    assert outside_share(points, (0, 0, 10, 8)) == pytest.approx(share)
    assert outside_share(points[::-1], (0, 0, 10, 8)) == pytest.approx(share)  # mirrored
    assert outside_share(np.roll(points, 2, axis=0), (0, 0, 10, 8)) == pytest.approx(share)
    assert outside_share(points - 3, (-3, -3, 7, 5)) == pytest.approx(share)


def test_the_share_outside_is_what_opencv_counts_in_pixels() -> None:
    random = np.random.default_rng(0)
    angles = np.arange(32) / 32 * 2 * np.pi
    for _ in range(50):
        radius = random.uniform(150, 400, 32)  # not convex
        star = np.stack((np.cos(angles), np.sin(angles)), 1) * radius[:, None] + random.uniform(200, 800, 2)
        canvas = np.zeros((2000, 2000), np.uint8)
        cv2.fillPoly(canvas, [np.round(star + 500).astype(np.int32)], 1)
        counted = 1 - canvas[800:1200, 800:1300].sum() / canvas.sum()
        assert outside_share(star, (300, 300, 800, 700)) == pytest.approx(counted, abs=0.01)


def test_a_prediction_like_training_raises_no_doubt(manifest: Manifest) -> None:
    assert doubt(predicted(), FRAME, manifest) is None


def test_a_theta_beyond_the_limit_is_unlike_training(manifest: Manifest) -> None:
    near, far = (1.0, 0.43, 0.0, 0.0, 1.0, 0.0), (1.0, 0.0, 0.3, 0.0, 1.4, 0.0)  # 4.3 and 5 deviations
    assert doubt(predicted(theta=near), FRAME, manifest) is None
    assert doubt(predicted(theta=far), FRAME, manifest) == "theta is unlike training (distance 5.0, limit 4.4)"


def test_without_statistics_no_theta_is_unlike_training(manifest: Manifest) -> None:
    assert doubt(predicted(theta=(9.0,) * 6), FRAME, replace(manifest, theta=None)) is None


@pytest.mark.parametrize(
    ("right", "told"),
    [
        (150, None),  # 80 of 150 columns
        (179.5, "56 % of the samples are outside the picture"),
        (399.5, "80 % of the samples are outside the picture"),
    ],
)
def test_most_of_the_samples_outside_the_picture_raise_doubt(
    right: float, told: str | None, manifest: Manifest
) -> None:
    assert doubt(outlined(box(-0.5, -0.5, right, 59.5)), FRAME, manifest) == told


def test_a_picture_ends_at_the_edges_of_its_pixels(manifest: Manifest) -> None:
    just_half = box(-80.4, 0, 79.5, 30)  # 79.9 columns outside, 80 inside
    assert doubt(outlined(just_half), FRAME, manifest) is None
    assert doubt(outlined([(x - 0.2, y) for x, y in just_half]), FRAME, manifest) is not None


def test_the_last_transformer_on_the_picture_counts(manifest: Manifest) -> None:
    inside, outside = box(0, 0, 40, 40), box(-100, 0, 40, 40)
    assert doubt(outlined(outside, inside), FRAME, manifest) is None
    assert doubt(outlined(inside, outside), FRAME, manifest) is not None


def test_of_a_crop_what_the_network_does_not_see_is_outside(manifest: Manifest) -> None:
    square = replace(manifest, preprocess=PreprocessSpec(6, 6, 1, "crop"))  # columns 10 to 69 of the frame
    left = box(-0.5, 0, 19.5, 59.5)
    told = "51 % of the samples are outside what the network sees of the picture"
    assert doubt(outlined(left), FRAME, square) is None
    assert doubt(outlined([(x - 0.2, y) for x, y in left]), FRAME, square) == told
    split = replace(square, export=ExportSpec("split", "cpu", "float32", 18))
    assert doubt(outlined([(x - 0.2, y) for x, y in left]), FRAME, split) is None  # it samples the frame


def test_the_bars_of_a_letterbox_are_outside(manifest: Manifest) -> None:
    square = replace(manifest, preprocess=PreprocessSpec(8, 8, 1, "letterbox"))  # bars above and below the frame
    told = "60 % of the samples are outside the picture"
    assert doubt(outlined(box(0, -15.5, 40, 9.5)), FRAME, square) == told


@pytest.mark.parametrize(("side", "collapsed"), [(9.9, True), (10.1, False)])
def test_less_than_a_pixel_of_the_networks_input_is_a_collapse(
    side: float, collapsed: bool, manifest: Manifest
) -> None:
    told = doubt(outlined(box(30, 30, 30 + side, 30 + side)), FRAME, manifest)
    assert told == ("the transformer has collapsed to less than a pixel" if collapsed else None)
    mirrored = doubt(outlined(box(30, 30, 30 + side, 30 + side)[::-1]), FRAME, manifest)
    assert mirrored == told


@pytest.mark.parametrize("wrong", [(2.0, 0.0, 0.0), (0.5, 0.6, -0.1), (math.nan, 0.5, 0.5)])
def test_numbers_that_are_no_probabilities_raise_doubt(wrong: tuple[float, ...], manifest: Manifest) -> None:
    assert doubt(predicted(wrong), FRAME, manifest) == "the probabilities have left the range from 0 to 1"


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_not_finite_raise_doubt(bad: float, manifest: Manifest) -> None:
    told = "the transformer has left the range of numbers"
    assert doubt(predicted(theta=(1, 0, bad, 0, 1, 0)), FRAME, manifest) == told
    assert doubt(outlined([(0, 0), (bad, 0), (40, 40), (0, 40)]), FRAME, manifest) == told


def test_a_network_without_a_transformer_raises_no_doubt(manifest_of: Callable[..., Manifest]) -> None:
    plain = manifest_of(1, transformers=(), outputs=("probabilities",))
    assert doubt(predicted(theta=(), outline=np.empty((0, 0, 2), np.float32)), FRAME, plain) is None


@pytest.fixture
def smoother(manifest: Manifest) -> Smoother:
    return Smoother(SECONDS, manifest)


def test_the_first_frame_is_taken_as_it_is(smoother: Smoother) -> None:
    prediction = predicted()
    assert smoother.smooth("camera", 3.0, prediction, FRAME) is prediction


def test_after_the_half_life_old_and_new_weigh_the_same(smoother: Smoother) -> None:
    smoother.smooth("camera", 3.0, predicted((0.7, 0.2, 0.1)), FRAME)
    theta, outline = (2.0, 0.5, -1.0, 0.0, 0.0, 0.5), np.array([box(20, 0, 70, 60)], np.float32)
    rectified = np.zeros((2, 2), np.uint8)
    new = predicted((0.1, 0.8, 0.1), theta, outline=outline, rectified=rectified, latency_ms={"infer": 7.0})
    mixed = smoother.smooth("camera", 3.0 + HALF, new, FRAME)
    np.testing.assert_allclose(mixed.probabilities, (0.4, 0.5, 0.1), atol=1e-6)
    assert mixed.probabilities.dtype == np.float32
    assert (mixed.label, mixed.confidence) == ("middle", pytest.approx(0.5))
    assert [score.label for score in mixed.top] == ["middle", "dark", "bright"]
    assert [score.probability for score in mixed.top] == pytest.approx([0.5, 0.4, 0.1])
    assert mixed.theta == pytest.approx((1.5, 0.25, -0.5, 0.0, 0.5, 0.25))
    np.testing.assert_allclose(mixed.outline, [box(15, 5, 60, 50)])
    assert mixed.outline.dtype == np.float32
    assert mixed.rectified is rectified
    assert mixed.latency_ms == {"infer": 7.0}


def test_frames_fade_with_their_age_and_not_with_their_number(smoother: Smoother) -> None:
    smoother.smooth("slow", 0.0, predicted((1.0, 0.0, 0.0)), FRAME)
    slow = smoother.smooth("slow", 2 * HALF, predicted((0.0, 1.0, 0.0)), FRAME)
    smoother.smooth("fast", 0.0, predicted((1.0, 0.0, 0.0)), FRAME)
    for step in (1, 2, 3, 4):
        fast = smoother.smooth("fast", step * HALF / 2, predicted((0.0, 1.0, 0.0)), FRAME)
    np.testing.assert_allclose(slow.probabilities, (0.25, 0.75, 0), atol=1e-6)
    np.testing.assert_allclose(fast.probabilities, (0.25, 0.75, 0), atol=1e-6)


def test_as_many_labels_are_listed_as_before(smoother: Smoother) -> None:
    smoother.smooth("camera", 0.0, predicted((0.7, 0.2, 0.1)), FRAME)
    new = predicted((0.0, 0.1, 0.9))
    mixed = smoother.smooth("camera", HALF, replace(new, top=new.top[:2]), FRAME)
    assert [(score.label, score.probability) for score in mixed.top] == [
        ("bright", pytest.approx(0.5)),
        ("dark", pytest.approx(0.35)),
    ]


def test_each_source_has_its_own_past(smoother: Smoother) -> None:
    smoother.smooth("left", 0.0, predicted((1.0, 0.0, 0.0)), FRAME)
    right = predicted((0.0, 0.0, 1.0))
    assert smoother.smooth("right", 0.1, right, FRAME) is right


@pytest.mark.parametrize(
    ("moment", "frame_size", "changes"),
    [
        (1.0 + 5 * SECONDS + 0.001, FRAME, {}),
        (1.0, FRAME, {}),
        (0.5, FRAME, {}),
        (math.nan, FRAME, {}),
        (1.1, (80, 60), {}),
        (1.1, FRAME, {"outline": np.zeros((1, 8, 2), np.float32)}),
        (1.1, FRAME, {"outline": np.zeros((2, 4, 2), np.float32)}),
        (1.1, FRAME, {"theta": (1.0, 0.0, 0.0)}),
    ],
    ids=["a gap", "a clock that stands", "a clock that runs back", "no time", "size", "points", "outlines", "theta"],
)
def test_a_source_starts_anew_after(
    moment: float, frame_size: tuple[int, int], changes: dict[str, Any], smoother: Smoother
) -> None:
    smoother.smooth("camera", 1.0, predicted((1.0, 0.0, 0.0)), FRAME)
    new = predicted((0.0, 1.0, 0.0), **changes)
    assert smoother.smooth("camera", moment, new, frame_size) is new
    if math.isfinite(moment):
        later = smoother.smooth(
            "camera", moment + HALF, replace(new, probabilities=np.zeros(3, np.float32)), frame_size
        )
        np.testing.assert_allclose(later.probabilities, (0, 0.5, 0), atol=1e-6)  # nothing of the frame before


def test_a_source_starts_anew_after_a_reset(smoother: Smoother) -> None:
    smoother.smooth("camera", 1.0, predicted((1.0, 0.0, 0.0)), FRAME)
    smoother.reset("camera")
    smoother.reset("never seen")
    new = predicted((0.0, 1.0, 0.0))
    assert smoother.smooth("camera", 1.1, new, FRAME) is new


@pytest.mark.parametrize(
    "broken",
    [
        {"probabilities": np.array([math.nan, 0, 1], np.float32)},
        {"probabilities": np.array([2, 0, -1], np.float32)},
        {"theta": (math.inf, 0.0, 0.0, 0.0, 1.0, 0.0)},
        {"outline": np.full((1, 4, 2), math.nan, np.float32)},
    ],
    ids=["probabilities", "no probabilities", "theta", "outline"],
)
def test_a_frame_that_is_not_finite_leaves_no_trace(broken: dict[str, Any], smoother: Smoother) -> None:
    smoother.smooth("camera", 0.0, predicted((1.0, 0.0, 0.0)), FRAME)
    bad = predicted(**broken)
    assert smoother.smooth("camera", HALF / 2, bad, FRAME) is bad
    good = smoother.smooth("camera", HALF, predicted((0.0, 1.0, 0.0)), FRAME)
    np.testing.assert_allclose(good.probabilities, (0.5, 0.5, 0), atol=1e-6)


def test_what_was_given_is_left_alone(smoother: Smoother) -> None:
    first, second = predicted((0.7, 0.2, 0.1)), predicted((0.1, 0.8, 0.1))
    smoother.smooth("camera", 0.0, first, FRAME)
    smoother.smooth("camera", HALF, second, FRAME)
    np.testing.assert_array_equal(first.probabilities, np.array([0.7, 0.2, 0.1], np.float32))
    np.testing.assert_array_equal(second.probabilities, np.array([0.1, 0.8, 0.1], np.float32))


def changes(labels: Sequence[str]) -> int:
    return sum(label != following for label, following in pairwise(labels))


def test_a_flickering_label_is_held_and_a_real_change_comes_through(smoother: Smoother) -> None:
    noise = np.random.default_rng(0).normal(0, 0.25, (120, 2))
    middle = np.where(np.arange(120) < 60, 0.35, 0.65) + noise[:, 0]  # thirty frames a second: the truth at 2 s
    frames: list[NDArray[np.float64]] = [np.array([1 - share, share, 0.0]).clip(0, 1) for share in middle]
    raw = [predicted(frame.tolist()) for frame in frames]
    smooth = [smoother.smooth("camera", index / 30, one, FRAME) for index, one in enumerate(raw)]
    assert changes([one.label for one in raw]) > 25
    assert changes([one.label for one in smooth]) <= 3
    assert [smooth[index].label for index in (59, 90, 119)] == ["dark", "middle", "middle"]


@pytest.mark.parametrize("seconds", [0, -1, math.inf, math.nan])
def test_a_time_constant_must_be_a_time(seconds: float, manifest: Manifest) -> None:
    with pytest.raises(ValueError, match=r"^the time constant must be above 0 seconds, got"):
        Smoother(seconds, manifest)
