"""Cameras and streams: each is read all the time by a thread, keeps its newest frame, and is opened again when lost."""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..errors import ImageReadError, InputError
from ..images.opencv import rgb
from ..images.preprocessing import PreprocessSpec, largest_reduction
from ..images.reading import Decoded, Reduction, decode_reduced
from ..machine.redaction import describe_cause, has_unencoded_credentials
from ..machine.systemd import SIGN_OF_LIFE_SECONDS, notify
from ..machine.threads import daemon_thread
from .captures import AS_IT_COMES, UNREACHABLE, CameraOptions, Capture, Grabbed, open_capture
from .frame import EVERYTHING, Event, Frame, Selection
from .source import Source

log = logging.getLogger(__name__)

_OPEN_SECONDS = 10.0  # until a camera's first picture; more where ``stall_seconds`` is more
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0
_RELEASE_SECONDS = 1.0
_ENCODE = "(within a password, write '@', '/', '?' and '#' as %40, %2F, %3F and %23)"
_IDLE_SECONDS = 0.05  # between calls of what is to be done while no frame comes
_MOST_BLOCKED = 3  # threads of a camera that hang in its driver; another starts when one of them ends
_STUCK_SECONDS = 300.0


@dataclass(frozen=True)
class Camera:
    """A camera or stream.

    Attributes:
        name: Name in records and messages.
        open: Opens the camera, or raises InputError with the reason; runs on its own thread, since some cameras block.
    """

    name: str
    open: Callable[[], Capture]

    @classmethod
    def named(cls, name: str, shown: str, options: CameraOptions) -> "Camera":
        """Return the camera of a number, /dev path, ``picam`` or address, which records call ``shown``."""

        def opened() -> Capture:
            try:
                return open_capture(name, options)
            except InputError as error:
                if has_unencoded_credentials(name):
                    raise InputError(f"{error} {_ENCODE}") from error
                raise

        return cls(shown, opened)


class LiveCameras(Source):
    """Cameras, read at the same time.

    A camera counts as lost when it closes or blocks, when its clock stands still, when it has no clock and repeats one
    picture, or when nothing that it sends can be decoded for ``options.stall_seconds``. It is opened again after a
    pause that grows from half a second to half a minute, indefinitely. Loss and return are frames with an event.

    Args:
        cameras: Read at the same time; at least one.
        options: Say when a camera counts as lost, and whether to wait for one that is away.
        selection: Says which frames are wanted.

    Raises:
        InputError: A camera cannot be opened, and ``options.wait`` is not set.
    """

    live = True
    timed = True

    def __init__(
        self,
        cameras: Sequence[Camera],
        options: CameraOptions = AS_IT_COMES,
        selection: Selection = EVERYTHING,
    ) -> None:
        # Reentrant, since a signal handler may close while its own thread holds it.
        self._changed = threading.Condition()
        self.streams = len(cameras)
        self._watches = [_Watch(camera, options, selection, self._changed) for camera in cameras]
        self._reduction: Reduction = lambda height, width: 1
        self._grey = False
        self._stopped = False
        self._when_idle: Callable[[], bool] = lambda: True
        self._wake_seconds = SIGN_OF_LIFE_SECONDS
        if not options.wait:
            self._wait_until_open(max(options.stall_seconds, _OPEN_SECONDS))

    def reduce_for(self, spec: PreprocessSpec, least: int = 0) -> None:
        """Decode JPEGs at 1/2, 1/4 or 1/8 where that leaves twice the network's input and ``least`` pixels a side."""
        self._reduction = lambda height, width: largest_reduction(height, width, spec, least)
        self._grey = spec.channels == 1 and not least

    def when_idle(self, act: Callable[[], bool]) -> None:
        """Call ``act`` twenty times a second while no frame comes; when it returns False the frames end."""
        self._when_idle, self._wake_seconds = act, _IDLE_SECONDS

    def __iter__(self) -> Iterator[Frame]:
        """Yield the newest frame of each camera in turn, never the same twice, and events of loss and return."""
        try:
            while (item := self._next()) is not None:
                if isinstance(item, Frame):
                    yield item
                elif (frame := self._decoded(item)) is not None:
                    with self._changed:
                        back = item.watch.works(item.index)
                    yield from (back, frame) if back is not None else (frame,)
        finally:
            self.close()
            for watch in self._watches:
                watch.join(_RELEASE_SECONDS)

    def close(self) -> None:
        """Let the iteration and the reading threads end; each thread releases its camera."""
        with self._changed:
            self._stopped = True
            for watch in self._watches:
                watch.abandon()
            self._changed.notify_all()

    def _next(self) -> "Frame | _NewFrame | None":
        while not self._stopped:
            now = time.monotonic()
            if not any(watch.is_stuck(now) for watch in self._watches):  # else a service manager starts it anew
                notify()
            if not self._when_idle():
                return None
            with self._changed:
                now = time.monotonic()
                for position, watch in enumerate(self._watches):
                    frame = watch.next_frame(now)
                    if frame is not None:
                        self._watches.append(self._watches.pop(position))  # the others come first now
                        return frame
                due = min(watch.due() for watch in self._watches)
                if not self._stopped:
                    self._changed.wait(max(0.001, min(due - time.monotonic(), self._wake_seconds)))
        return None

    def _decoded(self, new: "_NewFrame") -> Frame | None:
        started = time.perf_counter()
        name, data = new.name, new.grabbed.data
        if isinstance(data, bytes):
            try:
                decoded = decode_reduced(data, name, self._reduction, grey=self._grey)
            except ImageReadError as error:  # torn on its way, though its ends are there; or of a kind that is not read
                log.debug("%s", error)
                with self._changed:
                    new.watch.breaks()
                return None
        else:
            decoded = Decoded(rgb(data), (data.shape[0], data.shape[1]))
        taken = 1000 * (time.perf_counter() - started)
        image, moment = decoded.image, new.grabbed.moment
        return Frame(name, new.index, moment, image, size=decoded.size, decode_ms=taken, rate=new.rate)

    def _wait_until_open(self, seconds: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: all(watch.opened or watch.refusal for watch in self._watches), seconds)
            for watch in self._watches:
                if not watch.opened:
                    self.close()
                    raise InputError(f"{watch.camera.name}: {watch.refusal or f'does not answer; {UNREACHABLE}'}")


@dataclass(frozen=True, eq=False)
class _NewFrame:
    name: str
    index: int
    grabbed: Grabbed
    rate: float | None
    watch: "_Watch"


@dataclass
class _Grabber:
    """One connection to a camera and the thread that reads it; everything but ``run`` needs the lock of ``changed``."""

    camera: Camera
    stride: int
    changed: threading.Condition
    first_index: int
    last: Grabbed | None  # newest picture, also of the connection before
    still_ok: bool
    started: float = field(default_factory=time.monotonic)
    opened: bool = False
    ended: str | None = None
    abandoned: bool = False
    rate: float | None = None
    newest: tuple[int, Grabbed] | None = None
    next_index: int = field(init=False)
    fresh_at: float = 0.0  # monotonic time of the last new picture; 0 before the first
    fault: str = "sent nothing"  # why there is no new picture; ends a sentence
    broken_since: float = np.inf  # monotonic time since which pictures cannot be decoded

    def __post_init__(self) -> None:
        self.next_index = self.first_index

    def run(self) -> None:
        if self.abandoned:  # before its thread began
            return
        try:
            capture = self.camera.open()
        except InputError as error:
            log.debug("%s: cannot be opened", self.camera.name, exc_info=True)
            self._end(str(error))
            return
        except Exception as error:  # drivers raise anything; the camera is lost whatever it is
            log.debug("%s: cannot be opened", self.camera.name, exc_info=True)
            self._end(f"cannot be opened ({describe_cause(error)}); {UNREACHABLE}")
            return
        try:
            with self.changed:
                self.opened, self.rate = True, capture.rate
                self.changed.notify_all()
            self._read(capture)
            reason = "stopped sending frames"
        except InputError as error:
            reason = str(error)
        except Exception as error:
            log.debug("%s: cannot be read", self.camera.name, exc_info=True)
            reason = f"stopped sending frames ({describe_cause(error)})"
        try:
            capture.release()
        except Exception as error:  # the camera is gone; what it says to that is for the log alone
            log.debug("%s: cannot be released (%s)", self.camera.name, describe_cause(error))
        self._end(reason)

    def _end(self, reason: str) -> None:
        with self.changed:
            self.ended = reason
            self.changed.notify_all()

    def _read(self, capture: Capture) -> None:
        clock, runs = None, False  # the camera's own clock, and whether that has ever moved
        while (grabbed := capture.read()) is not None and not self.abandoned:
            is_ticking = (
                None not in (clock, grabbed.clock) and grabbed.clock != clock
            )  # a still picture is no frozen one
            may_repeat = is_ticking or self.still_ok
            repeats = not may_repeat and self.last is not None and grabbed.equals(self.last)
            stands = runs and grabbed.clock is not None and grabbed.clock == clock
            runs = runs or (clock is not None and grabbed.clock != clock)
            self.last, clock = grabbed, grabbed.clock
            if repeats or stands:
                self.fault = "repeated one picture" if repeats else "sent pictures with one timestamp"
                continue
            with self.changed:
                if self.abandoned:
                    return
                self.fresh_at, self.fault = time.monotonic(), "sent nothing"
                if (self.next_index - self.first_index) % self.stride == 0:
                    self.newest = (self.next_index, grabbed)
                    self.changed.notify_all()
                self.next_index += 1


class _Watch:
    """Watches one camera: passes its newest frame on once, notices its loss, opens it again; needs the lock."""

    def __init__(
        self, camera: Camera, options: CameraOptions, selection: Selection, changed: threading.Condition
    ) -> None:
        self.camera, self._options, self._selection, self._changed = camera, options, selection, changed
        self._threads: list[threading.Thread] = []
        self._lost = False
        self._retry_at = self._blocked_since = np.inf
        self._pause = _FIRST_PAUSE
        self._seen = -1
        self._wanted_at = 0.0
        self._grabber = self._start(None)

    @property
    def opened(self) -> bool:
        return self._grabber.opened

    @property
    def refusal(self) -> str | None:
        return self._grabber.ended

    def next_frame(self, now: float) -> "Frame | _NewFrame | None":
        """Return the newest frame unless it was returned before, or the event of a loss; None when there is neither."""
        newest = self._grabber.newest
        if newest is not None and newest[0] > self._seen and now >= self._wanted_at:
            self._seen = newest[0]
            if self._selection.max_fps:
                # Counted from the wanted moment and not from the frame, so that the rate is met on average.
                self._wanted_at = max(now, (self._wanted_at or now) + 1 / self._selection.max_fps)
            return _NewFrame(self.camera.name, *newest, self._grabber.rate, self)
        if now >= self._retry_at:
            self._retry(now)
        reason = self._failure(now)
        if reason is None:
            return None
        self.abandon()
        # A frame that still waits for ``max_fps`` is too old, and the first one after the return need not wait.
        self._seen, self._wanted_at = max(self._seen, self._grabber.next_index - 1), 0.0
        self._retry_at = now + self._pause
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)
        if self._lost:  # another attempt that failed is no event
            return None
        self._lost = True
        return self._event("source_lost", self._grabber.next_index, reason)

    def works(self, index: int) -> Frame | None:
        """Note that a frame could be decoded; return the event of the camera's return, if it was lost."""
        self._grabber.broken_since = np.inf
        if not self._lost:
            return None
        self._lost, self._pause = False, _FIRST_PAUSE
        return self._event("source_back", index)

    def breaks(self) -> None:
        """Note that a frame could not be decoded; the next one need not wait for ``max_fps``."""
        self._grabber.broken_since = min(self._grabber.broken_since, time.monotonic())
        self._wanted_at = 0.0

    def is_stuck(self, now: float) -> bool:
        """Return whether opening the camera has hung for so long that only a new process may help."""
        return now - self._blocked_since > _STUCK_SECONDS

    def due(self) -> float:
        """Return the monotonic time at which ``next_frame`` may have something new, even if no picture comes."""
        times = [self._retry_at]
        if self._retry_at == np.inf:
            times += [self._deadline(), self._grabber.broken_since + self._options.stall_seconds]
        newest = self._grabber.newest
        if newest is not None and newest[0] > self._seen:
            times.append(self._wanted_at)
        return min(times)

    def abandon(self) -> None:
        """Let the reading thread end as soon as it can."""
        self._grabber.abandoned = True

    def join(self, seconds: float) -> None:
        for thread in self._threads:
            thread.join(seconds)

    def _start(self, last: Grabbed | None) -> _Grabber:
        grabber = _Grabber(
            self.camera, self._selection.stride, self._changed, self._seen + 1, last, self._options.still_ok
        )
        thread = daemon_thread(grabber.run, self.camera.name)
        self._threads = [*(entry for entry in self._threads if entry.is_alive()), thread]
        thread.start()
        return grabber

    def _retry(self, now: float) -> None:
        alive = sum(thread.is_alive() for thread in self._threads)
        if alive >= _MOST_BLOCKED:
            if self._blocked_since == np.inf:
                log.warning("%s: its driver hangs; connect it anew, or start the program again", self.camera.name)
            self._blocked_since = min(self._blocked_since, now)
            self._retry_at = now + self._pause
            return
        self._blocked_since = np.inf
        self._retry_at = np.inf
        self._grabber = self._start(self._grabber.last)

    def _deadline(self) -> float:
        if self._grabber.fresh_at:
            return self._grabber.fresh_at + self._options.stall_seconds
        return self._grabber.started + max(self._options.stall_seconds, _OPEN_SECONDS)

    def _failure(self, now: float) -> str | None:
        """Return why the camera is lost; None while it works, and while it pauses before the next attempt."""
        if self._retry_at < np.inf:
            return None
        if self._grabber.ended is not None:
            return self._grabber.ended
        if now >= self._grabber.broken_since + self._options.stall_seconds:
            return f"sent pictures that cannot be decoded for {self._options.stall_seconds:g} s"
        if now < self._deadline():
            return None
        if not self._grabber.opened:
            return "does not answer"
        return f"{self._grabber.fault} for {self._deadline() - (self._grabber.fresh_at or self._grabber.started):g} s"

    def _event(self, event: Event, index: int, reason: str | None = None) -> Frame:
        error = f"{self.camera.name}: {reason}" if reason is not None else None
        return Frame(self.camera.name, index, time.time(), None, error, event=event)
