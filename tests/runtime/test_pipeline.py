"""Frames to records: in order, nothing lost, whatever a frame is like."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from stn_runtime import Classifier
from stn_runtime.frames import Frame
from stn_runtime.pipeline import Judgement, run
from stn_runtime.records import Record
from stn_runtime.sinks import PictureFolder
from stn_runtime.sources import open_source


class Kept:
    """A writer that keeps the records."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def write(self, record: Record) -> None:
        self.records.append(record)


class Listed:
    """A source with the given frames; counts how many were asked for."""

    def __init__(self, frames: list[Frame], live: bool = False) -> None:
        self.frames, self.live, self.total = frames, live, len(frames)
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
    summary = run(source, grey, kept)  # type: ignore[arg-type]
    assert (summary.frames, summary.failed, summary.interrupted) == (count, 0, False)
    assert [record.frame for record in kept.records] == list(range(count))
    labels = [record.prediction.label for record in kept.records if record.prediction]
    assert labels == ["bright" if level else "dark" for level in levels]


def test_frames_with_errors_keep_their_place(grey: Classifier) -> None:
    kept, broken = Kept(), {0, 3, 4, 11, 12}
    frames = [_frame(index, None if index in broken else 255, 1 + index) for index in range(13)]
    summary = run(Listed(frames), grey, kept)  # type: ignore[arg-type]
    assert (summary.frames, summary.failed) == (13, 5)
    assert {record.frame for record in kept.records if record.error == "cam: lost"} == broken
    assert all((record.prediction is None) is (record.frame in broken) for record in kept.records)


def test_only_errors_are_all_records(grey: Classifier) -> None:
    kept = Kept()
    summary = run(Listed([_frame(index) for index in range(9)]), grey, kept)  # type: ignore[arg-type]
    assert (summary.frames, summary.failed, len(kept.records)) == (9, 9, 9)


def test_a_live_frame_is_classified_before_the_next_is_asked_for(grey: Classifier) -> None:
    source = Listed([_frame(index, 0) for index in range(5)], live=True)
    asked: list[int] = []

    class Watching(Kept):
        def write(self, record: Record) -> None:
            asked.append(source.given)

    run(source, grey, Watching())  # type: ignore[arg-type]
    assert asked == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(("threshold", "sure"), [(0.0, True), (0.64, True), (0.65, False), (1.0, False)])
def test_below_the_threshold_a_record_is_not_sure(grey: Classifier, threshold: float, sure: bool) -> None:
    kept = Kept()
    run(Listed([_frame(0, 51)]), grey, kept, judgement=Judgement(threshold - 1e-4))  # type: ignore[arg-type]
    assert kept.records[0].sure is sure


def test_a_view_that_says_no_ends_the_run_and_every_view_sees_the_frame(grey: Classifier) -> None:
    class View:
        def __init__(self, until: int) -> None:
            self.until, self.seen = until, 0

        def show(self, _frame: Frame, _record: Record) -> bool:
            self.seen += 1
            return self.seen < self.until

    views, kept = [View(3), View(99)], Kept()
    source = Listed([_frame(index, 0) for index in range(20)], live=True)
    summary = run(source, grey, kept, views)  # type: ignore[arg-type]
    assert (summary.frames, len(kept.records), summary.interrupted) == (3, 3, False)
    assert [view.seen for view in views] == [3, 3]


def test_a_folder_runs_to_records_and_annotated_copies(
    grey: Classifier, folder_of_pictures: Path, tmp_path: Path
) -> None:
    kept = Kept()
    run(open_source(str(folder_of_pictures)), grey, kept, [PictureFolder(tmp_path / "out")])  # type: ignore[arg-type]
    assert [record.prediction.label for record in kept.records if record.prediction] == ["middle", "bright", "dark"]
    assert sorted(path.name for path in (tmp_path / "out").rglob("*.*")) == ["b.png", "c.png", "d.PNG"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_after_the_frame_in_flight(grey: Classifier, number: signal.Signals) -> None:
    class Signalling(Kept):
        def write(self, record: Record) -> None:
            super().write(record)
            if record.frame == 2:
                signal.raise_signal(number)

    before, kept = signal.getsignal(number), Signalling()
    summary = run(Listed([_frame(index, 0) for index in range(20)], live=True), grey, kept)  # type: ignore[arg-type]
    assert summary.interrupted
    assert [record.frame for record in kept.records] == [0, 1, 2]
    assert signal.getsignal(number) is before


def test_signal_handlers_are_put_back(grey: Classifier) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    run(Listed([_frame(0, 0)]), grey, Kept())  # type: ignore[arg-type]
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_the_pipeline_runs_on_another_thread(grey: Classifier, spawn: Callable[..., object]) -> None:
    from threading import Thread

    kept = Kept()
    thread = Thread(target=run, args=(Listed([_frame(0, 0)]), grey, kept))
    thread.start()
    thread.join(10)
    assert len(kept.records) == 1
