"""A live preview of a run in a browser: picture, records and health over HTTP."""

import errno
import ipaddress
import os
import re
import socket
from dataclasses import dataclass
from urllib.parse import quote

from ..errors import InputError, MissingDependencyError
from ..records.record import Record
from ..sources.frame import Frame
from .board import Board
from .metrics import STALE_SECONDS, Tally

_LOOPBACK = "127.0.0.1"
_ELSEWHERE = "192.0.2.1"  # TEST-NET-1 (RFC 5737): nobody's, and nothing is sent there


@dataclass(frozen=True)
class Address:
    """Where to listen: a name or address of this machine, and a port (0 for any that is free)."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def parse_address(text: str) -> Address:
    """Return the address that ``[HOST:]PORT`` names; without a host, one that only this machine can reach.

    Raises:
        InputError: It is none.
    """
    found = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+(?:%\w+)?)\]:|([^:\[\]\s]+):)?(\d{1,5})", text, re.ASCII)
    if found is None or int(found[3]) > 65535:
        raise InputError(
            f"--serve {text!r}: expected PORT or HOST:PORT, the port at most 65535, such as 8000, 0.0.0.0:8000 or "
            "[::1]:8000"
        )
    return Address(found[1] or found[2] or _LOOPBACK, int(found[3]))


class Preview:
    """A view that serves what it is shown.

    Args:
        address: Where to listen.
        token: Who does not know it sees nothing; None for no protection, which only loopback may have.
        model: Its name, for people.
        live: Whether the frames are a camera's.
        stale_seconds: How old a camera's newest picture may be before the run counts as stalled.

    Raises:
        InputError: The address cannot be had, or others could reach it and there is no token.
        MissingDependencyError: The packages for serving are not installed.
    """

    def __init__(
        self, address: Address, token: str | None, model: str, live: bool, stale_seconds: float = STALE_SECONDS
    ) -> None:
        try:
            from .server import Server
        except ModuleNotFoundError as error:
            raise MissingDependencyError(
                f"--serve needs package '{error.name}', which is not installed: pip install 'stn-edge[serve]'"
            ) from error
        if token == "":
            raise InputError("--token or STN_TOKEN is empty; give a secret, or leave it out to serve this machine only")
        listener, is_loopback = _listen(address, token is not None)
        self.address = Address(address.host, listener.getsockname()[1])
        self._token = token
        self._board = Board(model, Tally(live, stale_seconds))
        secret = token.encode("utf-8", "surrogateescape") if token is not None else None
        self._server = Server(listener, self._board, secret, is_loopback)

    @property
    def url(self) -> str:
        """Of the page, with the token if there is one; where all addresses are served, one that others can reach."""
        host = _outward(self.address.host) if _is_any(self.address.host) else self.address.host
        token = f"?token={quote(os.fsencode(self._token), safe='')}" if self._token is not None else ""
        return f"http://{Address(host, self.address.port)}/{token}"

    def show(self, frame: Frame, record: Record) -> bool:
        """Keep the frame and its record for those who watch; always goes on, and never waits for them."""
        self._board.post(frame, record)
        return True

    def close(self) -> None:
        """End all streams and the server."""
        self._server.close()


def _listen(address: Address, is_protected: bool) -> tuple[socket.socket, bool]:
    """Return a listening socket, and whether only this machine can reach it."""
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise InputError(
            f"--serve {address}: no such host ({getattr(error, 'strerror', None) or error}); give a name or an "
            "address of this machine"
        ) from error
    family, kind, protocol, _, place = found[0]
    is_loopback = ipaddress.ip_address(str(place[0]).partition("%")[0]).is_loopback
    if not is_loopback and not is_protected:
        raise InputError(
            f"--serve {address}: others could watch; set a secret in STN_TOKEN, or serve this machine only "
            f"with --serve {address.port}"
        )
    listener = socket.socket(family, kind, protocol)
    try:
        if os.name == "posix":  # elsewhere it would let two programs have the same port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(place)
        listener.listen()
    except OSError as error:
        listener.close()
        raise InputError(f"--serve {address}: {_reason(error)}") from error
    return listener, is_loopback


def _reason(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "the port is in use by another program; give another one, or 0 for any that is free"
    if error.errno == errno.EADDRNOTAVAIL:
        return "is not an address of this machine; give 0.0.0.0 for all that it has"
    if error.errno == errno.EACCES:
        return "the port needs special rights; give one from 1024 on"
    return f"cannot be listened on ({error.strerror or error})"


def _is_any(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def _outward(host: str) -> str:
    """Return this machine's address on its network, or the host as it is when there is no network."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((_ELSEWHERE, 9))
        except OSError:
            return host
        return str(probe.getsockname()[0])
