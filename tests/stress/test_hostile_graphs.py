"""What the export room says of hostile files: printable sentences within bounds, never a traceback."""

import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from stn_runtime.cli import main
from tests.stress.hostile_models import ENDLESS, REFUSED, TAKEN, Builder
from tests.stress.hostile_parts import ESCAPES, MEGABYTE, with_names, with_operator
from tests.stress.test_hostile_models import SECONDS, obeys_nothing

FILES: dict[str, Builder] = {name: build for name, (build, _) in REFUSED.items()} | dict(TAKEN)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("command", ["doctor", "optimize"])
def test_a_hostile_file_is_told_of_in_printable_text(
    name: str, command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "evil.onnx"
    path.write_bytes(FILES[name]())
    arguments = ["--target", "cpu"] if command == "doctor" else ["-o", str(tmp_path / "fast.onnx")]
    started = time.monotonic()
    status = main([command, str(path), *arguments])
    said = capsys.readouterr()
    assert status in (0, 1, 2)
    assert obeys_nothing(said.out + said.err)
    assert bool(said.out) == (status != 2)
    if status == 2:
        assert re.fullmatch(rf"stn: {re.escape(str(path))}: [^\n]+\n", said.err)
    assert time.monotonic() - started < SECONDS


@pytest.mark.parametrize("text", [ESCAPES, MEGABYTE])
@pytest.mark.parametrize("build", [with_names, lambda text: with_operator(text, text)], ids=["names", "operator"])
def test_the_linter_shows_names_escaped_and_cut(
    build: Callable[[str], bytes], text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "evil.onnx"
    path.write_bytes(build(text))
    main(["doctor", str(path), "--target", "tensorrt"])
    said = capsys.readouterr()
    assert obeys_nothing(said.out + said.err)
    assert len(said.out + said.err) < 10_000


LIMITED = """
import sys
from stn_runtime import cli
from stn_export import commands
commands._SECONDS, commands.free_memory = 3.0, lambda: 2 << 30
cli.console()
"""


@pytest.mark.parametrize("name", ["a loop of 10^9", "an answer of 5 gigabytes"])
def test_a_look_without_end_is_given_up_in_one_sentence(name: str, tmp_path: Path) -> None:
    model = onnx.load_from_string(ENDLESS[name]())
    model.opset_import[0].version = 20  # so that it is rewritten for 18, and both are run
    model.graph.initializer.append(numpy_helper.from_array(np.zeros((1, 2, 2, 2), np.float32), "grid"))
    model.graph.initializer.append(numpy_helper.from_array(np.zeros((1, 1, 4, 4), np.float32), "picture"))
    model.graph.node.append(helper.make_node("GridSample", ["picture", "grid"], ["sampled"], mode="linear"))
    model.graph.output.append(helper.make_tensor_value_info("sampled", TensorProto.FLOAT, (1, 1, 2, 2)))
    path, target = tmp_path / "endless.onnx", tmp_path / "fast.onnx"
    onnx.save(model, path)
    command = [sys.executable, "-c", LIMITED, "optimize", str(path), "-o", str(target)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    bound = r"looking into it (took longer than 3 s|took more than \d+ MiB of memory)"
    assert re.fullmatch(rf"stn: {re.escape(str(path))}: {bound}; [^\n]+\n", done.stderr)
    assert not target.exists()


def test_functions_of_a_classifier_graph_are_not_written_out_either(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "endless.onnx"
    path.write_bytes(ENDLESS["a classifier of functions that call each other"]())
    assert main(["doctor", str(path), "--target", "cpu"]) == 2
    assert capsys.readouterr().err == f"stn: {path}: its classifier graph is damaged; export it again\n"


@pytest.mark.parametrize("name", ["functions that call each other 2^40 times"])
@pytest.mark.parametrize("command", ["doctor", "optimize"])
def test_functions_without_end_are_refused_before_they_are_written_out(
    name: str, command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "endless.onnx"
    path.write_bytes(ENDLESS[name]())
    arguments = ["--target", "cpu"] if command == "doctor" else ["-o", str(tmp_path / "fast.onnx")]
    assert main([command, str(path), *arguments]) == 2
    fault = "its functions call each other so often that it would have over 1000000 nodes; export it again without"
    assert capsys.readouterr().err == f"stn: {path}: {fault} functions\n"
