"""How much memory there is, is free, and is held, as this system says."""

import mmap

import pytest

from stn_runtime.machine.memory import free_memory, held_memory, usable_memory


@pytest.mark.skipif(held_memory() is None, reason="this system does not say how much memory a process holds")
def test_memory_that_is_taken_is_held() -> None:
    before = held_memory()
    with mmap.mmap(-1, 64 << 20) as taken:
        taken.write(b"x" * (64 << 20))
        after = held_memory()
    assert before is not None
    assert after is not None
    assert after - before > 60 << 20


def test_what_is_free_is_part_of_what_may_be_used() -> None:
    assert 0 < free_memory() <= usable_memory()
