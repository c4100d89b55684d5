"""The composition of a run: frames of a source through the classifier to records, in order, none lost."""

import math
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace

from ..model.classifier import Classifier, Prediction
from ..model.doubt import doubt
from ..records.record import Record
from ..sources.frame import Frame
from ..sources.source import Source
from ..views.view import View
from .smoothing import Smoother

_BATCH = 8
_BATCH_SECONDS = 0.05  # that the first picture of a batch waits for the others
_BATCH_VALUES = 50_000_000  # of all pictures of a batch: height x width x channels


def classify(
    source: Source,
    classifier: Classifier,
    *,
    threshold: float | None = None,
    smooth_seconds: float = 0.0,
    limit: int | None = None,
    views: Sequence[View] = (),
) -> Generator[Record, None, None]:
    """Classify the frames of ``source``, and yield one record for each, and one for each event of a camera.

    Frames that are ready together are classified as one batch, those of cameras one by one. The source is closed when
    the iteration ends, for whatever reason. The views stay open.

    Args:
        source: Gives the frames; ``open_source`` opens one.
        classifier: Runs on every frame.
        threshold: Confidence from 0 to 1 below which a record is not sure, and its label null; None takes the model's,
            and 0 of a model without one.
        smooth_seconds: Time constant, seconds, over which probabilities and theta of a video or camera are averaged;
            0 does not average.
        limit: Number of frames after which the iteration ends; None is endless.
        views: Are shown each frame with its record before that record is yielded; those that wait for a person, after.

    Raises:
        InputError: The source cannot be read on, or a view cannot save what it is shown.
        ValueError: The limit is below 1, or the threshold not from 0 to 1.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be at least 1, got {limit}")
    if threshold is not None and not 0 <= threshold <= 1:  # NaN neither
        raise ValueError(f"threshold must be from 0 to 1, got {threshold}")
    one_by_one = source.live or any(view.waits for view in views)
    waiting = [view for view in views if view.waits]
    others = [view for view in views if not view.waits]
    if threshold is None:
        threshold = classifier.manifest.threshold or 0.0
    smoother = Smoother(smooth_seconds, classifier.manifest) if smooth_seconds else None
    if waiting:
        source.when_idle(lambda: all([view.idle() for view in waiting]))
    goes_on = True
    try:
        for batch in _batches(source, 1 if one_by_one else _BATCH, limit):
            for frame, record in zip(batch, _records(batch, classifier, threshold, smoother), strict=True):
                goes_on &= all([view.show(frame, record) for view in others])
                yield record
                goes_on &= all([view.show(frame, record) for view in waiting])
            if not goes_on:
                return
    finally:
        source.close()


def _batches(source: Source, size: int, limit: int | None) -> Iterator[list[Frame]]:
    """Yield frames in batches of ``size``, or smaller ones when frames are large or come slowly; ``limit`` in all."""
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


def _records(
    batch: Sequence[Frame], classifier: Classifier, threshold: float, smoother: Smoother | None
) -> Iterator[Record]:
    """Yield a record for each frame of a batch."""
    there = [(frame, frame.image) for frame in batch if frame.image is not None]
    sizes = [frame.size or (image.shape[0], image.shape[1]) for frame, image in there]
    predictions = iter(zip(classifier.predict([image for _, image in there], sizes), sizes, strict=True))
    for frame in batch:
        if frame.event is not None and smoother is not None:
            smoother.reset(frame.source)
        record = Record(frame.source, frame.index, frame.time, None, frame.error, event=frame.event)
        if frame.image is None:
            yield record
            continue
        prediction, size = next(predictions)
        prediction = _with_decoding(prediction, frame)
        uncertain = doubt(prediction, size, classifier.manifest)
        if smoother is not None and frame.time is not None:
            prediction = smoother.smooth(frame.source, frame.time, prediction, size)
        sure = prediction.confidence >= threshold
        rejected = classifier.manifest.rejects(prediction.label)
        yield replace(record, prediction=prediction, sure=sure, rejected=rejected, uncertain=uncertain)


def _with_decoding(prediction: Prediction, frame: Frame) -> Prediction:
    """Return a prediction whose latency begins with the time that decoding took in the source, where that is known."""
    stages = {"decode": frame.decode_ms} if frame.decode_ms is not None else {}
    latency = {name: value for name, value in prediction.latency_ms.items() if name != "decode"}
    return replace(prediction, latency_ms={**stages, **latency})
