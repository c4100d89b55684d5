"""What every source of frames has in common."""

from collections.abc import Iterator
from typing import Protocol

from ..images.preprocessing import PreprocessSpec
from .done import Done
from .frame import Frame


class Source(Protocol):
    """Something to iterate over once."""

    @property
    def live(self) -> bool:
        """Whether frames come in their own time, so that late ones are dropped."""

    @property
    def total(self) -> int | None:
        """How many frames there will be, if that is known."""

    def __iter__(self) -> Iterator[Frame]: ...

    def ready(self, timeout: float) -> bool:
        """Wait at most ``timeout`` seconds for the next frame; return whether it is there."""

    def reduce_for(self, spec: PreprocessSpec, least: int = 0) -> None:
        """Let JPEGs be decoded at 1/2, 1/4 or 1/8 where that leaves twice the resolution of the network's input.

        Args:
            spec: What the network needs.
            least: Pixels that the shorter side must keep for somebody to look at, who also wants the colours.
        """

    def skip(self, done: Done) -> None:
        """Leave out the frames of which there is a record already; a camera has none."""

    def close(self) -> None:
        """Let the iteration end after the frame that is under way; may be called at any time."""
