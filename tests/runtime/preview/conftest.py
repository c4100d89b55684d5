"""Previews that are served during a test."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from stn_runtime.preview.preview import Preview, parse_address


@pytest.fixture
def serve() -> Iterator[Callable[..., Preview]]:
    """Start a preview on a free port of loopback; every preview is closed at the end of the test."""
    started = []

    def start(token: str | None = None, live: bool = True, **options: Any) -> Preview:  # noqa: ANN401
        started.append(Preview(parse_address("0"), token, "tiny", live, **options))
        return started[-1]

    yield start
    for preview in started:
        preview.close()
