"""A frame of a source, and which frames are wanted."""

from dataclasses import dataclass
from typing import Literal

from ..images.preprocessing import Image

Event = Literal["source_lost", "source_back"]


@dataclass(frozen=True)
class Frame:
    """One picture of a source, or why there is none.

    Attributes:
        source: Name of the file, camera or stream.
        index: Number of the frame in its source, from 0.
        time: Seconds since the start of a video, Unix time of a camera's frame, None for an image file.
        image: (H, W, 3) RGB or (H, W) grey, uint8; None when the frame could not be read.
        error: Says in one sentence why there is no image, or why the camera is lost.
        root: Folder below which results mirror the file's place; None where they keep the whole path.
        size: (height, width) of the whole picture, pixels, where ``image`` is a reduced one.
        decode_ms: Milliseconds that reading and decoding took; None where they cannot be separated from waiting.
        event: Says what happened to a camera; such a frame has no picture and does not count.
        rate: Frames a second that the video or camera announces; None where it does not.
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
        max_fps: Most frames a second, counted by the clock for a camera, by its own time for a video.
        loop: Whether files begin again when they have ended.
        watch: Whether a folder is watched for new pictures when those that are there have been read.
        all_files: Whether to take also what other programs left in folders, such as ``._IMG.jpg``.
    """

    stride: int = 1
    max_fps: float | None = None
    loop: bool = False
    watch: bool = False
    all_files: bool = False

    def __post_init__(self) -> None:
        """Refuse numbers that select nothing.

        Raises:
            ValueError: A number is not positive.
        """
        if self.stride < 1:
            raise ValueError(f"stride must be at least 1, got {self.stride}")
        if self.max_fps is not None and not self.max_fps > 0:
            raise ValueError(f"max_fps must be above 0, got {self.max_fps}")


EVERYTHING = Selection()
