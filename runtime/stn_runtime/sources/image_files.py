"""Image files, decoded ahead on threads and yielded in order."""

import time
from collections.abc import Callable, Iterable, Iterator, Sized
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from ..errors import ImageReadError
from ..images.preprocessing import PreprocessSpec, largest_reduction
from ..images.reading import MEMORY_SHARE, Reduction, read_reduced
from ..machine.cpus import usable_cpus
from ..machine.memory import usable_memory
from ..machine.prefetch import Prefetcher
from .done import Done
from .frame import EVERYTHING, Frame, Selection
from .memory_budget import MemoryBudget, Reservation
from .source import Source
from .watching import SCAN_SECONDS, watched

_AHEAD_BYTES = 256_000_000  # memory of pictures that are being decoded or wait


@dataclass(frozen=True)
class _Read:
    frame: Frame
    memory: Reservation


class ImageFiles(Source):
    """Image files, decoded ahead on threads and yielded in order.

    Args:
        paths: The files to read; iterated over once for each pass.
        root: Folder that was searched, whose tree results mirror; None where they keep whole paths.
        selection: Says which of the files are wanted.
        count: Returns how many paths there are, where ``paths`` has no length but may be gone through beforehand.
    """

    def __init__(
        self,
        paths: Iterable[Path],
        root: Path | None = None,
        selection: Selection = EVERYTHING,
        count: Callable[[], int] | None = None,
    ) -> None:
        self.paths, self.root = paths, root
        self._selection = selection
        self._count = paths.__len__ if count is None and isinstance(paths, Sized) else count
        self._done = Done()
        self._reduction: Reduction = lambda height, width: 1
        self._grey = False
        self._closed = False
        self._prefetcher: Prefetcher[Future[_Read]] | None = None
        self._memory = MemoryBudget(min(_AHEAD_BYTES, usable_memory() // MEMORY_SHARE))

    @property
    def total(self) -> int | None:
        """How many files there are; None where that cannot be known."""
        if self._count is None or self._selection.loop:
            return None
        if self._selection.stride == 1 and not self._done.records:
            return self._count()
        return sum(1 for path in self._chosen() if not self._done.count(str(path)))

    def skip(self, done: Done) -> None:
        """Leave out the files that have a record already."""
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
        with ThreadPoolExecutor(cpus + 1) as pool:  # one more, since threads wait for the interpreter's lock at times
            # Futures are made by the thread that goes through the paths: a list on standard input may come slowly.
            wanted = enumerate(self._wanted())
            self._prefetcher = Prefetcher((pool.submit(self._read, path, turn) for turn, path in wanted), 4 * cpus)
            try:
                for pending in self._prefetcher:
                    picture = pending.result()
                    picture.memory.release()
                    yield picture.frame
            finally:
                self.close()
                self._prefetcher.join(2 * SCAN_SECONDS)
                pool.shutdown(wait=False, cancel_futures=True)

    def ready(self, timeout: float) -> bool:
        """Wait at most ``timeout`` seconds for the next picture to be decoded; return whether it is."""
        until = time.monotonic() + timeout
        pending = self._prefetcher.peek(timeout) if self._prefetcher is not None else None
        if pending is None or pending.done():
            return pending is not None
        return not wait_for([pending], max(0.0, until - time.monotonic())).not_done

    def close(self) -> None:
        """Let the iteration end after the frame that is under way."""
        self._closed = True
        self._memory.close()
        if self._prefetcher is not None:
            self._prefetcher.close()

    def _wanted(self) -> Iterator[Path]:
        """Yield the paths to read: one pass, or with ``loop`` one pass after the other."""
        if self._selection.watch:
            yield from watched(self.paths, self._done, lambda: self._closed)
            return
        any_left = True
        while any_left and not self._closed:
            any_left = False
            for path in self._chosen():
                if not self._done.take(str(path)):
                    yield path
                    any_left = self._selection.loop

    def _chosen(self) -> Iterator[Path]:
        return islice(self.paths, 0, None, self._selection.stride)

    def _read(self, path: Path, turn: int) -> _Read:
        root = str(self.root) if self.root is not None else None
        memory = self._memory.reservation(turn)
        started = time.perf_counter()
        try:
            decoded = read_reduced(path, self._reduction, grey=self._grey, reserve=memory.reserve)
        except ImageReadError as error:
            memory.release()
            return _Read(Frame(str(path), 0, None, None, str(error), root=root), memory)
        taken = 1000 * (time.perf_counter() - started)
        memory.release(decoded.image.nbytes)
        return _Read(Frame(str(path), 0, None, decoded.image, root=root, size=decoded.size, decode_ms=taken), memory)
