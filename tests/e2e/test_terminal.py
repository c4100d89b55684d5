"""What a person sees in a terminal: a run in a pseudo-terminal, whose bytes an emulator draws."""

import fcntl
import os
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import pyte
import pytest

from tests.support.process import default_signals
from tests.support.streams import MjpegCamera

SAMPLES = Path(__file__).parents[2] / "models" / "stn_zoo" / "samples"
LINES = 400  # of the terminal, so that nothing is scrolled away


def output_in_terminal(columns: int, *arguments: object) -> Iterator[bytes]:
    """Run ``stn`` in a terminal of that width; yield what it writes."""
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, columns, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "stn_runtime", *map(str, arguments)],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        preexec_fn=default_signals,
        env={name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")},
    )
    os.close(theirs)
    try:
        while data := os.read(ours, 4096):
            yield data
    except OSError:  # Linux's word for the end
        pass
    finally:
        os.close(ours)
        assert process.wait(timeout=30) == 0


def watch(columns: int, *arguments: object) -> tuple[str, int]:
    """Return what stands in the terminal at the end, without spaces, and how many states of a progress bar were seen.

    The lines are joined, since those of pictures are broken at the edge.
    """
    screen = pyte.Screen(columns, LINES)
    stream = pyte.ByteStream(screen)
    bars = set()
    for data in output_in_terminal(columns, *arguments):
        for part in data.replace(b"\n", b"\n\0").replace(b"\r", b"\0\r").split(b"\0"):  # one movement at a time
            stream.feed(part)
            row = screen.display[screen.cursor.y]
            if "frame" in row and "|" in row:
                bars.add(row)
                assert not re.search(r"\.jpg|\.png", row), row
    return re.sub(r"\s", "", "".join(screen.display)), len(bars)


FIRST = r"digitsrunsonCPUExecutionProvider;nolabelbelowconfidence[\d.]+andforclass'nothing'"
ANSWER = r"(\d|nolabel\(nothing\)|unsure\(\d\?\))[\d.]+%"


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_the_bar_and_the_lines_of_pictures_do_not_cover_each_other(columns: int) -> None:
    pictures = sorted(SAMPLES.iterdir())
    text, bars = watch(columns, "run", SAMPLES, "--threads", "1")
    assert bars > 1
    lines = "".join(rf"{re.escape(str(path))}:{ANSWER}" for path in pictures)
    summary = rf"{len(pictures)}frames,0failed,[\d.]+asecondlabels:.+"
    assert re.fullmatch(f"{FIRST}{lines}{summary}", text), text


@pytest.mark.parametrize("columns", [60, 120])
def test_the_bar_and_the_lines_of_a_camera_do_not_cover_each_other(columns: int) -> None:
    with MjpegCamera() as camera:
        text, bars = watch(columns, "run", camera.url, "--limit", "40", "--threads", "1")
    assert bars > 1
    lines = rf"({re.escape(camera.url)}#\d+:{ANSWER}(\(uncertain:[^()]+\))?){{40}}"
    assert re.fullmatch(rf"{FIRST}{lines}40frames,0failed,[\d.]+asecondlabels:.*", text), text
