"""What doctor says of the device itself, with every fact faked that it could meet."""

import os
import platform
import struct
import sys
import sysconfig
from importlib import metadata
from pathlib import Path

import pytest

from stn_runtime.doctor.display_check import check_display
from stn_runtime.doctor.extras_check import check_extras
from stn_runtime.doctor.finding import Finding
from stn_runtime.doctor.memory_check import check_memory
from stn_runtime.doctor.processor_check import check_processor
from stn_runtime.doctor.python_check import check_python
from stn_runtime.machine.interpreter import PIP
from stn_runtime.views import window


def test_a_finding_is_one_line_with_its_remedy_under_it() -> None:
    assert str(Finding("OpenCV", "ok", "5.0.0")) == "ok       OpenCV       5.0.0"
    told = str(Finding("onnxruntime", "BROKEN", "is not installed", f"{PIP} install onnxruntime"))
    assert told == "BROKEN   onnxruntime  is not installed\n" + 24 * " " + f"{PIP} install onnxruntime"


def test_python_and_the_system_are_told() -> None:
    found = check_python()
    assert found.state == "ok"
    assert found.sentence.startswith(f"{platform.python_version()}, 64-bit, on {platform.machine()}, ")


def test_32_bits_are_broken_also_under_a_kernel_of_64(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(struct, "calcsize", lambda _: 4)
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    found = check_python()
    assert found.state == "BROKEN"
    assert "32-bit, on aarch64" in found.sentence
    assert found.sentence.endswith(": onnxruntime is made for 64 bits only")
    assert found.remedy == "install a 64-bit operating system"


def test_musl_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sysconfig, "get_config_var", lambda _: "cpython-312-x86_64-linux-musl")
    found = check_python()
    assert found.state == "warning"
    assert found.sentence.endswith(": there are no onnxruntime wheels for musl")
    assert "glibc" in found.remedy


@pytest.mark.parametrize(
    ("usable", "allowed", "there", "told"),
    [
        (4, 4, 4, "AMD EPYC 7B13, 4 CPUs"),
        (1, 1, 1, "AMD EPYC 7B13, 1 CPU"),
        (2, 4, 4, "AMD EPYC 7B13, 2 CPUs of 4, by the container's CPU quota"),
        (2, 2, 8, "AMD EPYC 7B13, 2 CPUs of 8, by the CPU set of this process"),
        (None, 3, 3, "AMD EPYC 7B13, 3 CPUs"),
    ],
)
def test_what_limits_the_cpus_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, usable: int | None, allowed: int, there: int, told: str
) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "cpuinfo").write_text("processor\t: 0\nmodel name\t: AMD EPYC 7B13\n")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(allowed)), raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: there)
    assert check_processor(usable, tmp_path) == Finding("processor", "ok", told)


@pytest.mark.parametrize(
    ("available", "limit", "state", "told"),
    [
        (1 << 20, 4 << 30, "ok", "3.8 GiB, 1.0 free"),
        (1 << 20, 1 << 29, "ok", "3.8 GiB, 1.0 free; this process may use 0.5"),
        (100 << 10, 4 << 30, "warning", "3.8 GiB, 0.1 free"),
        (1 << 20, 100 << 20, "warning", "3.8 GiB, 1.0 free; this process may use 0.1"),
    ],
)
def test_little_memory_is_warned_of(tmp_path: Path, available: int, limit: int, state: str, told: str) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "meminfo").write_text(f"MemTotal: 4000000 kB\nMemFree: 1 kB\nMemAvailable: {available} kB\n")
    [found] = check_memory(tmp_path, limit)
    assert (found.state, found.sentence) == (state, told)
    assert bool(found.remedy) == (state == "warning")


def test_a_system_that_does_not_tell_of_its_memory_gets_no_line(tmp_path: Path) -> None:
    assert list(check_memory(tmp_path)) == []


def test_a_missing_display_is_a_note_since_only_a_window_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(window, "display_problem", lambda: f"this OpenCV has no windows; {PIP} install opencv-python")
    found = check_display()
    assert found == Finding(
        "display", "note", "only --show needs one: this OpenCV has no windows", f"{PIP} install opencv-python"
    )
    monkeypatch.setattr(window, "display_problem", lambda: "")
    assert check_display() == Finding("display", "ok", "a window can be opened")


def test_extras_are_judged_by_what_they_require(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [
        "numpy>=1.26",
        "starlette>=0.40; extra == 'serve'",
        'onnx>=1.17; extra == "export"',
        "torch>=2.6; extra == 'export'",
        "opencv-python>=4.8; extra == 'gui'",
    ]
    there = {"starlette"}

    def version(name: str) -> str:
        if name not in there:
            raise metadata.PackageNotFoundError(name)
        return "1.0"

    monkeypatch.setattr(metadata, "requires", lambda _: lines)
    monkeypatch.setattr(metadata, "version", version)
    assert check_extras().sentence == f"installed: serve; not installed: export ({PIP} install 'stn-edge[export]')"
    there |= {"onnx", "torch"}
    assert check_extras() == Finding("extras", "note", "installed: serve, export")
    there.clear()
    assert check_extras().sentence.startswith("installed: none; not installed: serve, export ")


def test_extras_are_not_known_of_a_source_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    def requires(name: str) -> list[str]:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "requires", requires)
    assert check_extras().sentence.startswith("not known: stn-edge runs from its source folder")


def test_another_system_is_named_with_its_release(monkeypatch: pytest.MonkeyPatch) -> None:
    check_python()  # sysconfig reads this system's own settings at its first call
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    monkeypatch.setattr(platform, "release", lambda: "24.1.0")
    assert check_python().sentence.endswith(", Darwin 24.1.0")
