"""What Linux says of a processor and its board, on files made here."""

import platform
import sys
from pathlib import Path

import pytest

from stn_runtime.machine.processor import board, cpu_name, processor_flags, throttling

PI_4 = "processor\t: 0\nBogoMIPS\t: 108.00\nFeatures\t: fp asimd evtstrm crc32 cpuid\nCPU implementer\t: 0x41\n"
PC = "processor\t: 0\nmodel name\t: AMD EPYC 7B13\nflags\t\t: fpu sse4_2 avx2\n"


@pytest.fixture
def cpuinfo(tmp_path: Path) -> Path:
    path = tmp_path / "proc" / "cpuinfo"
    path.parent.mkdir()
    path.write_text(PC)
    return path


@pytest.mark.usefixtures("cpuinfo")
def test_a_processor_is_named(tmp_path: Path) -> None:
    assert (cpu_name(tmp_path), board(tmp_path)) == ("AMD EPYC 7B13", "")


def test_a_board_is_named_before_its_processor(cpuinfo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cpuinfo.write_text(PI_4)
    (tmp_path / "proc" / "device-tree").mkdir()
    (tmp_path / "proc" / "device-tree" / "model").write_bytes(b"Raspberry Pi 4 Model B Rev 1.4\0")
    monkeypatch.setattr(platform, "processor", lambda: "")
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert board(tmp_path) == "Raspberry Pi 4 Model B Rev 1.4"
    assert cpu_name(tmp_path) == "Raspberry Pi 4 Model B Rev 1.4, aarch64"


def test_a_system_without_these_files_names_the_architecture_at_least(tmp_path: Path) -> None:
    assert cpu_name(tmp_path) in (platform.processor(), platform.machine())


def test_the_features_of_a_processor_are_read_on_both_architectures(cpuinfo: Path, tmp_path: Path) -> None:
    assert processor_flags(tmp_path) == {"fpu", "sse4_2", "avx2"}
    cpuinfo.write_text(PI_4)
    assert processor_flags(tmp_path) == {"fp", "asimd", "evtstrm", "crc32", "cpuid"}
    cpuinfo.unlink()
    assert processor_flags(tmp_path) == frozenset()


@pytest.mark.skipif(sys.platform != "linux", reason="a Raspberry Pi runs Linux")
@pytest.mark.parametrize(("flags", "named"), [("50005\n", "0x50005"), ("0\n", None)])
def test_a_raspberry_pi_that_was_slowed_down_says_so(flags: str, named: str | None, tmp_path: Path) -> None:
    path = tmp_path / "sys/devices/platform/soc/soc:firmware/get_throttled"
    path.parent.mkdir(parents=True)
    path.write_text(flags)
    warning = throttling(tmp_path)
    assert (warning is None) if named is None else (warning is not None and named in warning)
