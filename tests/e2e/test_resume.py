"""A run over a folder that is killed at random moments, and resumed until it is through."""

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from stn_runtime.images.writing import write_image

PICTURES = 300
KILLS = 5
RUN = [sys.executable, "-m", "stn_runtime", "run"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    generator = np.random.default_rng(0)
    for index in range(PICTURES):
        write_image(folder / f"{index:03}.jpg", generator.integers(0, 256, (200, 300, 3), np.uint8))
    (folder / "150.jpg").write_bytes(b"")
    return folder


def test_a_killed_run_goes_on_where_it_was_and_loses_or_repeats_no_line(folder: Path, tmp_path: Path) -> None:
    results, moments = tmp_path / "results.jsonl", random.Random(1)
    killed = 0
    for attempt in range(KILLS + 1):
        process = subprocess.Popen(
            [*RUN, str(folder), "-o", str(results), "--resume"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        if attempt < KILLS:
            while process.poll() is None and not (results.exists() and results.stat().st_size):
                time.sleep(0.01)
            time.sleep(moments.uniform(0, 0.1))
            process.kill()
        killed += process.wait(120) == -signal.SIGKILL
    lines = [json.loads(line) for line in results.read_text(encoding="ascii").splitlines()]
    assert [Path(line["source"]).name for line in lines] == [f"{index:03}.jpg" for index in range(PICTURES)]
    assert [line["source"] for line in lines if "error" in line] == [str(folder / "150.jpg")]
    assert killed >= 1


def test_resume_without_a_results_file_is_one_sentence(folder: Path) -> None:
    done = subprocess.run([*RUN, str(folder), "--resume"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.strip().endswith("--resume goes on with a results file: name it with --output")
