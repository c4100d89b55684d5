"""Some hundred damaged files, and the watch over their readers; ``tests.stress.fuzz_files`` has thousands."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from stn_runtime import InputError
from tests.stress import fuzz_files
from tests.stress.fuzz_files import FAULTS, _measured, table, watch
from tests.stress.mutations import damaged, model_seeds, picture_seeds

pytestmark = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="measures memory as Linux tells it")


def test_damaged_pictures_are_read_or_refused_in_one_sentence() -> None:
    outcomes = list(watch("images", 660))
    assert [outcome for outcome in outcomes if outcome.verdict in FAULTS] == []
    assert [outcome.index for outcome in outcomes] == list(range(660))
    assert {outcome.kind for outcome in outcomes if outcome.verdict == "read"} == set(picture_seeds())
    assert {outcome.kind for outcome in outcomes if outcome.verdict == "refused"} == set(picture_seeds())


def test_damaged_models_are_run_or_refused_in_one_sentence() -> None:
    outcomes = list(watch("models", 100))
    assert [outcome for outcome in outcomes if outcome.verdict in FAULTS] == []
    assert len({outcome.verdict for outcome in outcomes}) == 2


@pytest.mark.parametrize("seeds", [picture_seeds, model_seeds])
def test_a_number_names_the_same_damaged_file_each_time(seeds: Callable[[], dict[str, list[bytes]]]) -> None:
    whole = seeds()
    once, again, otherwise = ([damaged(whole, seed, index) for index in range(30)] for seed in (0, 0, 1))
    assert once == again
    assert once != otherwise


DYING = """
import os, sys, time
for index in range(int(sys.argv[2]), int(sys.argv[3])):
    if index == 3:
        os.abort()
    if index == 5:
        time.sleep(60)
    print(index, "JPEG", "read", 0.1, 2.0, "", sep="\\t", flush=True)
"""


def test_a_reader_that_dies_or_hangs_is_told_and_the_next_file_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz_files, "DEAD_SECONDS", 1.0)
    outcomes = list(watch("images", 8, reader=(sys.executable, "-c", DYING)))
    verdicts = ["read", "read", "read", "crashed", "read", "hung", "read", "read"]
    assert [outcome.verdict for outcome in outcomes] == verdicts
    assert [outcome.index for outcome in outcomes] == list(range(8))
    assert outcomes[3].told == "exit status -6"
    assert table(outcomes).splitlines()[-1] == "| all | 8 | 6 | 0 | 0 | 1 | 1 | 0 | 0 | 2 | 0.1 |"


def _raise(error: Exception) -> None:
    raise error


@pytest.mark.parametrize(
    ("reader", "verdict"),
    [
        (lambda path: None, "read"),
        (lambda path: _raise(InputError(f"{path}: is cut off")), "refused"),
        (lambda path: _raise(InputError("is cut off")), "wrong"),  # which file?
        (lambda path: _raise(InputError(f"{path}: is\ncut off")), "wrong"),
        (lambda path: _raise(IndexError("list index out of range")), "wrong"),
        (lambda path: b"x" * (1 << 28), "memory"),
    ],
)
def test_what_becomes_of_a_file_has_a_name(reader: Callable[[Path], None], verdict: str) -> None:
    before = fuzz_files._memory("VmRSS")
    assert _measured(reader, Path("x.jpg"), before, limit=50.0)[0] == verdict
