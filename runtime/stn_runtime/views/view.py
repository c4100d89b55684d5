"""What every view of a run has in common."""

from abc import abstractmethod
from typing import Protocol

from ..records.record import Record
from ..sources.frame import Frame


class View(Protocol):
    """Shows or saves each frame with its record.

    A view of your own inherits this and writes ``show``; everything else has a default.

    Attributes:
        waits: Whether ``show`` may wait for a person; such a view is shown frame by frame, after the record is written.
    """

    waits: bool = False

    @abstractmethod
    def show(self, frame: Frame, record: Record) -> bool:
        """Show a frame, or take note of an error or event; return whether to go on."""

    def idle(self) -> bool:
        """Keep the view alive while no frame comes, called many times a second; return whether to go on."""
        return True

    def interrupt(self) -> None:
        """Let a ``show`` that waits return soon; may be called from a signal handler."""
        return

    def close(self) -> None:
        """Finish."""
        return
