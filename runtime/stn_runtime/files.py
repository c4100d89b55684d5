"""Image files: single ones, lists, folders with their subfolders, and folders that are watched for new ones."""

import heapq
import logging
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from functools import cached_property
from itertools import islice
from pathlib import Path

from .ahead import Ahead
from .errors import ImageReadError, InputError
from .frames import EVERYTHING, Frame, Selection
from .images import IMAGE_SUFFIXES, Reduction, read_reduced
from .preprocessing import PreprocessSpec, largest_reduction
from .records import Done
from .session import usable_cpus

log = logging.getLogger(__name__)

_AHEAD_BYTES = 256_000_000  # of decoded pictures that wait
_SETTLED_SECONDS = 2.0  # a file that was not written to for so long is whole
_SCAN_SECONDS = 0.5
_SCAN_SHARE = 10  # looking for new files takes at most one part in so many of the time
_LISTED_AT_ONCE = 100_000  # names of one folder, sorted; of a larger one, the next are sought when these are done


class ImageFiles:
    """Image files, decoded ahead on threads and given in order.

    Args:
        paths: What to read; gone through once for each pass.
        root: The folder that was searched, whose tree results keep; None where they keep whole paths.
        selection: Which of them are wanted.
        counted: Whether ``paths`` may be gone through beforehand to count them.
    """

    live = False

    def __init__(
        self,
        paths: Iterable[Path],
        root: Path | None = None,
        selection: Selection = EVERYTHING,
        counted: bool = True,
    ) -> None:
        self.paths, self.root = paths, root
        self._selection, self._counted = selection, counted
        self._done = Done()
        self._reduction: Reduction = lambda height, width: 1
        self._grey = False
        self._closed = False
        self._ahead: Ahead[Future[Frame]] | None = None

    @property
    def total(self) -> int | None:
        """How many files there are; None where that cannot be known."""
        if not self._counted or self._selection.loop:
            return None
        if self._selection.stride == 1 and not self._done.records:
            if isinstance(self.paths, Folder):
                return self.paths.count
            if isinstance(self.paths, Sized):
                return len(self.paths)
        return sum(1 for _ in self._pass(self.paths))

    def skip(self, done: Done) -> None:
        """Leave out the files of which there is a record already."""
        self._done = done

    def reduce_for(self, spec: PreprocessSpec, least: int = 0) -> None:
        """Decode JPEGs at 1/2, 1/4 or 1/8 where that leaves twice the network's input, and ``least`` pixels."""
        self._reduction = lambda height, width: largest_reduction(height, width, spec, least)
        self._grey = spec.channels == 1 and not least

    def __iter__(self) -> Iterator[Frame]:
        """Yield a frame for each file, readable or not.

        Raises:
            InputError: A folder can no longer be listed.
        """
        if self._closed:
            return
        cpus = usable_cpus()
        with ThreadPoolExecutor(cpus + 1) as pool:  # one more, since they wait for the interpreter's lock at times
            # Futures are made by the thread that goes through the paths: a list on standard input may come slowly.
            self._ahead = Ahead((pool.submit(self._read, path) for path in self._wanted()), cpus)
            try:
                for pending in self._ahead:
                    frame = pending.result()
                    if frame.image is not None:
                        self._ahead.limit = max(1, min(4 * cpus, _AHEAD_BYTES // frame.image.nbytes))
                    yield frame
            finally:
                self.close()
                self._ahead.join(2 * _SCAN_SECONDS)
                pool.shutdown(wait=False, cancel_futures=True)

    def ready(self, timeout: float) -> bool:
        """Wait at most ``timeout`` seconds for the next picture to be decoded; return whether it is."""
        until = time.monotonic() + timeout
        pending = self._ahead.first(timeout) if self._ahead is not None else None
        if pending is None or pending.done():
            return pending is not None
        return not wait_for([pending], max(0.0, until - time.monotonic())).not_done

    def close(self) -> None:
        """Let the iteration end."""
        self._closed = True
        if self._ahead is not None:
            self._ahead.close()

    def _wanted(self) -> Iterator[Path]:
        """Yield what is to be read: one pass, or with ``loop`` one after the other."""
        if self._selection.watch and self.root is not None:
            states = {path: _state(path) for path in self.paths}
            known = {
                path: state
                for path, state in states.items()
                if state is None or _is_settled(state) or self._done.count(str(path))
            }
            yield from self._pass(known)
            yield from _new_pictures(self.root, known, lambda: self._closed)
            return
        any_left = True
        while any_left and not self._closed:
            any_left = False
            for path in self._pass(self.paths):
                yield path
                any_left = self._selection.loop

    def _pass(self, paths: Iterable[Path]) -> Iterator[Path]:
        chosen = islice(paths, 0, None, self._selection.stride)
        return (path for path in chosen if not self._done.count(str(path)))

    def _read(self, path: Path) -> Frame:
        root = str(self.root) if self.root is not None else None
        started = time.perf_counter()
        try:
            found = read_reduced(path, self._reduction, grey=self._grey)
        except ImageReadError as error:
            return Frame(str(path), 0, None, None, str(error), root=root)
        taken = 1000 * (time.perf_counter() - started)
        return Frame(str(path), 0, None, found.image, root=root, size=found.size, decode_ms=taken)


class Folder:
    """The pictures below a folder, sorted, found while one goes through them; links to folders are not followed.

    Of a folder with millions of pictures only so many names are held at a time.

    Args:
        root: Where to begin.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    @cached_property
    def count(self) -> int:
        """How many pictures there were when this was first asked.

        Raises:
            InputError: A folder cannot be listed.
        """
        found, folders = 0, [str(self.root)]
        while folders:
            folder = folders.pop()
            for name, is_folder in _entries(folder):
                found += not is_folder
                if is_folder:
                    folders.append(os.path.join(folder, name))
        return found

    def __iter__(self) -> Iterator[Path]:
        """Yield the paths of files whose suffix says that they are pictures, in the order of ``sorted``.

        Raises:
            InputError: A folder cannot be listed.
        """
        levels = [_listed(str(self.root))]
        while levels:
            entry = next(levels[-1], None)
            if entry is None:
                levels.pop()
            elif entry[1]:
                levels.append(_listed(entry[0]))
            else:
                yield Path(entry[0])


class ListedFiles:
    """The paths in a list, one a line, or separated by NUL where there is any, as ``find -print0`` writes them.

    Args:
        list_file: The list; None reads standard input, once.
    """

    def __init__(self, list_file: Path | None) -> None:
        self.list_file = list_file

    def __iter__(self) -> Iterator[Path]:
        """Yield the paths, each as soon as it has been read; relative ones start from the working folder.

        Raises:
            InputError: The list cannot be read.
        """
        try:
            if self.list_file is None and sys.stdin is None:
                raise ValueError("it is closed")
            number = sys.stdin.fileno() if self.list_file is None else os.open(self.list_file, os.O_RDONLY)
        except (OSError, ValueError) as error:
            raise InputError(f"{self.list_file or 'standard input'}: the list cannot be read ({error})") from error
        try:
            yield from (Path(os.fsdecode(name)) for name in _split(number) if name.strip())
        finally:
            if self.list_file is not None:
                os.close(number)


def _listed(folder: str) -> Iterator[tuple[str, bool]]:
    """Yield the pictures and folders in a folder, sorted: path, and whether it is a folder."""
    last, is_more = "", True
    while is_more:
        found = heapq.nsmallest(_LISTED_AT_ONCE, (entry for entry in _entries(folder) if entry[0] > last))
        for name, is_folder in found:
            yield os.path.join(folder, name), is_folder
            last = name
        is_more = len(found) == _LISTED_AT_ONCE


def _entries(folder: str) -> Iterator[tuple[str, bool]]:
    """Yield the pictures and folders in a folder as the system lists them: name, and whether it is a folder."""
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                is_folder = entry.is_dir(follow_symlinks=False)
                if is_folder or os.path.splitext(entry.name)[1].lower() in IMAGE_SUFFIXES:
                    yield entry.name, is_folder
    except OSError as error:
        raise InputError(f"{error.filename}: the folder cannot be listed ({error.strerror})") from error


def _split(number: int) -> Iterator[bytes]:
    """Yield the entries of a list from a file descriptor, without waiting for more than the next one."""
    pending, separator = b"", b"\n"
    while data := os.read(number, 1 << 16):
        pending += data
        if b"\0" in pending:
            separator = b"\0"
        *entries, pending = pending.split(separator)
        yield from (entry.removesuffix(b"\r") if separator == b"\n" else entry for entry in entries)
    yield pending


def _new_pictures(root: Path, known: dict[Path, tuple[int, int] | None], closed: Callable[[], bool]) -> Iterator[Path]:
    """Yield pictures below a folder that are not in the state in which they are known, when whole, until ``closed``."""
    changing: dict[Path, tuple[int, int] | None] = {}
    lost = False
    while not closed():
        began = time.monotonic()
        try:
            found = list(Folder(root))
            lost = False
        except InputError as error:
            if not lost:
                log.warning("%s; waiting until it can be", error)
            found, lost = [], True
        if not lost:  # what has been deleted is new when it comes back
            there = set(found)
            for path in [path for path in known if path not in there]:
                del known[path]
        for path in found:
            state = _state(path)
            if state is None or known.get(path) == state:
                continue
            if changing.get(path) == state or _is_settled(state):
                known[path] = state
                changing.pop(path, None)
                yield path
            else:
                changing[path] = state
        pause = max(_SCAN_SECONDS, _SCAN_SHARE * (time.monotonic() - began))
        until = time.monotonic() + pause
        while not closed() and time.monotonic() < until:
            time.sleep(min(_SCAN_SECONDS, pause))


def _is_settled(state: tuple[int, int]) -> bool:
    return time.time() - state[0] / 1e9 > _SETTLED_SECONDS


def _state(path: Path) -> tuple[int, int] | None:
    """Return when a file was last written to, ns, and its size, bytes."""
    try:
        found = path.stat()
    except OSError:  # gone already
        return None
    return found.st_mtime_ns, found.st_size
