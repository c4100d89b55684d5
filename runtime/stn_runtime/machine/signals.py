"""Ctrl-C, SIGTERM and SIGHUP: the first ends a run after the frame in flight, a second one acts as usual."""

import signal
from collections.abc import Callable
from types import FrameType


class StopSignals:
    """Handles these signals within its context; on another thread than the main one it leaves them alone.

    Attributes:
        happened: Whether a signal came.
    """

    def __init__(self) -> None:
        self.happened = False
        self._endings: list[Callable[[], None]] = []
        self._previous: dict[int, Callable[[int, FrameType | None], object] | int | None] = {}

    def ends(self, *endings: Callable[[], None]) -> None:
        """Call these functions at a signal, on the main thread; without any, a signal raises KeyboardInterrupt."""
        self._endings.extend(endings)
        if self.happened:
            for end in endings:
                end()

    def __enter__(self) -> "StopSignals":
        """Install the handlers."""
        try:
            for number in (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGINT)):
                before = signal.getsignal(number)
                if number in self._previous or (before == signal.SIG_IGN and number != signal.SIGINT):
                    continue  # nohup wants SIGHUP ignored
                self._previous[number] = signal.signal(number, self._end)
        except ValueError:  # not on the main thread
            pass
        return self

    def __exit__(self, *_: object) -> None:
        """Restore the handlers of before."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

    def _end(self, number: int, _frame: FrameType | None) -> None:
        if self.happened:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.happened = True
        if not self._endings:
            raise KeyboardInterrupt
        for end in self._endings:
            end()
