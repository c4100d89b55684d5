"""Hostile model files end in one sentence that no terminal obeys, within seconds and bounded memory."""

import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from stn_runtime.doctor.model_check import check_model
from tests.stress.hostile_models import ENDLESS, REFUSED, TAKEN

COMMANDS = ("run", "verify", "models")
LONGEST_LINE = 2100  # a sentence of at most 2000 characters after the name of the program
SECONDS = 10.0  # of the clock for one command, on a machine that has other things to do

Stn = Callable[..., tuple[int, str, str]]


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "grey.png"
    path.write_bytes(cv2.imencode(".png", np.full((12, 16), 128, np.uint8))[1].tobytes())
    return path


@pytest.fixture
def stn(capsys: pytest.CaptureFixture[str]) -> Stn:
    """Run a command in this process: ``status, stdout, stderr = stn("models", path)``."""
    from stn_runtime.cli import main

    def call(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        status = main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        return status, said.out, said.err

    return call


def obeys_nothing(text: str) -> bool:
    lines = text.split("\n")
    return all(line.isprintable() and len(line) <= LONGEST_LINE for line in lines)


def arguments(command: str, model: Path, photo: Path) -> list[object]:
    return [command, photo, "-m", model] if command == "run" else [command, model]


@pytest.fixture(params=REFUSED)
def refused(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, str]:
    build, sentence = REFUSED[request.param]
    path = tmp_path / "evil.onnx"
    path.write_bytes(build())
    return path, sentence


def test_a_hostile_file_is_refused_in_one_sentence(refused: tuple[Path, str], photo: Path, stn: Stn) -> None:
    path, sentence = refused
    started = time.monotonic()
    status, out, err = stn("run", photo, "-m", path)
    assert (status, out) == (2, "")
    assert re.search(sentence, err), err
    assert err.startswith(f"stn: {path}")
    assert err.count("\n") == 1
    assert obeys_nothing(err)
    assert time.monotonic() - started < SECONDS


@pytest.mark.parametrize("command", COMMANDS[1:])
def test_other_commands_refuse_it_so_or_tell_of_it_in_printable_text(
    refused: tuple[Path, str], photo: Path, stn: Stn, command: str
) -> None:
    path, _ = refused
    status, out, err = stn(*arguments(command, path, photo))
    assert obeys_nothing(out + err)
    if command == "models" and status == 0:  # which does not run it
        assert (out.count("\n") > 2, err) == (True, "")
    else:
        assert (status, out) == (2, "")
        assert err.startswith(f"stn: {path}")
        assert err.count("\n") == 1


def test_doctor_tells_of_it_in_one_finding(refused: tuple[Path, str]) -> None:
    path, _ = refused
    findings = check_model(path)
    assert len(findings) == 1
    assert findings[0].state == ("BROKEN" if "no 'stn_edge'" not in refused[1] else "note")
    assert obeys_nothing(str(findings[0]))


@pytest.mark.parametrize("name", TAKEN)
def test_odd_text_is_escaped_and_cut_wherever_a_terminal_shows_it(
    name: str, tmp_path: Path, photo: Path, stn: Stn, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "odd.onnx"
    path.write_bytes(TAKEN[name]())
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    crops = tmp_path / "crops"
    status, out, err = stn("run", photo, "-m", path, "--save-crops", crops)
    assert (status, out.count("\n"), err.count("\n")) == (0, 1, 3), err
    assert obeys_nothing(out + err)
    saved = [each for each in crops.rglob("*.png")]
    assert len(saved) == 1
    assert saved[0].resolve().is_relative_to(crops.resolve())
    for command in COMMANDS[1:]:
        status, out, err = stn(*arguments(command, path, photo))
        if "golden" in name and command == "verify":
            assert (status, err.count("\n")) == (2, 1), out
            assert "golden vector" in err
            continue
        assert status in (0, 1), err  # 1: it does not answer as its golden vectors say
        assert obeys_nothing(out + err), command
        assert len(out) < 20_000
    for finding in check_model(path):
        assert obeys_nothing(str(finding).replace("\n", " "))


def test_bench_shows_odd_text_escaped(tmp_path: Path, photo: Path, stn: Stn) -> None:
    path = tmp_path / "odd.onnx"
    path.write_bytes(TAKEN["target controls the terminal"]())
    status, out, err = stn("bench", path, "--seconds", "0.01", "--batch", "1", "--picture", photo)
    assert status == 0, err
    assert obeys_nothing(out + err)


LIMITED = """
import sys
from stn_runtime import cli
from stn_runtime.model import session
session._SECONDS, session._MOST_MEMORY = 2.0, 1 << 29
cli.console()
"""


@pytest.fixture
def run_limited() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a command in a process whose models get two seconds and half a gigabyte; beyond 8 GB it would be ended."""

    def run(*words: object) -> subprocess.CompletedProcess[str]:
        limit = 8 << 30
        return subprocess.run(
            [sys.executable, "-c", LIMITED, *map(str, words)],
            capture_output=True,
            text=True,
            timeout=60,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
        )

    return run


@pytest.mark.parametrize("name", ENDLESS)
@pytest.mark.parametrize("command", ["run", "verify"])
def test_work_without_end_is_given_up_in_one_sentence(
    name: str, command: str, tmp_path: Path, photo: Path, run_limited: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    path = tmp_path / "endless.onnx"
    path.write_bytes(ENDLESS[name]())
    started = time.monotonic()
    done = run_limited(*arguments(command, path, photo))
    assert time.monotonic() - started < 2 * SECONDS
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    bound = r"(opening it|its first run) (took longer than 2 s|took more than \d+ MiB of memory)"
    assert re.fullmatch(rf"stn: {re.escape(str(path))}(, its classifier graph)?: {bound}; [^\n]+\n", done.stderr)


@pytest.mark.parametrize("name", ["an operator that controls the terminal", "foreign keys control the terminal"])
def test_the_command_doctor_shows_nothing_that_a_terminal_obeys(name: str, tmp_path: Path, stn: Stn) -> None:
    path = tmp_path / "evil.onnx"
    path.write_bytes(REFUSED[name][0]())
    status, out, err = stn("doctor", path)
    assert status in (0, 1)
    assert out
    assert obeys_nothing(out + err)


def test_a_file_larger_than_any_model_is_refused_at_once(tmp_path: Path, photo: Path, stn: Stn) -> None:
    path = tmp_path / "sparse.onnx"
    with path.open("wb") as file:
        file.truncate(10 << 30)
    for command in COMMANDS:
        status, out, err = stn(*arguments(command, path, photo))
        assert (status, out, err.count("\n")) == (2, "", 1)
        assert err.startswith(f"stn: {path}: onnxruntime cannot load it (")
