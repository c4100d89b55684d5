"""How many threads are fastest."""

from pathlib import Path

import pytest

from stn_runtime.commands import tuning
from stn_runtime.commands.tuning import tuned_threads, worthwhile_threads


@pytest.mark.parametrize(
    ("times", "threads"),
    [
        ((10.0, 6.0, 4.0, 3.0), 4),
        ((10.0, 9.6, 9.5, 9.4), 4),  # of 10: 9.5 is not below 95 %, 9.4 is
        ((10.0, 9.6, 9.55, 9.51), 1),
        ((10.0, 5.0, 4.9, 4.8), 2),
        ((10.0, 5.0, 4.9, 4.7), 4),
        ((3.0, 4.0, 5.0, 6.0), 1),
        ((10.0, 12.0, 4.0, 20.0), 3),
        ((10.0,), 1),
    ],
)
def test_more_threads_must_gain_a_twentieth(times: tuple[float, ...], threads: int) -> None:
    assert worthwhile_threads(dict(enumerate(times, 1))) == threads


@pytest.mark.parametrize(("cpus", "counts"), [(1, {1}), (4, {1, 2, 3, 4}), (12, {1, 2, 3, 4, 6, 8, 12})])
def test_every_sensible_number_of_threads_is_measured(
    monkeypatch: pytest.MonkeyPatch, grey_model: Path, cpus: int, counts: set[int]
) -> None:
    opened = []

    def network(*arguments: object, threads: int, **options: object) -> tuning.Network:
        opened.append(threads)
        return real(*arguments, threads=threads, **options)  # type: ignore[arg-type]

    real = tuning.Network
    monkeypatch.setattr(tuning, "Network", network)
    monkeypatch.setattr(tuning, "usable_cpus", lambda: cpus)
    assert tuned_threads(grey_model, None, rounds=1, pause_seconds=0.0) in counts
    assert set(opened) == counts
