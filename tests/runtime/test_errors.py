"""Text of strangers on a terminal."""

import unicodedata

import pytest

from stn_runtime.errors import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("digits", "digits"),
        ("Straße 数字 كلب 🐈", "Straße 数字 كلب 🐈"),
        ("\x1b[2J\x1b]0;owned\x07", r"\x1b[2J\x1b]0;owned\x07"),
        ("two\nlines\r\ttab", r"two\nlines\r\ttab"),
        ("abc\u202egnp.exe\u2066", r"abc\u202egnp.exe\u2066"),
        ("\u2028 \u0085", r"\u2028 \x85"),
        ("\ud800 caf\udce9", r"\ud800 caf\udce9"),
        ("", ""),
    ],
)
def test_what_a_terminal_would_obey_is_escaped_and_the_rest_is_left(text: str, shown: str) -> None:
    assert printable(text) == shown


@pytest.mark.parametrize("text", ["x" * 1_000_000, "\x1b" * 1_000_000, "\U0001f408" * 200])
def test_a_long_text_is_cut(text: str) -> None:
    shown = printable(text, 50)
    assert len(shown) == 50
    assert shown.endswith("...")


def test_a_text_of_just_the_longest_length_is_whole() -> None:
    assert printable("x" * 50, 50) == "x" * 50


def test_no_character_of_unicode_is_shown_that_controls_the_terminal() -> None:
    every = (chr(number) for number in range(0x110000))
    shown = {character for text in map(printable, every) for character in text}
    assert [character for character in shown if unicodedata.category(character)[0] == "C"] == []
