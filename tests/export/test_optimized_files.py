"""Files, whole, damaged or in the wrong place, through ``optimize_onnx``."""

import os
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest

from stn_export import DifferenceError, optimize_onnx
from stn_export.graph import grid_products
from stn_export.graph.sampling_grids import LinearGrid
from stn_runtime import InputError, ModelContractError
from tests.support.graphs import assert_equal, hand_made, run, samplers
from tests.support.transformer_files import RECIPES, SIZE, pictures, write

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning", "ignore::FutureWarning"
)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with something to gain, without metadata, so that its last bytes are its opset."""
    path = tmp_path_factory.mktemp("file") / "file.onnx"
    recipe = RECIPES["AffineGrid"]
    model = onnx.load(write(recipe, recipe.network().eval(), path))
    del model.metadata_props[:]
    onnx.save(model, path)
    return path


def test_a_wrong_graph_is_not_written_and_an_existing_file_stays(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slightly_wrong(grid: ir.Value, model: ir.Model) -> LinearGrid | str:
        found = truth(grid, model)
        assert isinstance(found, LinearGrid)
        return LinearGrid(found.theta, found.basis * np.float32(1.001), found.offset, found.size, found.is_product)

    truth = grid_products.find_linear_grid
    monkeypatch.setattr(grid_products, "find_linear_grid", slightly_wrong)
    with pytest.raises(DifferenceError, match=r"differs in sampling grid '.*' by .*; nothing was written"):
        optimize_onnx(file, tmp_path / "new.onnx")
    (tmp_path / "old.onnx").write_bytes(b"what was there")
    with pytest.raises(DifferenceError, match="differs in sampling grid '"):
        optimize_onnx(file, tmp_path / "old.onnx")
    assert (tmp_path / "old.onnx").read_bytes() == b"what was there"
    assert [path.name for path in tmp_path.iterdir()] == ["old.onnx"]


def refusal(source: Path, target: Path) -> str:
    """Return the one sentence that a user sees."""
    with pytest.raises(InputError, match=r"\S") as caught:
        optimize_onnx(source, target)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert not target.is_file()
    return sentence


def test_a_folder_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path, tmp_path / "new.onnx") == f"{tmp_path}: is a folder; give an .onnx file"


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    missing = tmp_path / "missing.onnx"
    assert refusal(missing, tmp_path / "new.onnx") == f"{missing}: no such file"


@pytest.mark.parametrize("data", [b"", b"\0", b"Dear reader,\nthis is a letter.\n", b"\x89PNG\r\n\x1a\n", b"{}"])
def test_what_is_no_onnx_file_is_refused(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "file.onnx").write_bytes(data)
    assert "is not an ONNX file, or only a part of one" in refusal(tmp_path / "file.onnx", tmp_path / "new.onnx")


def test_a_file_cut_anywhere_is_refused(file: Path, tmp_path: Path) -> None:
    whole, cut = file.read_bytes(), tmp_path / "cut.onnx"
    for length in [*range(1, len(whole), 23), *range(len(whole) - 12, len(whole))]:
        cut.write_bytes(whole[:length])
        sentence = refusal(cut, tmp_path / "new.onnx")
        assert sentence.startswith(f"{cut}: is "), f"cut at {length} of {len(whole)}"


@pytest.mark.parametrize("name", [b"image", b"sampled", b"GridSample"])
def test_a_damaged_name_is_one_sentence(name: bytes, file: Path, tmp_path: Path) -> None:
    """One byte that no text has, in the name of a tensor or of an operator."""
    (tmp_path / "damaged.onnx").write_bytes(file.read_bytes().replace(name, b"\xff" + name[1:]))
    assert refusal(tmp_path / "damaged.onnx", tmp_path / "new.onnx").startswith(f"{tmp_path / 'damaged.onnx'}: ")


def test_a_file_whose_weights_are_missing_is_refused(file: Path, tmp_path: Path) -> None:
    source = tmp_path / "source.onnx"
    onnx.save(onnx.load(file), source, save_as_external_data=True, location="weights.bin", size_threshold=0)
    (tmp_path / "weights.bin").unlink()
    assert "its weights are in 'weights.bin', which is not beside it" in refusal(source, tmp_path / "new.onnx")


def test_weights_in_another_file_end_up_in_the_new_one(file: Path, tmp_path: Path) -> None:
    source, target = tmp_path / "source.onnx", tmp_path / "elsewhere" / "new.onnx"
    onnx.save(onnx.load(file), source, save_as_external_data=True, location="weights.bin", size_threshold=0)
    optimize_onnx(source, target)
    image = pictures((2, 1, *SIZE))
    assert_equal(run(target, image), run(file, image))


def test_a_copy_of_a_file_with_its_weights_elsewhere_still_loads(tmp_path: Path) -> None:
    model = hand_made("y = Add(x, k)", "float[N, 3] x", "float[N, 3] y", k=np.arange(3, dtype=np.float32))
    source, target = tmp_path / "source.onnx", tmp_path / "elsewhere" / "new.onnx"
    onnx.save(model, source, save_as_external_data=True, location="weights.bin", size_threshold=0)
    optimize_onnx(source, target)
    session = ort.InferenceSession(str(target))
    np.testing.assert_array_equal(session.run(None, {"x": np.zeros((1, 3), np.float32)})[0], [[0, 1, 2]])


def test_an_opset_from_before_grid_sample_is_refused(tmp_path: Path) -> None:
    onnx.save(hand_made("y = Relu(x)", "float[N, 3] x", "float[N, 3] y", opset=11), tmp_path / "old.onnx")
    sentence = refusal(tmp_path / "old.onnx", tmp_path / "new.onnx")
    assert "has opset 11, but GridSample exists from 16 on" in sentence
    assert "export it again with opset 18" in sentence


def test_an_operator_that_onnxruntime_does_not_know_is_refused(tmp_path: Path) -> None:
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 18, "of.somebody": 1]> graph (float[N, 6] theta, float[N, 1, 5, 7] image)'
        " => (float[N, 1, 4, 3] y) { g = of.somebody.Grid(theta) y = GridSample<align_corners = 1>(image, g) }"
    )
    shape = onnx.helper.make_tensor_value_info("g", onnx.TensorProto.FLOAT, ["N", 4, 3, 2])
    model.graph.value_info.append(shape)
    onnx.save(model, tmp_path / "custom.onnx")
    assert "onnxruntime cannot load it" in refusal(tmp_path / "custom.onnx", tmp_path / "new.onnx")


def test_a_place_that_cannot_be_written_to_is_refused(file: Path, tmp_path: Path) -> None:
    (tmp_path / "a_file").write_text("not a folder")
    assert "cannot be written" in refusal(file, tmp_path / "a_file" / "new.onnx")
    (tmp_path / "a_folder.onnx").mkdir()
    assert "cannot be written" in refusal(file, tmp_path / "a_folder.onnx")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a_file", "a_folder.onnx"]


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root writes anywhere")
def test_a_folder_without_permission_is_refused(file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    assert "Permission denied" in refusal(file, folder / "new.onnx")


def test_a_folder_that_is_not_there_is_made(file: Path, tmp_path: Path) -> None:
    optimize_onnx(file, tmp_path / "new" / "folder" / "new.onnx")
    assert [path.name for path in (tmp_path / "new" / "folder").iterdir()] == ["new.onnx"]


def test_a_file_can_be_optimised_in_place(file: Path, tmp_path: Path) -> None:
    path = tmp_path / "file.onnx"
    path.write_bytes(file.read_bytes())
    optimize_onnx(path, path)
    image = pictures((2, 1, *SIZE))
    assert_equal(run(path, image), run(file, image))
    assert len(samplers(onnx.load(path))) == 1


def test_the_sentence_of_a_bad_file_is_a_model_contract_error(tmp_path: Path) -> None:
    with pytest.raises(ModelContractError, match="no such file"):
        optimize_onnx(tmp_path / "missing.onnx", tmp_path / "new.onnx")
