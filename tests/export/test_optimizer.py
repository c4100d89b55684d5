"""Files that PyTorch's two exporters and people's own grids make, through ``optimize_onnx``."""

from pathlib import Path

import onnx
import pytest
import torch

from stn_export import optimize_onnx
from tests.support.graphs import RELATIVE, assert_equal, attributes, run, samplers, steps_of
from tests.support.transformer_files import RECIPES, SIZE, Pair, Recipe, Transformer, by_homography, pictures, write

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning", "ignore::FutureWarning"
)


@pytest.fixture(scope="module", params=RECIPES)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    recipe, folder = RECIPES[request.param], tmp_path_factory.mktemp("files")
    network = recipe.network().eval()
    before = write(recipe, network, folder / "before.onnx")
    return Pair(recipe, network, before, folder / "after.onnx", optimize_onnx(before, folder / "after.onnx"))


def test_the_new_file_answers_as_the_old_one(pair: Pair) -> None:
    for image in pair.images():
        assert_equal(run(pair.after, image), run(pair.before, image))


def test_the_new_file_answers_as_the_network_in_pytorch(pair: Pair) -> None:
    for image in pair.images():
        with torch.inference_mode():
            assert_equal(run(pair.after, image), pair.network(torch.from_numpy(image)).numpy())


def test_each_grid_is_one_product_of_theta_with_a_constant(pair: Pair) -> None:
    model = onnx.load(pair.after)
    assert [steps_of(model, sampler) for sampler in samplers(model)] == pair.recipe.steps


def test_nothing_is_left_of_the_old_grid(pair: Pair) -> None:
    kinds = [node.op_type for node in onnx.load(pair.after).graph.node]
    assert kinds.count("MatMul") == len(pair.recipe.steps)
    assert not {"AffineGrid", "ReduceSum", "Einsum", "Mul", "Expand", "Constant", "Where"} & set(kinds)


def test_the_new_file_is_valid_and_its_modes_have_the_names_that_every_engine_knows(pair: Pair) -> None:
    model = onnx.load(pair.after)
    onnx.checker.check_model(model, full_check=True)
    [opset] = [entry.version for entry in model.opset_import if entry.domain == ""]
    assert opset == (pair.recipe.opset if pair.recipe.opset in range(16, 20) else 18)
    assert {attributes(node).get("mode", "bilinear") for node in samplers(model)} <= {"bilinear", "nearest"}


def test_a_bilinear_sampler_has_the_fast_attributes_unless_it_reflects(pair: Pair) -> None:
    for node in samplers(onnx.load(pair.after)):
        found = {"mode": "bilinear", "padding_mode": "zeros", "align_corners": 0} | attributes(node)
        if found["mode"] == "bilinear" and found["padding_mode"] != "reflection":
            assert (found["padding_mode"], found["align_corners"]) == ("zeros", 0)


def test_inputs_outputs_and_metadata_are_those_of_the_old_file(pair: Pair) -> None:
    before, after = onnx.load(pair.before), onnx.load(pair.after)
    assert list(after.graph.input) == list(before.graph.input)
    assert [output.name for output in after.graph.output] == ["sampled"]
    assert {entry.key: entry.value for entry in after.metadata_props} == {"author": "somebody", "stn_edge": "{}"}


def test_what_was_done_is_said_and_nothing_was_left_out(pair: Pair) -> None:
    made = pair.result.changes.made
    assert sum("is one matrix product with a constant" in sentence for sentence in made) == len(pair.recipe.steps)
    assert any(f"opset {pair.recipe.opset} is now 18" in sentence for sentence in made) == (pair.recipe.opset > 19)
    assert pair.result.changes.kept == []
    assert not pair.result.is_unchanged
    assert pair.result.differences["sampled"] <= RELATIVE


def test_a_second_run_changes_nothing(pair: Pair, tmp_path: Path) -> None:
    again = optimize_onnx(pair.after, tmp_path / "again.onnx")
    assert again.is_unchanged
    assert again.changes.made == []
    assert (tmp_path / "again.onnx").read_bytes() == pair.after.read_bytes()


@pytest.mark.parametrize("out", [(9, 7), (12, 13)], ids=["small", "large"])
def test_a_projective_grid_of_unknown_shapes_is_one_product_and_a_division(
    out: tuple[int, int], tmp_path: Path
) -> None:
    """TorchScript leaves the shape of the joined theta open; it is measured."""
    recipe = Recipe(lambda: Transformer(by_homography, out=out), 17, by_torchscript=True)
    network = recipe.network().eval()
    source = write(recipe, network, tmp_path / "source.onnx")
    result = optimize_onnx(source, tmp_path / "target.onnx")
    assert result.changes.kept == []
    written = onnx.load(tmp_path / "target.onnx")
    kinds = [node.op_type for node in written.graph.node]
    assert kinds[-8:] == ["MatMul", "Split", "Abs", "Add", "Div", "Transpose", "Reshape", "GridSample"]
    image = pictures((3, 1, *SIZE))
    with torch.inference_mode():
        assert_equal(run(tmp_path / "target.onnx", image), network(torch.from_numpy(image)).numpy())
