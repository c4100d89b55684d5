"""Training on several devices: processes on a CPU, joined over loopback."""

import csv
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from stn_runtime.cli import main
from stn_runtime.images.writing import write_image
from tests.support.waiting import until

STN = [sys.executable, "-m", "stn_runtime"]
DIGITS = ["train", "sklearn-digits", "--model", "st-fcn", "--batch-size", "32", "--precision", "32"]


def run(*words: str | Path, launcher: list[str] = STN) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*launcher, *map(str, words)], capture_output=True, text=True, check=False, timeout=300)


def accuracies(folder: Path) -> list[float]:
    with (folder / "metrics.csv").open(encoding="utf-8") as file:
        return [float(row["val_accuracy"]) for row in csv.DictReader(file)]


def test_two_processes_train_as_one_does_and_one_goes_on_with_their_run(tmp_path: Path) -> None:
    common = [*DIGITS, "--epochs", "2", "--schedule", "constant"]
    assert main([*common, "--output", str(tmp_path / "one")]) == 0
    together = run(*common, "--devices", "2", "--output", tmp_path / "two")
    assert together.returncode == 0, together.stderr
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == sorted(
        path.name for path in (tmp_path / "two").iterdir()
    )
    assert list(tmp_path.glob("*.shared")) == []
    assert together.stderr.count("epoch 1  ") == 1  # the first process alone is heard
    assert max(accuracies(tmp_path / "one")) > 0.7
    assert abs(max(accuracies(tmp_path / "one")) - max(accuracies(tmp_path / "two"))) < 0.05

    config = tmp_path / "two" / "config.json"
    config.write_text(config.read_text("utf-8").replace('"epochs": 2', '"epochs": 3'), "utf-8")
    assert main(["train", "--resume", str(tmp_path / "two")]) == 0
    assert len(accuracies(tmp_path / "two")) == 3


@pytest.mark.slow
def test_torchrun_starts_the_processes_as_well(tmp_path: Path) -> None:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = run(*DIGITS, "--epochs", "1", "--output", tmp_path / "run", launcher=[*launcher, "-m", "stn_runtime"])
    assert done.returncode == 0, done.stderr
    assert len(accuracies(tmp_path / "run")) == 1
    assert done.stderr.count("epoch 0  ") == 1
    assert done.stdout.count("validation accuracy") == 1  # the first process alone tells


@pytest.mark.slow
def test_two_nodes_with_a_process_each_train_together(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1"]
    launcher += ["--master-addr=127.0.0.1", f"--master-port={port}"]
    command = ["-m", "stn_runtime", *DIGITS, "--epochs", "1", "--output", str(tmp_path / "run")]
    nodes = [
        subprocess.Popen([*launcher, f"--node-rank={rank}", *command], stdout=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    said = [node.communicate(timeout=300)[0] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0]
    assert ["validation accuracy" in words for words in said] == [True, False]
    assert len(accuracies(tmp_path / "run")) == 1


@pytest.fixture
def running(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A run that begins on two devices."""
    with (tmp_path / "stderr.txt").open("wb") as said:
        process = subprocess.Popen(
            [*STN, *DIGITS, "--epochs", "500", "--devices", "2", "--output", str(tmp_path / "run")], stderr=said
        )
        yield process
        process.kill()
        process.wait()


def test_a_killed_process_ends_the_run_with_a_sentence(running: subprocess.Popen[bytes], tmp_path: Path) -> None:
    until(lambda: (tmp_path / "run" / "last.ckpt").exists() or running.poll() is not None, 120)
    assert running.poll() is None, (tmp_path / "stderr.txt").read_text("utf-8")
    os.kill(max(ranks_of(running.pid)), signal.SIGKILL)
    assert running.wait(30) == 2
    said = (tmp_path / "stderr.txt").read_text("utf-8")
    assert said.splitlines()[-1] == "stn: the process of device 1 was killed (SIGKILL); its run can go on with --resume"
    assert "Traceback" not in said


def test_the_processes_end_with_the_one_that_started_them(running: subprocess.Popen[bytes]) -> None:
    until(lambda: len(ranks_of(running.pid)) == 2, 120)
    ranks = ranks_of(running.pid)
    running.kill()
    running.wait()
    until(lambda: not any(Path(f"/proc/{rank}").exists() for rank in ranks), 120)


def ranks_of(parent: int) -> list[int]:
    """Return the children of a process that train, in the order of their start."""
    children = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (entry / "stat").exists():
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            if int(fields[1]) == parent and b"stn_runtime" in (entry / "cmdline").read_bytes():
                children.append(int(entry.name))
    return sorted(children)


def test_more_devices_than_pictures_is_one_sentence(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for name in ("train/a", "train/b", "val/a"):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        write_image(tmp_path / "pictures" / name / "0.png", generator.integers(0, 256, (28, 28, 3), np.uint8))
    done = run("train", tmp_path / "pictures", "--model", "st-fcn", "--devices", "2", "--output", tmp_path / "run")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        f"stn: {tmp_path / 'pictures'}: 2 training and 1 validation images are too few for 2 devices; "
        "ask for fewer with --devices"
    )
    assert not (tmp_path / "run").exists()
