"""The command that is run when something happens."""

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stn_runtime import Prediction
from stn_runtime.records.record import Record
from stn_runtime.sources.frame import Frame
from stn_runtime.views.event_command import EventCommand

PREDICTION = Prediction("7", 0.9, (), (0.5,), np.empty((0, 0, 2), np.float32), None, {}, np.ones(1, np.float32))
KEEP = 'printf "%s|" "$STN_EVENT" "$STN_SOURCE" "${STN_LABEL-none}" "${STN_CONFIDENCE-none}" >> kept; echo >> kept'


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Commands work in a folder of the test's."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


class DoneAtOnce:
    """A worker that does what it is given on the caller's thread."""

    def __init__(self, start: Callable[[Callable[[], object]], object] = lambda action: action()) -> None:
        self.put = start

    def forget(self) -> None:
        pass

    def close(self) -> None:
        pass


def _hook(command: str) -> EventCommand:
    return EventCommand(command, DoneAtOnce())


def _show(
    hook: EventCommand,
    label: str = "7",
    moment: float | None = 0.0,
    source: str = "cam",
    **changes: Any,  # noqa: ANN401
) -> None:
    record = Record(source, 0, moment, replace(PREDICTION, label=label), **changes)
    assert hook.show(Frame(source, 0, moment, np.zeros((2, 2), np.uint8)), record)


def _tell(hook: EventCommand, event: Any, error: str | None = None) -> None:  # noqa: ANN401
    frame = Frame("cam", 3, 1.0, None, error, event=event)
    assert hook.show(frame, Record("cam", 3, 1.0, None, error, event=event))


def _kept(folder: Path) -> list[tuple[str, ...]]:
    kept = folder / "kept"
    return [tuple(line.split("|")[:-1]) for line in kept.read_text().splitlines()] if kept.exists() else []


def test_a_label_is_an_event_when_it_changes(here: Path) -> None:
    hook = _hook(KEEP)
    for index, label in enumerate("7711177"):
        _show(hook, label, index / 10)
    assert _kept(here) == [("label", "cam", label, "0.900000") for label in "717"]
    hook.close()


def test_each_camera_has_its_own_label(here: Path) -> None:
    hook = _hook(KEEP)
    for index in range(6):
        _show(hook, str(index % 2), index / 10, f"camera {index % 2}")
    assert _kept(here) == [("label", f"camera {n}", str(n), "0.900000") for n in range(2)]


def test_every_picture_is_an_event_of_its_own(here: Path) -> None:
    hook = _hook(KEEP)
    for name in ("a.png", "b.png", "b.png"):
        _show(hook, "7", None, name)
    assert _kept(here) == [("label", name, "7", "0.900000") for name in ("a.png", "b.png", "b.png")]


DOUBTS = [{"sure": False}, {"rejected": True}, {"uncertain": "theta is unlike training"}]


@pytest.mark.parametrize("doubt", DOUBTS)
@pytest.mark.parametrize("moments", [(0.0, 0.1, 0.2), (None, None, None)])
def test_no_event_is_fired_without_a_label(
    here: Path, doubt: dict[str, Any], moments: tuple[float | None, ...]
) -> None:
    hook = _hook(KEEP)
    for label, moment in zip("117", moments, strict=True):
        _show(hook, label, moment, **doubt)
    assert _kept(here) == []


@pytest.mark.parametrize("doubt", DOUBTS)
def test_a_label_that_comes_back_is_another_event(here: Path, doubt: dict[str, Any]) -> None:
    hook = _hook(KEEP)
    _show(hook, "7", 0.0)
    _show(hook, "7", 0.1, **doubt)
    _show(hook, "1", 0.2, **doubt)
    _show(hook, "7", 0.3)
    assert [label for _, _, label, _ in _kept(here)] == ["7", "7"]


def test_a_camera_that_is_lost_and_back_is_an_event_without_a_label(here: Path) -> None:
    hook = _hook(KEEP)
    _tell(hook, "source_lost", "cam: stopped sending frames")
    _tell(hook, "source_back")
    assert _kept(here) == [("source_lost", "cam", "none", "none"), ("source_back", "cam", "none", "none")]


def test_a_frame_that_failed_is_no_event(here: Path) -> None:
    hook = _hook(KEEP)
    assert hook.show(Frame("x.png", 0, None, None, "torn"), Record("x.png", 0, None, None, "torn"))
    assert _kept(here) == []


def test_a_command_gets_the_record_on_standard_input(here: Path) -> None:
    hook = _hook("cat >> kept")
    _show(hook, "grüße\n", 1.5)
    _tell(hook, "source_lost", "cam: gone")
    first, second = [json.loads(line) for line in (here / "kept").read_text(encoding="ascii").splitlines()]
    assert (first["source"], first["time"], first["label"], first["theta"]) == ("cam", 1.5, "grüße\n", [0.5])
    assert second == {"source": "cam", "frame": 3, "time": 1.0, "event": "source_lost", "error": "cam: gone"}


def test_a_command_that_does_not_read_is_no_error(here: Path, caplog: pytest.LogCaptureFixture) -> None:
    outline = np.zeros((1, 20_000, 2), np.float32)  # more than a pipe holds
    record = Record("cam", 0, 0.0, replace(PREDICTION, outline=outline))
    assert _hook("echo done > kept").show(Frame("cam", 0, 0.0, np.zeros((2, 2), np.uint8)), record)
    assert (here / "kept").read_text() == "done\n"
    assert caplog.messages == []


@pytest.mark.parametrize(
    "text",
    ["$(touch owned)", "`touch owned`", "; touch owned", "'; touch owned; '", '"; touch owned; "', "a\ntouch owned"],
)
def test_what_a_label_or_source_says_is_not_executed(here: Path, text: str) -> None:
    _show(_hook('printf "%s" "$STN_LABEL$STN_SOURCE" > kept'), text, 0.0, text)
    assert (here / "kept").read_text() == 2 * text
    assert not (here / "owned").exists()


@pytest.mark.parametrize(("label", "source"), [("a\0b", "cam"), ("7", "a\0b.png"), ("\udc80", "\udcff.png")])
def test_a_name_of_any_kind_is_passed_or_told_and_never_the_end(label: str, source: str) -> None:
    _show(_hook("true"), label, 0.0, source)


def test_a_name_that_is_not_utf8_arrives_as_its_bytes(here: Path) -> None:
    _show(_hook('printf "%s" "$STN_SOURCE" > kept'), source="caf\udce9.png")
    assert (here / "kept").read_bytes() == b"caf\xe9.png"


def test_what_a_command_writes_does_not_reach_the_records(capfd: pytest.CaptureFixture[str]) -> None:
    _show(_hook("echo said; echo told >&2"))
    assert capfd.readouterr() == ("", "said\ntold\n")


@pytest.mark.parametrize(
    ("command", "told"), [("exit 3", "3"), ("no-such-program-here 2>&-", "127"), ("kill -9 $$", "-9")]
)
def test_a_command_that_fails_is_told_and_the_run_goes_on(
    command: str, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    _show(_hook(command))
    assert caplog.messages == [f"--on-event: the command ended with status {told}"]


def test_a_command_that_hangs_is_ended_with_all_that_it_started(
    here: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("stn_runtime.views.event_command._SECONDS", 0.2)
    began = time.monotonic()
    _show(_hook("(sleep 1; touch late); true"))
    assert time.monotonic() - began < 10
    assert caplog.messages == ["--on-event: the command took over 0.2 s and was ended"]
    time.sleep(max(0.0, began + 1.3 - time.monotonic()))
    assert not (here / "late").exists()


def test_a_command_of_another_user_that_hangs_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: int) -> None:
        raise PermissionError

    monkeypatch.setattr("stn_runtime.views.event_command._SECONDS", 0.1)
    monkeypatch.setattr("os.killpg", refuse)
    began = time.monotonic()
    _show(_hook("sleep 3"))
    assert time.monotonic() - began < 2
    assert caplog.messages == ["--on-event: the command took over 0.1 s and was ended"]


def test_an_interrupted_run_starts_no_command_for_the_frames_that_still_come(here: Path) -> None:
    hook = _hook(KEEP)
    _show(hook, "7")
    hook.interrupt()
    _show(hook, "8")
    _tell(hook, "source_lost")
    assert [line[2] for line in _kept(here)] == ["7"]


def test_a_command_does_not_learn_the_token(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STN_TOKEN", "secret")
    _show(_hook('echo "${STN_TOKEN-none}" > kept'))
    assert (here / "kept").read_text() == "none\n"


def test_only_what_is_an_event_is_kept_and_none_of_its_pictures() -> None:
    started: list[Any] = []
    hook = EventCommand("true", DoneAtOnce(started.append))
    for index in range(50):
        _show(hook, "7", index / 10)
    _tell(hook, "source_lost", "cam: gone")
    assert len(started) == 2
    kept = [argument for run in started for argument in run.args]
    assert all(isinstance(argument, (str, bytes, dict)) for argument in kept)


def test_a_command_that_cannot_be_run_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("FILL", "x" * 100)
    _show(_hook("true"), label="x" * 3_000_000)  # more than the kernel takes in an environment
    (told,) = caplog.messages
    assert told.startswith("--on-event: the command cannot be run (")
