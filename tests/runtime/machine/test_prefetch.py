"""Reading ahead on a thread."""

import threading
import time
from collections.abc import Iterator

import pytest

from stn_runtime.machine.prefetch import Prefetcher

HANG = 20.0  # seconds after which a test says that something hangs


class Counted:
    """0, 1, 2, ... without end; counts what was taken."""

    def __init__(self, pause: float = 0.0) -> None:
        self.taken, self._pause = 0, pause

    def __iter__(self) -> Iterator[int]:
        while True:
            time.sleep(self._pause)
            self.taken += 1
            yield self.taken - 1


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What a blocked iterator waits for; opened at the end, so that no thread stays behind."""
    event = threading.Event()
    yield event
    event.set()


def _blocking(gate: threading.Event, *items: int) -> Iterator[int]:
    yield from items
    gate.wait(HANG)


def _failing(*items: int) -> Iterator[int]:
    yield from items
    raise OSError("torn")


@pytest.mark.parametrize("limit", [1, 2, 100])
@pytest.mark.parametrize("count", [0, 1, 2, 500])
def test_all_items_come_in_order(limit: int, count: int) -> None:
    assert list(Prefetcher(range(count), limit)) == list(range(count))


@pytest.mark.parametrize("limit", [1, 3])
def test_no_more_is_taken_than_may_wait(limit: int) -> None:
    counted = Counted()
    ahead = Prefetcher(counted, limit)
    for given in ahead:
        time.sleep(0.01)  # the other side would have taken thousands
        assert counted.taken - (given + 1) <= limit + 1  # one more is in its hand
        if given == 20:
            break


def test_the_next_items_are_there_when_they_are_wanted() -> None:
    counted = Counted()
    items = iter(Prefetcher(counted, 5))
    next(items)
    end = time.monotonic() + HANG
    while counted.taken < 6:
        assert time.monotonic() < end
        time.sleep(0.005)


def test_a_limit_that_is_raised_holds_from_then_on() -> None:
    counted = Counted()
    ahead = Prefetcher(counted, 1)
    for given in ahead:
        ahead.limit = 10
        time.sleep(0.01)
        if given == 20:
            break
    assert 10 <= counted.taken - 21 <= 11


def test_items_are_taken_on_another_thread() -> None:
    threads = list(Prefetcher((threading.current_thread().name for _ in range(3)), 2))
    assert len(set(threads)) == 1
    assert threads[0] not in {thread.name for thread in threading.enumerate()}  # which ends with them


@pytest.mark.parametrize("count", [0, 1, 5])
def test_an_error_comes_in_its_place(count: int) -> None:
    seen = []
    with pytest.raises(OSError, match=r"^torn$"):  # noqa: PT012
        for item in Prefetcher(_failing(*range(count)), 2):
            seen.append(item)
    assert seen == list(range(count))


def test_nothing_is_run_before_the_first_item_is_wanted() -> None:
    counted = Counted()
    Prefetcher(counted, 5)
    time.sleep(0.02)
    assert counted.taken == 0


def test_closing_ends_a_consumer_that_waits(gate: threading.Event) -> None:
    ahead = Prefetcher(_blocking(gate, 7), 2)
    threading.Timer(0.1, ahead.close).start()
    assert list(ahead) == [7]


def test_closing_drops_what_waits() -> None:
    ahead = Prefetcher(Counted(), 5)
    seen = []
    for item in ahead:
        seen.append(item)
        ahead.close()
    assert seen == [0]


@pytest.mark.parametrize("closed", ["by leaving", "by close"])
def test_the_thread_ends_when_the_consumer_does(closed: str) -> None:
    before = set(threading.enumerate())
    ahead = Prefetcher(Counted(), 2)
    for _ in ahead:
        if closed == "by close":
            ahead.close()
        else:
            break
    ahead.join(HANG)
    assert set(threading.enumerate()) <= before


def test_joining_a_thread_that_is_blocked_takes_no_longer_than_wanted(gate: threading.Event) -> None:
    ahead = Prefetcher(_blocking(gate, 7), 2)
    for _ in ahead:
        break
    began = time.monotonic()
    ahead.join(0.05)
    assert time.monotonic() - began < HANG / 2


def test_joining_what_was_never_begun_is_nothing() -> None:
    Prefetcher(Counted(), 2).join(HANG)


def test_what_was_closed_before_it_began_gives_nothing() -> None:
    ahead = Prefetcher(Counted(), 2)
    ahead.close()
    assert list(ahead) == []


def test_the_first_is_shown_and_left_there() -> None:
    ahead = Prefetcher(range(3), 2)
    items = iter(ahead)
    assert next(items) == 0
    assert ahead.peek(HANG) == 1
    assert ahead.peek(HANG) == 1
    assert list(items) == [1, 2]
    assert ahead.peek(HANG) is None


def test_the_first_is_waited_for_as_long_as_wanted_and_no_longer(gate: threading.Event) -> None:
    ahead = Prefetcher(_blocking(gate, 7), 2)
    items = iter(ahead)
    next(items)
    began = time.monotonic()
    assert ahead.peek(0.05) is None
    assert 0.045 < time.monotonic() - began < HANG / 2
    assert ahead.peek(0.0) is None


def test_an_item_that_comes_while_it_is_waited_for_is_the_first() -> None:
    ahead = Prefetcher(Counted(0.05), 2)
    items = iter(ahead)
    assert next(items) == 0
    assert ahead.peek(HANG) == 1


def test_after_closing_there_is_no_first() -> None:
    ahead = Prefetcher(range(3), 2)
    next(iter(ahead))
    ahead.close()
    assert ahead.peek(HANG) is None


def test_while_it_waits_it_gives_signs_of_life(gate: threading.Event, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[float] = []
    monkeypatch.setattr("stn_runtime.machine.prefetch.SIGN_OF_LIFE_SECONDS", 0.02)
    monkeypatch.setattr("stn_runtime.machine.prefetch.notify", lambda: told.append(time.monotonic()))
    threading.Timer(0.3, gate.set).start()
    assert list(Prefetcher(_blocking(gate, 7), 2)) == [7]
    assert len(told) >= 3
