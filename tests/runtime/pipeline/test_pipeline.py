"""Frames to records: in order, nothing lost, whatever a frame is like."""

import math
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from stn_runtime import Classifier, Prediction
from stn_runtime.images.writing import write_image
from stn_runtime.machine.signals import StopSignals
from stn_runtime.model.manifest import Manifest
from stn_runtime.model.network import Network
from stn_runtime.pipeline.pipeline import classify
from stn_runtime.records.record import Record
from stn_runtime.records.writers import RecordWriter
from stn_runtime.sources.frame import Event, Frame
from stn_runtime.sources.image_files import ImageFiles
from stn_runtime.sources.opening import open_source
from stn_runtime.sources.source import Source
from stn_runtime.views.saving import PictureFolder
from stn_runtime.views.view import View


class Kept(RecordWriter):
    """A writer that keeps the records."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def write(self, record: Record) -> None:
        self.records.append(record)


class Listed(Source):
    """A source with the given frames; counts how many were asked for."""

    def __init__(self, frames: list[Frame], live: bool = False) -> None:
        self.frames, self.live = frames, live
        self.given, self.closed = 0, False

    def __iter__(self) -> Iterator[Frame]:
        for frame in self.frames:
            if self.closed:
                return
            self.given += 1
            yield frame

    def ready(self, timeout: float) -> bool:
        return self.given < len(self.frames)

    def close(self) -> None:
        self.closed = True


@dataclass(frozen=True)
class Summary:
    frames: int
    failed: int


def run(
    source: Source,
    classifier: Classifier,
    writer: RecordWriter,
    views: Sequence[View] = (),
    **options: Any,  # noqa: ANN401
) -> Summary:
    """Write all records, as the command does; count them."""
    frames = failed = 0
    for record in classify(source, classifier, views=views, **options):
        writer.write(record)
        frames += record.event is None
        failed += record.error is not None and record.event is None
    return Summary(frames, failed)


def _frame(index: int, level: int | None = None, side: int = 4) -> Frame:
    if level is None:
        return Frame("cam", index, None, None, "cam: lost")
    return Frame("cam", index, None, np.full((side, side), level, np.uint8))


@pytest.fixture
def grey(grey_model: Path) -> Classifier:
    return Classifier(grey_model, threads=1)


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 25])
@pytest.mark.parametrize("live", [False, True])
def test_every_frame_is_a_record_in_order(grey: Classifier, count: int, live: bool) -> None:
    kept, levels = Kept(), [255 * (index % 2) for index in range(count)]
    source = Listed([_frame(index, level) for index, level in enumerate(levels)], live)
    summary = run(source, grey, kept)
    assert (summary.frames, summary.failed) == (count, 0)
    assert [record.frame for record in kept.records] == list(range(count))
    labels = [record.prediction.label for record in kept.records if record.prediction]
    assert labels == ["bright" if level else "dark" for level in levels]


def test_frames_with_errors_keep_their_place(grey: Classifier) -> None:
    kept, broken = Kept(), {0, 3, 4, 11, 12}
    frames = [_frame(index, None if index in broken else 255, 1 + index) for index in range(13)]
    summary = run(Listed(frames), grey, kept)
    assert (summary.frames, summary.failed) == (13, 5)
    assert {record.frame for record in kept.records if record.error == "cam: lost"} == broken
    assert all((record.prediction is None) is (record.frame in broken) for record in kept.records)


def test_only_errors_are_all_records(grey: Classifier) -> None:
    kept = Kept()
    summary = run(Listed([_frame(index) for index in range(9)]), grey, kept)
    assert (summary.frames, summary.failed, len(kept.records)) == (9, 9, 9)


def test_an_open_classifier_is_warm_and_runs_for_frames_only(grey: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[int] = []
    run = Network.run

    def counted(network: Network, batch: NDArray[np.uint8], *rest: Any) -> dict[str, NDArray[np.generic]]:  # noqa: ANN401
        runs.append(len(batch))
        return run(network, batch, *rest)

    monkeypatch.setattr(Network, "run", counted)
    warm = Classifier(grey.path)
    assert runs == [1]
    assert len(list(classify(Listed([_frame(0, 0), _frame(1, 0)], live=True), warm))) == 2
    assert runs == [1, 1, 1]


def test_a_live_frame_is_classified_before_the_next_is_asked_for(grey: Classifier) -> None:
    source = Listed([_frame(index, 0) for index in range(5)], live=True)
    asked: list[int] = []

    class Watching(Kept):
        def write(self, record: Record) -> None:
            asked.append(source.given)

    run(source, grey, Watching())
    assert asked == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(("threshold", "sure"), [(0.0, True), (0.64, True), (0.65, False), (1.0, False)])
def test_below_the_threshold_a_record_is_not_sure(grey: Classifier, threshold: float, sure: bool) -> None:
    kept = Kept()
    run(Listed([_frame(0, 51)]), grey, kept, threshold=max(0.0, threshold - 1e-4))
    assert kept.records[0].sure is sure


def test_a_view_that_says_no_ends_the_run_and_every_view_sees_the_frame(grey: Classifier) -> None:
    class Until(View):
        def __init__(self, until: int) -> None:
            self.until, self.seen = until, 0

        def show(self, _frame: Frame, _record: Record) -> bool:
            self.seen += 1
            return self.seen < self.until

    views, kept = [Until(3), Until(99)], Kept()
    source = Listed([_frame(index, 0) for index in range(20)], live=True)
    summary = run(source, grey, kept, views)
    assert (summary.frames, len(kept.records)) == (3, 3)
    assert [view.seen for view in views] == [3, 3]


def test_a_folder_runs_to_records_and_annotated_copies(
    grey: Classifier, folder_of_pictures: Path, tmp_path: Path
) -> None:
    kept = Kept()
    run(open_source(str(folder_of_pictures)), grey, kept, [PictureFolder(tmp_path / "out")])
    assert [record.prediction.label for record in kept.records if record.prediction] == ["middle", "bright", "dark"]
    assert sorted(path.name for path in (tmp_path / "out").rglob("*.[pP]*")) == ["b.png", "c.png", "d.PNG"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_after_the_frame_in_flight(grey: Classifier, number: signal.Signals) -> None:
    class Signalling(Kept):
        def write(self, record: Record) -> None:
            super().write(record)
            if record.frame == 2:
                signal.raise_signal(number)

    before, kept = signal.getsignal(number), Signalling()
    source = Listed([_frame(index, 0) for index in range(20)], live=True)
    with StopSignals() as signals:
        signals.ends(source.close)
        run(source, grey, kept)
    assert signals.happened
    assert [record.frame for record in kept.records] == [0, 1, 2]
    assert signal.getsignal(number) is before


def test_a_loop_that_is_left_closes_its_source(grey: Classifier) -> None:
    source = Listed([_frame(index, 0) for index in range(20)], live=True)
    records = classify(source, grey)
    assert next(records).frame == 0
    records.close()
    assert source.closed


def test_views_that_wait_come_after_the_record_and_all_others_before_it(grey: Classifier) -> None:
    order: list[str] = []

    class Noting(View):
        def __init__(self, waits: bool) -> None:
            self.waits = waits

        def show(self, frame: Frame, record: Record) -> bool:
            order.append(f"{'waits' if self.waits else 'saves'} {frame.index}")
            return True

    class Writing(Kept):
        def write(self, record: Record) -> None:
            order.append(f"writes {record.frame}")

    run(Listed([_frame(index, 0) for index in range(2)]), grey, Writing(), [Noting(True), Noting(False)])
    assert order == ["saves 0", "writes 0", "waits 0", "saves 1", "writes 1", "waits 1"]


def test_the_pipeline_runs_on_another_thread(grey: Classifier, spawn: Callable[..., object]) -> None:
    from threading import Thread

    kept = Kept()
    thread = Thread(target=run, args=(Listed([_frame(0, 0)]), grey, kept))
    thread.start()
    thread.join(10)
    assert len(kept.records) == 1


# --- limits


@pytest.mark.parametrize("limit", [1, 7, 8, 9, 16, 25, 26, 100])
@pytest.mark.parametrize("live", [False, True])
def test_a_limit_is_met_exactly_and_no_frame_is_taken_beyond_it(grey: Classifier, limit: int, live: bool) -> None:
    kept, source = Kept(), Listed([_frame(index, 0) for index in range(25)], live)
    summary = run(source, grey, kept, limit=limit)
    assert summary.frames == len(kept.records) == source.given == min(limit, 25)
    assert [record.frame for record in kept.records] == list(range(min(limit, 25)))
    assert source.closed


def _event(event: Event, error: str | None = None) -> Frame:
    return Frame("cam", 9, 5.0, None, error, event=event)


@pytest.mark.parametrize("live", [False, True])
def test_events_are_records_and_no_frames(grey: Classifier, live: bool) -> None:
    kept = Kept()
    frames = [
        _frame(0, 0),
        _event("source_lost", "cam: gone"),
        _event("source_back"),
        _frame(1, 255),
        _event("source_lost", "cam: gone"),
        _frame(2),
    ]
    seen: list[str | None] = []

    class Seeing(View):
        def show(self, frame: Frame, _record: Record) -> bool:
            seen.append(frame.event)
            return True

    summary = run(Listed(frames, live), grey, kept, [Seeing()])
    assert (summary.frames, summary.failed) == (3, 1)
    told = [(record.event, record.error) for record in kept.records]
    lost = ("source_lost", "cam: gone")
    assert told == [(None, None), lost, ("source_back", None), (None, None), lost, (None, "cam: lost")]
    assert seen == [event for event, _ in told]


def test_events_do_not_count_for_a_limit(grey: Classifier) -> None:
    kept = Kept()
    frames = [_event("source_back"), _frame(0, 0), _event("source_lost", "gone"), _frame(1, 0), _frame(2, 0)]
    summary = run(Listed(frames, True), grey, kept, limit=2)
    assert summary.frames == 2
    assert [record.event for record in kept.records] == ["source_back", None, "source_lost", None]


# --- batches


@pytest.fixture
def batches(grey: Classifier, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many pictures the classifier got at once."""
    sizes: list[int] = []
    predict = grey.predict

    def counted(images: Sequence[np.ndarray], *rest: object) -> list[Prediction]:
        sizes.append(len(images))
        return predict(images, *rest)

    monkeypatch.setattr(grey, "predict", counted)
    return sizes


def test_quick_pictures_come_in_groups_and_live_ones_alone(grey: Classifier, batches: list[int]) -> None:
    run(Listed([_frame(index, 0) for index in range(20)]), grey, Kept())
    assert batches == [8, 8, 4]
    batches.clear()
    run(Listed([_frame(index, 0) for index in range(3)], live=True), grey, Kept())
    assert batches == [1, 1, 1]


def test_a_slow_source_gives_each_picture_at_once(
    grey: Classifier, batches: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_image(tmp_path / "x.png", np.zeros((6, 8), np.uint8))
    monkeypatch.setattr("stn_runtime.pipeline.pipeline._BATCH_SECONDS", 0.02)
    lag: list[float] = []
    listed_at: list[float] = []

    class Timed(Kept):
        def write(self, record: Record) -> None:
            lag.append(time.monotonic() - listed_at[len(lag)])

    def slowly() -> Iterator[Path]:
        for _ in range(5):
            listed_at.append(time.monotonic())
            yield tmp_path / "x.png"
            time.sleep(0.3)

    run(ImageFiles(slowly()), grey, Timed())
    assert batches == [1] * 5
    assert min(lag) < 0.2  # the next one was not waited for


def test_large_pictures_come_in_small_groups(
    grey: Classifier, batches: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stn_runtime.pipeline.pipeline._BATCH_VALUES", 250)
    run(Listed([_frame(index, 0, 10) for index in range(7)]), grey, Kept())
    assert batches == [3, 3, 1]  # of 100 values each: the third exceeds 250


def test_a_no_within_a_group_ends_the_run(grey: Classifier) -> None:
    class Once(View):
        def show(self, frame: Frame, _record: Record) -> bool:
            return frame.index != 3

    kept, source = Kept(), Listed([_frame(index, 0) for index in range(40)])
    run(source, grey, kept, [Once()])
    assert len(kept.records) < 40
    assert source.closed


# --- smoothing and doubt


def _timed(index: int, moment: float, level: int) -> Frame:
    return replace(_frame(index, level), time=moment)


def test_records_of_a_video_are_smoothed_by_hand(grey: Classifier) -> None:
    kept, half_life = Kept(), math.log(2)
    frames = [_timed(0, 0.0, 0), _timed(1, half_life, 255), _timed(2, 2 * half_life, 255)]
    run(Listed(frames), grey, kept, smooth_seconds=1.0)
    found = [record.prediction.probabilities for record in kept.records if record.prediction]
    np.testing.assert_allclose(found, [(1, 0, 0), (0.5, 0, 0.5), (0.25, 0, 0.75)], atol=1e-6)
    assert [record.prediction.label for record in kept.records[::2] if record.prediction] == ["dark", "bright"]


def test_pictures_are_never_smoothed(grey: Classifier) -> None:
    kept = Kept()
    run(Listed([_frame(0, 0), _frame(1, 255)]), grey, kept, smooth_seconds=1.0)
    assert [record.prediction.confidence for record in kept.records if record.prediction] == [1.0, 1.0]


def test_a_camera_that_was_lost_starts_anew(grey: Classifier) -> None:
    kept = Kept()
    frames = [_timed(0, 0.0, 0), _event("source_lost", "gone"), _event("source_back"), _timed(1, 0.1, 255)]
    run(Listed(frames, True), grey, kept, smooth_seconds=1.0)
    assert kept.records[-1].prediction is not None
    assert kept.records[-1].prediction.confidence == pytest.approx(1.0)


def test_the_threshold_is_for_what_is_smoothed(grey: Classifier) -> None:
    kept = Kept()
    frames = [_timed(0, 0.0, 0), _timed(1, math.log(2), 255)]
    run(Listed(frames), grey, kept, threshold=0.6, smooth_seconds=1.0)
    assert [record.sure for record in kept.records] == [True, False]


@pytest.mark.parametrize(("threshold", "sure"), [(None, False), (0.0, True), (0.3, True), (0.9, False)])
def test_the_threshold_is_the_models_unless_one_is_given(
    build_model: Callable[..., Path], threshold: float | None, sure: bool
) -> None:
    kept = Kept()
    model = Classifier(build_model(1, threshold=0.8), threads=1)
    run(Listed([_frame(0, 128)]), model, kept, threshold=threshold)  # the best label has 50 %
    assert [record.sure for record in kept.records] == [sure]


def test_what_is_smoothed_is_rejected_or_not(build_model: Callable[..., Path]) -> None:
    kept, model = Kept(), Classifier(build_model(1, reject="dark"), threads=1)
    frames = [_timed(0, 0.0, 0), _timed(1, 0.5, 255), _timed(2, 1.0, 255)]
    run(Listed(frames), model, kept, smooth_seconds=1.0)  # of the second, 61 % are dark still
    assert [(record.rejected, record.label) for record in kept.records] == [
        (True, None),
        (True, None),
        (False, "bright"),
    ]


def test_doubt_is_of_the_frame_itself_and_in_its_record(grey: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    judged: list[tuple[float, tuple[int, int]]] = []

    def doubted(prediction: Prediction, size: tuple[int, int], _manifest: Manifest) -> str | None:
        judged.append((float(prediction.probabilities[0]), size))
        return "strange" if len(judged) == 2 else None

    monkeypatch.setattr("stn_runtime.pipeline.pipeline.doubt", doubted)
    kept = Kept()
    frames = [_timed(0, 0.0, 0), _timed(1, 0.1, 255), replace(_timed(2, 0.2, 0), size=(400, 600))]
    run(Listed(frames), grey, kept, smooth_seconds=1.0)
    assert judged == [(1.0, (4, 4)), (0.0, (4, 4)), (1.0, (400, 600))]
    assert [record.uncertain for record in kept.records] == [None, "strange", None]
    assert [record.fields()["uncertain"] for record in kept.records] == [None, "strange", None]
