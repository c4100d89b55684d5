"""Views and writers on threads of their own."""

import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from stn_runtime import Prediction
from stn_runtime.machine.worker import Worker
from stn_runtime.records.record import Record
from stn_runtime.sources.frame import Frame
from stn_runtime.views.background import BackgroundView, BackgroundWriter
from tests.support.waiting import HANG, until

FRAME = Frame("cam", 0, None, np.zeros((2, 2), np.uint8))


def _record(index: int = 0) -> Record:
    return Record("cam", index, None, None, "none")


def _fail() -> None:
    raise OSError("full")


def _put_until_it_fails(worker: Worker) -> None:
    for _ in range(2000):
        worker.put(lambda: None)
        time.sleep(0.001)


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What a stuck action waits for; opened at the end, so that no thread stays behind."""
    event = threading.Event()
    yield event
    event.set()


@pytest.mark.parametrize("drops", [False, True])
def test_everything_is_done_in_order_on_one_other_thread(drops: bool) -> None:
    done: list[tuple[int, int]] = []
    worker = Worker("test", 1000, drops)
    for index in range(300):
        worker.put(lambda index=index: done.append((index, threading.get_ident())))  # type: ignore[misc]
    worker.close()
    assert [index for index, _ in done] == list(range(300))
    assert len({thread for _, thread in done} - {threading.get_ident()}) == 1
    assert worker.dropped == 0


def test_what_does_not_fit_is_dropped_and_counted(gate: threading.Event) -> None:
    done: list[int] = []
    started = threading.Event()
    worker = Worker("test", 2, drops=True)
    worker.put(lambda: (started.set(), gate.wait(HANG)))
    assert started.wait(HANG)
    for index in range(7):
        worker.put(lambda index=index: done.append(index))  # type: ignore[misc]
    assert worker.dropped == 5
    gate.set()
    worker.close()
    assert (done, worker.dropped) == ([0, 1], 5)


def test_where_nothing_is_dropped_the_caller_waits(gate: threading.Event) -> None:
    done: list[int] = []
    worker = Worker("test", 2, drops=False)
    worker.put(lambda: gate.wait(HANG))
    put = 0

    def fill() -> None:
        nonlocal put
        while put < 7:
            put += 1
            worker.put(lambda: done.append(0))

    filling = threading.Thread(target=fill, daemon=True)
    filling.start()
    until(lambda: put == 3)  # two wait, the third does not fit
    time.sleep(0.05)
    assert put == 3
    gate.set()
    filling.join(HANG)
    worker.close()
    assert (len(done), worker.dropped) == (7, 0)


@pytest.mark.parametrize("drops", [False, True])
def test_an_error_is_raised_in_the_caller(drops: bool) -> None:
    worker = Worker("test", 2, drops)
    worker.put(_fail)
    with pytest.raises(OSError, match=r"^full$"):
        _put_until_it_fails(worker)


def test_an_error_ends_the_waiting_of_the_caller(gate: threading.Event) -> None:
    worker = Worker("test", 1, drops=False)
    worker.put(lambda: (gate.wait(HANG), _fail()))
    threading.Timer(0.05, gate.set).start()
    with pytest.raises(OSError, match=r"^full$"):
        _put_until_it_fails(worker)


def test_an_error_of_the_last_action_is_raised_at_the_end() -> None:
    worker = Worker("test", 2, drops=False)
    worker.put(_fail)
    with pytest.raises(OSError, match=r"^full$"):
        worker.close()


def test_an_error_that_has_been_raised_is_not_raised_again_at_the_end() -> None:
    worker = Worker("test", 2, drops=False)
    worker.put(_fail)
    with pytest.raises(OSError, match=r"^full$"):
        _put_until_it_fails(worker)
    worker.close()


def test_closing_does_what_waits_first() -> None:
    done: list[int] = []
    worker = Worker("test", 100, drops=False)
    for index in range(20):
        worker.put(lambda index=index: (time.sleep(0.005), done.append(index)))  # type: ignore[misc]
    worker.close()
    assert done == list(range(20))


def test_closing_a_live_run_does_not_wait_for_what_is_stuck(
    gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stn_runtime.machine.worker._DRAIN_SECONDS", 0.1)
    done: list[int] = []
    worker = Worker("test", 4, drops=True)
    started = threading.Event()
    worker.put(lambda: (started.set(), gate.wait(HANG)))
    assert started.wait(HANG)
    for _ in range(3):
        worker.put(lambda: done.append(0))
    began = time.monotonic()
    worker.close()
    assert 0.09 < time.monotonic() - began < HANG / 2
    assert worker.dropped == 3
    gate.set()
    until(lambda: not worker._thread.is_alive())
    assert done == []


def test_closing_leaves_no_thread_behind() -> None:
    before = set(threading.enumerate())
    for drops in (False, True):
        worker = Worker("test", 2, drops)
        worker.put(lambda: None)
        worker.close()
    assert set(threading.enumerate()) <= before


class Kept:
    """A view and writer that keeps what it gets, and may be stuck."""

    def __init__(self, gate: threading.Event | None = None) -> None:
        self.seen: list[tuple[Frame | None, Record]] = []
        self.closed = 0
        self.busy = False
        self.closed_while_busy = False
        self._gate = gate

    def show(self, frame: Frame, record: Record) -> bool:
        self.busy = True
        if self._gate is not None:
            self._gate.wait(HANG)
        self.seen.append((frame, record))
        self.busy = False
        return False

    def write(self, record: Record) -> None:
        self.seen.append((None, record))

    def close(self) -> None:
        self.closed += 1
        self.closed_while_busy = self.busy


def test_a_view_gets_every_frame_with_its_record_and_is_closed_after_the_last() -> None:
    kept = Kept()
    view = BackgroundView(kept, Worker("test", 4, drops=False))
    records = [_record(index) for index in range(50)]
    assert all(view.show(FRAME, record) for record in records)
    view.close()
    assert [record for _, record in kept.seen] == records
    assert all(frame is FRAME for frame, _ in kept.seen)
    assert (kept.closed, kept.closed_while_busy) == (1, False)


def test_a_view_is_closed_though_it_failed() -> None:
    class Failing(Kept):
        def show(self, frame: Frame, record: Record) -> bool:
            raise OSError("full")

    kept = Failing()
    view = BackgroundView(kept, Worker("test", 4, drops=False))
    view.show(FRAME, _record())
    with pytest.raises(OSError, match=r"^full$"):
        view.close()
    assert kept.closed == 1


def test_a_view_that_is_stuck_is_not_closed_while_it_works(
    gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stn_runtime.machine.worker._DRAIN_SECONDS", 0.1)
    kept = Kept(gate)
    view = BackgroundView(kept, Worker("test", 4, drops=True))
    view.show(FRAME, _record())
    until(lambda: kept.busy)
    began = time.monotonic()
    view.close()
    assert time.monotonic() - began < HANG / 2
    assert not kept.closed_while_busy


def test_a_writer_gets_every_record_in_order() -> None:
    kept = Kept()
    writer = BackgroundWriter(kept, Worker("test", 100, drops=True))
    records = [_record(index) for index in range(50)]
    for record in records:
        writer.write(record)
    writer.close()
    assert [record for _, record in kept.seen] == records


def test_a_record_that_waits_holds_no_picture() -> None:
    kept = Kept()
    writer = BackgroundWriter(kept, Worker("test", 100, drops=True))
    crop = np.zeros((2, 2), np.uint8)
    outline, probabilities = np.empty((0, 0, 2), np.float32), np.ones(1, np.float32)
    prediction = Prediction("7", 0.9, (), (0.5,), outline, crop, {}, probabilities)
    writer.write(replace(_record(), prediction=prediction))
    writer.close()
    [(_, record)] = kept.seen
    assert record.prediction is not None
    assert (record.prediction.label, record.prediction.rectified) == ("7", None)
    assert prediction.rectified is crop
