"""The frames of the benchmark of digits: digits have the size that is asked for, and lie inside."""

import numpy as np
import pytest

from tests.benchmarks.bench_digits import Clip, Tally
from tests.support.glyphs import Glyph, handwritten
from tests.support.photographs import Picture, pan
from tests.support.scenes import MOST_TURNED, Scene, Sensor, on_card, on_paper

SIZES = ((480, 640), (720, 1280), (640, 480))


@pytest.fixture(scope="module")
def sensor() -> Sensor:
    return Sensor(0)


@pytest.fixture(scope="module")
def photograph() -> Picture:
    return np.random.default_rng(0).integers(0, 255, (300, 400, 3), np.uint8)


@pytest.fixture(scope="module")
def seven() -> Glyph:
    """A digit of two strokes, drawn as MNIST's are: light on dark, 20 pixels high."""
    picture = np.zeros((28, 28), np.uint8)
    picture[4:7, 7:21] = 255
    for row in range(7, 24):
        picture[row, 20 - row // 2 : 23 - row // 2] = 255
    return handwritten("7", picture)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("share", [1 / 2, 1 / 4, 1 / 8], ids="{:g}".format)
def test_an_upright_digit_is_as_high_in_the_pixels_as_is_asked(
    seven: Glyph, sensor: Sensor, share: float, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.support.scenes.MOST_TURNED", 0.0)
    scene = on_paper([(seven, share)], size, "light", sensor, np.random.default_rng(3))
    (mark,) = scene.marks
    grey = scene.image.mean(2)
    rows, columns = np.nonzero(grey > (np.median(grey) + np.percentile(grey[_part(scene)], 95)) / 2)
    seen = np.array((columns.min(), rows.min(), columns.max() + 1, rows.max() + 1))
    np.testing.assert_allclose(seen, mark.box, atol=2)
    assert seen[3] - seen[1] == pytest.approx(share * min(size), abs=3)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("share", [1, 1 / 2, 1 / 8], ids="{:g}".format)
def test_a_turned_digit_lies_inside_the_frame_and_is_shrunk_only_where_it_must_be(
    seven: Glyph, sensor: Sensor, photograph: Picture, share: float, size: tuple[int, int]
) -> None:
    turns = []
    for seed in range(20):
        scene = on_card(seven, share, size, photograph, sensor, np.random.default_rng(seed))
        (mark,) = scene.marks
        assert scene.image.shape == (*size, 3)
        assert scene.image.dtype == np.uint8
        assert mark.box[:2].min() >= -0.01
        assert np.all(mark.box[2:] <= np.array(size[::-1]) + 0.01)
        touches = bool(np.any(np.isclose(mark.box[2:] - mark.box[:2], size[::-1], atol=0.1)))
        assert touches or mark.height == pytest.approx(share * min(size), rel=1e-5)
        turns.append(mark.turn)
    assert min(turns) < -MOST_TURNED / 2
    assert max(turns) > MOST_TURNED / 2


def test_two_digits_do_not_touch(seven: Glyph, sensor: Sensor) -> None:
    for seed in range(20):
        scene = on_paper([(seven, 1 / 2), (seven, 1 / 3)], (480, 640), "dark", sensor, np.random.default_rng(seed))
        one, other = (mark.box for mark in scene.marks)
        assert np.any(one[:2] > other[2:]) or np.any(other[:2] > one[2:])


def test_ink_is_darker_than_its_paper_or_lighter_as_is_asked(seven: Glyph, sensor: Sensor) -> None:
    for seed in range(10):
        for tone, sign in (("dark", -1), ("light", 1)):
            scene = on_paper([(seven, 1 / 2)], (480, 640), tone, sensor, np.random.default_rng(seed))
            ink = np.percentile(scene.image.mean(2)[_part(scene)], 50 + sign * 48)
            assert sign * (ink - np.median(scene.image)) > 40


def test_the_same_seed_makes_the_same_frame(seven: Glyph, sensor: Sensor, photograph: Picture) -> None:
    one, same, other = (
        on_card(seven, 1 / 4, (480, 640), photograph, sensor, np.random.default_rng(seed)).image for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, same)
    assert (one != other).mean() > 0.5


def test_a_pan_moves_slowly_and_never_leaves_the_picture() -> None:
    """A picture of its own coordinates says where each frame looks."""
    rows, columns = np.mgrid[0:200, 0:250].astype(np.uint8)
    picture = np.ascontiguousarray(np.stack((rows, columns, rows), axis=2))
    frames = list(pan(picture, (60, 80), 40, 30, np.random.default_rng(0)))
    assert len(frames) == 1200
    corners = np.array([(frame[0, 0, :2], frame[-1, -1, :2]) for frame in frames], np.int64)
    assert np.abs(np.diff(corners, axis=0)).max() <= 3
    assert np.ptp(corners[:, 0], axis=0).min() > 20
    assert np.all(corners[:, 1] > corners[:, 0] + 20)


def test_a_clip_has_the_time_of_a_camera() -> None:
    clip = Clip(iter([np.zeros((4, 4, 3), np.uint8)] * 31))
    assert [frame.time for frame in clip][-1] == pytest.approx(1.0)


def test_null_is_neither_right_nor_wrong_and_any_label_without_a_digit_is_wrong() -> None:
    tally = Tally()
    for truth, label, confidence in (("1", "1", 0.9), ("1", None, 0.9), ("1", "7", 0.9), (None, "7", 0.5)):
        tally.add(truth, label, confidence)
    assert tally == Tally(right=1, null=1, wrong=2, sure=1)


def _part(scene: Scene) -> tuple[slice, slice]:
    left, top, right, bottom = scene.marks[0].box.round().astype(int)
    return slice(top, bottom), slice(left, right)
