"""Threads that may block in a driver or a file system for ever; the end of the program does not wait for them."""

import threading
from collections.abc import Callable

_PREFIX = "stn-daemon"


def daemon_thread(target: Callable[[], object], name: str) -> threading.Thread:
    """Return a thread, not yet started, that the end of the program does not wait for."""
    return threading.Thread(target=target, name=f"{_PREFIX} {name}", daemon=True)


def any_daemon_alive() -> bool:
    """Return whether one of these threads still runs.

    One that wakes up from its driver while the interpreter is torn down would abort the process.
    """
    return any(thread.name.startswith(_PREFIX) for thread in threading.enumerate())
