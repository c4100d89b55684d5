"""Annotated JPEG pictures of the newest frame."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ..images.opencv import cv2
from ..views.overlay import Annotator
from .latest import ClassifiedFrame, LatestResults

PICTURES_A_SECOND = 15.0
"""At most this many pictures are drawn a second."""

_LONGEST_SIDE = 1280  # pixels
_QUALITY = 80


def annotated_jpeg(classified: ClassifiedFrame, annotator: Annotator) -> bytes:
    """Return the frame as JPEG with its record drawn on it; the longer side of the picture has at most 1280 pixels."""
    image = classified.image
    height, width = image.shape[:2]
    scale = min(1.0, _LONGEST_SIDE / max(height, width))
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    drawn = annotator.draw(classified.frame, classified.record, image=image)
    _, data = cv2.imencode(".jpg", cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return data.tobytes()


class JpegRenderer:
    """Draws the newest frame when a client asks: each frame at most once, and at most 15 frames a second.

    Args:
        latest: Holds the newest frame.
    """

    def __init__(self, latest: LatestResults) -> None:
        self._latest = latest
        self._annotator = Annotator(latest.metrics.live)
        self._lock = asyncio.Lock()
        self._thread = ThreadPoolExecutor(1, "stn-preview-renderer")
        self._number, self._jpeg, self._rendered_at = 0, b"", 0.0

    async def newest(self) -> tuple[int, bytes]:
        """Return the newest picture's record number and JPEG; 0 and no bytes before the first picture."""
        loop = asyncio.get_running_loop()
        async with self._lock:
            newest = self._latest.newest_frame
            # Streams ask at this rate; one that asks slightly early must not wait for another period.
            is_due = loop.time() - self._rendered_at >= 0.9 / PICTURES_A_SECOND
            if newest is not None and newest.number != self._number and is_due:
                self._rendered_at = loop.time()
                self._jpeg = await loop.run_in_executor(self._thread, annotated_jpeg, newest, self._annotator)
                self._number = newest.number
            return self._number, self._jpeg

    def close(self) -> None:
        """End the drawing thread."""
        self._thread.shutdown(wait=False, cancel_futures=True)
