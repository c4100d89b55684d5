"""A headless Chromium with a camera that shows a video, and pages of released models on a server of loopback."""

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from stn_runtime.images.reading import read_image
from stn_runtime.model.zoo import find_model

if TYPE_CHECKING:
    from playwright.sync_api import Page

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FRAMES_PER_SAMPLE = 20
SIZE = (480, 640)
_MISREAD = "1_blue_pen_ruled.jpg"  # on these frames, in Python as in a browser
_BITS, _CELL = 5, 12  # of the number that each frame bears in its upper left corner


def why_no_browser() -> str | None:
    """Return why there is no browser to test with."""
    if find_spec("playwright") is None:
        return "needs package 'playwright'"
    return None if CHROMIUM else "needs Chromium: apt-get install chromium"


def samples() -> list[tuple[Path, str]]:
    """Return pictures that travel with the released models and that ``digits`` reads, and the digit on each."""
    folder = find_model("digits").parent / "samples"
    return [(path, path.name[0]) for path in sorted(folder.iterdir()) if path.name != _MISREAD]


def numbered_frames() -> list[NDArray[np.uint8]]:
    """Return frames of a camera before which one sample after the other drifts; each bears its sample's number."""
    height, width = SIZE
    frames = []
    for number, (path, _) in enumerate(samples()):
        picture = read_image(path)
        picture = picture if picture.ndim == 3 else np.repeat(picture[..., None], 3, 2)
        room = width - FRAMES_PER_SAMPLE
        scale = min(height / picture.shape[0], room / picture.shape[1])
        rows, columns = round(picture.shape[0] * scale), round(picture.shape[1] * scale)
        picture = np.array(cv2.resize(picture, (columns, rows), interpolation=cv2.INTER_AREA), np.uint8)
        top = (height - rows) // 2
        for step in range(FRAMES_PER_SAMPLE):
            left = (room - columns) // 2 + step
            edges = (top, height - rows - top, left, width - columns - left)
            frame = np.array(cv2.copyMakeBorder(picture, *edges, cv2.BORDER_REFLECT_101), np.uint8)
            for bit in range(_BITS):
                cell = 255 * (number >> bit & 1)
                frame[:_CELL, bit * _CELL : (bit + 1) * _CELL] = cell
            frames.append(frame)
    return frames


def write_camera(path: Path, frames: list[NDArray[np.uint8]]) -> None:
    """Write frames as Chromium's simulated camera reads them: JPEGs, one behind the other."""
    quality = [cv2.IMWRITE_JPEG_QUALITY, 95]
    path.write_bytes(b"".join(cv2.imencode(".jpg", frame[..., ::-1], quality)[1].tobytes() for frame in frames))


READ_NUMBER = f"""() => {{
  const cells = document.getElementById("picture").getContext("2d").getImageData(0, 0, {_BITS * _CELL}, {_CELL}).data;
  let number = 0;
  for (let bit = 0; bit < {_BITS}; bit++) {{
    number |= (cells[4 * ({_CELL // 2} * {_BITS * _CELL} + bit * {_CELL} + {_CELL // 2})] > 127) << bit;
  }}
  return number;
}}"""
"""JavaScript that reads the number of the frame that a page shows."""


class _Quiet(SimpleHTTPRequestHandler):
    headers_sent: ClassVar[dict[str, str]] = {}

    def end_headers(self) -> None:
        for name, value in self.headers_sent.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def served(folder: Path, headers: dict[str, str] | None = None) -> Iterator[str]:
    """Serve a folder on loopback; the address is the context."""
    handler = type("Handler", (_Quiet,), {"headers_sent": headers or {}})
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://localhost:{server.server_address[1]}/"
        server.shutdown()
        thread.join()


@contextmanager
def browser(camera: Path | None = None, *, allowed: bool = True, gpu: bool = False) -> Iterator["Page"]:
    """Open a window of Chromium 1280 x 900.

    Args:
        camera: What its camera shows; None is no camera.
        allowed: Whether its camera may be used; if not, it is refused.
        gpu: Whether it offers WebGPU, computed by the CPU (SwiftShader).
    """
    from playwright.sync_api import sync_playwright

    arguments = ["--no-sandbox"]
    if camera is not None:
        arguments += ["--use-fake-device-for-media-stream", f"--use-file-for-fake-video-capture={camera}"]
        arguments += ["--use-fake-ui-for-media-stream"] if allowed else []
    if gpu:
        arguments += ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader", "--enable-features=Vulkan"]
    with sync_playwright() as player:
        chromium = player.chromium.launch(executable_path=CHROMIUM, args=arguments)
        context = chromium.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
        if allowed:
            context.grant_permissions(["camera"])
        yield context.new_page()
        chromium.close()


def open_page(page: "Page", address: str) -> str:
    """Open a page of ours, and return its state once it has one."""
    page.goto(address)
    page.wait_for_function("['ready', 'not started'].includes(document.getElementById('state').textContent)")
    return str(page.inner_text("#state"))
