"""What every source of frames has in common."""

from abc import abstractmethod
from collections.abc import Callable, Iterator
from typing import Protocol

from ..images.preprocessing import PreprocessSpec
from .done import Done
from .frame import Frame


class Source(Protocol):
    """Frames to iterate over once.

    A source of your own inherits this and writes ``__iter__``; everything else has a default.

    Attributes:
        live: Whether frames come in their own time, so that late ones are dropped.
        timed: Whether every frame has a time, as those of videos and cameras have.
        streams: How many videos and cameras the frames come from; 0 for pictures.
    """

    live: bool = False
    timed: bool = False
    streams: int = 0

    @property
    def total(self) -> int | None:
        """How many frames there will be, if that is known."""
        return None

    @abstractmethod
    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames, and the events of cameras."""

    def ready(self, timeout: float) -> bool:
        """Wait at most ``timeout`` seconds for the next frame of the same kind; return whether it is there.

        A batch is not held up for a frame that is not ready.
        """
        return False

    def reduce_for(self, spec: PreprocessSpec, least: int = 0) -> None:
        """Let JPEGs be decoded at 1/2, 1/4 or 1/8 where that leaves twice the resolution of the network's input.

        Args:
            spec: What the network needs.
            least: Pixels that the shorter side must keep for a viewer, who also wants the colours.
        """
        return

    def skip(self, done: Done) -> None:
        """Leave out the frames that have a record already; a camera has none."""
        return

    def when_idle(self, act: Callable[[], bool]) -> None:
        """Let ``act`` be called often while no frame comes; when it returns False the frames end."""
        return

    def close(self) -> None:
        """Let the iteration end after the frame that is under way; may be called at any time, from any thread."""
        return
