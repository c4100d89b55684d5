"""A model file run: one graph, or two with the warp between them; every answer worked out by hand.

The split file looks at rows 1 to 3 and columns 2 to 5 of the input, each point a pixel's centre, and answers of what it
sampled there what the fused file answers of the whole input. So the answer is that of the pixels looked at.
"""

import base64
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from stn_runtime import Classifier, ExportSpec, InputError, Manifest, ModelContractError, TransformerSpec
from stn_runtime.images.preprocessing import PreprocessSpec
from stn_runtime.model.golden import TOLERANCES, make_golden, replay
from stn_runtime.model.manifest import METADATA_KEY, Form, Precision
from stn_runtime.model.network import Network
from stn_runtime.model.session import CLASSIFIER_KEY, open_session
from tests.support.tiny_model import HEIGHT, LABELS, THETA, WIDTH, answer, make_manifest, outline_of_theta

Outputs = dict[str, NDArray[Any]]

LOOKED_AT = np.stack(np.meshgrid((2 * np.arange(2, 6) + 1) / 8 - 1, (2 * np.arange(1, 4) + 1) / 6 - 1), -1)
SPLIT = ExportSpec("split", "cpu", "float32", 18)
OUTPUTS = ("probabilities", "theta", "outline", "rectified")


def _localisation(channels: int, grids: list[NDArray[Any]], batch: int | str = "N") -> onnx.ModelProto:
    """Theta, outline and grids, the same for every picture."""
    count = len(grids)
    values: dict[str, Any] = {
        "zero": np.float32(0),
        "all_axes": np.array([1, 2, 3]),
        "two_axes": np.array([-1, 1]),
        "constant_theta": np.tile(THETA, count)[None],
        "constant_outline": np.tile(outline_of_theta()[None, None], (1, count, 1, 1)),
    }
    values |= {f"constant_grid_{number}": grid[None].astype(np.float32) for number, grid in enumerate(grids)}
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels", "all_axes"], ["mean"], keepdims=1),
        helper.make_node("Mul", ["mean", "zero"], ["nothing4"]),
        helper.make_node("Reshape", ["nothing4", "two_axes"], ["nothing"]),
        helper.make_node("Add", ["nothing", "constant_theta"], ["theta"]),
        helper.make_node("Add", ["nothing4", "constant_outline"], ["outline"]),
        *(
            helper.make_node("Add", ["nothing4", f"constant_grid_{number}"], [f"grid_{number}"])
            for number in range(count)
        ),
    ]
    outputs = [
        helper.make_tensor_value_info("theta", TensorProto.FLOAT, (batch, 6 * count)),
        helper.make_tensor_value_info("outline", TensorProto.FLOAT, (batch, count, 32, 2)),
        *(
            helper.make_tensor_value_info(f"grid_{number}", TensorProto.FLOAT, (batch, *grid.shape))
            for number, grid in enumerate(grids)
        ),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, (batch, HEIGHT, WIDTH, channels))
    return _model(nodes, [image], outputs, values)


def _head(channels: int, grids: list[NDArray[Any]], batch: int | str = "N") -> onnx.ModelProto:
    """What the fused file answers, of the last transformer's samples (N, C, h, w) in [0, 1]."""
    last = f"warped_{len(grids) - 1}"
    axes = np.array([1, 2, 3] if channels == 1 else [2, 3])
    values: dict[str, Any] = {"one": np.float32(1), "two": np.float32(2), "full": np.float32(255), "axes": axes}
    values |= {"last": np.array([1])}
    if channels == 1:
        nodes = [
            helper.make_node("ReduceMean", [last, "axes"], ["mean"], keepdims=0),
            helper.make_node("Unsqueeze", ["mean", "last"], ["m"]),
            helper.make_node("Sub", ["one", "m"], ["rest"]),
            helper.make_node("Mul", ["rest", "rest"], ["dark"]),
            helper.make_node("Mul", ["m", "rest"], ["half"]),
            helper.make_node("Mul", ["half", "two"], ["middle"]),
            helper.make_node("Mul", ["m", "m"], ["bright"]),
            helper.make_node("Concat", ["dark", "middle", "bright"], ["probabilities"], axis=1),
        ]
    else:
        nodes = [
            helper.make_node("ReduceMean", [last, "axes"], ["means"], keepdims=0),
            helper.make_node("Mul", ["means", "full"], ["levels"]),
            helper.make_node("Add", ["levels", "one"], ["raised"]),
            helper.make_node("ReduceSum", ["raised", "last"], ["sum"], keepdims=1),
            helper.make_node("Div", ["raised", "sum"], ["probabilities"]),
        ]
    inputs = [
        helper.make_tensor_value_info(f"warped_{number}", TensorProto.FLOAT, (batch, channels, *grid.shape[:2]))
        for number, grid in enumerate(grids)
    ]
    outputs = [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, (batch, 3))]
    return _model(nodes, inputs, outputs, values)


def _model(
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    values: dict[str, Any],
) -> onnx.ModelProto:
    constants = [numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()]
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def _transformers(count: int) -> tuple[TransformerSpec, ...]:
    return tuple(
        TransformerSpec(
            f"stn{index}", "affine", (6 * index, 6 * index + 6), (6, 8), (3, 4), "bilinear", "zeros", False, True
        )
        for index in range(count)
    )


def _split_answer(image: NDArray[np.uint8]) -> Outputs:
    """What the split file must answer to one input (H, W, C), computed without it."""
    looked_at = image[1:4, 2:6]
    return answer(image) | {"probabilities": answer(looked_at)["probabilities"]}


@pytest.fixture
def build_split(tmp_path: Path) -> Callable[..., Path]:
    """Write a split file: ``build_split(channels, grids=..., classifier=metadata or None, batch=..., **fields)``."""

    def build(
        channels: int = 1,
        *,
        grids: list[NDArray[Any]] | None = None,
        head: onnx.ModelProto | None = None,
        classifier: str | None = "",
        batch: int | str = "N",
        **changes: Any,  # noqa: ANN401
    ) -> Path:
        grids = grids or [LOOKED_AT]
        fields = {
            "export": SPLIT,
            "transformers": _transformers(len(grids)),
            "outputs": OUTPUTS,
            "golden": (),
        } | changes
        metadata = {METADATA_KEY: make_manifest(channels, **fields).to_json()}
        if classifier == "":
            classifier = base64.b64encode((head or _head(channels, grids, batch)).SerializeToString()).decode("ascii")
        if classifier is not None:
            metadata[CLASSIFIER_KEY] = classifier
        model = _localisation(channels, grids, batch)
        helper.set_model_props(model, metadata)
        path = tmp_path / "split.onnx"
        path.write_bytes(model.SerializeToString())
        return path

    return build


@pytest.fixture
def sessions(monkeypatch: pytest.MonkeyPatch) -> list[ort.InferenceSession]:
    """Every session that a Network opens, in order."""
    opened: list[ort.InferenceSession] = []

    def remember(*arguments: Any, **options: Any) -> ort.InferenceSession:  # noqa: ANN401
        opened.append(open_session(*arguments, **options))
        return opened[-1]

    monkeypatch.setattr("stn_runtime.model.network.open_session", remember)
    return opened


def _pictures(channels: int, count: int = 3) -> NDArray[np.uint8]:
    return np.random.default_rng(channels).integers(0, 256, (count, HEIGHT, WIDTH, channels), np.uint8)


def _assert_answers(outputs: Outputs, pictures: NDArray[np.uint8], worked_out: Callable[..., Outputs]) -> None:
    for index, picture in enumerate(pictures):
        for name, values in worked_out(picture).items():
            np.testing.assert_allclose(outputs[name][index], values, rtol=0, atol=1e-6, err_msg=name)


# --- one graph


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("form", ["fused", "portable"])
def test_a_file_of_one_graph_answers(build_model: Callable[..., Path], form: Form, channels: int) -> None:
    opened = Network(build_model(channels, export=ExportSpec(form, "cpu", "float32", 18)), threads=1)
    pictures = _pictures(channels)
    outputs = opened.run(pictures)
    assert tuple(outputs) == opened.manifest.outputs
    _assert_answers(outputs, pictures, answer)


def test_a_file_of_one_graph_needs_no_frames(grey_model: Path) -> None:
    opened, pictures = Network(grey_model, threads=1), _pictures(1)
    frames = [np.full((60, 80), 255, np.uint8)] * 3
    np.testing.assert_array_equal(opened.run(pictures, frames)["probabilities"], opened.run(pictures)["probabilities"])


def test_a_network_opens_from_bytes_and_knows_its_source(grey_model: Path) -> None:
    assert Network(grey_model, threads=1).source == str(grey_model)
    opened = Network(grey_model.read_bytes(), threads=1)
    assert opened.source == "the model"
    assert opened.manifest.name == "tiny"


def test_a_manifest_may_be_given_where_the_file_has_none(
    build_model: Callable[..., Path], manifest_of: Callable[..., Manifest]
) -> None:
    path = build_model(1, metadata={})
    with pytest.raises(ModelContractError, match=r"tiny\.onnx: no 'stn_edge' metadata"):
        Network(path, threads=1)
    pictures = _pictures(1)
    opened = Network(path, manifest=manifest_of(1), threads=1)
    assert opened.manifest == manifest_of(1)
    _assert_answers(opened.run(pictures), pictures, answer)


def test_further_inputs_of_a_graph_can_be_given(build_model: Callable[..., Path]) -> None:
    path = build_model(1, metadata={})
    model = onnx.load(path)
    (constant,) = [value for value in model.graph.initializer if value.name == "constant_theta"]
    model.graph.initializer.remove(constant)
    model.graph.input.append(helper.make_tensor_value_info("constant_theta", TensorProto.FLOAT, (1, 6)))
    opened = Network(model.SerializeToString(), manifest=make_manifest(1), threads=1)
    given = np.arange(6, dtype=np.float32)[None]
    assert opened.run(_pictures(1), given={"constant_theta": given})["theta"].tolist() == [[0, 1, 2, 3, 4, 5]] * 3


# --- two graphs


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("count", [1, 3])
def test_a_split_file_answers_of_what_it_sampled(build_split: Callable[..., Path], channels: int, count: int) -> None:
    pictures = _pictures(channels, count)
    outputs = Network(build_split(channels), threads=1).run(pictures)
    _assert_answers(outputs, pictures, _split_answer)
    assert outputs["rectified"].dtype == np.uint8
    assert outputs["rectified"].shape == (count, 3, 4, channels)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_split_file_opens_from_its_bytes(build_split: Callable[..., Path], channels: int) -> None:
    pictures = _pictures(channels)
    opened = Network(build_split(channels).read_bytes(), threads=1)
    _assert_answers(opened.run(pictures), pictures, _split_answer)


def test_the_outputs_of_a_split_file_are_those_of_its_manifest(build_split: Callable[..., Path]) -> None:
    assert tuple(Network(build_split(), threads=1).run(_pictures(1))) == OUTPUTS
    path = build_split(outputs=("probabilities", "theta", "outline"))
    assert tuple(Network(path, threads=1).run(_pictures(1))) == ("probabilities", "theta", "outline")


def test_without_rectified_a_prediction_has_none(build_split: Callable[..., Path]) -> None:
    path = build_split(outputs=("probabilities", "theta", "outline"))
    prediction = Classifier(path, threads=1).predict(_pictures(1)[0])
    assert prediction.rectified is None
    assert prediction.outline.shape == (1, 32, 2)


def test_rectified_is_what_the_last_transformer_sampled(build_split: Callable[..., Path]) -> None:
    elsewhere = LOOKED_AT + np.array([2 / 8, 2 / 6])  # a column to the right and a row down
    pictures = _pictures(3)
    outputs = Network(build_split(3, grids=[LOOKED_AT, elsewhere]), threads=1).run(pictures)
    np.testing.assert_array_equal(outputs["rectified"], pictures[:, 2:5, 3:7])
    assert outputs["theta"].shape == (3, 12)
    for index, picture in enumerate(pictures):
        expected = answer(picture[2:5, 3:7])["probabilities"]
        np.testing.assert_allclose(outputs["probabilities"][index], expected, atol=1e-6)


def test_a_frame_is_sampled_at_its_own_resolution(build_split: Callable[..., Path]) -> None:
    # the points are the centres of rows 31 to 33 and columns 40 to 43 of a frame ten times the input's size
    points = np.stack(np.meshgrid((2 * np.arange(40, 44) + 1) / 80 - 1, (2 * np.arange(31, 34) + 1) / 60 - 1), -1)
    frame = np.random.default_rng(9).integers(0, 256, (60, 80, 3), np.uint8)
    prediction = Classifier(build_split(3, grids=[points]), threads=1).predict(frame)
    np.testing.assert_array_equal(prediction.rectified, frame[31:34, 40:44])
    expected = dict(zip(LABELS[3], answer(frame[31:34, 40:44])["probabilities"], strict=True))
    assert {score.label: score.probability for score in prediction.top} == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("factor", [2, 3, 10])
def test_a_plain_patch_of_a_large_frame_is_seen_plain(build_split: Callable[..., Path], factor: int) -> None:
    frame = np.zeros((6 * factor, 8 * factor), np.uint8)
    frame[: 5 * factor, factor : 7 * factor] = 204  # what the grid reads, and a pixel of the input around it
    prediction = Classifier(build_split(1), threads=1).predict(frame)
    assert prediction.label == "bright"
    assert prediction.confidence == pytest.approx(0.64, abs=1e-4)
    np.testing.assert_array_equal(prediction.rectified, np.full((3, 4), 204))


def test_a_batch_of_frames_of_mixed_sizes_keeps_its_order(build_split: Callable[..., Path]) -> None:
    model = Classifier(build_split(3), threads=1)
    frames = [
        np.full((18, 24, 3), (255, 0, 0), np.uint8),
        np.full((6, 8, 3), (0, 0, 255), np.uint8),
        np.full((3, 2, 3), (0, 255, 0), np.uint8),
        np.full((60, 20), 77, np.uint8),
        np.full((5, 90, 1), 99, np.uint8),
    ]
    predictions = model.predict(frames)
    assert [prediction.label for prediction in predictions] == ["red", "blue", "green", "red", "red"]
    for frame, prediction in zip(frames, predictions, strict=True):
        alone = model.predict(frame)
        np.testing.assert_array_equal(prediction.rectified, alone.rectified)
        np.testing.assert_allclose(prediction.outline, alone.outline)
        assert prediction.confidence == pytest.approx(alone.confidence, abs=1e-6)
    assert predictions[0].confidence == pytest.approx(256 / 258, abs=1e-4)


def test_the_outline_of_a_split_file_is_in_pixels_of_the_picture(build_split: Callable[..., Path]) -> None:
    outline = Classifier(build_split(), threads=1).predict(np.zeros((60, 160), np.uint8)).outline
    # x = 80 u + 79.5, y = 30 v + 29.5 of u in [-0.25, 0.75], v in [-0.75, 0.25]
    np.testing.assert_allclose(outline[0, ::8], [(59.5, 7), (139.5, 7), (139.5, 37), (59.5, 37)], atol=1e-4)


def test_a_letterboxed_frame_is_black_beyond_its_edges(build_split: Callable[..., Path]) -> None:
    # 12 x 48 into 6 x 8: 2 rows with 2 black ones above and below; of rows 1 to 3, row 1 is black and 2 and 3 white
    path = build_split(preprocess=PreprocessSpec(6, 8, 1, fit="letterbox"))
    rectified = Classifier(path, threads=1).predict(np.full((12, 48), 255, np.uint8)).rectified
    np.testing.assert_array_equal(rectified, np.repeat([[0], [255], [255]], 4, axis=1))


def test_threads_reach_both_sessions(build_split: Callable[..., Path], sessions: list[ort.InferenceSession]) -> None:
    Network(build_split(), threads=3)
    assert [session.get_session_options().intra_op_num_threads for session in sessions[-2:]] == [3, 3]


def test_providers_reach_both_sessions(build_split: Callable[..., Path], sessions: list[ort.InferenceSession]) -> None:
    Network(build_split(), threads=1, providers=["CPUExecutionProvider"])
    assert [session.get_providers() for session in sessions[-2:]] == [["CPUExecutionProvider"]] * 2
    with pytest.raises(InputError, match="execution provider NoSuchProvider is not available"):
        Network(build_split(), providers=["NoSuchProvider"])


@pytest.mark.parametrize("spin", [True, False])
def test_the_threads_of_one_graph_sleep_while_the_other_runs(
    build_split: Callable[..., Path], sessions: list[ort.InferenceSession], spin: bool
) -> None:
    Network(build_split(), threads=1, spin=spin)
    assert len(sessions) == 2  # each graph is opened once
    key = "session.intra_op.allow_spinning"
    assert [session.get_session_options().get_session_config_entry(key) for session in sessions[-2:]] == ["0", "0"]


@pytest.mark.parametrize("optimize", [True, False])
def test_graphs_run_as_they_are_where_onnxruntime_may_not_rewrite_them(
    build_split: Callable[..., Path], grey_model: Path, sessions: list[ort.InferenceSession], optimize: bool
) -> None:
    pictures = _pictures(1)
    _assert_answers(Network(build_split(), threads=1, optimize=optimize).run(pictures), pictures, _split_answer)
    _assert_answers(Network(grey_model, threads=1, optimize=optimize).run(pictures), pictures, answer)
    levels = {session.get_session_options().graph_optimization_level for session in sessions}
    level = ort.GraphOptimizationLevel
    assert len(sessions) == 3  # two graphs of the split file, one of the other
    assert levels == {level.ORT_ENABLE_ALL if optimize else level.ORT_DISABLE_ALL}


# --- one picture at a time


@pytest.mark.parametrize("channels", [1, 3])
def test_a_file_for_one_picture_at_a_time_answers_a_batch(build_model: Callable[..., Path], channels: int) -> None:
    opened, pictures = Network(build_model(channels, batch=1), threads=1), _pictures(channels)
    outputs = opened.run(pictures, [np.zeros((60, 80), np.uint8)] * 3)
    assert tuple(outputs) == opened.manifest.outputs
    assert {len(values) for values in outputs.values()} == {3}
    assert outputs["rectified"].dtype == np.uint8
    _assert_answers(outputs, pictures, answer)


@pytest.mark.parametrize("of_the_input", [True, False], ids=["frames are the input", "larger frames"])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_split_file_for_one_picture_at_a_time_answers_as_one_by_one(
    build_split: Callable[..., Path], channels: int, of_the_input: bool
) -> None:
    opened, any_number = (Network(build_split(channels, batch=batch), threads=1) for batch in (1, "N"))
    pictures = _pictures(channels)
    rng = np.random.default_rng(0)
    sizes = [(HEIGHT, WIDTH)] * 3 if of_the_input else [(30, 40), (60, 160), (90, 24)]
    brightest = [(40, 250, 90), (250, 90, 40), (90, 40, 250)]  # of red, green and blue
    frames = [
        rng.integers(0, levels[:channels], (*size, channels), np.uint8)
        for size, levels in zip(sizes, brightest, strict=True)
    ]
    together: Outputs = opened.run(pictures, frames)
    each = [opened.run(pictures[index : index + 1], frames[index : index + 1]) for index in range(3)]
    of_any_number: Outputs = any_number.run(pictures, frames)
    assert tuple(together) == OUTPUTS
    for name, values in together.items():
        np.testing.assert_array_equal(values, np.concatenate([outputs[name] for outputs in each]), err_msg=name)
        np.testing.assert_allclose(values, of_any_number[name], rtol=0, atol=1e-6, err_msg=name)
    for one, other in ((0, 1), (1, 2), (0, 2)):
        assert np.abs(together["probabilities"][one] - together["probabilities"][other]).max() > 0.05


def test_a_split_file_for_one_picture_at_a_time_samples_the_batch_where_there_are_no_frames(
    build_split: Callable[..., Path],
) -> None:
    pictures = _pictures(3)
    _assert_answers(Network(build_split(3, batch=1), threads=1).run(pictures), pictures, _split_answer)


def test_a_classifier_takes_any_number_of_pictures_for_a_file_that_takes_one(build_model: Callable[..., Path]) -> None:
    model = Classifier(build_model(1, batch=1), threads=1)
    frames = [np.full((9, 20), level, np.uint8) for level in (255, 0, 128)]
    assert [prediction.label for prediction in model.predict(frames)] == ["bright", "dark", "middle"]
    assert model.predict([]) == []


def test_further_inputs_are_given_to_each_picture_of_its_own(build_model: Callable[..., Path]) -> None:
    model = onnx.load(build_model(1, metadata={}, batch=1))
    (constant,) = [value for value in model.graph.initializer if value.name == "constant_theta"]
    model.graph.initializer.remove(constant)
    model.graph.input.append(helper.make_tensor_value_info("constant_theta", TensorProto.FLOAT, (1, 6)))
    opened, pictures = Network(model.SerializeToString(), manifest=make_manifest(1), threads=1), _pictures(1)
    thetas = np.arange(18, dtype=np.float32).reshape(3, 6)
    outputs = opened.run(pictures, given={"constant_theta": thetas})
    np.testing.assert_array_equal(outputs["theta"], thetas)
    _assert_answers({**outputs, "theta": np.tile(THETA, (3, 1))}, pictures, answer)


# --- replayed


@pytest.mark.parametrize("channels", [1, 3])
def test_golden_vectors_of_a_split_file_pass(build_split: Callable[..., Path], channels: int) -> None:
    golden = tuple(make_golden(picture, _split_answer(picture)) for picture in _pictures(channels))
    parity = replay(Network(build_split(channels, golden=golden), threads=1))
    assert parity.passed
    assert (parity.pictures, parity.labels_differ) == (3, 0)
    assert set(parity.differences) == set(OUTPUTS)
    assert max(parity.differences.values()) < 1e-6


@pytest.mark.parametrize("precision", ["float32", "float16", "int8"])
@pytest.mark.parametrize("name", ["probabilities", "theta", "outline", "rectified"])
def test_a_split_file_is_replayed_with_the_tolerances_of_its_precision(
    build_split: Callable[..., Path], precision: Precision, name: str
) -> None:
    picture = np.full((HEIGHT, WIDTH, 1), 51, np.uint8)
    for share, passes in ((0.9, True), (1.1, False)):
        outputs = {key: values.copy() for key, values in _split_answer(picture).items()}
        outputs[name].reshape(-1)[0] += share * TOLERANCES[precision][name]
        export = ExportSpec("split", "cpu", precision, 18)
        parity = replay(Network(build_split(export=export, golden=(make_golden(picture, outputs),)), threads=1))
        assert parity.passed is passes


def test_a_vector_of_an_output_that_the_file_does_not_give_is_damaged(build_split: Callable[..., Path]) -> None:
    picture = _pictures(1)[0]
    path = build_split(outputs=OUTPUTS[:3], golden=(make_golden(picture, _split_answer(picture)),))
    told = r"/split\.onnx: golden vector 0 is damaged: it has other outputs than the file$"
    with pytest.raises(ModelContractError, match=told):
        replay(Network(path, threads=1))


# --- damaged


def _refused(path: Path, told: str) -> None:
    with pytest.raises(ModelContractError, match=told) as caught:
        Network(path, threads=1)
    assert "\n" not in str(caught.value)


def test_a_split_file_without_its_classifier_says_so(build_split: Callable[..., Path]) -> None:
    told = r"/split\.onnx: is of the split form but carries no classifier graph; export it again$"
    _refused(build_split(classifier=None), told)


@pytest.mark.parametrize("text", ["AAA", "not base64!", "größe", "A" * 5], ids=ascii)
def test_a_classifier_that_is_not_base64_is_one_sentence(build_split: Callable[..., Path], text: str) -> None:
    _refused(build_split(classifier=text), r"/split\.onnx: its classifier graph is damaged \(.*\); export it again$")


CLASSIFIER_DOES_NOT_LOAD = (
    r"/split\.onnx, its classifier graph: onnxruntime cannot load it \(.*\); copy or export the model again$"
)


@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
def test_a_truncated_classifier_is_one_sentence(build_split: Callable[..., Path], share: float) -> None:
    data = _head(1, [LOOKED_AT]).SerializeToString()
    cut = base64.b64encode(data[: int(len(data) * share)]).decode("ascii")
    _refused(build_split(classifier=cut), CLASSIFIER_DOES_NOT_LOAD)


def test_a_classifier_that_is_no_model_is_one_sentence(build_split: Callable[..., Path]) -> None:
    damaged = base64.b64encode(b"PK\x03\x04").decode("ascii")
    _refused(build_split(classifier=damaged), CLASSIFIER_DOES_NOT_LOAD)


def test_a_classifier_of_another_number_of_labels_is_refused(build_split: Callable[..., Path]) -> None:
    told = r"/split\.onnx: output 'probabilities' is \['N', 3\], expected N x 2 labels$"
    _refused(build_split(labels=("a", "b")), told)


@pytest.mark.parametrize(
    ("channels", "grids", "found"),
    [
        (1, [LOOKED_AT, LOOKED_AT], "'warped_0': ['N', 1, 3, 4], 'warped_1': ['N', 1, 3, 4]"),
        (1, [LOOKED_AT[:2]], "'warped_0': ['N', 1, 2, 4]"),
        (1, [LOOKED_AT.transpose(1, 0, 2)], "'warped_0': ['N', 1, 4, 3]"),
        (3, [LOOKED_AT], "'warped_0': ['N', 3, 3, 4]"),
    ],
    ids=["two pictures", "another height", "width and height swapped", "three channels"],
)
def test_a_classifier_that_takes_other_pictures_than_are_sampled_is_refused(
    build_split: Callable[..., Path], channels: int, grids: list[NDArray[Any]], found: str
) -> None:
    told = f"its classifier graph takes {{{found}}}, expected {{'warped_0': ['N', 1, 3, 4]}}; export it again"
    _refused(build_split(1, head=_head(channels, grids)), rf"/split\.onnx: {re.escape(told)}$")


def test_a_classifier_of_one_picture_behind_a_localisation_of_any_number_is_refused(
    build_split: Callable[..., Path],
) -> None:
    told = "its classifier graph takes {'warped_0': [1, 1, 3, 4]}, expected {'warped_0': ['N', 1, 3, 4]}"
    _refused(build_split(1, head=_head(1, [LOOKED_AT], 1)), rf"/split\.onnx: {re.escape(told)}; export it again$")


@pytest.mark.parametrize("points", [np.zeros((3, 4, 3)), np.zeros((3, 5, 2)), np.zeros((1, 1, 2)), np.zeros((3, 4))])
def test_a_grid_of_other_points_than_the_manifest_says_is_refused(
    build_split: Callable[..., Path], points: NDArray[Any]
) -> None:
    head = _head(1, [LOOKED_AT])
    with pytest.raises(ModelContractError, match=r"output 'grid_0' is \(1, .*\), the manifest says N x 3 x 4 points"):
        Network(build_split(grids=[points], head=head, transformers=_transformers(1)), threads=1)


def test_a_split_file_without_its_grids_is_refused(build_split: Callable[..., Path]) -> None:
    path = build_split()
    model = onnx.load(path)
    model.graph.output[2].name = "lattice"
    model.graph.node[-1].output[0] = "lattice"
    onnx.save(model, path)
    told = r"is of the split form, but its outputs are \['theta', 'outline', 'lattice'\]; export it again$"
    _refused(path, rf"/split\.onnx: {told}")


def test_a_fused_file_that_calls_itself_split_is_refused(build_model: Callable[..., Path]) -> None:
    told = r"/tiny\.onnx: is of the split form, but its outputs are \['probabilities', .*\]; export it again$"
    _refused(build_model(1, export=SPLIT), told)


def test_a_split_file_that_calls_itself_fused_is_refused(build_split: Callable[..., Path]) -> None:
    _refused(build_split(export=ExportSpec("fused", "cpu", "float32", 18)), r"split\.onnx: outputs are .*grid_0")
