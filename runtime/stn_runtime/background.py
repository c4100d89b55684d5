"""Views and writers on threads of their own, so that a slow disk, command or reader holds nothing up."""

import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import replace

from .cli import GRABBER
from .frames import Frame
from .records import Record, RecordSink
from .sinks import View

log = logging.getLogger(__name__)

_DRAIN_SECONDS = 5.0  # that a live run waits at its end for what is still to be written


class Worker:
    """Does one thing after the other on a thread.

    Args:
        name: Of what it does, for messages.
        limit: How much may wait.
        drops: Whether what does not fit is dropped and counted; otherwise the caller waits.
    """

    def __init__(self, name: str, limit: int, drops: bool) -> None:
        self.name, self.dropped = name, 0
        self._limit, self._drops = limit, drops
        self._waiting: deque[Callable[[], object]] = deque()
        self._changed = threading.Condition()
        self._error: BaseException | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._work, name=f"{GRABBER} {name}", daemon=True)
        self._thread.start()

    @property
    def ended(self) -> bool:
        """Whether nothing is under way any more, nor will be."""
        return not self._thread.is_alive()

    def put(self, action: Callable[[], object]) -> None:
        """Let something be done.

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
        """Drop what waits."""
        with self._changed:
            self.dropped += len(self._waiting)
            self._waiting.clear()
            self._changed.notify_all()

    def close(self) -> None:
        """Wait until all is done; where things are dropped, for a few seconds at most.

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


class BackgroundView:
    """A view that works on a thread of its own; whether to go on is not asked of it.

    Args:
        view: Used on that thread alone, but for its end.
        worker: The thread.
    """

    def __init__(self, view: View, worker: Worker) -> None:
        self._view, self._worker = view, worker

    def show(self, frame: Frame, record: Record) -> bool:
        """Let the view show a frame; always goes on."""
        self._worker.put(lambda: self._view.show(frame, record))
        return True

    def close(self) -> None:
        """Show what waits, then close the view, unless it is stuck: it is not to be closed while it works."""
        try:
            self._worker.close()
        finally:
            if self._worker.ended:
                self._view.close()


class BackgroundWriter:
    """A writer that works on a thread of its own.

    Args:
        writer: Used on that thread alone.
        worker: The thread.
    """

    def __init__(self, writer: RecordSink, worker: Worker) -> None:
        self._writer, self._worker = writer, worker

    def write(self, record: Record) -> None:
        """Let the writer write a record."""
        if record.prediction is not None:  # thousands of records may wait, and none is written with its picture
            record = replace(record, prediction=replace(record.prediction, rectified=None))
        self._worker.put(lambda: self._writer.write(record))

    def close(self) -> None:
        """Write what waits."""
        self._worker.close()
