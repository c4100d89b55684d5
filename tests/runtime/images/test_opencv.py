"""Without a working OpenCV a command says one sentence with the remedy."""

import os
import subprocess
import sys

import pytest

from stn_runtime.images import opencv
from stn_runtime.machine.interpreter import PIP

BLOCKED = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            raise {error}
sys.meta_path.insert(0, Blocker())
from stn_runtime.cli import main
sys.exit(main({arguments!r}))
"""


def _run(module: str, error: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    code = BLOCKED.format(module=module, error=error, arguments=list(arguments))
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("arguments", [("run", "photo.jpg"), ("verify", "digits"), ("models",)], ids=" ".join)
def test_missing_opencv_is_one_sentence_and_exit_2(arguments: tuple[str, ...]) -> None:
    done = _run("cv2", "ModuleNotFoundError(\"No module named 'cv2'\", name='cv2')", *arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("stn: ")
    assert done.stderr.count("\n") == 1
    assert f"{PIP} install" in done.stderr


def test_a_missing_system_library_is_named() -> None:
    done = _run("cv2", "ImportError('libGL.so.1: cannot open shared object file')", "run", "photo.jpg")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "libGL.so.1" in done.stderr
    assert "apt-get install libgl1" in done.stderr


def test_missing_onnxruntime_is_one_sentence_and_exit_2() -> None:
    error = "ModuleNotFoundError(\"No module named 'onnxruntime'\", name='onnxruntime')"
    done = _run("onnxruntime", error, "run", "photo.jpg")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"stn: package 'onnxruntime' is not installed: {PIP} install stn-edge\n"


@pytest.mark.parametrize(("command", "extra"), [("train", "train"), ("export", "export"), ("evaluate", "train")])
def test_a_command_without_its_extra_says_what_to_install(command: str, extra: str) -> None:
    done = _run("torch", "ModuleNotFoundError(\"No module named 'torch'\", name='torch')", command, "x")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert f"{PIP} install 'stn-edge[{extra}]'" in done.stderr
    assert "'torch'" in done.stderr


def test_help_works_without_opencv() -> None:
    done = _run("cv2", "ModuleNotFoundError(\"No module named 'cv2'\", name='cv2')", "--help")
    assert done.returncode == 0
    assert "verify" in done.stdout


def test_no_wheel_means_install_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opencv, "installed_wheels", list)
    assert "'stn-edge[headless]'" in opencv.remedy(ImportError("No module named 'cv2'"))


def test_two_wheels_mean_keep_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opencv, "installed_wheels", lambda: ["opencv-python", "opencv-python-headless"])
    told = opencv.remedy(ImportError("DLL load failed"))
    assert "OpenCV wheels overwrite each other (opencv-python, opencv-python-headless)" in told
    assert f"{PIP} uninstall -y opencv-python opencv-python-headless && {PIP} install opencv-python-headless" in told


@pytest.mark.parametrize("library", ["libGL.so.1", "libgthread-2.0.so.0", "libxcb.so.1"])
def test_a_missing_library_means_install_it(monkeypatch: pytest.MonkeyPatch, library: str) -> None:
    monkeypatch.setattr(opencv, "installed_wheels", lambda: ["opencv-python"])
    told = opencv.remedy(ImportError(f"{library}: cannot open shared object file"))
    assert library in told
    assert "apt-get install" in told


def test_any_other_reason_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opencv, "installed_wheels", lambda: ["opencv-python"])
    told = opencv.remedy(ImportError("numpy.core.multiarray failed to import"))
    assert "numpy.core.multiarray failed to import" in told
    assert f"{PIP} install --force-reinstall opencv-python" in told


def test_the_installed_wheels_are_found() -> None:
    assert set(opencv.installed_wheels()) <= set(opencv.WHEELS)
    assert opencv.installed_wheels()


@pytest.mark.parametrize("value", ["1e9", "-1", "", "many"])
def test_a_limit_of_pixels_that_is_no_number_is_one_sentence(value: str) -> None:
    code = "import sys; from stn_runtime.cli import main; sys.exit(main(['run', 'photo.jpg']))"
    environment = os.environ | {"OPENCV_IO_MAX_IMAGE_PIXELS": value}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=60)
    assert done.returncode == 2
    assert done.stderr.startswith(f"stn: OPENCV_IO_MAX_IMAGE_PIXELS is '{value}': expected a whole number, such as ")
    assert done.stderr.count("\n") == 1
