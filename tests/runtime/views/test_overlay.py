"""What is drawn, and where; probed pixel by pixel away from the label (top left) and the inset (bottom right)."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from stn_runtime import Prediction
from stn_runtime.views.overlay import OUTLINE, draw

TOP = (255, 255, 255)


def _rectangle(left: float, top: float, right: float, bottom: float) -> NDArray[np.float32]:
    """(1, 32, 2): 8 points a side, from the top left clockwise."""
    steps = np.arange(8) / 8
    sides = [
        (left + steps * (right - left), np.full(8, top)),
        (np.full(8, right), top + steps * (bottom - top)),
        (right - steps * (right - left), np.full(8, bottom)),
        (np.full(8, left), bottom - steps * (bottom - top)),
    ]
    return np.concatenate([np.stack(side, 1) for side in sides]).astype(np.float32)[None]


def _prediction(
    outline: NDArray[np.float32] | None = None, rectified: NDArray[np.uint8] | None = None, label: str = "7"
) -> Prediction:
    outline = np.empty((0, 0, 2), np.float32) if outline is None else outline
    return Prediction(label, 0.875, (), (), outline, rectified, {}, np.ones(1, np.float32))


def _assert_near(pixel: NDArray[np.uint8], colour: tuple[int, int, int]) -> None:
    np.testing.assert_allclose(pixel.astype(int), colour, atol=60)


def test_the_outline_is_where_it_should_be() -> None:
    drawn = draw(np.full((300, 400, 3), (0, 0, 90), np.uint8), _prediction(_rectangle(50, 100, 200, 250)))
    assert drawn.shape == (300, 400, 3)
    _assert_near(drawn[100, 125], TOP)
    for y, x in [(250, 125), (175, 200), (175, 50)]:
        _assert_near(drawn[y, x], OUTLINE)
    for y, x in [(175, 125), (110, 125), (240, 125), (260, 125), (175, 40), (175, 210)]:
        np.testing.assert_array_equal(drawn[y, x], (0, 0, 90))


def test_the_outline_is_where_it_should_be_on_an_enlarged_picture() -> None:
    # 6 x 8 grows by 40 to 240 x 320: pixel x covers 40 x to 40 x + 39, its centre is at 40 x + 19.5
    drawn = draw(np.full((6, 8), 90, np.uint8), _prediction(_rectangle(2, 2, 5, 4)))
    assert drawn.shape == (240, 320, 3)
    assert drawn[99:101, 160].max(0)[2] > 120  # the top is white, half a pixel to each side of 99.5
    for side in (drawn[179:181, 160], drawn[140, 99:101], drawn[140, 219:221]):
        assert (side.max(0) - side.max(0)[2].astype(int) > 60)[:2].all()  # the others orange: hardly any blue
    for y, x in [(140, 160), (140, 80), (200, 160)]:
        np.testing.assert_array_equal(drawn[y, x], (90, 90, 90))


def test_the_inset_shows_what_the_classifier_saw() -> None:
    seen = np.full((10, 10, 3), (9, 200, 30), np.uint8)
    drawn = draw(np.zeros((300, 400, 3), np.uint8), _prediction(rectified=seen))
    np.testing.assert_array_equal(drawn[297, 397], (9, 200, 30))  # 90 x 90 and a frame of 2
    np.testing.assert_array_equal(drawn[215, 315], (9, 200, 30))
    np.testing.assert_array_equal(drawn[299, 399], OUTLINE)
    np.testing.assert_array_equal(drawn[200, 300], (0, 0, 0))


def test_a_grey_inset_is_drawn_too() -> None:
    drawn = draw(np.zeros((300, 400), np.uint8), _prediction(rectified=np.full((20, 10), 77, np.uint8)))
    np.testing.assert_array_equal(drawn[297, 397], (77, 77, 77))


def test_the_label_is_drawn_and_an_unsure_one_differs() -> None:
    picture = np.full((300, 400, 3), 128, np.uint8)
    sure, unsure = draw(picture, _prediction()), draw(picture, _prediction(), sure=False)
    assert (sure[:30, :60] == 255).any()
    assert (sure != unsure).any()
    np.testing.assert_array_equal(sure[100:, :], 128)


@pytest.mark.parametrize("shape", [(300, 400, 3), (300, 400), (6, 8, 3), (6, 8)], ids=str)
def test_the_picture_is_not_changed(shape: tuple[int, ...]) -> None:
    picture = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    before = picture.copy()
    drawn = draw(picture, _prediction(_rectangle(1, 1, 4, 4), np.zeros((3, 3), np.uint8)))
    np.testing.assert_array_equal(picture, before)
    assert not np.shares_memory(drawn, picture)


def test_a_view_and_a_read_only_picture_are_drawn_on_a_copy() -> None:
    frame = np.zeros((300, 400, 3), np.uint8)
    frame.setflags(write=False)
    for picture in (frame, frame[:, :, ::-1], frame[::-1, 10:]):
        assert draw(picture, _prediction(_rectangle(50, 100, 200, 250))).any()


@pytest.mark.parametrize(
    "shape", [(1, 1), (1, 5000), (5000, 1, 3), (2, 3, 3), (239, 240), (240, 240, 3), (3000, 4000, 3)], ids=str
)
def test_tiny_and_huge_pictures_are_drawn(shape: tuple[int, ...]) -> None:
    drawn = draw(np.zeros(shape, np.uint8), _prediction(_rectangle(0, 0, 9, 9), np.zeros((5, 6), np.uint8)))
    assert drawn.dtype == np.uint8
    assert drawn.ndim == 3
    assert drawn.shape[0] % shape[0] == 0
    assert drawn.shape[0] // shape[0] == drawn.shape[1] // shape[1]
    assert max(drawn.shape) <= max(5000, *shape)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30, -1e30])
def test_an_outline_far_outside_does_no_harm(value: float) -> None:
    outline = _rectangle(50, 100, 200, 250)
    outline[0, 3] = value
    drawn = draw(np.zeros((300, 400, 3), np.uint8), _prediction(outline))
    _assert_near(drawn[250, 125], OUTLINE)


@pytest.mark.parametrize("label", ["", "größe 写真", "x" * 500, "a\nb"], ids=ascii)
def test_any_label_is_drawn(label: str) -> None:
    assert draw(np.full((300, 400, 3), 128, np.uint8), _prediction(label=label)).shape == (300, 400, 3)


def test_a_label_with_a_lone_surrogate_does_not_kill_the_process(spawn: Callable[..., Any]) -> None:
    code = (
        "import numpy as np\nfrom stn_runtime import Prediction\nfrom stn_runtime.views.overlay import draw\n"
        "said = Prediction('caf\\udce9', 1, (), (), np.empty((0, 0, 2)), None, {}, np.ones(1))\n"
        "draw(np.zeros((300, 400), np.uint8), said)"
    )
    process = spawn(code=code)
    process.communicate(timeout=30)
    assert process.returncode == 0
