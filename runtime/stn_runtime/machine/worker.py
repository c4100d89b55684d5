"""A thread that runs one action after the other, so that a slow disk, command or reader delays nobody."""

import logging
import threading
from collections import deque
from collections.abc import Callable

from .threads import daemon_thread

_DRAIN_SECONDS = 5.0  # for the actions that wait when a live run ends

log = logging.getLogger(__name__)


class Worker:
    """Runs one action after the other on a thread of its own.

    Args:
        name: Names the work in messages.
        limit: Number of actions that may wait.
        drops: Whether an action that does not fit is dropped and counted; otherwise the caller waits.
    """

    def __init__(self, name: str, limit: int, drops: bool) -> None:
        self.name, self.dropped = name, 0
        self._limit, self._drops = limit, drops
        self._waiting: deque[Callable[[], object]] = deque()
        self._changed = threading.Condition()
        self._error: BaseException | None = None
        self._closed = False
        self._thread = daemon_thread(self._work, name)
        self._thread.start()

    @property
    def ended(self) -> bool:
        """Whether the thread has ended, so that no action runs any more."""
        return not self._thread.is_alive()

    def put(self, action: Callable[[], object]) -> None:
        """Queue an action.

        Raises:
            Exception: What an earlier action raised.
        """
        with self._changed:
            if not self._drops:
                self._changed.wait_for(lambda: len(self._waiting) < self._limit or self._error is not None)
            error, self._error = self._error, None
            if error is not None:
                raise error
            if len(self._waiting) >= self._limit:
                if not self.dropped:
                    log.warning("%s: too slow, some are dropped", self.name)
                self.dropped += 1
                return
            self._waiting.append(action)
            self._changed.notify_all()

    def forget(self) -> None:
        """Drop the actions that wait."""
        with self._changed:
            self.dropped += len(self._waiting)
            self._waiting.clear()
            self._changed.notify_all()

    def close(self) -> None:
        """Run the actions that wait, where ``drops`` is set for a few seconds at most, and end the thread.

        Raises:
            Exception: What an action raised, unless ``put`` has raised it.
        """
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join(_DRAIN_SECONDS if self._drops else None)
        self.forget()
        with self._changed:
            error, self._error = self._error, None
        if error is not None:
            raise error

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if not self._waiting:
                    return
                action = self._waiting.popleft()
                self._changed.notify_all()
            try:
                action()
            except BaseException as error:  # raised in the caller, which is on another thread
                with self._changed:
                    self._error = error
                    self._waiting.clear()
                    self._changed.notify_all()
