"""Text on pictures; what is expected here holds for the lowest and the newest OpenCV."""

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest

from stn_runtime.views.lettering import Box, draw_plate, drawable, fitted, plate_size, wrapped

LABELS = (
    *(
        "交通标志",
        "Überholverbot",
        "знак",
        "größe 写真",
        "naïve café",
        "Ёжик",
        "שלום",
        "مرحبا",
        "हिन्दी",
        "🙂",
        "łódź",
        "Straße",
    ),
    *(
        "a…b",
        "\u201cx\u201d \u2013 \u2018y\u2019",
        "½",
        "①",
        "한국",
        "Ω",
        "e\u0301",
        "\u200b",
        "caf\udce9",
        "a\nb",
        "tab\there",
        "\x07",
        "日本語 7",
    ),
)


@pytest.mark.parametrize("text", LABELS, ids=ascii)
def test_no_character_is_drawn_as_a_question_mark(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each character that is drawn looks unlike OpenCV's sign for a character that it lacks."""
    line = fitted(text, "class 7", 1.0, 2000)
    for char in set(line.text) - {" "}:
        shown, unknown = np.zeros((60, 90), np.uint8), np.zeros((60, 90), np.uint8)
        cv2.putText(shown, char, (5, 40), line.font, 1.0, (255,), 1)
        assert shown.any()
        for count in (1, len(char.encode())):
            unknown[:] = 0
            cv2.putText(unknown, "?" * count, (5, 40), line.font, 1.0, (255,), 1)
            assert (shown != unknown).any()


@pytest.mark.parametrize(
    ("text", "least"),
    [
        ("Überholverbot", "Uberholverbot"),
        ("naïve café", "naive cafe"),
        ("łódź", "lodz"),
        ("Straße", "Strasse"),
        ("a…b", "a...b"),
        ("\u201cx\u201d \u2013 \u2018y\u2019", "\"x\" - 'y'"),
        ("e\u0301", "e"),
        ("ﬁle", "file"),
    ],
)
def test_a_text_is_drawn_as_it_is_or_in_the_letters_below_its_accents(text: str, least: str) -> None:
    shown = drawable(text)
    assert shown is not None
    assert shown[0] in (text, least, "é")


@pytest.mark.parametrize("text", ["שלום", "مرحبا", "caf\udce9", "\u200b", "\ue000", "\U0001f642"], ids=ascii)
def test_what_no_opencv_draws_rightly_gets_the_stand_in(text: str) -> None:
    assert drawable(text) is None
    assert fitted(text, "class 7", 1.0, 500).text == "class 7"


@pytest.mark.parametrize("text", ["交通标志", "日本語 7", "한국"])
def test_a_text_that_is_not_latin_is_drawn_whole_or_not_at_all(text: str) -> None:
    assert fitted(text, "class 7", 1.0, 500).text in (text, "class 7")


def test_cyrillic_is_drawn_by_every_opencv() -> None:
    assert fitted("знак", "class 7", 1.0, 500).text == "знак"


def test_ascii_stays_and_a_real_question_mark_too() -> None:
    text = "".join(map(chr, range(32, 127)))
    assert drawable(text) == (text, cv2.FONT_HERSHEY_SIMPLEX)


def test_line_breaks_become_spaces_and_invisible_characters_vanish() -> None:
    shown = drawable("a\nb\tc\u200bd\x07")
    assert shown is not None
    assert shown[0] == "a b cd"


def test_an_empty_text_is_a_line_without_text() -> None:
    assert fitted("", "class 7", 1.0, 500).text == ""


@pytest.mark.parametrize("length", [1, 10, 30, 100, 5000])
@pytest.mark.parametrize("width", [60, 232, 1000])
def test_a_line_fits_keeps_its_ends_and_stays_legible(length: int, width: int) -> None:
    text = "A" + "x" * (length - 2) + ("Z" if length > 1 else "")
    line = fitted(text, "class 7", 0.6, width)
    assert line.width <= width
    assert line.scale >= 0.36
    assert (line.text[0], line.text[-1]) == (text[0], text[-1])
    assert line.text == text or "..." in line.text


@pytest.mark.parametrize("width", [-100, 0, 1, 5, 12])
def test_without_room_there_is_a_small_letter_or_none(width: int) -> None:
    line = fitted("not seen", "class 7", 0.6, width)
    assert line.text in ("", "n")
    assert line.width <= max(2, width)
    draw_plate(np.zeros((20, 20, 3), np.uint8), [line], 0, 0)


def test_a_line_is_not_made_smaller_where_it_fits() -> None:
    assert fitted("stop", "class 7", 1.5, 500).scale == 1.5


def test_words_are_wrapped_and_none_is_lost() -> None:
    text = "87 % of the samples are outside what the network sees of the picture"
    lines = wrapped(text, "uncertain", 0.4, 200)
    assert " ".join(line.text for line in lines) == text
    assert len(lines) > 1
    assert max(line.width for line in lines) <= 200


@pytest.mark.parametrize("text", ["Hg", "Ägy", "a", "交y", "знаку"])
@pytest.mark.parametrize("scale", [0.36, 0.6, 1.2, 5.0])
def test_text_stays_on_its_plate(text: str, scale: float) -> None:
    lines = [fitted(text, "class 7", scale, 2000)] * 2
    height, width = plate_size(lines)
    canvas = np.full((height + 200, width + 200, 3), 128, np.uint8)
    draw_plate(canvas, lines, 100, 100)
    beyond = canvas.copy()
    beyond[100 : 100 + height, 100 : 100 + width] = 128
    np.testing.assert_array_equal(beyond, 128)
    plate = canvas[100 : 100 + height, 100 : 100 + width]
    assert plate.max() > 200
    assert plate[[0, -1]].max() < 128  # the first and last row are free of ink
    assert plate[:, [0, -1]].max() < 128


def test_boxes_overlap_where_they_share_a_pixel() -> None:
    box = Box(10, 10, 20, 20)
    assert box.overlaps(Box(19, 19, 30, 30))
    assert not box.overlaps(Box(20, 10, 30, 20))
    assert not box.overlaps(Box(10, 0, 20, 10))


def test_a_lone_surrogate_does_not_kill_the_process(spawn: Callable[..., Any]) -> None:
    code = "from stn_runtime.views.lettering import fitted\nprint(fitted('caf\\udce9', 'class 7', 1, 500).text)"
    process = spawn(code=code)
    out, _ = process.communicate(timeout=30)
    assert (process.returncode, out.strip()) == (0, b"class 7")
