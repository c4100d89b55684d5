"""Memory for pictures that are decoded ahead: lent in their order, within a limit."""

import threading
from contextlib import suppress

from ..errors import ImageReadError


class MemoryBudget:
    """Lends memory for pictures in their order, so that the one that is wanted next never waits for a later one.

    Args:
        limit: Bytes that are lent at a time; one picture alone may have more.
    """

    def __init__(self, limit: int) -> None:
        # Reentrant, since a signal handler may close while its own thread holds it.
        self._changed = threading.Condition()
        self._limit, self._lent, self._turn, self._closed = limit, 0, 0, False

    def loan(self, turn: int) -> "Reservation":
        """Return what the picture of a turn, from 0, borrows with."""
        return Reservation(self, turn)

    def lend(self, turn: int, number: int) -> None:
        """Wait until ``number`` bytes are free, or all; the picture of each turn has to ask once.

        Raises:
            ImageReadError: Nobody wants the picture any more.
        """
        with self._changed:
            self._changed.wait_for(
                lambda: (turn == self._turn and (not self._lent or self._lent + number <= self._limit)) or self._closed
            )
            if self._closed:
                raise ImageReadError("was not read: the run has ended")
            self._turn += 1
            self._lent += number
            self._changed.notify_all()

    def take_back(self, number: int) -> None:
        """Let others have so many bytes."""
        with self._changed:
            self._lent -= number
            self._changed.notify_all()

    def close(self) -> None:
        """Let nobody wait any more, and lend nothing."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


class Reservation:
    """What one picture borrows."""

    def __init__(self, memory: MemoryBudget, turn: int) -> None:
        self._memory, self._turn, self._held, self._asked = memory, turn, 0, False

    def take(self, number: int) -> None:
        """Borrow so many bytes, once; waits for them.

        Raises:
            ImageReadError: Nobody wants the picture any more.
        """
        self._memory.lend(self._turn, number)
        self._held, self._asked = number, True

    def give_back(self, keep: int = 0) -> None:
        """Give back all but ``keep`` bytes; without having borrowed any, let the next picture have its turn."""
        if not self._asked:
            with suppress(ImageReadError):
                self.take(0)
        self._memory.take_back(self._held - keep)
        self._held = keep
