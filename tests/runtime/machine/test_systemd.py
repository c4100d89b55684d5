"""What a service manager is told, asked as systemd asks: over a datagram socket."""

import os
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from stn_runtime.machine.systemd import notify

pytestmark = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="needs Unix sockets")


class Manager:
    """Listens where systemd would, at a path or at an abstract address (@...)."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.channel = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.channel.bind("\0" + address[1:] if address.startswith("@") else address)
        self.channel.settimeout(20)

    def heard(self) -> str:
        return self.channel.recv(4096).decode()


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    if request.param == "abstract" and not os.path.exists("/proc/net/unix"):
        pytest.skip("abstract addresses are Linux's")
    monkeypatch.chdir(tmp_path)  # a path may be 107 bytes long
    made = Manager("notify" if request.param == "path" else f"@stn-{uuid.uuid4().hex}")
    monkeypatch.setenv("NOTIFY_SOCKET", made.address)
    yield made
    made.channel.close()


@pytest.mark.parametrize("state", ["READY=1", "STATUS=größe\nWATCHDOG=1"])
def test_a_state_arrives_as_one_datagram(manager: Manager, state: str) -> None:
    notify(state)
    assert manager.heard() == state


def test_without_a_state_it_is_a_sign_of_life(manager: Manager) -> None:
    notify()
    assert manager.heard() == "WATCHDOG=1"


@pytest.mark.parametrize("address", [None, "", "gone/nobody", "@nobody-listens-here", "x" * 300, "vsock:2:1"])
def test_where_nobody_listens_nothing_happens(monkeypatch: pytest.MonkeyPatch, address: str | None) -> None:
    if address is None:
        monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    else:
        monkeypatch.setenv("NOTIFY_SOCKET", address)
    notify()


def test_a_manager_that_does_not_listen_just_now_holds_nothing_up(manager: Manager) -> None:
    began = time.monotonic()
    for _ in range(2000):  # its queue is full long before
        notify()
    assert time.monotonic() - began < 20
    assert manager.heard() == "WATCHDOG=1"


def test_sockets_are_not_left_open(manager: Manager) -> None:
    before = len(os.listdir("/dev/fd"))
    for _ in range(5):
        notify()
    assert len(os.listdir("/dev/fd")) == before


def test_a_run_says_that_it_is_ready_and_then_that_it_is_alive(
    manager: Manager,
    spawn: Callable[..., subprocess.Popen[bytes]],
    rgb_model: Path,
    camera: SimpleNamespace,
) -> None:
    process = spawn("run", camera.url, "-m", rgb_model)
    first = [manager.heard() for _ in range(3)]
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 130, errors
    assert first.count("READY=1") == 1
    assert first[-1] == "WATCHDOG=1"


def test_a_run_that_cannot_start_is_never_ready(
    manager: Manager, spawn: Callable[..., subprocess.Popen[bytes]], grey_model: Path
) -> None:
    process = spawn("run", "gone.png", "-m", grey_model)
    process.communicate(timeout=20)
    assert process.returncode == 2
    manager.channel.setblocking(False)
    with pytest.raises(BlockingIOError):
        manager.heard()
