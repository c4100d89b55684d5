"""The schema reader: what each annotation takes, and the sentence for what it refuses."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from stn_runtime.model.schema import FieldError, read_arguments, read_as


@dataclass(frozen=True)
class Size:
    """Two required fields."""

    height: int
    width: int


@dataclass(frozen=True)
class Everything:
    """A field of each kind."""

    text: str
    count: int = 1
    share: float = 0.5
    is_live: bool = False
    anything: Any = None
    mode: Literal["fast", "exact"] = "fast"
    numbers: tuple[float, ...] = ()
    pair: tuple[int, str] = (0, "")
    figures: Mapping[str, float] = field(default_factory=dict)
    size: Size | None = None
    sizes: tuple[Size, ...] = ()
    limit: Literal["low"] | None = None


def test_each_kind_is_read() -> None:
    value = {
        "text": "größe",
        "count": -3,
        "share": 2,
        "is_live": True,
        "anything": [{"a": None}],
        "mode": "exact",
        "numbers": [1, 2.5],
        "pair": [4, "x"],
        "figures": {"accuracy": 97},
        "size": {"height": 2, "width": 3},
        "sizes": [{"height": 4, "width": 5}],
        "limit": "low",
    }
    read = read_as(Everything, value)
    assert read == Everything(
        "größe",
        -3,
        2.0,
        True,
        [{"a": None}],
        "exact",
        (1.0, 2.5),
        (4, "x"),
        {"accuracy": 97.0},
        Size(2, 3),
        (Size(4, 5),),
        "low",
    )
    assert [type(number) for number in (read.share, *read.numbers, *read.figures.values())] == [float] * 4


def test_absent_fields_keep_their_defaults() -> None:
    assert read_as(Everything, {"text": "a"}) == Everything("a")


def test_none_is_a_value_of_an_optional_field() -> None:
    assert read_as(Everything, {"text": "a", "size": None, "limit": None}) == Everything("a")


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("text", 5, "text must be a text, got 5"),
        ("text", None, "text must be a text, got None"),
        ("count", True, "count must be a whole number, got True"),
        ("count", 2.0, "count must be a whole number, got 2.0"),
        ("share", "0.5", "share must be a number, got '0.5'"),
        ("share", False, "share must be a number, got False"),
        ("share", 10**400, f"share must be a number, got {str(10**400)[:37]}..."),
        ("is_live", 1, "is_live must be true or false, got 1"),
        ("mode", "slow", "mode must be one of fast, exact; got 'slow'"),
        ("mode", ["fast"], "mode must be one of fast, exact; got ['fast']"),
        ("numbers", "12", "numbers must be a list, got '12'"),
        ("numbers", [1, None], "numbers[1] must be a number, got None"),
        ("pair", [1], "pair must have 2 entries, got [1]"),
        ("pair", [1, 2], "pair[1] must be a text, got 2"),
        ("figures", [], "figures must be an object, got []"),
        ("figures", {"a": "b"}, "figures.a must be a number, got 'b'"),
        ("size", 3, "size must be an object, got 3"),
        ("size", {"height": 3}, "size.width is missing"),
        ("sizes", [{"height": 3, "width": "4"}], "sizes[0].width must be a whole number, got '4'"),
        ("limit", "high", "limit must be one of low; got 'high'"),
    ],
)
def test_a_wrong_value_is_refused_by_the_name_of_its_field(name: str, value: object, sentence: str) -> None:
    with pytest.raises(FieldError) as caught:
        read_as(Everything, {"text": "a", name: value})
    assert str(caught.value) == sentence
    assert sentence == f"{caught.value.field} {caught.value.fault}"
    with pytest.raises(FieldError) as caught:
        read_as(Everything, {"text": "a", name: value}, "file.part")
    assert str(caught.value) == f"file.part.{sentence}"


def test_what_is_no_object_is_refused() -> None:
    with pytest.raises(FieldError, match=r"^size must be an object, got \[1, 2\]$"):
        read_as(Size, [1, 2], "size")


def test_a_key_that_is_no_field_is_ignored_unless_it_is_to_be_refused() -> None:
    value = {"text": "a", "size": {"height": 1, "width": 2, "xyz": 3}}
    assert read_as(Everything, value).size == Size(1, 2)
    with pytest.raises(FieldError, match=r"^size\.xyz is not known; choose from height, width$"):
        read_as(Everything, value, refuse_unknown=True)


def test_a_misspelt_field_gets_the_nearest_name() -> None:
    with pytest.raises(FieldError, match=r"^size\.heigth is not known; did you mean 'height'\?$"):
        read_as(Size, {"heigth": 1, "width": 2}, "size", refuse_unknown=True)


def test_a_key_that_is_a_number_is_named_as_a_text() -> None:
    with pytest.raises(FieldError, match=r"^7 is not known; choose from height, width$"):
        read_as(Size, {7: 1}, refuse_unknown=True)


def test_arguments_of_a_function_are_those_present() -> None:
    def resize(*, size: tuple[int, int], share: float = 1.0) -> None: ...

    assert read_arguments(resize, {"size": [2, 3]}) == {"size": (2, 3)}
    with pytest.raises(FieldError, match=r"^size is missing$"):
        read_arguments(resize, {"share": 1})
