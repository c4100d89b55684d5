"""The window: annotated frames on a screen, and its keys."""

import logging
import subprocess
import time
from pathlib import Path

from ..errors import InputError
from ..images.opencv import cv2
from ..images.preprocessing import Image
from ..images.writing import write_image
from ..machine.interpreter import PIP, python_command
from ..machine.rate import RateMeter
from ..model.manifest import Manifest
from ..records.record import Record
from ..sources.frame import Frame
from .overlay import Annotator, Note
from .view import View

log = logging.getLogger(__name__)

_NAME = "stn-edge"
_ESCAPE, _SPACE = 27, 32
_LARGEST = 1280  # pixels of the longer side of a window when it opens
_RATE_SECONDS = 2.0  # over which frames are counted


class Window(View):
    """A window with the annotated frames, one for each camera.

    Its keys: q or Esc ends, space pauses, s saves a snapshot, t shows theta.

    Args:
        wait: Whether each frame waits for a key (pictures) or the next one follows by itself (video, camera).
        live: Whether frames go on while the window is paused.
        manifest: Names the transformers of the model.
        snapshots: Folder for snapshots.

    Raises:
        InputError: There is no display, or this OpenCV has no windows.
    """

    def __init__(self, wait: bool, live: bool, manifest: Manifest, snapshots: Path = Path()) -> None:
        problem = display_problem()
        if problem:
            raise InputError(f"--show: {problem}")
        self.wait, self.snapshots = wait, snapshots
        self.waits = True
        self._live, self._manifest = live, manifest
        self._annotator = Annotator(live)
        self._rates: dict[str, RateMeter] = {}
        self._names: set[str] = set()
        self._shown_at = 0.0
        self._snapshots = 0
        self._paused = self._panel = self._interrupted = False
        self._picture: Image | None = None

    def show(self, frame: Frame, record: Record) -> bool:
        """Show one frame; return whether to go on."""
        if frame.image is None or record.prediction is None:
            return not self._live or self.idle()
        rate = self._rates.setdefault(frame.source, RateMeter(_RATE_SECONDS)).count(time.monotonic())
        if not (self._paused and self._live):
            self._draw(frame, record, rate)
        if self._live:
            return self.idle()
        delay = 0 if self.wait else self._delay_ms(frame)
        while not self._interrupted:
            key = self._key(30 if self.wait or self._paused else delay)
            if not self._goes_on(key):
                return False
            if key == ord("t"):
                self._draw(frame, record, rate)
            if self.wait and key not in (-1, ord("s"), ord("t")):
                return True
            if not self.wait and not self._paused:
                return True
        return False

    def idle(self) -> bool:
        """Handle keys while no frame comes; return whether to go on."""
        return not self._names or self._goes_on(self._key(1))

    def interrupt(self) -> None:
        """Let a window that waits for a key return; may be called from a signal handler."""
        self._interrupted = True

    def close(self) -> None:
        """Close the window."""
        cv2.destroyAllWindows()

    def _key(self, delay_ms: int) -> int:
        return cv2.waitKey(max(1, delay_ms))

    def _goes_on(self, key: int) -> bool:
        """Do what a key means; return whether to go on."""
        closed = any(cv2.getWindowProperty(name, cv2.WND_PROP_VISIBLE) < 1 for name in self._names)
        if closed or key in (ord("q"), _ESCAPE):
            return False
        if key == ord("s"):
            self._save()
        elif key == ord("t"):
            self._panel = not self._panel
        elif key == _SPACE and not self.wait:
            self._paused = not self._paused
        return True

    def _draw(self, frame: Frame, record: Record, rate: float | None) -> None:
        if frame.image is None or record.prediction is None:
            return
        stages = [f"{name} {taken:.1f}" for name, taken in record.prediction.latency_ms.items()]
        speed = [f"{rate:.1f} frames a second"] if rate is not None and not self.wait else []
        notes = [Note([*speed, f"ms: {', '.join(stages)}"], "bottom left")]
        if self._panel:
            notes.append(Note(theta_lines(record, self._manifest), "top right"))
        self._picture = picture = self._annotator.draw(frame, record, notes)
        name = f"{_NAME}: {frame.source}" if self._live else _NAME  # each camera has its own window
        if name not in self._names:
            self._names.add(name)
            cv2.namedWindow(name, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL)
            shrink = min(1.0, _LARGEST / max(picture.shape[:2]))
            cv2.resizeWindow(name, round(picture.shape[1] * shrink), round(picture.shape[0] * shrink))
        cv2.imshow(name, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))

    def _delay_ms(self, frame: Frame) -> int:
        """Return how long to wait so that a video plays at its rate."""
        now = time.monotonic()
        due = self._shown_at + 1 / frame.rate if frame.rate else now
        self._shown_at = max(now, due)
        return round(1000 * (self._shown_at - now))

    def _save(self) -> None:
        if self._picture is None:
            return
        while (path := self.snapshots / f"snapshot-{self._snapshots:04d}.png").exists():
            self._snapshots += 1
        try:
            write_image(path, self._picture)
        except InputError as error:  # a folder that may not be written is no reason to end the run
            log.warning("%s", error)


def theta_lines(record: Record, manifest: Manifest) -> list[str]:
    """Return theta as text: a line for each transformer, and one for each row of its parameters."""
    theta = record.prediction.theta if record.prediction is not None else ()
    lines = []
    for transformer in manifest.transformers:
        values = theta[transformer.theta[0] : transformer.theta[1]]
        row = 3 if transformer.grid in ("affine", "projective") else 4
        lines.append(f"theta of {transformer.name} ({transformer.grid})")
        lines += [" ".join(f"{value:+.2f}" for value in values[at : at + row]) for at in range(0, len(values), row)]
    return lines


def display_problem() -> str:
    """Return why no window can be opened, with the remedy, or nothing.

    A missing display makes OpenCV abort the process, so a child process tries first.
    """
    gui = next((line for line in cv2.getBuildInformation().splitlines() if line.strip().startswith("GUI:")), "")
    if "NONE" in gui:
        return (
            "this OpenCV is built without windows; "
            f"{PIP} uninstall -y opencv-python-headless && {PIP} install opencv-python"
        )
    attempt = "import cv2; cv2.namedWindow('stn-edge'); cv2.waitKey(1)"
    try:
        done = subprocess.run(python_command(attempt), capture_output=True, timeout=30, check=False)
    except subprocess.TimeoutExpired:
        return "opening a window took over 30 s; use --save or --serve instead"
    if done.returncode:
        return (
            "no window can be opened, is there a screen (DISPLAY or WAYLAND_DISPLAY set)? use --save or --serve instead"
        )
    return ""
