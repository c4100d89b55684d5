"""A shell command of the user that runs when a label changes or a camera is lost or back."""

import json
import logging
import os
import signal
import subprocess
import threading
from collections.abc import Mapping
from contextlib import suppress
from functools import partial

from ..machine.worker import Worker
from ..records.record import Record
from ..sources.frame import Frame
from .view import View

log = logging.getLogger(__name__)

_SECONDS = 30.0
"""A command that runs longer is killed."""

_GRACE_SECONDS = 5.0  # for a running command after an interruption
_END_SECONDS = 1.0  # for a command to end once it is killed


class EventCommand(View):
    """Runs a command when a source gets another label, and when a camera is lost or back.

    A frame whose label is null or uncertain runs nothing; the label that comes after it counts as another one, also
    when it is the same as before.

    The shell runs the command, which gets the record as JSON on standard input, and in its environment
    ``STN_EVENT`` (label, source_lost or source_back), ``STN_SOURCE``, and for a label ``STN_LABEL`` and
    ``STN_CONFIDENCE``. What it prints goes to standard error. Every picture file counts as a source of its own.

    Args:
        command: The command line, as a shell takes it.
        worker: Runs one command after the other; closed with this view.
    """

    def __init__(self, command: str, worker: Worker) -> None:
        self.command, self._worker = command, worker
        # Copied once, since it changes while streams are opened. The command must not learn the access token.
        self._environment = {name: value for name, value in os.environ.items() if name != "STN_TOKEN"}
        self._labels: dict[str, str | None] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._is_interrupted = False

    def show(self, frame: Frame, record: Record) -> bool:
        """Run the command if this is an event; always goes on."""
        prediction = record.prediction
        if record.event is not None:
            self._run(record, {"STN_EVENT": record.event})
        elif prediction is not None:
            label = None if record.uncertain else record.label
            if label is not None and (frame.time is None or self._labels.get(frame.source) != label):
                confidence = f"{prediction.confidence:.6f}"
                self._run(record, {"STN_EVENT": "label", "STN_LABEL": label, "STN_CONFIDENCE": confidence})
            if frame.time is not None:
                self._labels[frame.source] = label
        return True

    def interrupt(self) -> None:
        """Start no command any more, and give the one that still runs a few seconds."""
        self._is_interrupted = True  # frames of a batch may still come
        self._worker.forget()
        timer = threading.Timer(_GRACE_SECONDS, self._end)
        timer.daemon = True
        timer.start()

    def close(self) -> None:
        """Run the commands that wait, of a camera for a few seconds at most, and end the one that still runs then."""
        try:
            self._worker.close()
        finally:
            self._end()

    def _end(self) -> None:
        process = self._process
        if process is not None:
            _kill(process)

    def _run(self, record: Record, variables: dict[str, str]) -> None:
        if self._is_interrupted:
            return
        record_json = (json.dumps(record.fields()) + "\n").encode("ascii")
        variables = {"STN_SOURCE": record.source} | variables
        passed = {name: value.replace("\0", "") for name, value in variables.items()}
        self._worker.put(partial(self._wait, record_json, self._environment | passed))

    def _wait(self, record_json: bytes, environment: Mapping[str, str]) -> None:
        try:
            status = self._status(record_json, environment)
        except subprocess.TimeoutExpired:
            log.warning("--on-event: the command took over %g s and was ended", _SECONDS)
        except (OSError, UnicodeEncodeError) as error:
            log.warning("--on-event: the command cannot be run (%s)", error)
        else:
            if status:
                log.warning("--on-event: the command ended with status %d", status)

    def _status(self, record_json: bytes, environment: Mapping[str, str]) -> int:
        """Run the command with the record on its standard input; return its exit status."""
        self._process = subprocess.Popen(
            self.command, shell=True, stdin=subprocess.PIPE, stdout=2, env=environment, start_new_session=True
        )
        try:
            self._process.communicate(record_json, timeout=_SECONDS)
        except subprocess.TimeoutExpired:
            _kill(self._process)
            raise
        return self._process.returncode


def _kill(process: "subprocess.Popen[bytes]") -> None:
    """End a command with all that it has started."""
    if process.poll() is not None:
        return
    with suppress(OSError, subprocess.TimeoutExpired):  # a command of another user cannot be killed
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()
        process.wait(_END_SECONDS)
