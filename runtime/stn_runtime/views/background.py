"""Views and writers on threads of their own, so that a slow disk, command or reader delays no frame."""

import logging
from dataclasses import replace

from ..machine.worker import Worker
from ..records.record import Record
from ..records.writers import RecordWriter
from ..sources.frame import Frame
from .view import View

log = logging.getLogger(__name__)


class BackgroundView(View):
    """Runs a view on a worker's thread; the view cannot end the run.

    Args:
        view: Runs on that thread alone, except for ``close``.
        worker: Owns the thread.
    """

    def __init__(self, view: View, worker: Worker) -> None:
        self._view, self._worker = view, worker

    def show(self, frame: Frame, record: Record) -> bool:
        """Queue a frame for the view; always goes on."""
        self._worker.put(lambda: self._view.show(frame, record))
        return True

    def close(self) -> None:
        """Show the frames that wait, then close the view, unless it is stuck: a view that works must not be closed."""
        try:
            self._worker.close()
        finally:
            if self._worker.ended:
                self._view.close()


class BackgroundWriter(RecordWriter):
    """Runs a writer on a worker's thread.

    Args:
        writer: Runs on that thread alone, except for ``close``.
        worker: Owns the thread.
    """

    def __init__(self, writer: RecordWriter, worker: Worker) -> None:
        self._writer, self._worker = writer, worker

    def write(self, record: Record) -> None:
        """Queue a record for the writer."""
        if record.prediction is not None:  # thousands of records may wait, and none is written with its picture
            record = replace(record, prediction=replace(record.prediction, rectified=None))
        self._worker.put(lambda: self._writer.write(record))

    def close(self) -> None:
        """Write the records that wait, then close the writer, unless it is stuck, as on a disk that does not answer."""
        try:
            self._worker.close()
        finally:
            if self._worker.ended:
                self._writer.close()
