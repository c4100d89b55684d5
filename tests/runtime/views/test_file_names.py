"""Names of saved files that no label and no file name of a stranger can break out of."""

import pytest

from stn_runtime.views.file_names import fitting, safe


@pytest.mark.parametrize(
    ("name", "stored"),
    [
        ("7", "7"),
        ("größe 写真", "größe 写真"),
        ("../up", "%2E.%2Fup"),
        ("a/b\\c", "a%2Fb%5Cc"),
        ("a\0b\nc\x1b", "a%00b%0Ac%1B"),
        ("caf\udce9", "caf%E9"),  # a byte of a file name that is not UTF-8
        ("\ud800", "%ED%A0%80"),  # no byte of any
        ("\u202eevil", "%E2%80%AEevil"),
        ("", "%"),
    ],
)
def test_a_name_is_stored_so_that_every_system_takes_it(name: str, stored: str) -> None:
    assert safe(name) == stored
    assert len(fitting(safe(name * 100)).encode()) <= 240
