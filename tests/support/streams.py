"""Cameras played on this machine, with their faults: MJPEG over HTTP, and RTSP where GStreamer's server is installed.

The pictures of ``MjpegCamera`` are stamps: black and white blocks from edge to edge that spell a number, a time and a
checksum. Whoever receives one can tell which picture it is, when it was taken, and that it is whole.
"""

import contextlib
import itertools
import random
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

Act = Literal["send", "silent", "repeat", "half", "cut", "hang up", "chatter", "noise between", "noise inside"]
_UNTIL_CHANGED = ("send", "silent", "repeat")
_ROWS, _COLUMNS = 8, 16  # of blocks: 32 bits of number, 64 of time, 32 of checksum
_HEAD = b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=frame\r\n\r\n"
_RTSP_PYTHON = "/usr/bin/python3"  # Debian's GStreamer is a package of Debian's Python
_RTSP_SCRIPT = Path(__file__).with_name("rtsp_server.py")


@dataclass(frozen=True)
class Stamp:
    """What a picture says of itself."""

    number: int
    time: float  # Unix time


def draw_stamp(stamp: Stamp, height: int, width: int) -> NDArray[np.uint8]:
    """Return a picture (height, width, 3) that ``read_stamp`` reads, also after lossy coding."""
    payload = struct.pack(">Id", stamp.number, stamp.time)
    spelt = np.frombuffer(payload + zlib.crc32(payload).to_bytes(4, "big"), np.uint8)
    blocks = np.unpackbits(spelt).reshape(_ROWS, _COLUMNS) * np.uint8(255)
    return cv2.merge([cv2.resize(blocks, (width, height), interpolation=cv2.INTER_NEAREST)] * 3)


def read_stamp(image: NDArray[np.uint8]) -> Stamp | None:
    """Return what a picture (H, W, 3) spells; None when it is not whole, or no stamp at all."""
    bits = np.empty((_ROWS, _COLUMNS), np.uint8)
    rows = np.arange(4 * _ROWS + 1) * image.shape[0] // (4 * _ROWS)  # quarters of blocks
    columns = np.arange(4 * _COLUMNS + 1) * image.shape[1] // (4 * _COLUMNS)
    for row, column in np.ndindex(bits.shape):
        middle = image[rows[4 * row + 1] : rows[4 * row + 3], columns[4 * column + 1] : columns[4 * column + 3]]
        if middle.max() > 63 and middle.min() < 192:  # neither black nor white all over
            return None
        bits[row, column] = middle.min() >= 192
    spelt = np.packbits(bits).tobytes()
    if zlib.crc32(spelt[:12]).to_bytes(4, "big") != spelt[12:]:
        return None
    return Stamp(*struct.unpack(">Id", spelt[:12]))


class MjpegCamera:
    """A network camera in threads of its own; pictures are numbered in the order in which they are sent.

    Args:
        rate: Pictures a second.
        encode: Makes the JPEG of a stamp; without it, the stamp is drawn (``height``, ``width``).
        sent: Where to keep the Unix time at which each whole picture began to be sent, by number.

    Attributes:
        height, width: Of the pictures from now on.
    """

    def __init__(
        self,
        rate: float = 30.0,
        encode: Callable[[Stamp], bytes] | None = None,
        sent: Any = None,  # noqa: ANN401  (a dict, or an array in shared memory)
    ) -> None:
        self.rate, self.height, self.width = rate, 240, 320
        self.sent = {} if sent is None else sent
        self._encode = self._draw if encode is None else encode
        self._numbers = itertools.count()
        self._noise = random.Random(0)  # always the same: of such bytes, one in fifty damages nothing that can be told
        self._act: Act = "send"
        self._changed = threading.Condition()
        self._last = b""
        self._connections: list[socket.socket] = []
        self._listening: socket.socket | None = None
        self.port = 0
        self.plug_in()
        self.url = f"http://127.0.0.1:{self.port}/stream.mjpg"

    def __enter__(self) -> "MjpegCamera":
        return self

    def __exit__(self, *_: object) -> None:
        self.unplug()

    def plug_in(self) -> None:
        """Listen, on the same port as before."""
        self._listening = socket.create_server(("127.0.0.1", self.port))
        self.port = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, args=(self._listening,), daemon=True).start()

    def unplug(self) -> None:
        """Close all connections and refuse new ones."""
        with self._changed:
            closing = [*self._connections, *([self._listening] if self._listening else [])]
            self._connections, self._listening = [], None
            self._changed.notify_all()
        for entry in closing:
            with contextlib.suppress(OSError):  # the other side has closed it already
                entry.shutdown(socket.SHUT_RDWR)
            entry.close()

    def play(self, act: Act) -> None:
        """Choose what comes next.

        Until another act: "send" pictures; be "silent", on new connections too; "repeat" the last picture.
        Once, and then "send": "half" a picture, and never anything more on this connection; half a picture and "cut"
        the connection; "hang up"; from now on "chatter" without pictures on this connection; "noise between" two
        pictures, or over the "noise inside" of one.
        """
        with self._changed:
            self._act = act
            self._changed.notify_all()

    def _accept(self, listening: socket.socket) -> None:
        with contextlib.suppress(OSError):  # unplugged
            while True:
                connection, _ = listening.accept()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                with self._changed:
                    self._connections.append(connection)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:  # unplugged, or the viewer has left
            connection.recv(65536)
            while self._next_act(connection, 0.0) == "silent":
                pass
            connection.sendall(_HEAD)
            due = time.monotonic()
            while connection in self._connections:
                if self._send(connection, self._next_act(connection, due - time.monotonic(), take=True)):
                    break
                due = max(due + 1 / self.rate, time.monotonic())
        with self._changed, contextlib.suppress(ValueError):  # unplugged
            self._connections.remove(connection)

    def _next_act(self, connection: socket.socket, delay: float, take: bool = False) -> Act:
        """Wait for the next picture's moment, or while silent for a change, and return what to do then."""
        with self._changed:
            self._changed.wait_for(lambda: connection not in self._connections, max(delay, 0.0))
            self._changed.wait_for(lambda: self._act != "silent" or connection not in self._connections, 1.0)
            act = self._act
            if act not in _UNTIL_CHANGED:
                if not take or self._connections[-1:] != [connection]:  # its viewer may have left
                    return "send"
                self._act = "send"
        return act

    def _send(self, connection: socket.socket, act: Act) -> bool:
        """Act once; whether the connection ends with that."""
        if act in ("silent", "hang up"):
            return act == "hang up"
        while act == "chatter":
            connection.sendall(self._noise.randbytes(50))
            time.sleep(0.05)
        began = time.time()
        if act == "repeat" and self._last:
            connection.sendall(_part(self._last))
            return False
        number = next(self._numbers)
        jpeg = self._encode(Stamp(number, began))
        if act in ("half", "cut"):
            part = _part(jpeg)
            connection.sendall(part[: len(part) // 2])
            if act == "half":
                connection.recv(1)  # until the viewer leaves
            return True
        if act == "noise inside":
            middle = len(jpeg) // 2
            connection.sendall(_part(jpeg[: middle - 500] + self._noise.randbytes(1000) + jpeg[middle + 500 :]))
            return False
        connection.sendall(_part(jpeg) + (self._noise.randbytes(5000) if act == "noise between" else b""))
        self._last, self.sent[number] = jpeg, began
        return False

    def _draw(self, stamp: Stamp) -> bytes:
        return cv2.imencode(".jpg", draw_stamp(stamp, self.height, self.width))[1].tobytes()


def _part(jpeg: bytes) -> bytes:
    return b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%b\r\n" % (len(jpeg), jpeg)


def why_no_rtsp() -> str | None:
    """Return why ``RtspCamera`` cannot be played on this machine, or None."""
    if not Path(_RTSP_PYTHON).exists():
        return f"no {_RTSP_PYTHON}"
    done = subprocess.run([_RTSP_PYTHON, _RTSP_SCRIPT], capture_output=True, text=True, check=False)
    return done.stderr.strip().splitlines()[-1] if done.returncode else None


class RtspCamera:
    """Colour bars (320 x 240, 20 a second, the lower right corner is noise) over RTSP, from a process of its own.

    Args:
        codec: "h264" or "mjpeg".
    """

    def __init__(self, codec: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        self.codec, self.url = codec, f"rtsp://127.0.0.1:{self.port}/camera"
        self.start()

    def __enter__(self) -> "RtspCamera":
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Listen, on the same port as before."""
        command = [_RTSP_PYTHON, str(_RTSP_SCRIPT), str(self.port), self.codec]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=sys.stderr.fileno())
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"ready\n"

    def kill(self) -> None:
        """End without a word to the viewers."""
        self._process.kill()
        self._process.wait()
