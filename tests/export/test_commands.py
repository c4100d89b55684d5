"""The commands of the exporter: what they write, what they say, and what they refuse."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from stn_export import Exported, ParityError, exporter
from stn_export.graph import grid_products
from stn_export.graph.grid_expressions import PointwiseGrid
from stn_export.graph.rewrites import Operators, constant
from stn_export.proof import gates
from stn_models import Architecture, Checkpoint, save_checkpoint
from stn_runtime.cli import main
from stn_runtime.images.writing import write_image
from stn_runtime.model.session import open_session, read_manifest
from tests.support.small_network import ARCHITECTURE, LABELS, SPEC


def test_export_writes_a_verified_file_with_golden_pictures(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    random = np.random.default_rng(0)
    (tmp_path / "pictures").mkdir()
    for index in range(5):
        write_image(tmp_path / "pictures" / f"{index}.png", random.integers(0, 256, (40, 30, 3), np.uint8))
    output = tmp_path / "new folder" / "model.onnx"
    arguments = ["export", str(checkpoint), "-o", str(output), "--images", str(tmp_path / "pictures"), "--name", "mine"]
    assert main([*arguments, "--license", "MIT"]) == 0
    assert "0 labels differ" in capsys.readouterr().out
    manifest = read_manifest(open_session(output), str(output))
    assert (manifest.name, manifest.license, len(manifest.golden)) == ("mine", "MIT", 6)
    assert main(["verify", str(output), "--checkpoint", str(checkpoint)]) == 0


def test_rectified_can_be_left_out(checkpoint: Path, tmp_path: Path) -> None:
    output = tmp_path / "model.onnx"
    assert main(["export", str(checkpoint), "-o", str(output), "--no-rectified"]) == 0
    assert read_manifest(open_session(output), "m").outputs == ("probabilities", "theta", "outline")


def test_a_failed_verification_is_status_1_and_no_file(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise ParityError("the exported graph differs from PyTorch")

    monkeypatch.setattr(exporter, "export_graph", fail)
    assert main(["export", str(checkpoint), "-o", str(tmp_path / "model.onnx")]) == 1
    assert "differs from PyTorch" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.safetensors", "-o", "m.onnx"], "missing.safetensors: does not exist"),
        (["{checkpoint}", "-o", "m.pt"], "m.pt: the output must end in .onnx"),
        (["{checkpoint}", "-o", "m.onnx", "--images", "nowhere"], "nowhere: no such file or folder"),
        (["{folder}", "-o", "m.onnx"], "is a folder; give a .safetensors file"),
    ],
)
def test_bad_input_is_one_sentence_and_status_2(
    arguments: list[str],
    message: str,
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    filled = [text.format(checkpoint=checkpoint, folder=tmp_path) for text in arguments]
    assert main(["export", *filled]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert message in error
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_cannot_be_written_is_one_sentence(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert main(["export", str(checkpoint), "-o", str(tmp_path / "file" / "m.onnx")]) == 2
    assert "cannot be written" in capsys.readouterr().err


def test_verify_refuses_a_checkpoint_of_another_network(
    exported: Exported, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", str(exported.path), "--checkpoint", str(tmp_path / "none.safetensors")]) == 2
    assert "none.safetensors: does not exist" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "side", "what"),
    [({"image_size": 60}, 60, "size and preprocessing"), ({"grid": "tps"}, SPEC.height, "transformers")],
    ids=["size", "grid"],
)
def test_verify_names_what_a_file_and_a_checkpoint_do_not_share(
    exported: Exported,
    options: dict[str, Any],
    side: int,
    what: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    other = Architecture(ARCHITECTURE.name, {**ARCHITECTURE.options, **options})
    path, spec = tmp_path / "other.safetensors", replace(SPEC, height=side, width=side)
    save_checkpoint(path, other.build(), Checkpoint(other, LABELS, asdict(spec)))
    assert main(["verify", str(exported.path), "--checkpoint", str(path)]) == 2
    assert f"its {what} are not those of {path}; they are of two networks" in capsys.readouterr().err


def test_the_targets_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["export", "--list-targets"])
    assert ended.value.code == 0
    assert "tensorrt" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--target", "gpu"], "no target 'gpu'; choose from"),
        (["--opset", "11"], "opset 11 is too old"),
        (["--opset", "20"], "TensorRT#4646"),
        (["--precision", "int8"], "give --data"),
    ],
)
def test_an_export_that_cannot_be_is_one_sentence(
    options: list[str], message: str, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(checkpoint), "-o", str(tmp_path / "m.onnx"), *options]) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


def test_a_target_without_a_sampler_gets_the_split_form(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "m.onnx"
    assert main(["export", str(checkpoint), "-o", str(output), "--target", "generic-npu"]) == 0
    assert "split, float32, opset 13, verified" in capsys.readouterr().out
    assert main(["doctor", str(output), "--target", "generic-npu"]) == 0
    assert main(["verify", str(output), "--checkpoint", str(checkpoint)]) == 0


def test_reduced_precision_is_measured_on_labelled_images(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "m.onnx"
    asked = ["export", str(checkpoint), "-o", str(output), "--precision", "float16", "--data"]
    assert main([*asked, str(tmp_path / "none")]) == 2
    assert not output.exists()
    monkeypatch.setattr(gates, "LARGEST_DROP", {"float16": 100.0})  # random weights answer by a hair
    assert main([*asked, "sklearn-digits"]) == 0
    said = capsys.readouterr().out
    assert "sklearn-digits: top-1" in said
    assert "of 360 labels differ" in said
    assert "fused, float16, opset 18, verified" in said
    assert main(["verify", str(output)]) == 0
    monkeypatch.setattr(gates, "LARGEST_SHIFT", -1.0)
    refused = tmp_path / "refused.onnx"
    assert main([*asked[:3], str(refused), *asked[4:], "sklearn-digits"]) == 1
    assert "FAILED; nothing was written. The layers that cost most: try --exclude" in capsys.readouterr().err
    assert not refused.exists()


def test_optimize_says_what_it_changed_and_what_it_left(
    exported: Exported, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["optimize", str(exported.path), "-o", str(tmp_path / "same.onnx")]) == 0
    assert "unchanged: there is nothing to gain" in capsys.readouterr().out
    assert (tmp_path / "same.onnx").read_bytes() == exported.path.read_bytes()
    assert main(["optimize", str(tmp_path / "none.onnx"), "-o", str(tmp_path / "m.onnx")]) == 2
    assert capsys.readouterr().err == f"stn: {tmp_path / 'none.onnx'}: no such file\n"
    assert main(["optimize", str(exported.path), "-o", "m.txt"]) == 2


def slow_file(path: Path) -> Path:
    """Write a file with one grid to gain from, and one that is not linear."""
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 18]> graph (float[N, 6] theta, float[N, 1, 5, 7] image) =>'
        " (float[N, 1, 4, 3] y, float[N, 1, 4, 3] z) <int64[3] matrix = {-1, 2, 3}, int64[4] sizes = {-1, 4, 3, 2}> {"
        ' t = Reshape(theta, matrix) p = Einsum<equation = "nij,pj->npi">(t, base) grid = Reshape(p, sizes)'
        " y = GridSample(image, grid) bent = Softmax<axis = 2>(grid) [bent] z = GridSample(image, bent) }"
    )
    base = np.random.default_rng(0).uniform(-1, 1, (12, 3)).astype(np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(base, "base"))
    onnx.save(model, path)
    return path


def test_optimize_prints_each_change_and_each_thing_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, target = slow_file(tmp_path / "slow.onnx"), tmp_path / "fast.onnx"
    assert main(["optimize", str(source), "-o", str(target)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(": ")[0] for line in lines] == [
        "changed",
        "changed",
        "kept",
        "output 'y'",
        "output 'z'",
        str(target),
    ]
    assert "(3 x 4) is one matrix product with a constant" in lines[0]
    assert "bent: its grid is not computed from a small theta of known size by linear operators" in lines[2]
    assert lines[-1] == f"{target}: verified against the original"
    assert "MatMul" in {node.op_type for node in onnx.load(target).graph.node}


def test_optimize_writes_nothing_when_the_answers_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    truth = grid_products.write_grid

    def shifted(op: Operators, grid: PointwiseGrid, image: ir.Value, name: str) -> ir.Value:
        return op.Add(truth(op, grid, image, name), constant(op, np.float32(0.01), "shift"))

    monkeypatch.setattr(grid_products, "write_grid", shifted)
    source = slow_file(tmp_path / "slow.onnx")
    assert main(["optimize", str(source), "-o", str(tmp_path / "fast.onnx")]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"stn: {source}: the rewritten graph differs in sampling grid ")
    assert [path.name for path in tmp_path.iterdir()] == ["slow.onnx"]


def test_doctor_looks_into_a_file_for_a_target(exported: Exported, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", str(exported.path), "--target", "tensorrt"]) == 0
    assert "nothing known will fail" in capsys.readouterr().out
    assert main(["doctor", str(exported.path), "--target", "opencv"]) == 1
    assert "FAILS" in capsys.readouterr().out
    assert main(["doctor", str(exported.path), "--target", "gpu"]) == 2
    assert "no target 'gpu'" in capsys.readouterr().err
