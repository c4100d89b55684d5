"""An action within bounds of time and memory: its result, its error, or an error of ours when it is given up."""

import os
import signal
import threading
import time

import pytest

from stn_runtime.machine.memory import held_memory
from stn_runtime.machine.threads import OverLimitError, any_daemon_alive, run_within

PLENTY = 1 << 40


def never() -> None:
    pytest.fail("asked to stop")


def test_the_result_is_that_of_the_action_which_ran_on_another_thread() -> None:
    thread, value = run_within(lambda: (threading.current_thread(), 7), never, 5, PLENTY)
    assert value == 7
    assert thread is not threading.current_thread()
    assert not thread.is_alive()


def test_a_result_may_be_none() -> None:
    assert run_within(lambda: None, never, 5, PLENTY) is None  # type: ignore[func-returns-value]


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt, MemoryError])
def test_what_the_action_raises_is_raised_in_the_caller(kind: type[BaseException]) -> None:
    def fail() -> None:
        raise kind("because")

    with pytest.raises(kind, match="because"):
        run_within(fail, never, 5, PLENTY)


def test_an_action_that_takes_too_long_is_asked_to_stop_and_given_up() -> None:
    stopped = threading.Event()
    started = time.monotonic()
    with pytest.raises(OverLimitError, match=r"^took longer than 0\.2 s$"):
        run_within(lambda: stopped.wait(30), stopped.set, 0.2, PLENTY)
    assert time.monotonic() - started < 10
    assert stopped.is_set()


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs a timer that signals")
def test_a_signal_ends_the_wait_and_asks_the_action_to_stop() -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    stopped = threading.Event()
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with pytest.raises(KeyboardInterrupt):
            run_within(lambda: stopped.wait(30), stopped.set, 20, PLENTY)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert stopped.is_set()


def test_an_action_that_does_not_stop_is_known_to_be_alive() -> None:
    end, threads = threading.Event(), []

    def work() -> None:
        threads.append(threading.current_thread())
        end.wait(30)

    with pytest.raises(OverLimitError):
        run_within(work, lambda: None, 0.05, PLENTY)
    assert any_daemon_alive()
    end.set()
    threads[0].join(5)
    assert not threads[0].is_alive()


@pytest.mark.skipif(held_memory() is None, reason="this system does not say how much memory a process holds")
def test_an_action_that_takes_too_much_memory_is_given_up() -> None:
    stopped = threading.Event()

    def hoard() -> None:
        kept = []
        while not stopped.is_set() and len(kept) < 100:
            kept.append(os.urandom(1 << 22))
            time.sleep(0.01)

    with pytest.raises(OverLimitError, match=r"^took more than 64 MiB of memory$"):
        run_within(hoard, stopped.set, 60, 64 << 20)
    assert stopped.is_set()
