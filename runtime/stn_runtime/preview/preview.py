"""A live preview of a run in a browser: picture, records and health over HTTP."""

import errno
import ipaddress
import os
import re
import socket
from dataclasses import dataclass
from urllib.parse import quote

from ..errors import InputError, MissingDependencyError
from ..machine.interpreter import PIP
from ..records.record import Record
from ..sources.frame import Frame
from ..views.view import View
from .latest import LatestResults
from .limits import Limits
from .metrics import STALE_SECONDS, RunMetrics

_DEFAULT_LIMITS = Limits()
_LOOPBACK = "127.0.0.1"
_UNASSIGNED = "192.0.2.1"  # TEST-NET-1 (RFC 5737): no machine has it, and nothing is sent to it


@dataclass(frozen=True)
class Address:
    """Where to listen.

    Attributes:
        host: Name or address of this machine.
        port: Port number; 0 for any free one.
    """

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def parse_address(text: str) -> Address:
    """Return the address that ``[HOST:]PORT`` names, such as "8000" or "[::1]:8000"; without a host it is loopback.

    Raises:
        InputError: The text is not an address.
    """
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+(?:%\w+)?)\]:|([^:\[\]\s]+):)?(\d{1,5})", text, re.ASCII)
    if match is None or int(match[3]) > 65535:
        raise InputError(
            f"--serve {text!r}: expected PORT or HOST:PORT, the port at most 65535, such as 8000, 0.0.0.0:8000 or "
            "[::1]:8000"
        )
    return Address(match[1] or match[2] or _LOOPBACK, int(match[3]))


class Preview(View):
    """A view that serves each frame and its record over HTTP.

    Args:
        address: Where to listen.
        token: The access token that clients need; None for no protection, which only loopback may have.
        model: Name of the model for people.
        live: Whether the frames come from cameras.
        stale_seconds: Age at which a camera's newest result is too old, so that the run counts as stalled.
        limits: Limits on clients.

    Attributes:
        address: Where the server listens, with the real port.

    Raises:
        InputError: The address cannot be used, or other machines could reach it and there is no token.
        MissingDependencyError: The packages for serving are not installed.
    """

    def __init__(
        self,
        address: Address,
        token: str | None,
        model: str,
        live: bool,
        stale_seconds: float = STALE_SECONDS,
        limits: Limits = _DEFAULT_LIMITS,
    ) -> None:
        try:
            from .server import Server
        except ModuleNotFoundError as error:
            raise MissingDependencyError(
                f"--serve needs package '{error.name}', which is not installed: {PIP} install 'stn-edge[serve]'"
            ) from error
        if token == "":
            raise InputError("--token or STN_TOKEN is empty; give a secret, or leave it out to serve this machine only")
        listener, is_loopback = _listen(address, token is not None)
        self.address = Address(address.host, listener.getsockname()[1])
        self._token = token
        self._latest = LatestResults(model, RunMetrics(live, stale_seconds))
        token_bytes = token.encode("utf-8", "surrogateescape") if token is not None else None
        self._server = Server(listener, self._latest, token_bytes, is_loopback, limits)

    @property
    def url(self) -> str:
        """The page's address with the access token, if any; other machines can reach it where the server allows it."""
        host = _network_address(self.address.host) if _is_unspecified(self.address.host) else self.address.host
        token = f"?token={quote(os.fsencode(self._token), safe='')}" if self._token is not None else ""
        return f"http://{Address(host, self.address.port)}/{token}"

    def show(self, frame: Frame, record: Record) -> bool:
        """Hold the frame and its record for clients, without waiting for them; always return True."""
        self._latest.put(frame, record)
        return True

    def close(self) -> None:
        """End all streams and the server."""
        self._server.close()


def _listen(address: Address, is_protected: bool) -> tuple[socket.socket, bool]:
    """Return a listening socket, and whether it listens on loopback only."""
    try:
        candidates = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise InputError(
            f"--serve {address}: no such host ({getattr(error, 'strerror', None) or error}); give a name or an "
            "address of this machine"
        ) from error
    family, kind, protocol, _, socket_address = candidates[0]
    is_loopback = ipaddress.ip_address(str(socket_address[0]).partition("%")[0]).is_loopback
    if not is_loopback and not is_protected:
        raise InputError(
            f"--serve {address}: others could watch; set a secret in STN_TOKEN, or serve this machine only "
            f"with --serve {address.port}"
        )
    listener = socket.socket(family, kind, protocol)
    try:
        if os.name == "posix":  # on Windows it would let two programs listen on the same port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(socket_address)
        listener.listen()
    except OSError as error:
        listener.close()
        raise InputError(f"--serve {address}: {_listening_problem(error)}") from error
    return listener, is_loopback


def _listening_problem(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "the port is in use by another program; give another one, or 0 for any that is free"
    if error.errno == errno.EADDRNOTAVAIL:
        return "is not an address of this machine; give 0.0.0.0 for all that it has"
    if error.errno == errno.EACCES:
        return "the port needs special rights; give one from 1024 on"
    return f"cannot be listened on ({error.strerror or error})"


def _is_unspecified(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def _network_address(host: str) -> str:
    """Return this machine's address on its network, or ``host`` when there is no network."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((_UNASSIGNED, 9))
        except OSError:
            return host
        return str(probe.getsockname()[0])
