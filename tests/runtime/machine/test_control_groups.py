"""Control groups, by files made as the kernel makes them."""

from pathlib import Path

import pytest

from stn_runtime.machine import control_groups as cgroup
from stn_runtime.machine.control_groups import read_groups
from stn_runtime.machine.memory import usable_memory

SERVICE = "system.slice/stn-edge.service"


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with ``own``, which says the groups of this process, and ``groups``."""
    monkeypatch.setattr(cgroup, "_OWN", tmp_path / "own")
    monkeypatch.setattr(cgroup, "_GROUPS", tmp_path / "groups")
    return tmp_path


def _set(kernel: Path, file: str, text: str) -> None:
    path = kernel / "groups" / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n")


def test_a_service_has_its_own_limit_and_those_above(kernel: Path) -> None:
    (kernel / "own").write_text(f"0::/{SERVICE}\n")
    _set(kernel, f"{SERVICE}/cpu.max", "150000 100000")
    _set(kernel, "system.slice/cpu.max", "max 100000")
    _set(kernel, "other.slice/cpu.max", "1 100000")
    _set(kernel, "../cpu.max", "2 100000")  # no group any more
    assert list(read_groups("cpu", "cpu.max")) == [["150000", "100000"], ["max", "100000"]]


def test_in_a_container_the_limit_stands_at_the_root(kernel: Path) -> None:
    (kernel / "own").write_text("0::/\n")
    _set(kernel, "memory.max", str(1 << 29))
    assert list(read_groups("memory", "memory.max")) == [[str(1 << 29)]]


def test_of_the_first_version_each_controller_has_groups_of_its_own(kernel: Path) -> None:
    (kernel / "own").write_text(f"5:memory:/gone\n4:cpu,cpuacct:/{SERVICE}\n0::/{SERVICE}\n")
    _set(kernel, f"cpu/{SERVICE}/cpu.cfs_quota_us", "200000")
    _set(kernel, f"cpu/{SERVICE}/cpu.cfs_period_us", "100000")
    _set(kernel, "cpu/cpu.cfs_quota_us", "-1")  # without a period
    _set(kernel, "memory/memory.limit_in_bytes", "1000")
    assert list(read_groups("cpu", "cpu.cfs_quota_us", "cpu.cfs_period_us")) == [["200000", "100000"]]
    assert list(read_groups("memory", "memory.limit_in_bytes")) == [["1000"]]


def test_without_groups_there_is_nothing(kernel: Path) -> None:
    assert list(read_groups("cpu", "cpu.max")) == []


@pytest.mark.parametrize(
    ("limits", "expected"),
    [(("max", "max"), None), ((str(1 << 20), "max"), 1 << 20), (("max", str(1 << 21)), 1 << 21), (("1", "2"), 1)],
)
def test_the_smallest_limit_of_memory_counts(kernel: Path, limits: tuple[str, str], expected: int | None) -> None:
    unlimited = usable_memory.__wrapped__()  # without what it remembers
    (kernel / "own").write_text(f"0::/{SERVICE}\n")
    for group, limit in zip((SERVICE, "system.slice"), limits, strict=True):
        _set(kernel, f"{group}/memory.max", limit)
    assert usable_memory.__wrapped__() == (expected or unlimited)
