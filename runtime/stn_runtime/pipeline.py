"""The pipeline: frames of a source through the classifier to results and views, in order, nothing lost."""

import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import FrameType

from tqdm import tqdm

from .classifier import Classifier
from .records import Record, RecordWriter
from .sinks import View, Window
from .sources import Frame, Source

_BATCH = 8
_BATCH_VALUES = 50_000_000  # of all pictures of a batch: height x width x channels


@dataclass(frozen=True)
class Summary:
    """How a run ended."""

    frames: int
    failed: int
    interrupted: bool


def run(
    source: Source, classifier: Classifier, writer: RecordWriter, views: Sequence[View] = (), threshold: float = 0.0
) -> Summary:
    """Classify every frame of ``source``.

    Args:
        source: Where the frames come from.
        classifier: Of the frames.
        writer: Receives one record a frame.
        views: Receive each frame with its record.
        threshold: Confidence below which a record's label is null.

    Returns:
        How many frames there were, how many failed, and whether a signal (Ctrl-C, SIGTERM) ended the run.
    """
    frames = failed = 0
    progress = tqdm(total=source.total, unit="frame", leave=False, disable=None)
    watched = any(isinstance(view, Window) for view in views)
    wanted = True
    with progress, _ended_by_signals(source, views) as signals:
        for batch in _batches(source, 1 if source.live or watched else _BATCH):
            for frame, record in zip(batch, _classified(batch, classifier, threshold), strict=True):
                writer.write(record)
                frames += 1
                failed += record.error is not None
                wanted = all([view.show(frame, record) for view in views])  # every view, even after a 'no'
            progress.update(len(batch))
            if not wanted:
                break
    source.close()
    return Summary(frames, failed, bool(signals))


def _batches(source: Source, size: int) -> Iterator[list[Frame]]:
    """Yield frames in groups of ``size``, or fewer when they are large."""
    batch: list[Frame] = []
    for frame in source:
        batch.append(frame)
        values = sum(entry.image.size for entry in batch if entry.image is not None)
        if len(batch) == size or values > _BATCH_VALUES:
            yield batch
            batch = []
    if batch:
        yield batch


def _classified(batch: Sequence[Frame], classifier: Classifier, threshold: float) -> Iterator[Record]:
    there = [(frame, frame.image) for frame in batch if frame.image is not None]
    sizes = [frame.size or (image.shape[0], image.shape[1]) for frame, image in there]
    predictions = iter(classifier.predict([image for _, image in there], sizes))
    for frame in batch:
        record = Record(frame.source, frame.index, frame.time, None, frame.error)
        if frame.image is not None:
            prediction = next(predictions)
            stages = {"decode": frame.decode_ms} if frame.decode_ms is not None else {}
            latency = {name: value for name, value in prediction.latency_ms.items() if name != "decode"}
            prediction = replace(prediction, latency_ms={**stages, **latency})
            record = replace(record, prediction=prediction, sure=prediction.confidence >= threshold)
        yield record


@contextmanager
def _ended_by_signals(source: Source, views: Sequence[View]) -> Iterator[list[int]]:
    """Let the first Ctrl-C or SIGTERM end the source after the frame in flight; a second one acts as usual."""
    received: list[int] = []

    def end(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        source.close()
        for view in views:
            if isinstance(view, Window):
                view.dismiss()
        restore()

    previous = {}
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            previous[number] = signal.signal(number, end)
    except ValueError:  # not on the main thread: signals are somebody else's
        pass

    def restore() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)

    try:
        yield received
    finally:
        restore()
