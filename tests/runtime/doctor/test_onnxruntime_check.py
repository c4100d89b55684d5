"""What doctor says of onnxruntime: missing, killed, one of several, or of a version with a known fault."""

import platform
import sys
from importlib import metadata
from pathlib import Path

import pytest

from stn_runtime.doctor import onnxruntime_check
from stn_runtime.doctor.finding import Finding
from stn_runtime.doctor.onnxruntime_check import check_onnxruntime
from stn_runtime.doctor.package_check import Attempt
from stn_runtime.machine.interpreter import PIP


@pytest.fixture(autouse=True)
def _on_a_pc(monkeypatch: pytest.MonkeyPatch) -> None:
    _install(monkeypatch, onnxruntime="1.31.0")
    _run_on(monkeypatch, "x86_64", "sse4_2")
    monkeypatch.setattr(onnxruntime_check, "local_providers", lambda: ["CPUExecutionProvider"])
    monkeypatch.setattr(sys, "version_info", (3, 11, 2, "final", 0))


def _install(monkeypatch: pytest.MonkeyPatch, **versions: str) -> None:
    installed = {name.replace("_", "-"): version for name, version in versions.items()}

    def version(name: str) -> str:
        if name not in installed:
            raise metadata.PackageNotFoundError(name)
        return installed[name]

    owners = [name for name in installed if name.startswith("onnxruntime")]
    monkeypatch.setattr(metadata, "packages_distributions", lambda: {"onnxruntime": owners * 2} if owners else {})
    monkeypatch.setattr(metadata, "version", version)


def _run_on(monkeypatch: pytest.MonkeyPatch, machine: str, *flags: str, system: str = "linux") -> None:
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(onnxruntime_check, "processor_flags", lambda: frozenset(flags))


def _warnings(version: str) -> list[tuple[str, str]]:
    first, *others = check_onnxruntime(Attempt(version))
    assert first == Finding("onnxruntime", "ok", f"{version}, providers CPUExecutionProvider")
    assert all(found.name == "onnxruntime" for found in others)
    return [(found.sentence, found.remedy) for found in others if found.state == "warning"]


def test_a_version_without_known_faults_is_one_line() -> None:
    assert _warnings("1.31.0") == []


def test_a_missing_onnxruntime_is_a_line_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    _install(monkeypatch)
    found = check_onnxruntime(Attempt(reason="No module named 'onnxruntime'", missing="onnxruntime"))
    assert found == [Finding("onnxruntime", "BROKEN", "is not installed", f"{PIP} install onnxruntime")]


def test_the_illegal_instruction_of_1_21_0_is_known_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    _install(monkeypatch, onnxruntime="1.21.0")
    [found] = check_onnxruntime(Attempt(reason="kills its process: Illegal instruction"))
    assert found.state == "BROKEN"
    assert found.sentence == (
        "1.21.0 stops with an illegal instruction on a Raspberry Pi 4 and other ARMv8.0 processors (onnxruntime#23957)"
    )
    assert found.remedy == f"{PIP} install 'onnxruntime>=1.21.1'"


def test_another_version_that_kills_its_process_is_broken_without_a_known_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _install(monkeypatch, onnxruntime_gpu="1.30.0")
    [found] = check_onnxruntime(Attempt(reason="kills its process: Illegal instruction"))
    assert (found.state, found.sentence) == ("BROKEN", "1.30.0: kills its process: Illegal instruction")
    assert found.remedy == f"{PIP} install --upgrade --force-reinstall onnxruntime-gpu"


def test_a_wheel_that_was_made_for_numpy_1_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    _install(monkeypatch, onnxruntime="1.18.1", numpy="2.4.6")
    [found] = check_onnxruntime(Attempt(reason="ImportError (compiled for numpy 1)"))
    assert found.sentence == "1.18.1 is compiled for numpy 1 and does not load with 2.4.6"
    assert found.remedy == f"{PIP} install 'onnxruntime>=1.19'"


def test_two_packages_overwrite_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    _install(monkeypatch, onnxruntime="1.31.0", onnxruntime_gpu="1.31.0")
    told = "2 packages overwrite each other: onnxruntime, onnxruntime-gpu"
    mend = f"keep one: {PIP} uninstall -y onnxruntime onnxruntime-gpu && {PIP} install onnxruntime-gpu"
    assert _warnings("1.31.0") == [(told, mend)]
    broken, several = check_onnxruntime(Attempt(reason="undefined symbol"))
    assert (broken.state, several.sentence) == ("BROKEN", told)


@pytest.mark.parametrize(
    ("machine", "gpu", "providers", "named"),
    [
        ("x86_64", False, ["CPUExecutionProvider"], "onnxruntime-openvino"),
        ("AMD64", False, ["CPUExecutionProvider"], "onnxruntime-openvino"),
        ("x86_64", True, ["CPUExecutionProvider"], "onnxruntime-gpu"),
        ("x86_64", False, ["OpenVINOExecutionProvider", "CPUExecutionProvider"], None),
        ("x86_64", True, ["CUDAExecutionProvider", "CPUExecutionProvider"], None),
        ("aarch64", False, ["CPUExecutionProvider"], None),
    ],
)
def test_an_engine_that_could_be_installed_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, machine: str, gpu: bool, providers: list[str], named: str | None
) -> None:
    _run_on(monkeypatch, machine)
    driver = tmp_path / "version"
    if gpu:
        driver.write_text("NVRM version")
    monkeypatch.setattr(onnxruntime_check, "_NVIDIA_DRIVER", driver)
    monkeypatch.setattr("shutil.which", lambda _name: None)
    monkeypatch.setattr(onnxruntime_check, "local_providers", lambda: providers)
    notes = [found for found in check_onnxruntime(Attempt("1.31.0")) if found.state == "note"]
    assert [f"install {named}, " in found.remedy for found in notes] == [True] * (named is not None)
    assert all(f"{PIP} uninstall -y onnxruntime && " in found.remedy for found in notes)


def test_a_version_below_the_package_s_bound_is_warned_of() -> None:
    [(told, mend)] = _warnings("1.17.3")
    assert told == "1.17.3 is older than 1.18, the first that stn-edge takes"
    assert mend == f"{PIP} install 'onnxruntime>=1.18'"


@pytest.mark.parametrize(
    ("version", "machine", "flags", "issues"),
    [
        ("1.18.1", "x86_64", "avx2", ["27359"]),
        ("1.18.1", "aarch64", "asimd", ["18992", "27359"]),
        ("1.21.0", "aarch64", "asimd", ["23957", "27359"]),
        ("1.21.0", "x86_64", "avx2", ["27359"]),
        ("1.21.1", "aarch64", "asimd", ["27359"]),
        ("1.23.2", "x86_64", "avx2", ["27155", "27359"]),
        ("1.24.4", "aarch64", "sme", ["28231", "27359"]),
        ("1.25.1", "aarch64", "asimd", []),
        ("1.26.0", "aarch64", "sme", ["28231"]),
        ("1.27.0", "aarch64", "sme", ["28571"]),
        ("1.27.0", "aarch64", "asimd", []),
        ("1.27.1", "aarch64", "sme", []),
    ],
)
def test_known_faults_are_told_where_they_strike(
    monkeypatch: pytest.MonkeyPatch, version: str, machine: str, flags: str, issues: list[str]
) -> None:
    _run_on(monkeypatch, machine, flags)
    assert [told.split("onnxruntime#")[1].rstrip(")") for told, _ in _warnings(version)] == issues


def test_a_mac_may_have_the_matrix_extension(monkeypatch: pytest.MonkeyPatch) -> None:
    _run_on(monkeypatch, "arm64", system="darwin")
    [(told, mend)] = _warnings("1.26.0")
    assert told == "1.26.0: memory grows with every picture (onnxruntime#28231)"
    assert mend == f"{PIP} install 'onnxruntime>=1.27'"


def test_an_update_that_needs_a_newer_python_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 10, 12, "final", 0))
    [(_, mend)] = _warnings("1.22.0")
    assert mend == f"{PIP} install 'onnxruntime>=1.25', with Python 3.11 or newer"


def test_an_update_is_of_the_package_that_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    _install(monkeypatch, onnxruntime_openvino="1.24.1")
    [(_, mend)] = _warnings("1.24.1")
    assert mend == f"{PIP} install 'onnxruntime-openvino>=1.25'"
