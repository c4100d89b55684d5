"""Packages are tried in a process of their own: one that kills it, hangs, or does not load is told in words."""

import sys
from pathlib import Path

import pytest

from stn_runtime.doctor import package_check
from stn_runtime.doctor.package_check import PACKAGES, Attempt, check_numpy, numbers, try_package
from stn_runtime.machine.interpreter import PIP

FATAL = {
    "import os, signal; os.kill(os.getpid(), signal.SIGILL)": "kills its process: Illegal instruction",
    "import os; os._exit(3)": "ends its process with status 3",
    "import sys; sys.exit('no licence')": "no licence",
    "raise ImportError('libfoo.so.1:\\n  cannot open')": "libfoo.so.1: cannot open",
    "raise ImportError": "ImportError",
    "import sys; sys.stderr.write('was compiled using NumPy 1.x cannot'); raise ImportError('core')": (
        "core (compiled for numpy 1)"
    ),
}


@pytest.fixture
def replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package onnxruntime in front of the real one; its only file is returned."""
    (tmp_path / "onnxruntime").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path / "onnxruntime" / "__init__.py"


@pytest.mark.parametrize("name", PACKAGES)
def test_a_package_that_loads_tells_its_version(name: str) -> None:
    module = {"OpenCV": "cv2"}.get(name, name)
    assert try_package(name) == Attempt(__import__(module).__version__)


@pytest.mark.skipif(sys.platform == "win32", reason="signals are of Unix")
@pytest.mark.parametrize("code", FATAL)
def test_whatever_a_package_does_when_loaded_is_told_in_words(replaced: Path, code: str) -> None:
    replaced.write_text(code)
    assert try_package("onnxruntime") == Attempt(reason=FATAL[code])


def test_a_package_that_is_not_installed_is_named(replaced: Path) -> None:
    replaced.write_text("import flatbuffers_that_nobody_has")
    told = "No module named 'flatbuffers_that_nobody_has'"
    assert try_package("onnxruntime") == Attempt(reason=told, missing="flatbuffers_that_nobody_has")


def test_a_package_that_loads_but_cannot_run_a_graph_is_found(replaced: Path) -> None:
    replaced.write_text("__version__ = '9.9'")
    assert "has no attribute" in try_package("onnxruntime").reason


def test_a_package_that_hangs_is_given_up(replaced: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replaced.write_text("import time; time.sleep(60)")
    monkeypatch.setattr(package_check, "_SECONDS", 0.5)
    assert try_package("onnxruntime") == Attempt(reason="does not load within 0.5 s")


def test_numpy_is_told_or_broken() -> None:
    assert str(check_numpy(Attempt("2.1.0"))) == "ok       numpy        2.1.0"
    broken = check_numpy(Attempt(reason="No module named 'numpy'", missing="numpy"))
    assert (broken.state, broken.sentence) == ("BROKEN", "No module named 'numpy'")
    assert broken.remedy == f"{PIP} install --upgrade --force-reinstall numpy"


@pytest.mark.parametrize(
    ("version", "expected"), [("1.21.0", (1, 21, 0)), ("1.24.0.dev20260101", (1, 24, 0)), ("5.0", (5, 0)), ("?", ())]
)
def test_versions_are_compared_as_numbers(version: str, expected: tuple[int, ...]) -> None:
    assert numbers(version) == expected
