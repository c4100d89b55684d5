"""The command doctor: it runs where nothing else does, and its exit status says whether stn run can."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from stn_runtime.doctor import command as doctor
from stn_runtime.doctor.finding import Finding
from stn_runtime.doctor.package_check import Attempt
from stn_runtime.doctor.sampler_check import SamplerResult
from stn_runtime.errors import MissingDependencyError
from stn_runtime.machine.interpreter import PIP

Stn = Callable[..., tuple[int, str, str]]

CPU = "CPUExecutionProvider"
RIGHT = SamplerResult(CPU, 18, "bilinear", "zeros", False, 1e-6, 20.0, CPU)
VERSIONS = {"numpy": "2.1.0", "onnxruntime": "1.31.0", "OpenCV": "4.10.0"}


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Finding]]:
    """A device on which all is well; what a check finds is set by its name, as in ``device["cameras"] = [...]``."""
    found = {
        "python": [Finding("python", "ok", "3.11.2, 64-bit")],
        "processor": [Finding("processor", "ok", "a fast one")],
        "memory": [],
        "numpy": [Finding("numpy", "ok", "2.1.0")],
        "onnxruntime": [Finding("onnxruntime", "ok", "1.31.0")],
        "opencv": [Finding("OpenCV", "ok", "4.10.0")],
        "display": [Finding("display", "note", "only --show needs one")],
        "cameras": [Finding("camera", "note", "none found")],
        "extras": [Finding("extras", "note", "installed: none")],
    }
    for name in ("memory", "onnxruntime", "opencv", "cameras"):
        monkeypatch.setattr(doctor, f"check_{name}", lambda *_, name=name: found[name])
    for name in ("python", "processor", "numpy", "display", "extras"):
        monkeypatch.setattr(doctor, f"check_{name}", lambda *_, name=name: found[name][0])
    monkeypatch.setattr(doctor, "try_package", lambda name: Attempt(VERSIONS[name]))
    monkeypatch.setattr(doctor, "released_models", lambda: {"one": Path("one.onnx"), "two": Path("two.onnx")})
    monkeypatch.setattr("stn_runtime.doctor.model_check.check_released", lambda _: None)
    monkeypatch.setattr("stn_runtime.doctor.sampler_check.check_samplers", lambda _: [RIGHT])
    return found


@pytest.mark.usefixtures("device")
def test_each_check_is_a_line_and_a_sound_device_is_status_0(stn: Stn) -> None:
    status, out, _ = stn("doctor")
    assert out.splitlines() == [
        "ok       python       3.11.2, 64-bit",
        "ok       processor    a fast one",
        "ok       numpy        2.1.0",
        "ok       onnxruntime  1.31.0",
        "ok       OpenCV       4.10.0",
        "note     display      only --show needs one",
        "note     camera       none found",
        "note     extras       installed: none",
        "ok       models       2 of 2 released ones answer as recorded",
        f"ok       GridSample   {CPU}: 1 of 1 kinds as specified (opsets 18), the default one in 20 us",
        "nothing is broken",
    ]
    assert status == 0


def test_warnings_are_no_failure(stn: Stn, device: dict[str, list[Finding]]) -> None:
    device["cameras"] = [Finding("camera", "warning", "/dev/video0 is busy", "end that program")]
    status, out, _ = stn("doctor")
    assert (status, out.splitlines()[-1]) == (0, "nothing is broken")
    assert "warning  camera       /dev/video0 is busy\n                        end that program\n" in out


def test_what_is_broken_is_named_at_the_end_with_status_1(stn: Stn, device: dict[str, list[Finding]]) -> None:
    device["python"] = [Finding("python", "BROKEN", "32-bit", "install a 64-bit operating system")]
    device["opencv"] = [Finding("OpenCV", "BROKEN", "one"), Finding("OpenCV", "BROKEN", "two")]
    status, out, _ = stn("doctor")
    assert (status, out.splitlines()[-1]) == (1, "BROKEN: python, OpenCV")


@pytest.mark.usefixtures("device")
def test_a_released_model_that_is_broken_is_status_1(stn: Stn, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = Finding("models", "BROKEN", "two.onnx: damaged", "reinstall stn-edge from its checkout or wheel")
    monkeypatch.setattr(
        "stn_runtime.doctor.model_check.check_released", lambda path: broken if path.stem == "two" else None
    )
    status, out, _ = stn("doctor")
    assert (status, out.splitlines()[-1]) == (1, "BROKEN: models")
    assert "BROKEN   models       two.onnx: damaged\n" in out
    assert "ok       models       1 of 2 released ones answer as recorded\n" in out


@pytest.mark.usefixtures("device")
def test_without_released_models_a_file_is_needed(stn: Stn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "released_models", dict)
    status, out, _ = stn("doctor")
    assert status == 0
    assert "warning  models       none is installed: stn run needs --model FILE\n" in out
    assert "0 of 0" not in out


@pytest.mark.usefixtures("device")
@pytest.mark.parametrize("package", VERSIONS)
def test_where_a_package_does_not_load_nothing_is_tried_that_needs_it(
    stn: Stn, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setattr(
        doctor, "try_package", lambda name: Attempt(reason="gone") if name == package else Attempt(VERSIONS[name])
    )
    _, out, _ = stn("doctor")
    assert "note     models       not tried, since a package that they need is BROKEN\n" in out
    assert "display" not in out
    assert ("GridSample" in out) == (package == "OpenCV")


def test_loading_the_command_loads_neither_onnxruntime_nor_opencv_nor_numpy() -> None:
    code = "import sys, stn_runtime.doctor.command; print(*{'cv2', 'onnxruntime', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="signals are of Unix")
@pytest.mark.parametrize(
    ("package", "code", "line"),
    [
        (
            "onnxruntime",
            f"import os; os.kill(os.getpid(), {int(signal.SIGILL)})",
            "kills its process: Illegal instruction",
        ),
        ("onnxruntime", "raise ModuleNotFoundError('none', name='onnxruntime')", "onnxruntime  is not installed"),
        ("cv2", "raise ImportError('libGL.so.1: cannot open')", "system library that is missing (libGL.so.1: cannot"),
    ],
    ids=["killed", "missing", "library"],
)
def test_a_package_that_cannot_be_loaded_is_a_line_of_the_whole_command(
    tmp_path: Path, package: str, code: str, line: str
) -> None:
    (tmp_path / f"{package}.py").write_text(code)
    path = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    command = [sys.executable, "-m", "stn_runtime", "doctor"]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}, timeout=120, check=False
    )
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    [told] = (entry for entry in done.stdout.splitlines() if line in entry)
    assert told.startswith("BROKEN   ")
    assert done.stdout.splitlines()[-1] == f"BROKEN: {'OpenCV' if package == 'cv2' else package}"


@pytest.fixture
def graph_examined(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Of which file and for which target the export room was asked."""
    asked: list[tuple[str, str]] = []

    def examine(path: Path, target: str) -> int:
        asked.append((path.name, target))
        return 0

    monkeypatch.setattr(doctor, "_examine_graph", examine)
    return asked


def test_a_model_is_examined_on_this_device_and_its_graph_for_a_cpu(
    stn: Stn, grey_model: Path, graph_examined: list[tuple[str, str]]
) -> None:
    status, out, _ = stn("doctor", grey_model)
    assert status == 0
    assert [line[:20].rstrip() for line in out.splitlines()] == [
        "ok       model",
        "ok       answers",
        "ok       sampler",
    ]
    assert graph_examined == [("grey.onnx", "cpu")]


def test_for_a_target_only_the_graph_is_examined(
    stn: Stn, grey_model: Path, graph_examined: list[tuple[str, str]]
) -> None:
    status, out, _ = stn("doctor", grey_model, "--target", "web")
    assert (status, out, graph_examined) == (0, "", [("grey.onnx", "web")])


def test_on_a_device_without_the_export_room_a_model_is_examined_all_the_same(
    stn: Stn, grey_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def examine(path: Path, target: str) -> int:
        raise MissingDependencyError("looking into a model needs package 'torch'")

    monkeypatch.setattr(doctor, "_examine_graph", examine)
    status, out, _ = stn("doctor", grey_model)
    assert status == 0
    *_, last = out.splitlines()
    assert last == f"note     graph        not checked; to check it, also for targets: {PIP} install 'stn-edge[export]'"


def test_a_model_that_is_broken_is_status_1_and_its_graph_is_left_alone(
    stn: Stn, tmp_path: Path, graph_examined: list[tuple[str, str]]
) -> None:
    (tmp_path / "cut.onnx").write_bytes(b"cut")
    status, out, _ = stn("doctor", tmp_path / "cut.onnx")
    assert (status, graph_examined) == (1, [])
    assert out.startswith("BROKEN   model ")


def test_a_model_cannot_be_examined_where_a_package_does_not_load(
    stn: Stn, grey_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = Attempt(reason="No module named 'numpy'", missing="numpy")
    monkeypatch.setattr(doctor, "try_package", lambda name: gone if name == "numpy" else Attempt(VERSIONS[name]))
    status, out, _ = stn("doctor", grey_model)
    assert status == 1
    assert out.startswith("BROKEN   numpy        No module named 'numpy'\n")
    assert "model" not in out.replace("No module named", "")
