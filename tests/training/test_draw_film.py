"""The strip and the film of a run's pictures, drawn as a script as its user does."""

import subprocess
import sys
from pathlib import Path

from PIL import Image

SCRIPT = Path(__file__).parents[2] / "training" / "draw_film.py"


def drawn(run: Path, folder: Path, *epochs: int) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, str(SCRIPT), str(run), "--epochs", *map(str, epochs), "--output", str(folder / "film")]
    return subprocess.run(command, capture_output=True, text=True)


def test_the_strip_has_a_row_an_epoch_and_the_film_every_picture(learned: Path, tmp_path: Path) -> None:
    assert drawn(learned, tmp_path, 0, 3).returncode == 0
    with Image.open(learned / "pictures" / "epoch_000.png") as one, Image.open(tmp_path / "film.png") as strip:
        assert strip.height == 2 * one.height
        row = one.convert("RGB").crop((0, 0, one.width * 8 // 12, one.height))
        below = strip.crop((strip.width - row.width, 0, strip.width, one.height))
        assert below.tobytes() == row.tobytes()
    with Image.open(tmp_path / "film.gif") as film:
        assert film.n_frames == len(list((learned / "pictures").iterdir())) == 3


def test_an_epoch_without_a_picture_is_one_sentence(learned: Path, tmp_path: Path) -> None:
    done = drawn(learned, tmp_path, 0, 1)
    assert (done.returncode, done.stderr) == (2, f"{learned}: there is no picture of epoch 1; there are 0, 2, 3\n")
    assert not list(tmp_path.iterdir())
