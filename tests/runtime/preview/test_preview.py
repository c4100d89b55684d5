"""Addresses of the preview."""

import re
import signal
import socket
import sys
from collections.abc import Callable

import pytest

pytest.importorskip("prometheus_client")
pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

from stn_runtime import InputError, MissingDependencyError
from stn_runtime.preview.preview import Address, Preview, parse_address
from tests.runtime.preview.clients import (
    get,
)


@pytest.mark.parametrize(
    ("text", "host", "port", "written"),
    [
        ("8000", "127.0.0.1", 8000, "127.0.0.1:8000"),
        ("0.0.0.0:80", "0.0.0.0", 80, "0.0.0.0:80"),
        ("[::1]:8000", "::1", 8000, "[::1]:8000"),
        ("[fe80::1%eth0]:65535", "fe80::1%eth0", 65535, "[fe80::1%eth0]:65535"),
        ("pi.local:0", "pi.local", 0, "pi.local:0"),
    ],
)
def test_an_address_is_a_port_with_or_without_a_host(text: str, host: str, port: int, written: str) -> None:
    assert parse_address(text) == Address(host, port)
    assert str(parse_address(text)) == written


@pytest.mark.parametrize(
    "text", ["", "pi", ":8000", "pi:", "65536", "-1", "8000.5", "a b:1", "::1:8000", "[pi]:80", "http://pi:80", "٣"]
)
def test_a_text_that_is_no_address_is_refused_in_a_sentence(text: str) -> None:
    with pytest.raises(InputError, match=r"^--serve .*: expected PORT or HOST:PORT, .* such as 8000, 0\.0\.0\.0:8000"):
        parse_address(text)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1"])
def test_an_address_that_other_machines_can_reach_needs_a_token(host: str) -> None:
    with pytest.raises(InputError, match=r"others could watch; set a secret in STN_TOKEN, .* --serve 8000$"):
        Preview(Address(host, 8000), None, "tiny", True)


def test_an_empty_token_is_no_token() -> None:
    with pytest.raises(InputError, match="--token or STN_TOKEN is empty"):
        Preview(parse_address("0"), "", "tiny", True)


def test_a_port_in_use_is_refused_in_a_sentence(serve: Callable[..., Preview]) -> None:
    port = serve().address.port
    with pytest.raises(InputError, match=rf"^--serve 127\.0\.0\.1:{port}: the port is in use by another program; give"):
        Preview(Address("127.0.0.1", port), None, "tiny", True)


def test_an_address_of_another_machine_is_refused_in_a_sentence() -> None:
    with pytest.raises(InputError, match=r"^--serve 192\.0\.2\.1:8000: is not an address of this machine; give"):
        Preview(Address("192.0.2.1", 8000), "secret", "tiny", True)


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a" * 70 + ".local", "..."])
def test_a_host_that_does_not_exist_is_refused_in_a_sentence(host: str) -> None:
    with pytest.raises(InputError, match=r":0: no such host \(.*\); give a name or an address of this machine$"):
        Preview(Address(host, 0), "secret", "tiny", True)


def test_a_missing_package_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    monkeypatch.delitem(sys.modules, "stn_runtime.preview.server")
    with pytest.raises(MissingDependencyError, match=r"needs package 'uvicorn', .* pip install 'stn-edge\[serve\]'$"):
        Preview(parse_address("0"), None, "tiny", True)


def test_the_url_carries_the_token_and_the_real_port(serve: Callable[..., Preview]) -> None:
    preview = serve("a&b #ü")
    assert preview.url == f"http://127.0.0.1:{preview.address.port}/?token=a%26b%20%23%C3%BC"
    assert get(preview, preview.url.partition(str(preview.address.port))[2])[0] == 200


def test_the_url_of_all_addresses_names_one_that_others_can_reach() -> None:
    preview = Preview(parse_address("0.0.0.0:0"), "secret", "tiny", True)
    try:
        host = re.fullmatch(r"http://([\d.]+):\d+/\?token=secret", preview.url)
        assert host is not None
        assert host[1] == "0.0.0.0" or socket.create_connection((host[1], preview.address.port), 5).close() is None
    finally:
        preview.close()


def test_serving_leaves_the_signal_handlers_as_they_were(serve: Callable[..., Preview]) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    preview = serve()
    assert get(preview, "/")[0] == 200
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
