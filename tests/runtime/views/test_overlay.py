"""What is drawn, and where; read from the pixels."""

import dataclasses
from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from stn_runtime import Prediction, PreprocessSpec, preprocess
from stn_runtime.images.preprocessing import seen_part
from stn_runtime.records.record import Record
from stn_runtime.sources.frame import Frame
from stn_runtime.views.canvas import Canvas
from stn_runtime.views.overlay import OUTLINE, SHADE, Annotator, Note, draw

TOP = (255, 255, 255)
BACK = (0, 0, 90)


def _rectangle(left: float, top: float, right: float, bottom: float, each: int = 8) -> NDArray[np.float32]:
    """(1, 4 each, 2): points of a rectangle, ``each`` a side, from the top left clockwise."""
    steps = np.arange(each) / each
    sides = [
        (left + steps * (right - left), np.full(each, top)),
        (np.full(each, right), top + steps * (bottom - top)),
        (right - steps * (right - left), np.full(each, bottom)),
        (np.full(each, left), bottom - steps * (bottom - top)),
    ]
    return np.concatenate([np.stack(side, 1) for side in sides]).astype(np.float32)[None]


def _prediction(
    outline: NDArray[np.float32] | None = None,
    rectified: NDArray[np.uint8] | None = None,
    label: str = "7",
    **changes: Any,  # noqa: ANN401
) -> Prediction:
    outline = np.empty((0, 0, 2), np.float32) if outline is None else outline
    prediction = Prediction(label, 0.875, (), (), outline, rectified, {}, np.ones(1, np.float32))
    return dataclasses.replace(prediction, **changes)


def _picture(height: int = 300, width: int = 400) -> NDArray[np.uint8]:
    return np.full((height, width, 3), BACK, np.uint8)


def _assert_near(pixel: NDArray[np.uint8], colour: tuple[int, int, int]) -> None:
    np.testing.assert_allclose(pixel.astype(int), colour, atol=60)


def _without_text(drawn: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return which pixels differ from the background, beside the label in the upper left corner."""
    differs = (drawn != BACK).any(2)
    differs[:40, :120] = False
    return differs


# --- the outline


@pytest.mark.parametrize("each", [1, 8])
def test_the_outline_is_where_it_should_be(each: int) -> None:
    drawn = draw(_picture(), _prediction(_rectangle(50, 100, 200, 250, each)))
    assert drawn.shape == (300, 400, 3)
    _assert_near(drawn[100, 70], TOP)
    for y, x in [(250, 125), (175, 200), (175, 50)]:
        _assert_near(drawn[y, x], OUTLINE)
    for y, x in [(175, 125), (120, 125), (240, 125), (260, 125), (175, 40), (175, 210)]:
        np.testing.assert_array_equal(drawn[y, x], BACK)


def test_the_outline_is_where_it_should_be_on_an_enlarged_picture() -> None:
    # 6 x 8 grows by 40 to 240 x 320: pixel x covers 40 x to 40 x + 39, its centre is at 40 x + 19.5
    drawn = draw(np.full((6, 8), 90, np.uint8), _prediction(_rectangle(2, 2, 5, 4)))
    assert drawn.shape == (240, 320, 3)
    assert drawn[99:101, 120].max(0)[2] > 120  # the top is white, half a pixel to each side of 99.5
    for side in (drawn[179:181, 160], drawn[140, 99:101], drawn[140, 219:221]):
        assert (side.max(0) - side.max(0)[2].astype(int) > 60)[:2].all()  # the others orange: hardly any blue
    for y, x in [(140, 160), (140, 80), (200, 160)]:
        np.testing.assert_array_equal(drawn[y, x], (90, 90, 90))


def test_the_outline_of_a_reduced_picture_is_in_its_pixels() -> None:
    image = _picture()
    record = Record("x.jpg", 0, None, _prediction(4 * _rectangle(50, 100, 200, 250)))
    drawn = Annotator().draw(Frame("x.jpg", 0, None, image, size=(1200, 1600)), record)
    np.testing.assert_array_equal(np.flatnonzero((drawn[175, :150] != BACK).any(1)).mean().round(), 50)
    np.testing.assert_array_equal(np.flatnonzero((drawn[225:275, 120] != BACK).any(1)).mean().round() + 225, 250)


def test_an_outline_within_the_picture_leaves_its_edges_alone() -> None:
    differs = _without_text(draw(_picture(), _prediction(_rectangle(20, 60, 380, 280))))
    assert not differs[[0, 1, -2, -1]].any()
    assert not differs[:, [0, 1, -2, -1]].any()


@pytest.mark.parametrize(
    "outline", [_rectangle(-900, 20, -100, 280), _rectangle(500, -50, 900, 700), _rectangle(10, 320, 390, 2000)]
)
def test_an_outline_wholly_outside_draws_nothing(outline: NDArray[np.float32]) -> None:
    assert not _without_text(draw(_picture(), _prediction(outline))).any()


def test_dashes_stand_only_where_the_region_goes_on_beyond() -> None:
    # Between the rows 60 and 240 the region goes on beyond the right edge.
    drawn = draw(_picture(), _prediction(_rectangle(250, 60, 600, 240)))
    differs = _without_text(drawn)
    right = (drawn[:, -1] == OUTLINE).all(1)
    assert 0.3 < right[60:240].mean() < 0.75  # dashes: about half of the edge
    assert not right[:57].any()
    assert not right[244:].any()
    differs[45:75, 300:350] = False  # the word "top"
    assert not differs[:57].any()
    assert not differs[244:].any()
    assert not differs[:, :247].any()
    np.testing.assert_array_equal(drawn[150, 380], BACK)


def test_a_region_around_the_whole_picture_is_dashed_on_all_edges_and_draws_no_other_line() -> None:
    drawn = draw(_picture(), _prediction(_rectangle(-50, -50, 450, 350)))
    assert not _without_text(drawn)[3:-3, 3:-3].any()
    for edge in (drawn[-1], drawn[:, -1], drawn[60:, 0]):
        assert 0.3 < (edge == OUTLINE).all(1).mean() < 0.7


@pytest.mark.parametrize("seed", range(25))
def test_every_pixel_that_is_drawn_is_near_a_side_or_an_edge_where_the_region_goes_on(seed: int) -> None:
    random = np.random.default_rng(seed)
    corners = random.uniform(-300, 700, (4, 2)).astype(np.float32)
    outline = np.concatenate(
        [a + np.arange(8)[:, None] / 8 * (b - a) for a, b in zip(corners, np.roll(corners, -1, 0), strict=True)]
    )
    without_word = _without_text(draw(_picture(), _prediction(outline[None])))
    rows, columns = np.nonzero(without_word)
    points = np.stack((columns, rows), 1).astype(float)
    distance = np.min([_distance(points, a, b) for a, b in zip(corners, np.roll(corners, -1, 0), strict=True)], 0)
    at_edge = (columns < 2) | (columns > 397) | (rows < 2) | (rows > 297)
    upper = _distance(points, corners[0], corners[1])
    is_word = upper < 40  # "top" stands on the upper side
    is_explained = (distance < 4) | is_word | (at_edge & _inside(points, corners))
    assert is_explained.all(), points[~is_explained][:5]


def _distance(points: NDArray[np.float64], start: NDArray[np.float32], end: NDArray[np.float32]) -> NDArray[np.float64]:
    run = (end - start).astype(float)
    shares = ((points - start) @ run / (run @ run)).clip(0, 1)
    return np.asarray(np.linalg.norm(points - start - shares[:, None] * run, axis=1))


def _inside(points: NDArray[np.float64], corners: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return which points are in a polygon, or within two pixels of it, by the even-odd rule."""
    inside = np.zeros(len(points), bool)
    for shift in ((0, 0), (2, 0), (-2, 0), (0, 2), (0, -2)):
        within = np.zeros(len(points), bool)
        x, y = (points + shift).T
        for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, 0), strict=True):
            crosses = (y0 > y) != (y1 > y)
            within ^= crosses & (x < x0 + (y - y0) / (y1 - y0 if y1 != y0 else 1) * (x1 - x0))
        inside |= within
    return inside


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30, -1e30])
def test_a_point_that_is_nowhere_spoils_only_its_own_lines(value: float) -> None:
    outline = _rectangle(50, 100, 200, 250)
    outline[0, 3] = value
    drawn = draw(_picture(), _prediction(outline))
    for y, x in [(250, 125), (175, 200), (175, 50)]:
        _assert_near(drawn[y, x], OUTLINE)
    if not np.isfinite(value):
        differs = _without_text(drawn)
        assert not differs[:80].any()
        assert not differs[:, :45].any()
        assert not differs[:, 205:].any()


def test_the_upper_side_bears_its_name_and_no_other_side_does() -> None:
    drawn = draw(_picture(), _prediction(_rectangle(50, 100, 350, 250)))
    bare = draw(_picture(), _prediction(_rectangle(50, 100, 350, 250)[:, :, ::-1].copy()))  # another place
    word = drawn[90:112, 170:230]
    assert ((word < 60).all(2)).mean() > 0.3  # the plate of the word
    assert ((word > 200).all(2)).any()
    for rows, columns in ((slice(240, 262), slice(170, 230)), (slice(165, 187), slice(20, 80))):
        assert (drawn[rows, columns] < 60).all(2).mean() < 0.25
    assert (bare != drawn).any()


# --- the shade


SPECS = [
    PreprocessSpec(28, 28, 1, "crop"),
    PreprocessSpec(32, 96, 3, "crop"),
    PreprocessSpec(28, 28, 1, "letterbox"),
    PreprocessSpec(28, 28, 1, "stretch"),
]


def _read_columns(height: int, width: int, spec: PreprocessSpec) -> NDArray[np.bool_]:
    """Return which columns of a picture change the network's input when they change."""
    black = preprocess(np.zeros((height, width, 3), np.uint8), spec)
    read = np.zeros(width, bool)
    for column in range(width):
        picture = np.zeros((height, width, 3), np.uint8)
        picture[:, column] = 255
        read[column] = (preprocess(picture, spec) != black).any()
    return read


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: f"{spec.fit}-{spec.height}x{spec.width}")
@pytest.mark.parametrize(("height", "width"), [(240, 427), (427, 240), (241, 300), (300, 300), (250, 600)])
def test_the_shade_is_exactly_where_preprocessing_does_not_read(height: int, width: int, spec: PreprocessSpec) -> None:
    columns = _read_columns(height, width, spec)
    upright = dataclasses.replace(spec, height=spec.width, width=spec.height)
    rows = _read_columns(width, height, upright)  # of the picture turned on its side
    expected = columns[None, :] & rows[:, None]
    prediction = _prediction(seen=seen_part(height, width, spec))
    canvas = Canvas(np.full((height, width, 3), 200, np.uint8), prediction, (height, width))
    canvas.draw_region()
    np.testing.assert_array_equal(canvas.pixels[:, :, 1], np.where(expected, 200, round(200 * SHADE)))


def test_the_shade_scales_with_the_picture() -> None:
    prediction = _prediction(seen=(0, 280, 720, 1000))
    image = np.full((360, 640, 3), 200, np.uint8)
    frame = Frame("cam", 0, None, image, size=(720, 1280))
    drawn = Annotator().draw(frame, Record("cam", 0, None, prediction))
    np.testing.assert_array_equal((drawn[100] == 200).all(1), (np.arange(640) >= 140) & (np.arange(640) < 500))


def test_a_split_model_reads_its_region_beyond_the_crop_so_that_is_not_dark() -> None:
    changes = {"seen": (0, 100, 300, 300)}
    image = np.full((300, 400, 3), 200, np.uint8)
    region = _rectangle(250, 100, 390, 200)
    fused = draw(image, _prediction(region, **changes))
    split = draw(image, _prediction(region, **changes, samples_beyond=True))
    np.testing.assert_array_equal(fused[150, 350], [round(200 * SHADE)] * 3)
    np.testing.assert_array_equal(split[150, 350], [200] * 3)
    np.testing.assert_array_equal(split[250, 350], [round(200 * SHADE)] * 3)


def test_the_dashes_of_a_fused_model_stand_at_the_edge_of_what_it_sees() -> None:
    region = _rectangle(150, 100, 390, 200)
    drawn = draw(_picture(), _prediction(region, seen=(0, 100, 300, 300)))
    assert 0.3 < (drawn[104:196, 299] == OUTLINE).all(1).mean() < 0.7
    split = draw(_picture(), _prediction(region, seen=(0, 100, 300, 300), samples_beyond=True))
    assert not (split[104:196, 299] == OUTLINE).all(1).any()


# --- the inset


def _inset_corner(drawn: NDArray[np.uint8], colour: tuple[int, int, int]) -> tuple[bool, bool]:
    """Return whether the pixels of a colour are in the lower and in the right half."""
    rows, columns = np.nonzero((drawn == colour).all(2))
    return rows.mean() > drawn.shape[0] / 2, columns.mean() > drawn.shape[1] / 2


SEEN = (9, 200, 30)


def test_the_inset_shows_what_the_classifier_saw_in_a_frame() -> None:
    drawn = draw(_picture(), _prediction(rectified=np.full((10, 10, 3), SEEN, np.uint8)))
    rows, columns = np.nonzero((drawn == SEEN).all(2))
    assert len(rows) == 60 * 60  # six times as large, a fifth of the picture's shorter side
    assert rows.max() < 299
    assert columns.max() < 399
    for y, x in [(rows.max() + 1, columns.max()), (rows.max(), columns.max() + 1), (rows.max(), columns.min() - 1)]:
        np.testing.assert_array_equal(drawn[y, x], OUTLINE)


def test_a_grey_inset_is_drawn_too() -> None:
    drawn = draw(_picture(), _prediction(rectified=np.full((20, 10), 77, np.uint8)))
    assert (drawn == 77).all(2).sum() > 20 * 10


@pytest.mark.parametrize(
    ("outline", "corner"),
    [
        (_rectangle(100, 60, 395, 295), (True, False)),
        (_rectangle(-50, 60, 250, 350), (True, True)),
        (_rectangle(-50, 100, 450, 350), (False, True)),
    ],
)
def test_the_inset_is_where_it_hides_least_and_never_on_the_label(
    outline: NDArray[np.float32], corner: tuple[bool, bool]
) -> None:
    drawn = draw(_picture(), _prediction(outline, np.full((10, 10, 3), SEEN, np.uint8)))
    assert _inset_corner(drawn, SEEN) == corner


def test_the_inset_of_a_video_stays_while_the_region_trembles() -> None:
    annotator, random = Annotator(), np.random.default_rng(0)
    corners = set()
    for number in range(60):
        outline = _rectangle(60, 60, 350, 260) + random.normal(0, 40, 2).astype(np.float32)
        record = Record("clip", number, number / 30, _prediction(outline, np.full((10, 10, 3), SEEN, np.uint8)))
        drawn = annotator.draw(Frame("clip", number, number / 30, _picture()), record)
        corners.add(_inset_corner(drawn, SEEN))
    assert len(corners) == 1


def test_the_upper_side_of_the_inset_is_white_where_that_of_the_region_is() -> None:
    rectified = np.full((10, 10, 3), SEEN, np.uint8)
    for outline, is_marked in ((_rectangle(50, 80, 250, 250), True), (_rectangle(50, -80, 250, 250), False)):
        drawn = draw(_picture(), _prediction(outline, rectified))
        rows, columns = np.nonzero((drawn == SEEN).all(2))
        assert ((drawn[rows.min() - 1, columns.min() : columns.max()] == TOP).all()) == is_marked


# --- text


def test_the_label_is_drawn_and_an_unsure_one_differs() -> None:
    picture = np.full((300, 400, 3), 128, np.uint8)
    sure, unsure = draw(picture, _prediction()), draw(picture, _prediction(), sure=False)
    assert (sure[:30, :60] > 200).any()
    assert (sure != unsure).any()
    np.testing.assert_array_equal(sure[100:, :], 128)


def test_a_picture_of_the_rejected_class_says_so_and_not_that_it_is_unsure() -> None:
    picture = np.full((300, 400, 3), 128, np.uint8)
    frame, record = Frame("x", 0, None, picture), Record("x", 0, None, _prediction())
    drawn = [
        Annotator().draw(frame, dataclasses.replace(record, **changes))
        for changes in ({}, {"sure": False}, {"rejected": True}, {"rejected": True, "sure": False})
    ]
    np.testing.assert_array_equal(drawn[2], drawn[3])
    assert (drawn[2] != drawn[0]).any()
    assert (drawn[2] != drawn[1]).any()


@pytest.mark.parametrize("label", ["", "größe 写真", "x" * 500, "a\nb", "交通标志", "caf\udce9", "\u200b"], ids=ascii)
def test_any_label_is_drawn(label: str) -> None:
    drawn = draw(_picture(), _prediction(label=label))
    assert drawn.shape == (300, 400, 3)
    assert (drawn[:40] > 200).any()


def test_a_label_that_cannot_be_drawn_is_named_by_its_number() -> None:
    probabilities = np.array([0.1, 0.1, 0.8], np.float32)
    hebrew = draw(_picture(), _prediction(label="שלום", probabilities=probabilities))
    np.testing.assert_array_equal(hebrew, draw(_picture(), _prediction(label="class 2", probabilities=probabilities)))


def _annotated(live: bool, source: str = "front", **changes: Any) -> NDArray[np.uint8]:  # noqa: ANN401
    frame = Frame(source, 0, 1.0, _picture())
    return Annotator(live).draw(frame, Record(source, 0, 1.0, _prediction(), **changes))


def test_the_pictures_of_cameras_bear_the_names_of_the_cameras() -> None:
    assert (_annotated(True, "front") != _annotated(True, "garden")).any()
    np.testing.assert_array_equal(_annotated(False, "front"), _annotated(False, "garden"))


def test_cameras_whose_names_cannot_be_drawn_have_numbers() -> None:
    annotator = Annotator(live=True)
    first, second, again = (
        annotator.draw(Frame(name, 0, 1.0, _picture()), Record(name, 0, 1.0, _prediction()))
        for name in ("שער", "גן", "שער")
    )
    assert (first != second).any()
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(first, _annotated(True, "source 1"))


def test_doubt_is_written_below_the_label() -> None:
    doubtful = _annotated(False, uncertain="theta is unlike training (distance 9.1, limit 4.2)")
    rows = np.flatnonzero((doubtful != _annotated(False)).any((1, 2)))
    assert len(rows) > 8
    assert rows.max() < 100


@pytest.mark.parametrize(
    ("place", "rows", "columns"), [("bottom left", (260, 300), (0, 250)), ("top right", (0, 60), (200, 400))]
)
def test_notes_stand_in_their_corner_and_the_inset_keeps_away(
    place: Literal["bottom left", "top right"],
    rows: tuple[int, int],
    columns: tuple[int, int],
) -> None:
    frame = Frame("x", 0, None, _picture())
    record = Record("x", 0, None, _prediction(rectified=np.full((10, 10, 3), SEEN, np.uint8)))
    bare = Annotator().draw(frame, record)
    noted = Annotator().draw(frame, record, [Note(["30.0 frames a second", "ms: infer 1.2"], place)])
    changed_rows, changed_columns = np.nonzero((bare != noted).any(2))
    assert rows[0] <= changed_rows.min()
    assert changed_rows.max() < rows[1]
    assert columns[0] <= changed_columns.min()
    assert changed_columns.max() < columns[1]
    assert (noted == SEEN).all(2).sum() == 60 * 60


def test_a_frame_without_a_picture_or_a_prediction_cannot_be_drawn() -> None:
    with pytest.raises(ValueError, match=r"^x #3: there is no picture with a prediction to draw$"):
        Annotator().draw(Frame("x", 3, None, None), Record("x", 3, None, _prediction()))
    with pytest.raises(ValueError, match=r"^x #3: there is no picture with a prediction to draw$"):
        Annotator().draw(Frame("x", 3, None, _picture()), Record("x", 3, None, None))


# --- every size


@pytest.mark.parametrize("shape", [(300, 400, 3), (300, 400), (6, 8, 3), (6, 8)], ids=str)
def test_the_picture_is_not_changed(shape: tuple[int, ...]) -> None:
    picture = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    before = picture.copy()
    prediction = _prediction(_rectangle(1, 1, 4, 4), np.zeros((3, 3), np.uint8), seen=(0, 1, shape[0], shape[1] - 1))
    drawn = draw(picture, prediction)
    np.testing.assert_array_equal(picture, before)
    assert not np.shares_memory(drawn, picture)


def test_a_view_and_a_read_only_picture_are_drawn_on_a_copy() -> None:
    frame = np.zeros((300, 400, 3), np.uint8)
    frame.setflags(write=False)
    for picture in (frame, frame[:, :, ::-1], frame[::-1, 10:]):
        assert draw(picture, _prediction(_rectangle(50, 100, 200, 250))).any()


@pytest.mark.parametrize(
    "shape",
    [
        (1, 1),
        (28, 28),
        (1, 5000),
        (5000, 1, 3),
        (2, 3, 3),
        (239, 240),
        (240, 240, 3),
        (300, 300, 1),
        (3000, 4000, 3),
        (20, 4000),
    ],
    ids=str,
)
def test_tiny_and_huge_pictures_are_drawn(shape: tuple[int, ...]) -> None:
    height, width = shape[:2]
    outline = _rectangle(width / 4 - 0.5, -height, 3 * width, height / 2)
    prediction = _prediction(outline, np.zeros((5, 6), np.uint8), seen=(0, width // 4, height, width))
    drawn = draw(np.zeros(shape, np.uint8), prediction)
    assert drawn.dtype == np.uint8
    assert drawn.ndim == 3
    assert drawn.shape[0] % height == 0
    assert drawn.shape[0] // height == drawn.shape[1] // width
    assert max(drawn.shape) <= max(5000, *shape)


@pytest.mark.parametrize(("height", "width"), [(28, 28), (240, 320), (720, 1280), (2160, 3840), (4320, 7680)])
def test_the_label_is_legible_at_every_size(height: int, width: int) -> None:
    """Its letters are at least nine pixels high, and a thirtieth of the picture's height."""
    drawn = draw(np.full((height, width, 3), 90, np.uint8), _prediction())
    rows = np.flatnonzero((drawn > 200).all(2).any(1))
    assert rows.max() + 1 - rows.min() >= max(9, drawn.shape[0] / 30)
