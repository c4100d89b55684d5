"""Frames, and what everything that gives frames has in common."""

from dataclasses import dataclass
from typing import Literal

from ..images.preprocessing import Image

Event = Literal["source_lost", "source_back"]


@dataclass(frozen=True)
class Frame:
    """One picture of a source, or why there is none.

    Attributes:
        source: The file, camera or stream.
        index: Number of the frame in its source, from 0.
        time: Seconds since the start of a video, Unix time of a camera's frame, None for an image file.
        image: RGB or grey; None when it could not be had.
        error: One sentence when there is no image; of a lost source, why.
        root: The folder below which results keep the file's place; None for its whole path.
        size: (height, width) of the whole picture, where ``image`` is a reduced one.
        decode_ms: What reading and decoding took; None where it cannot be told from waiting.
        event: What happened to a camera; such a frame is no picture and counts as none.
        rate: Frames a second of its video or camera, if that says.
    """

    source: str
    index: int
    time: float | None
    image: Image | None
    error: str | None = None
    root: str | None = None
    size: tuple[int, int] | None = None
    decode_ms: float | None = None
    event: Event | None = None
    rate: float | None = None


@dataclass(frozen=True)
class Selection:
    """Which frames of a source are wanted.

    Attributes:
        stride: Every Nth frame, from the first.
        max_fps: At most so many frames a second, of a camera by the clock, of a video by its own time.
        loop: Whether files begin again when they have ended.
        watch: Whether a folder is watched for new pictures when those that are there have been read.
    """

    stride: int = 1
    max_fps: float | None = None
    loop: bool = False
    watch: bool = False


EVERYTHING = Selection()
