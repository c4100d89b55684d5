"""Views and writers on threads of their own, so that a slow disk, command or reader holds nothing up."""

import logging
from dataclasses import replace

from ..machine.worker import Worker
from ..records.record import Record
from ..records.writers import RecordWriter
from ..sources.frame import Frame
from .view import View

log = logging.getLogger(__name__)


class BackgroundView(View):
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


class BackgroundWriter(RecordWriter):
    """A writer that works on a thread of its own.

    Args:
        writer: Used on that thread alone.
        worker: The thread.
    """

    def __init__(self, writer: RecordWriter, worker: Worker) -> None:
        self._writer, self._worker = writer, worker

    def write(self, record: Record) -> None:
        """Let the writer write a record."""
        if record.prediction is not None:  # thousands of records may wait, and none is written with its picture
            record = replace(record, prediction=replace(record.prediction, rectified=None))
        self._worker.put(lambda: self._writer.write(record))

    def close(self) -> None:
        """Write what waits, then close the writer, unless it is stuck, as on a disk that does not answer."""
        try:
            self._worker.close()
        finally:
            if self._worker.ended:
                self._writer.close()
