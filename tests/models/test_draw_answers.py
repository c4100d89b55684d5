"""The sheet of a model's answers, drawn as a script as its user does."""

import subprocess
import sys
from pathlib import Path

import cv2
import matplotlib as mpl
import pytest

SCRIPT = Path(__file__).parents[2] / "models" / "draw_answers.py"
SAMPLES = SCRIPT.parent / "stn_zoo" / "samples"


def drawn(*arguments: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, str(SCRIPT), *map(str, arguments)], capture_output=True, text=True)


@pytest.mark.parametrize(
    "pictures", [[SAMPLES, "--every", 4], ["--plates", 5, "--typefaces", Path(mpl.get_data_path()) / "fonts"]]
)
def test_five_answers_are_two_rows_of_three(pictures: list[object], tmp_path: Path) -> None:
    done = drawn("digits", *pictures, "--columns", 3, "--side", 100, "-o", tmp_path / "sheet.png")
    assert done.returncode == 0, done.stderr
    assert "5 answers" in done.stdout
    sheet = cv2.imread(str(tmp_path / "sheet.png"))
    assert sheet.shape == (206, 312, 3)
    assert (sheet[106:, 212:] == 255).all()  # there is no sixth
    assert sheet[:100, :100].std() > 5


def test_a_folder_or_plates_must_be_named(tmp_path: Path) -> None:
    assert drawn("digits", "-o", tmp_path / "sheet.png").returncode == 2
    assert drawn("digits", SAMPLES, "--plates", 3, "-o", tmp_path / "sheet.png").returncode == 2
