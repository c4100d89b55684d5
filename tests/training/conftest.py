"""What the training tests share: generated folders of pictures, the command line, and one run that learned."""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor

from stn_runtime.cli import main

MakeFolder = Callable[..., Path]
Refusal = Callable[..., str]


@contextmanager
def one_thread() -> Iterator[None]:
    """Networks this small gain nothing from threads, and lose a factor of ten to them on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@pytest.fixture(scope="module", autouse=True)
def _on_one_thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(scope="session")
def digits() -> Tensor:
    """A hundred digits, (100, 1, 28, 28), strokes in the middle 20 pixels; enlarged by OpenCV, not by the package."""
    enlarged = [cv2.resize(image.astype(np.float32) / 16, (20, 20)) for image in load_digits().images[:100]]
    return torch.from_numpy(np.pad(np.stack(enlarged), ((0, 0), (4, 4), (4, 4))))[:, None]


@pytest.fixture(scope="session")
def make_folder() -> MakeFolder:
    """Writes a folder of pictures per class; a picture's grey level says its class and its number."""

    def make(root: Path, counts: Mapping[str, int], size: tuple[int, int] = (16, 16), suffix: str = ".png") -> Path:
        for index, (name, count) in enumerate(counts.items()):
            folder = root / name
            folder.mkdir(parents=True, exist_ok=True)
            for number in range(count):
                picture = np.full((*size, 3), 60 * index + number, np.uint8)
                # written through memory: OpenCV cannot open every unicode path on every system
                (folder / f"{number:03d}{suffix}").write_bytes(cv2.imencode(suffix, picture)[1].tobytes())
        return root

    return make


@pytest.fixture
def refusal(capsys: pytest.CaptureFixture[str]) -> Refusal:
    """Runs a command that must end with status 2 and one sentence; returns the sentence."""

    def run(*arguments: object) -> str:
        capsys.readouterr()
        assert main([str(argument) for argument in arguments]) == 2
        out, err = capsys.readouterr()
        talk = [line for line in re.split(r"[\r\n]+", err) if line.strip()]
        assert "Traceback" not in err
        assert out == ""
        assert talk, "nothing was said"
        assert [line for line in talk if line.startswith("stn: ")] == talk[-1:], f"not one sentence: {talk}"
        return talk[-1].removeprefix("stn: ")

    return run


@pytest.fixture(scope="session")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of 'stn train' that had time to learn: a small st-cnn on undistorted digits."""
    folder = tmp_path_factory.mktemp("runs") / "learned"
    arguments = ["train", "sklearn-digits", "--model", "st-cnn", "--options", '{"image_size": 28, "width": 8}']
    arguments += ["--epochs", "4", "--lr", "1e-2", "--batch-size", "32", "--picture-every", "2"]
    with one_thread():
        assert main([*arguments, "--output", str(folder)]) == 0
    return folder
