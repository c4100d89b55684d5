"""The animation of a model's answers, drawn as a script as its user does."""

import subprocess
import sys
from pathlib import Path

from PIL import Image
from sklearn.datasets import load_sample_image

SCRIPT = Path(__file__).parents[2] / "models" / "draw_animation.py"


def test_the_animation_of_a_photograph_is_small_and_moves_for_six_seconds(tmp_path: Path) -> None:
    photograph, path = tmp_path / "china.png", tmp_path / "digits.gif"
    Image.fromarray(load_sample_image("china.jpg")).save(photograph)
    command = [sys.executable, str(SCRIPT), str(photograph), "--output", str(path)]
    subprocess.run(command, check=True, capture_output=True)
    assert path.stat().st_size < 1.5e6
    with Image.open(path) as animation:
        seconds = 0.0
        for number in range(animation.n_frames):
            animation.seek(number)
            seconds += animation.info["duration"] / 1000
    assert animation.n_frames > 50
    assert abs(seconds - 6) < 0.01
    assert animation.info["loop"] == 0


def test_a_photograph_that_is_none_is_named_in_one_sentence(tmp_path: Path) -> None:
    torn = tmp_path / "torn.jpg"
    torn.write_bytes(b"no picture")
    done = subprocess.run([sys.executable, str(SCRIPT), str(torn)], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2
    assert f"{torn}: cannot be read as a picture" in done.stderr
    assert "Traceback" not in done.stderr
