"""No secret of an address is shown, whatever its form."""

import itertools

import pytest

from stn_runtime.machine.redaction import describe_cause, has_unencoded_credentials, without_secrets


@pytest.mark.parametrize(
    "password",
    ["word", "p@ss", "p/w", "p?w", "p#w", "p@ss#w?x", "1234", "1234#5", "12?3", "a:b@c/d", "@", "#@/", "12/34"],
)
@pytest.mark.parametrize("user", ["admin", "us@er", "us/er", "us#er", "1"])
@pytest.mark.parametrize("host", ["host", "host:554", "[::1]:554", "192.168.0.9"])
@pytest.mark.parametrize("path", ["", "/", "/live.sdp", "/a?channel=1"])
def test_a_password_that_is_not_encoded_is_not_shown(user: str, password: str, host: str, path: str) -> None:
    assert without_secrets(f"rtsp://{user}:{password}@{host}{path}") == f"rtsp://{host}{path}"


@pytest.mark.parametrize(
    "address",
    [
        "rtsp://cam.lan:554/user@x",
        "rtsp://localhost:554/user@x",
        "rtsp://host/user@x",
        "rtsp://[::1]:554/user@cam",
        "http://host/a/b@2x.jpg?size=1",
        "http://host",
        "picam",
        "x.jpg",
    ],
)
def test_an_address_without_a_user_stays_as_it_is(address: str) -> None:
    assert without_secrets(address) == address
    assert not has_unencoded_credentials(address)


@pytest.mark.parametrize(
    ("address", "is_unencoded"),
    [
        ("rtsp://admin:word@host/s", False),
        ("rtsp://admin:p%40ss@host/s", False),
        ("rtsp://user@host/a@b", False),
        *((f"rtsp://admin:p{character}w@host/s", True) for character in "@/?#"),
    ],
)
def test_what_must_be_encoded_is_noticed(address: str, is_unencoded: bool) -> None:
    assert has_unencoded_credentials(address) is is_unencoded


def test_a_cause_is_one_printable_line_without_secrets() -> None:
    error = OSError("no route\n to rtsp://admin:p@ss@host/1?token=abc\x1b[31m " + "x" * 1000)
    text = describe_cause(error)
    assert text.startswith("no route to rtsp://host/1?token=*** ") or text.startswith(
        "no route to rtsp://host/1?token=***"
    )
    assert len(text) == 200
    assert text.isprintable()
    assert describe_cause(TimeoutError()) == "TimeoutError"


def test_masking_ends_on_any_text() -> None:
    for parts in itertools.product(["a", ":", "@", "/", "?", "#", "[", "1"], repeat=5):
        shown = without_secrets(f"rtsp://{''.join(parts)}@host")
        assert shown.endswith("host")
