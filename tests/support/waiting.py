"""Waiting for what threads do."""

import time
from collections.abc import Callable

HANG = 20.0
"""Seconds after which a test says that something hangs."""


def until(happened: Callable[[], object], seconds: float = HANG) -> None:
    """Wait until something is so."""
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.002)
