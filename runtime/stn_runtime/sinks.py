"""Where annotated pictures go: a folder, a video file, a window."""

import re
import subprocess
import sys
from pathlib import Path

from .errors import ImageReadError, InputError
from .images import make_folder, write_image
from .opencv import cv2, encodable
from .overlay import draw
from .preprocessing import Image
from .records import Record
from .sources import VIDEO_SUFFIXES, Frame

_FALLBACK_RATE = 25.0
_WRITABLE = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
_WINDOW = "stn-edge"
_ESCAPE, _SPACE = 27, 32


class PictureFolder:
    """Saves an annotated copy of each picture, in the tree of the input.

    Args:
        folder: Made when it is missing.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        make_folder(folder)

    def show(self, frame: Frame, record: Record) -> bool:
        """Save one picture; always goes on.

        Raises:
            InputError: The copy would overwrite the picture itself, or cannot be written.
        """
        if frame.image is None or record.prediction is None:
            return True
        source = Path(frame.source)
        target = self.folder / (source.relative_to(frame.root) if frame.root is not None else source.name)
        if target.suffix.lower() not in _WRITABLE:
            target = target.with_name(target.name + ".png")
        if target.exists() and source.exists() and target.samefile(source):
            raise InputError(f"{source}: --save would overwrite it; give another folder")
        make_folder(target.parent)
        try:
            write_image(target, draw(frame.image, record.prediction, record.sure))
        except ImageReadError as error:
            raise InputError(str(error)) from error
        return True

    def close(self) -> None:
        """Nothing is left open."""


class VideoFile:
    """Saves annotated frames as a video; a change of size starts another file.

    Args:
        path: Of the video; its suffix says the format.
        rate: Frames a second; 25 when the source does not say.
    """

    def __init__(self, path: Path, rate: float | None) -> None:
        self.path, self.rate = path, rate or _FALLBACK_RATE
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)
        self._files = 0
        make_folder(path.parent)

    def show(self, frame: Frame, record: Record) -> bool:
        """Append one frame; always goes on.

        Raises:
            InputError: OpenCV cannot write such a video.
        """
        if frame.image is None or record.prediction is None:
            return True
        picture = draw(frame.image, record.prediction, record.sure)
        size = (picture.shape[1], picture.shape[0])
        if self._writer is None or size != self._size:
            self._writer = self._open(size)
        self._writer.write(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        return True

    def close(self) -> None:
        """Finish the file; without this its index is missing."""
        if self._writer is not None:
            self._writer.release()

    def _open(self, size: tuple[int, int]) -> cv2.VideoWriter:
        self.close()
        self._files += 1
        path = self.path if self._files == 1 else self.path.with_stem(f"{self.path.stem}-{self._files}")
        codec = "MJPG" if path.suffix.lower() == ".avi" else "mp4v"
        writer = cv2.VideoWriter(encodable(path), cv2.VideoWriter.fourcc(*codec), self.rate, size)
        self._size = size
        if not writer.isOpened():
            raise InputError(f"{path}: OpenCV cannot write such a video; use .mp4 or .avi")
        return writer


class Window:
    """A window with the annotated frames; q or Esc ends, space pauses, s saves a snapshot.

    Args:
        wait: Whether to wait for a key at each frame (pictures) or to go on (video, camera).
        rate: Frames a second at which a video is shown; None as they come.
        snapshots: Folder for snapshots.

    Raises:
        InputError: There is no display, or this OpenCV has no windows.
    """

    def __init__(self, wait: bool, rate: float | None = None, snapshots: Path = Path()) -> None:
        problem = display_problem()
        if problem:
            raise InputError(f"--show: {problem}")
        self.wait, self.snapshots = wait, snapshots
        self._delay_ms = max(1, round(1000 / rate)) if rate else 1
        self._snapshots = 0
        self._dismissed = False
        cv2.namedWindow(_WINDOW, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL)

    def show(self, frame: Frame, record: Record) -> bool:
        """Show one frame; return whether to go on."""
        if frame.image is None or record.prediction is None:
            return True
        picture = draw(frame.image, record.prediction, record.sure)
        cv2.imshow(_WINDOW, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        paused = self.wait
        while not self._dismissed:
            key = cv2.waitKey(30 if paused else self._delay_ms)
            if key in (ord("q"), _ESCAPE) or cv2.getWindowProperty(_WINDOW, cv2.WND_PROP_VISIBLE) < 1:
                return False
            if key == ord("s"):
                self._save(picture)
            elif key == _SPACE:
                paused = not paused
            elif key != -1 and self.wait:
                return True
            if not paused:
                return True
        return False

    def dismiss(self) -> None:
        """Let a window that waits for a key go on; may be called from a signal handler."""
        self._dismissed = True

    def close(self) -> None:
        """Close the window."""
        cv2.destroyAllWindows()

    def _save(self, picture: Image) -> None:
        while (path := self.snapshots / f"snapshot-{self._snapshots:04d}.png").exists():
            self._snapshots += 1
        write_image(path, picture)


View = PictureFolder | VideoFile | Window


def open_saver(path: Path, source: str, is_video: bool, rate: float | None) -> PictureFolder | VideoFile:
    """Return what ``--save PATH`` means for a source.

    Args:
        path: A folder, or for a video or camera also a video file.
        source: As the user named it.
        is_video: Whether the source is a video or a camera.
        rate: Its frames a second, if known.

    Raises:
        InputError: A video file for pictures, or the place cannot be written.
    """
    names_video = path.suffix.lower() in VIDEO_SUFFIXES
    if not is_video:
        if names_video:
            raise InputError(f"{path}: pictures are saved in a folder, not in a video; give --save FOLDER")
        return PictureFolder(path)
    stem = re.sub(r"[^\w.-]+", "_", Path(source).stem) or "video"
    target = path if names_video else path / f"{stem}.mp4"
    if target.exists() and Path(source).exists() and target.samefile(source):
        raise InputError(f"{target}: --save would overwrite the source; give another name")
    return VideoFile(target, rate)


def display_problem() -> str:
    """Return why no window can be opened, with the remedy, or nothing.

    A missing display makes OpenCV abort the process, so a child process tries first.
    """
    gui = next((line for line in cv2.getBuildInformation().splitlines() if line.strip().startswith("GUI:")), "")
    if "NONE" in gui:
        return (
            "this OpenCV is built without windows; pip uninstall -y opencv-python-headless && pip install opencv-python"
        )
    attempt = "import cv2; cv2.namedWindow('stn-edge'); cv2.waitKey(1)"
    try:
        done = subprocess.run([sys.executable, "-c", attempt], capture_output=True, timeout=30, check=False)
    except subprocess.TimeoutExpired:
        return "opening a window took over 30 s; use --save instead"
    if done.returncode:
        return "no window can be opened, is there a screen (DISPLAY or WAYLAND_DISPLAY set)? use --save instead"
    return ""
