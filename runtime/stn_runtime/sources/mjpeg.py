"""MJPEG over HTTP, as network cameras send it: whole pictures only, undecoded, with the moment when they began."""

import base64
import re
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from email import message_from_bytes
from email.message import Message
from http.client import BadStatusLine, HTTPException, RemoteDisconnected
from io import BufferedReader
from typing import Protocol
from urllib.parse import SplitResult, quote, unquote, urlsplit, urlunsplit

from ..errors import InputError
from ..images.headers import first_scan
from ..machine.redaction import describe_cause

_PORTS = {"http": 80, "https": 443}
_CHUNK = 1 << 16
_MOST_HEADER = 1 << 14
_MOST_PICTURE = 1 << 26
_NOT_IN_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
"""A marker that cannot stand in a JPEG's entropy-coded data (ITU-T T.81, B.1.1.5): there only restarts may."""

_END = 0xD9
_BETWEEN_SCANS = frozenset({0xC4, 0xDA, 0xDB, 0xDD, 0xFE})  # tables, the next scan, a comment


class MjpegStream:
    """An open stream of JPEG pictures (``multipart/x-mixed-replace``, RFC 2046 5.1).

    Args:
        address: http or https, with user and password where the camera wants them.
        timeout: Seconds without a byte, or with nothing that is a picture, after which reading fails.

    Raises:
        InputError: The camera refuses; why, in words.
        NotMjpegError: It answers with something else, which OpenCV may know.
    """

    def __init__(self, address: str, timeout: float) -> None:
        self._response = _opened(address, timeout)
        kind = self._response.headers.get_content_type()
        if kind != "multipart/x-mixed-replace":
            self._response.close()
            raise NotMjpegError(kind)
        boundary = str(self._response.headers.get_param("boundary") or "")
        self._timeout, self._deadline = timeout, 0.0
        self._pictures = _pictures(self._arrived, b"--" + boundary.strip('"').removeprefix("--").encode())

    def read(self) -> tuple[float, bytes] | None:
        """Return the next whole picture with the Unix time at which it began to arrive; None when the stream ended.

        Raises:
            OSError: The connection broke, or no picture came for too long.
        """
        self._deadline = time.monotonic() + self._timeout
        try:
            return next(self._pictures, None)
        except HTTPException as error:
            raise OSError(f"the connection broke ({error})") from error

    def release(self) -> None:
        """Close the connection."""
        self._response.close()

    def _arrived(self, most: int) -> bytes:
        if time.monotonic() > self._deadline:  # noise may keep coming for ever
            raise TimeoutError(f"no picture within {self._timeout:g} s")
        return self._response.read1(most)


class NotMjpegError(Exception):
    """The answer's content type is another one."""


def whole_jpeg(data: bytes) -> bytes | None:
    """Return a JPEG without what follows its end mark; None when it is cut off or damaged within its scans.

    A decoder fills up what is missing with grey and does not say so.
    """
    at = first_scan(data) if data.startswith(b"\xff\xd8") else -1
    while at >= 0:
        match = _NOT_IN_SCAN.search(data, at)
        if match is None:
            return None
        marker = match.group()[1]
        if marker == _END:
            return data[: match.end()]
        if marker not in _BETWEEN_SCANS:
            return None
        at = match.end() + int.from_bytes(data[match.end() : match.end() + 2], "big")
    return None


def _pictures(read: Callable[[int], bytes], delimiter: bytes) -> Iterator[tuple[float, bytes]]:
    """Yield the whole pictures of a multipart stream; what is torn or foreign is passed over."""
    buffer = bytearray()

    def filled(least: int) -> bool:
        while len(buffer) < least:
            data = read(_CHUNK)
            if not data:
                return False
            buffer.extend(data)
        return True

    while filled(len(delimiter)):
        at = buffer.find(delimiter)
        if at < 0:
            del buffer[: len(buffer) - len(delimiter) + 1]
            continue
        began = time.time()
        del buffer[: at + len(delimiter)]
        length = _header(buffer, filled)
        if length is None:
            continue
        if not filled(length) or (length == 0 and not _until(buffer, delimiter, filled)):
            return
        if length == 0:
            at = buffer.find(delimiter)
            length = at if at >= 0 else len(buffer)
        part = bytes(buffer[:length])
        picture = whole_jpeg(part)
        # A length that is wrong reaches into the next part, or into its delimiter: begin again where that begins.
        torn = part.find(delimiter)
        beyond = torn if torn >= 0 else max(0, length - len(delimiter) + 1)
        del buffer[: len(picture) if picture is not None else beyond]
        if picture is not None:
            yield began, picture


def _header(buffer: bytearray, filled: Callable[[int], bool]) -> int | None:
    """Take the header of a part from ``buffer``; return its length, 0 if it says none, None if this is no header."""
    while not (end := re.search(rb"\r?\n\r?\n", buffer)):
        if len(buffer) > _MOST_HEADER or not filled(len(buffer) + 1):
            return None
    header = bytes(buffer[: end.start()])
    match = re.search(rb"(?i)^content-length:[ \t]*(\d{1,9})[ \t]*\r?$", header, re.MULTILINE)
    length = int(match[1]) if match else 0
    if length > _MOST_PICTURE:
        return None
    del buffer[: end.end()]
    return length


def _until(buffer: bytearray, delimiter: bytes, filled: Callable[[int], bool]) -> bool:
    """Fill ``buffer`` until it holds the delimiter, or a whole JPEG: the delimiter may come a frame later."""
    searched = 0
    while buffer.find(delimiter, searched) < 0 and not _ends_whole(buffer):
        searched = max(0, len(buffer) - len(delimiter))
        if len(buffer) > _MOST_PICTURE or not filled(len(buffer) + 1):
            return False
    return True


def _ends_whole(buffer: bytearray) -> bool:
    # A thumbnail within the picture ends as a picture does.
    return buffer[-4:].rstrip(b"\r\n").endswith(b"\xff\xd9") and whole_jpeg(bytes(buffer)) is not None


class _Response(Protocol):
    @property
    def headers(self) -> Message: ...

    def read1(self, most: int, /) -> bytes: ...

    def close(self) -> None: ...


class _BareResponse:
    """An answer without a status line, as the firmware of some cameras sends it: headers, or at once the first part."""

    def __init__(self, stream: BufferedReader) -> None:
        self._stream, self._begin = stream, b""
        line = stream.readline(_MOST_HEADER)
        header = bytearray(line if re.match(rb"[\w-]+:", line) else b"")
        if line.startswith(b"--"):
            self._begin = line
            boundary = line[2:].strip().decode("latin-1").replace('"', "")
            header += f'Content-Type: multipart/x-mixed-replace; boundary="{boundary}"'.encode()
        else:
            while (line := stream.readline(_MOST_HEADER)).strip() and len(header) < _MOST_HEADER:
                header += line
        self.headers = message_from_bytes(bytes(header))

    def read1(self, most: int, /) -> bytes:
        begin, self._begin = self._begin, b""
        return begin or self._stream.read1(most)

    def close(self) -> None:
        self._stream.close()


def _open_bare(parts: SplitResult, timeout: float) -> _BareResponse:
    """Ask again a camera whose answer began without a status line."""
    connection = socket.create_connection((parts.hostname, parts.port or _PORTS[parts.scheme]), timeout)
    try:
        if parts.scheme == "https":
            connection = ssl.create_default_context().wrap_socket(connection, server_hostname=parts.hostname)
        target = quote(urlunsplit(("", "", parts.path or "/", parts.query, "")), safe="/?=&%:;,+@!$'()*~")
        lines = [f"GET {target} HTTP/1.0", f"Host: {parts.hostname}"]
        if parts.username is not None:
            login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            lines.append(f"Authorization: Basic {base64.b64encode(login.encode()).decode()}")
        connection.sendall("".join(f"{line}\r\n" for line in [*lines, ""]).encode())
        return _BareResponse(connection.makefile("rb"))
    finally:
        connection.close()  # the file keeps it open for as long as it is read


def _opened(address: str, timeout: float) -> _Response:
    handlers: list[urllib.request.BaseHandler] = []
    try:
        parts = urlsplit(address)
        _ = parts.port
    except ValueError as error:  # whose words may hold a part of the password
        raise InputError("is no address; write '@' and '/' within a password as %40 and %2F") from error
    try:
        bare = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
        if parts.username is not None:
            passwords = urllib.request.HTTPPasswordMgrWithDefaultRealm()
            passwords.add_password(None, bare, unquote(parts.username), unquote(parts.password or ""))
            handlers += [
                urllib.request.HTTPBasicAuthHandler(passwords),
                urllib.request.HTTPDigestAuthHandler(passwords),
            ]
        opener = urllib.request.build_opener(*handlers)
        try:
            response: _Response = opener.open(bare, timeout=timeout)
        except RemoteDisconnected as error:
            raise InputError("cannot be opened (the connection was closed without an answer)") from error
        except BadStatusLine:
            response = _open_bare(parts, timeout)
    except urllib.error.HTTPError as error:
        error.close()
        wants = "; give user and password as http://USER:PASSWORD@..." if error.code == 401 else ""
        raise InputError(f"answers '{error.code} {error.reason}'{wants}") from error
    except (OSError, HTTPException, ValueError) as error:
        raise InputError(f"cannot be opened ({describe_cause(getattr(error, 'reason', error))})") from error
    return response
