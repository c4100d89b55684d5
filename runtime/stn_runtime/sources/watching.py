"""A folder that is watched for new pictures."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from ..errors import InputError
from .done import Done

log = logging.getLogger(__name__)

_SETTLED_SECONDS = 2.0  # a file that was not written to for so long is whole


SCAN_SECONDS = 0.5
"""Between looks at a folder that is watched."""


_SCAN_SHARE = 10  # looking for new files takes at most one part in so many of the time


_State = tuple[int, int]  # when a file was last written to, ns, and its size, bytes


def watched(paths: Iterable[Path], done: Done, closed: Callable[[], bool]) -> Iterator[Path]:
    """Yield the paths that are there, then, until ``closed``, those that are new or were written anew, when whole.

    Args:
        paths: Gone through again and again.
        done: Files that have a record already.
        closed: Whether to end.
    """
    states = {path: _state(path) for path in paths}
    known = {path: state for path, state in states.items() if _is_settled(state) or done.count(str(path))}
    yield from (path for path in known if not done.take(str(path)))
    yield from _changed(paths, known, closed)


def _changed(paths: Iterable[Path], known: dict[Path, _State | None], closed: Callable[[], bool]) -> Iterator[Path]:
    """Yield paths that are in another state than the one that is known, once they keep it for a while."""
    changing: dict[Path, tuple[_State, float]] = {}  # and since when, by the monotonic clock
    lost = False
    while not closed():
        began = time.monotonic()
        try:
            listed = list(paths)
            lost = False
        except InputError as error:
            if not lost:
                log.warning("%s; waiting until it can be", error)
            listed, lost = [], True
        if not lost:  # what has been deleted is new when it comes back
            there = set(listed)
            for states in (known, changing):
                for path in [path for path in states if path not in there]:
                    del states[path]
        for path in listed:
            state = _state(path)
            if state is None or known.get(path) == state:
                continue
            last, since = changing.get(path, (None, began))
            if state != last:
                changing[path] = (state, began)
            elif began - since >= _SETTLED_SECONDS:
                known[path] = state
                del changing[path]
                yield path
        pause = max(SCAN_SECONDS, _SCAN_SHARE * (time.monotonic() - began))
        until = time.monotonic() + pause
        while not closed() and time.monotonic() < until:
            time.sleep(min(SCAN_SECONDS, pause))


def _is_settled(state: _State | None) -> bool:
    return state is None or time.time() - state[0] / 1e9 > _SETTLED_SECONDS


def _state(path: Path) -> _State | None:
    """Return when a file was last written to, ns, and its size, bytes."""
    try:
        state = path.stat()
    except OSError:  # gone already
        return None
    return state.st_mtime_ns, state.st_size
