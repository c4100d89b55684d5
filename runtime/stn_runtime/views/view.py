"""What every view of a run has in common."""

from typing import Protocol

from ..records.record import Record
from ..sources.frame import Frame


class View(Protocol):
    """What is shown each frame with its record."""

    def show(self, frame: Frame, record: Record) -> bool:
        """Show a frame, or take note of an error or event; return whether to go on."""

    def close(self) -> None:
        """Finish."""
