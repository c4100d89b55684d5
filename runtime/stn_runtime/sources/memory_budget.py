"""Memory for pictures that are decoded ahead: a budget that grants it in the order of the pictures."""

import threading
from contextlib import suppress

from ..errors import ImageReadError


class MemoryBudget:
    """Grants memory to pictures in their order, so that the picture that comes next never waits for a later one.

    Args:
        limit: Bytes that are granted at a time; one picture alone may get more.
    """

    def __init__(self, limit: int) -> None:
        # Reentrant, since a signal handler may close while its own thread holds it.
        self._changed = threading.Condition()
        self._limit, self._granted, self._turn, self._closed = limit, 0, 0, False

    def reservation(self, turn: int) -> "Reservation":
        """Return the reservation of the picture number ``turn``, from 0."""
        return Reservation(self, turn)

    def grant(self, turn: int, number: int) -> None:
        """Wait for the turn and for ``number`` free bytes; the picture of each turn asks once.

        Raises:
            ImageReadError: The run has ended.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._may_grant(turn, number) or self._closed)
            if self._closed:
                raise ImageReadError("was not read: the run has ended")
            self._turn += 1
            self._granted += number
            self._changed.notify_all()

    def release(self, number: int) -> None:
        """Free ``number`` bytes."""
        with self._changed:
            self._granted -= number
            self._changed.notify_all()

    def close(self) -> None:
        """Grant nothing any more; pictures that wait get an error."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _may_grant(self, turn: int, number: int) -> bool:
        fits = not self._granted or self._granted + number <= self._limit
        return turn == self._turn and fits


class Reservation:
    """The memory of one picture."""

    def __init__(self, budget: MemoryBudget, turn: int) -> None:
        self._budget, self._turn, self._held, self._was_granted = budget, turn, 0, False

    def reserve(self, number: int) -> None:
        """Wait for ``number`` bytes; called once.

        Raises:
            ImageReadError: The run has ended.
        """
        self._budget.grant(self._turn, number)
        self._held, self._was_granted = number, True

    def release(self, keep: int = 0) -> None:
        """Free the memory except for ``keep`` bytes; a picture that reserved none passes its turn on."""
        if not self._was_granted:
            with suppress(ImageReadError):
                self.reserve(0)
        self._budget.release(self._held - keep)
        self._held = keep
