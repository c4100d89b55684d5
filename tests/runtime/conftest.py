"""What the tests of the runtime share: a tiny model file, the command line, pictures, a video, a camera."""

import contextlib
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from stn_runtime import GoldenVector, Manifest
from stn_runtime.cli import main
from stn_runtime.model.golden import make_golden
from stn_runtime.model.manifest import METADATA_KEY
from tests.support.process import default_signals
from tests.support.tiny_model import answer, make_graph, make_manifest

SPAWN = "import sys; from stn_runtime.cli import main; sys.exit(main())"


@pytest.fixture
def build_model(tmp_path: Path) -> Callable[..., Path]:
    """Write a model file: ``build_model(channels, name=..., metadata=None or {}, batch=..., **manifest_fields)``."""

    def build(
        channels: int = 1,
        *,
        name: str = "tiny.onnx",
        metadata: Mapping[str, str] | None = None,
        batch: int | str = "N",
        input_type: int = TensorProto.UINT8,
        **changes: Any,  # noqa: ANN401
    ) -> Path:
        model = make_graph(channels, batch, input_type)
        if metadata is None:
            metadata = {METADATA_KEY: make_manifest(channels, **changes).to_json()}
        helper.set_model_props(model, dict(metadata))
        path = tmp_path / "models" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(model.SerializeToString())
        return path

    return build


@pytest.fixture
def grey_model(build_model: Callable[..., Path]) -> Path:
    return build_model(1, name="grey.onnx")


@pytest.fixture
def rgb_model(build_model: Callable[..., Path]) -> Path:
    return build_model(3, name="rgb.onnx")


@pytest.fixture
def manifest_of() -> Callable[..., Manifest]:
    return make_manifest


@pytest.fixture
def expected_of() -> Callable[[NDArray[np.uint8]], dict[str, NDArray[np.float32]]]:
    return answer


@pytest.fixture
def golden_of() -> Callable[[NDArray[np.uint8]], GoldenVector]:
    return lambda image: make_golden(image, answer(image))


@pytest.fixture
def stn(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run a command in this process: ``status, stdout, stderr = stn("run", folder, "-m", model)``."""

    def call(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as done:  # how argparse ends
            status = int(done.code or 0)
        said = capsys.readouterr()
        return status, said.out, said.err

    return call


@pytest.fixture
def spawn() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start a command in a process of its own; whatever still runs at the end of the test is killed."""
    started = []

    def start(*arguments: object, code: str = SPAWN, **options: Any) -> subprocess.Popen[bytes]:  # noqa: ANN401
        command = [sys.executable, "-c", code, *map(str, arguments)]
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "preexec_fn": default_signals} | options
        process = subprocess.Popen(command, **options)
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.communicate()


@pytest.fixture
def folder_of_pictures(tmp_path: Path) -> Path:
    """A tree with a dark, a bright and a middle picture, and files that are no pictures."""
    root = tmp_path / "photos"
    for name, level in {"b.png": 0, "a/c.png": 255, "a/b/d.PNG": 128}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        done, data = cv2.imencode(".png", np.full((12, 16), level, np.uint8))
        assert done
        (root / name).write_bytes(data.tobytes())
    (root / "notes.txt").write_text("not a picture")
    return root


@pytest.fixture
def make_video(tmp_path: Path) -> Callable[..., Path]:
    """Write a video at 10 frames a second, frame i of grey level 10 i or of the colour (R, G, B) that is given."""

    def make(name: str = "clip.avi", frames: int = 12, colour: tuple[int, int, int] | None = None) -> Path:
        path = tmp_path / name
        codec = cv2.VideoWriter.fourcc(*("MJPG" if path.suffix == ".avi" else "mp4v"))
        writer = cv2.VideoWriter(str(path), codec, 10, (64, 48))
        assert writer.isOpened()
        for index in range(frames):
            value = (10 * index,) * 3 if colour is None else colour[::-1]
            writer.write(np.full((48, 64, 3), value, np.uint8))
        writer.release()
        return path

    return make


class MjpegCamera:
    """A network camera on this machine: an endless stream of red JPEGs, no two alike, until it is unplugged."""

    def __init__(self) -> None:
        encoded = [cv2.imencode(".jpg", np.full((48, 64, 3), (0, 0, level), np.uint8)) for level in range(200, 256)]
        jpegs, unplugged = [data.tobytes() for _, data in encoded], threading.Event()

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, format: str, *args: object) -> None:
                pass

            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
                self.end_headers()
                try:
                    for jpeg in itertools.cycle(jpegs):
                        if unplugged.is_set():
                            return
                        head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                        self.wfile.write(head.encode() + jpeg + b"\r\n")
                        time.sleep(0.05)
                except OSError:  # the reader went away
                    pass

        self.unplug, self.plug = unplugged.set, unplugged.clear
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/stream.mjpg"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()


@pytest.fixture
def camera() -> Iterator[SimpleNamespace]:
    """Has the ``url`` of a stream, ``unplug()`` and ``plug()``."""
    served = MjpegCamera()
    yield SimpleNamespace(url=served.url, unplug=served.unplug, plug=served.plug)
    served.unplug()
    served.server.shutdown()
    served.server.server_close()


@pytest.fixture
def undecodable(tmp_path: Path) -> str:
    """A stem that is not UTF-8 on disk, as copied from an old memory card; Python spells it with a surrogate."""
    name = os.fsdecode(b"caf\xe9")
    try:
        (tmp_path / f"{name}.probe").touch()
    except OSError:  # some systems refuse such names
        pytest.skip("this file system takes UTF-8 names only")
    (tmp_path / f"{name}.probe").unlink()
    return name


@pytest.fixture
def piped(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Standard input is a pipe; its other end."""
    reading, writing = os.pipe()
    monkeypatch.setattr("sys.stdin", SimpleNamespace(fileno=lambda: reading))
    yield writing
    for number in (writing, reading):
        with contextlib.suppress(OSError):  # the test has closed it
            os.close(number)
