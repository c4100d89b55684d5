"""Requests that the preview refuses."""

from collections.abc import Callable

import pytest

pytest.importorskip("prometheus_client")
pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

from stn_runtime.preview.preview import Preview
from tests.runtime.preview.clients import PATHS, classified_frame, get


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "headers",
    [{}, {"Authorization": "Bearer"}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic sécret"}],
    ids=["nothing", "no token", "another token", "another scheme"],
)
def test_requests_without_the_token_are_refused(
    serve: Callable[..., Preview], path: str, headers: dict[str, str]
) -> None:
    preview = serve("sécret")
    preview.show(*classified_frame())
    for target in (path, f"{path}?token=", f"{path}?token=secret", f"{path}?other=s%C3%A9cret"):
        status, answered, body = get(preview, target, headers)
        assert (status, body.split(b":")[0]) == (401, b"the token is missing or wrong")
        assert answered["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("path", PATHS)
def test_requests_with_the_token_are_answered(serve: Callable[..., Preview], path: str) -> None:
    preview = serve("sécret")
    preview.show(*classified_frame())
    assert get(preview, f"{path}?token=s%C3%A9cret")[0] == 200
    assert get(preview, path, {"Authorization": "bearer sécret".encode().decode("latin-1")})[0] == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("LOCALHOST:1234", 200),
        ("127.0.0.1:8000", 200),
        ("[::1]:8000", 200),
        ("evil.example", 421),
        ("evil.example:8000", 421),
        ("localhost.evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("192.0.2.1", 421),
        ("localhost:80:80", 421),
        ("", 421),
    ],
)
def test_a_host_that_names_another_machine_is_refused(serve: Callable[..., Preview], host: str, status: int) -> None:
    assert get(serve(), "/healthz" if status == 421 else "/", {"Host": host})[0] == status


def test_no_other_page_may_embed_or_read_an_answer(serve: Callable[..., Preview]) -> None:
    preview = serve()
    preview.show(*classified_frame())
    for path in (*PATHS, "/nothing"):
        _, headers, _ = get(preview, path, {"Origin": "http://evil.example"})
        assert "access-control-allow-origin" not in headers
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cache-control"] == "no-store"
        assert "server" not in headers
