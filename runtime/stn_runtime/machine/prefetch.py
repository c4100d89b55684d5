"""Prefetching: a thread runs an iterator ahead of its consumer."""

import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

from .systemd import SIGN_OF_LIFE_SECONDS, notify
from .threads import daemon_thread

Item = TypeVar("Item")


class Prefetcher(Generic[Item]):
    """Iterates over an iterable on a thread, a few items ahead.

    Args:
        items: The iterable; an exception in it is raised in the consumer, after the items before it.
        limit: Number of items that may wait; may be changed at any time.
    """

    def __init__(self, items: Iterable[Item], limit: int) -> None:
        self.limit = limit
        self._items = items
        self._waiting: deque[Item] = deque()
        # Reentrant, since a signal handler may close while its own thread holds it.
        self._changed = threading.Condition()
        self._ended = self._closed = False
        self._error: BaseException | None = None
        self._thread = daemon_thread(self._fill, "reading ahead")

    def __iter__(self) -> Iterator[Item]:
        """Yield the items in order; when this is left, the thread ends after the item that is under way."""
        self._thread.start()
        try:
            while True:
                with self._changed:
                    while not (self._waiting or self._ended or self._closed):
                        self._changed.wait(SIGN_OF_LIFE_SECONDS)
                        notify()
                    if self._closed:
                        return
                    if not self._waiting:
                        break
                    item = self._waiting.popleft()
                    self._changed.notify_all()
                yield item
            if self._error is not None:
                raise self._error
        finally:
            self.close()

    def peek(self, timeout: float) -> Item | None:
        """Return the next item without taking it, waiting at most ``timeout`` seconds; None when there is none."""
        until = time.monotonic() + timeout
        with self._changed:
            while not self._waiting and not (self._ended or self._closed):
                if not self._changed.wait(max(0.0, until - time.monotonic())):
                    break
            return self._waiting[0] if self._waiting and not self._closed else None

    def close(self) -> None:
        """Let the thread and the consumer end; may be called at any time, from any thread."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def join(self, timeout: float) -> None:
        """Wait at most ``timeout`` seconds for the thread to end."""
        if self._thread.is_alive():
            self._thread.join(timeout)

    def _fill(self) -> None:
        try:
            for item in self._items:
                with self._changed:
                    self._changed.wait_for(lambda: len(self._waiting) < self.limit or self._closed)
                    if self._closed:
                        return
                    self._waiting.append(item)
                    self._changed.notify_all()
        except BaseException as error:
            self._error = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()
