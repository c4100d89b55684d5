"""A synthetic camera: MNIST digits that move, turn and change size, sent as MJPEG over HTTP at a camera's rate."""

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2
import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT, RATE = 320, 240, 30
FRAMES_PER_DIGIT = 20


def frames(digits: NDArray[np.uint8], seed: int) -> Iterator[NDArray[np.uint8]]:
    """Yield colour pictures (240, 320, 3), FRAMES_PER_DIGIT for each digit (28, 28), dark on a lit, noisy surface."""
    random = np.random.default_rng(seed)
    surface = cv2.resize(
        random.normal(0, 1, (12, 16)).astype(np.float32), (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC
    )
    light = np.linspace(0.75, 1.0, WIDTH, dtype=np.float32)[None, :] * np.linspace(1.0, 0.85, HEIGHT)[:, None]
    for digit in digits:
        phase = random.uniform(0, 2 * np.pi, 4)
        for moment in np.arange(FRAMES_PER_DIGIT) / FRAMES_PER_DIGIT * 2 * np.pi:
            angle = 35 * np.sin(moment + phase[0])
            scale = 5.5 + 1.2 * np.sin(moment + phase[1])
            centre = (WIDTH / 2 + 30 * np.sin(moment + phase[2]), HEIGHT / 2 + 30 * np.cos(moment + phase[3]))
            matrix = cv2.getRotationMatrix2D((13.5, 13.5), angle, scale)
            matrix[:, 2] += np.array(centre) - 13.5
            ink = cv2.warpAffine(digit, matrix, (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR).astype(np.float32) / 255
            paper = (190 + 6 * surface) * light
            grey = paper * (1 - ink) + 45 * ink + random.normal(0, 4, paper.shape)
            tint = np.array([0.92, 0.97, 1.0], np.float32)  # BGR, a warm lamp
            yield (grey[:, :, None] * tint).clip(0, 255).astype(np.uint8)


def serve(pictures: list[NDArray[np.uint8]]) -> ThreadingHTTPServer:
    """Return a running server on 127.0.0.1 that sends ``pictures`` once, RATE a second, and then closes."""
    encoded = [cv2.imencode(".jpg", picture)[1].tobytes() for picture in pictures]

    class Camera(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            started = time.monotonic()
            for index, data in enumerate(encoded):
                time.sleep(max(0.0, started + index / RATE - time.monotonic()))
                head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
                try:
                    self.wfile.write(head.encode() + data + b"\r\n")
                except OSError:
                    return

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Camera)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server
