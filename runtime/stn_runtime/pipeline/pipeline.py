"""The pipeline: frames of a source through the classifier to results and views, in order, nothing lost."""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace

from tqdm import tqdm

from ..machine.signals import Interruption
from ..machine.systemd import notify
from ..model.classifier import Classifier, Prediction
from ..model.trust import doubt
from ..records.record import Record
from ..records.writers import RecordSink
from ..sources.frame import Frame
from ..sources.source import Source
from ..views.view import View
from ..views.window import Window
from .smoothing import Smoother

_BATCH = 8
_BATCH_SECONDS = 0.05  # that the first picture of a batch waits for the others
_BATCH_VALUES = 50_000_000  # of all pictures of a batch: height x width x channels


@dataclass(frozen=True)
class Summary:
    """How a run ended."""

    frames: int
    failed: int
    interrupted: bool


@dataclass(frozen=True)
class Judgement:
    """How predictions become records.

    Attributes:
        threshold: Confidence below which a record's label is null.
        smooth_seconds: Time constant over which probabilities and theta of a video or camera are averaged; 0 does not.
    """

    threshold: float = 0.0
    smooth_seconds: float = 0.0


PLAIN = Judgement()


def run(
    source: Source,
    classifier: Classifier,
    writer: RecordSink,
    views: Sequence[View] = (),
    judgement: Judgement = PLAIN,
    limit: int | None = None,
    interruption: Interruption | None = None,
) -> Summary:
    """Classify every frame of ``source``.

    Args:
        source: Where the frames come from.
        classifier: Of the frames.
        writer: Receives one record a frame, and one for each event of a camera.
        views: Receive each frame with its record.
        judgement: How predictions become records.
        limit: How many frames there are to be at most.
        interruption: Where signals are taken already; by default they are while this runs.

    Returns:
        How many frames there were, how many failed, and whether a signal (Ctrl-C, SIGTERM) ended the run.
    """
    frames = failed = 0
    total = source.total if limit is None else min(limit, source.total or limit)
    progress = tqdm(total=total, unit="frame", leave=False, disable=None)
    one_by_one = source.live or any(isinstance(view, Window) for view in views)
    judge = _Judge(classifier, judgement)
    wanted = True
    with progress, Interruption() if interruption is None else nullcontext(interruption) as signals:
        signals.ends(source.close, *(view.dismiss for view in views if isinstance(view, Window)))
        for batch in _batches(source, 1 if one_by_one else _BATCH, limit):
            for frame, record in zip(batch, judge.records(batch), strict=True):
                # What is saved comes before the record that says so, and the record before a window that waits.
                wanted &= all([view.show(frame, record) for view in views if not isinstance(view, Window)])
                writer.write(record)
                frames += record.event is None
                failed += record.error is not None and record.event is None
                wanted &= all([view.show(frame, record) for view in views if isinstance(view, Window)])
            notify()
            progress.update(sum(frame.event is None for frame in batch))
            if not wanted:
                break
    source.close()
    return Summary(frames, failed, signals.happened)


def _batches(source: Source, size: int, limit: int | None) -> Iterator[list[Frame]]:
    """Yield frames in groups: of ``size``, or fewer when they are large or come slowly; ``limit`` in all."""
    batch: list[Frame] = []
    left = math.inf if limit is None else limit
    first = values = 0.0
    for frame in source:
        first, values = (first, values) if batch else (time.monotonic(), 0)
        batch.append(frame)
        values += frame.image.size if frame.image is not None else 0
        left -= frame.event is None
        waiting = first + _BATCH_SECONDS - time.monotonic()
        if left <= 0 or len(batch) == size or values > _BATCH_VALUES or not source.ready(max(0.0, waiting)):
            yield batch
            batch = []
        if left <= 0:
            return
    if batch:
        yield batch


class _Judge:
    def __init__(self, classifier: Classifier, judgement: Judgement) -> None:
        self._classifier, self._judgement = classifier, judgement
        seconds = judgement.smooth_seconds
        self._smoother = Smoother(seconds, classifier.manifest.labels) if seconds else None

    def records(self, batch: Sequence[Frame]) -> Iterator[Record]:
        """Yield a record for each frame."""
        there = [(frame, frame.image) for frame in batch if frame.image is not None]
        sizes = [frame.size or (image.shape[0], image.shape[1]) for frame, image in there]
        predictions = iter(zip(self._classifier.predict([image for _, image in there], sizes), sizes, strict=True))
        for frame in batch:
            record = Record(frame.source, frame.index, frame.time, None, frame.error, event=frame.event)
            if frame.event is not None and self._smoother is not None:
                self._smoother.reset(frame.source)
            yield record if frame.image is None else self._judged(frame, record, *next(predictions))

    def _judged(self, frame: Frame, record: Record, prediction: Prediction, size: tuple[int, int]) -> Record:
        stages = {"decode": frame.decode_ms} if frame.decode_ms is not None else {}
        latency = {name: value for name, value in prediction.latency_ms.items() if name != "decode"}
        prediction = replace(prediction, latency_ms={**stages, **latency})
        uncertain = doubt(prediction, size, self._classifier.manifest)
        if self._smoother is not None and frame.time is not None:
            prediction = self._smoother.smooth(frame.source, frame.time, prediction, size)
        sure = prediction.confidence >= self._judgement.threshold
        return replace(record, prediction=prediction, sure=sure, uncertain=uncertain)
