"""Threads that may block in a driver, a file system or another's code for ever; nobody waits for their end."""

import threading
from collections.abc import Callable
from typing import TypeVar

from .memory import held_memory

T = TypeVar("T")

_PREFIX = "stn-daemon"
_TICK_SECONDS = 0.02


class OverLimitError(Exception):
    """An action took more time or memory than it may; the message says which, as the end of a sentence."""


def daemon_thread(target: Callable[[], object], name: str) -> threading.Thread:
    """Return a thread, not yet started, that the end of the program does not wait for."""
    return threading.Thread(target=target, name=f"{_PREFIX} {name}", daemon=True)


def any_daemon_alive() -> bool:
    """Return whether one of these threads still runs.

    One that wakes up from its driver while the interpreter is torn down would abort the process.
    """
    return any(thread.name.startswith(_PREFIX) for thread in threading.enumerate())


def run_within(action: Callable[[], T], stop: Callable[[], object], seconds: float, memory: int) -> T:
    """Return what an action returns, or give it up when it takes too much; it runs on a thread of its own.

    A thread cannot be ended from outside: an action that does not heed ``stop`` goes on after it was given up, and
    keeps its memory, until it ends by itself or the process does.

    Args:
        action: Must release the interpreter's lock while it works, as onnxruntime does.
        stop: Asks the action to end; called once it is given up.
        seconds: Longest time; seconds in which the process was suspended do not count.
        memory: Most bytes by which the memory of the whole process may grow, where the system tells.

    Raises:
        OverLimitError: The action was given up.
        BaseException: Whatever the action raised.
    """
    results: list[T] = []
    errors: list[BaseException] = []
    done = threading.Event()

    def work() -> None:
        try:
            results.append(action())
        except BaseException as error:  # raised in the caller, which is on another thread
            errors.append(error)
        finally:
            done.set()

    before = held_memory()
    thread = daemon_thread(work, "limited")
    thread.start()
    try:
        fault = _wait(done, seconds, memory, before)
    except BaseException:  # Ctrl-C, or a signal handler that raises
        stop()
        raise
    if fault is not None:
        stop()
        raise OverLimitError(fault)
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def _wait(done: threading.Event, seconds: float, memory: int, before: int | None) -> str | None:
    """Return None once an action is done, or which bound it broke; ``before`` is the memory held at its start."""
    for _ in range(max(1, round(seconds / _TICK_SECONDS))):
        if done.wait(_TICK_SECONDS):
            return None
        held = held_memory()
        if before is not None and held is not None and held - before > memory:
            return f"took more than {memory / (1 << 20):.0f} MiB of memory"
    return f"took longer than {seconds:g} s"
