"""The contract of a model file over its life: opened once, bounded, checked at its first run and at each one after.

Files that break it at once stand in tests/stress/hostile_models.py.
"""

import threading
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from stn_runtime import Classifier, ModelContractError, classify, open_source
from stn_runtime.doctor.model_check import check_model
from stn_runtime.images.writing import write_image
from stn_runtime.model import session
from stn_runtime.model.contract import are_probabilities, check_answers
from stn_runtime.model.network import Network
from stn_runtime.model.zoo import released_models
from tests.stress.hostile_models import ENDLESS
from tests.stress.hostile_parts import GOOD, UNIFORM, doubling, long_loop, with_probabilities
from tests.support.tiny_model import HEIGHT, WIDTH, make_manifest

BLACK, WHITE = (np.full((HEIGHT, WIDTH), level, np.uint8) for level in (0, 255))


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Every graph that onnxruntime opens: its path, or bytes."""
    graphs: list[object] = []
    start = ort.InferenceSession

    def counted(graph: object, *arguments: Any, **options: Any) -> ort.InferenceSession:  # noqa: ANN401
        graphs.append(graph)
        return start(graph, *arguments, **options)

    monkeypatch.setattr(ort, "InferenceSession", counted)
    return graphs


@pytest.mark.parametrize(("name", "graphs"), [("digits", 1), ("digits-portable", 1), ("digits-split", 2)])
def test_each_graph_of_a_file_is_opened_once(name: str, graphs: int, opened: list[object]) -> None:
    path = released_models()[name]
    Classifier(path, threads=1)
    assert len(opened) == graphs
    assert opened[0] == str(path)
    assert not any(isinstance(graph, bytes) and graph == path.read_bytes() for graph in opened)


def test_doctor_opens_each_graph_once(opened: list[object]) -> None:
    check_model(released_models()["digits-split"])
    assert len(opened) == 2


@pytest.mark.parametrize("name", released_models())
def test_every_released_model_keeps_the_contract(name: str) -> None:
    assert Network(released_models()[name], threads=1).manifest.name


@pytest.fixture
def half_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "_SECONDS", 0.5)


@pytest.mark.usefixtures("half_a_second")
@pytest.mark.parametrize("name", ["a loop of 10^9", "a loop of 10^9 over constants"])
def test_a_program_that_opens_an_endless_file_gets_an_exception_and_goes_on(
    name: str, tmp_path: Path, grey_model: Path
) -> None:
    path = tmp_path / "endless.onnx"
    path.write_bytes(ENDLESS[name]())
    with pytest.raises(ModelContractError, match=r"endless\.onnx: its first run took longer than 0\.5 s; run no file "):
        Classifier(path, threads=1)
    for thread in threading.enumerate():  # onnxruntime heeds the request between two turns
        if thread.name.startswith("stn-daemon"):
            thread.join(10)
            assert not thread.is_alive()
    assert Classifier(grey_model, threads=1).predict(BLACK).label == "dark"


@pytest.mark.skipif(not hasattr(ort.SessionOptions, "set_load_cancellation_flag"), reason="of onnxruntime 1.22")
def test_opening_is_bounded_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "_MOST_MEMORY", 1 << 28)
    path = tmp_path / "endless.onnx"
    path.write_bytes(doubling(18, in_constants=True))
    with pytest.raises(ModelContractError, match=r"endless\.onnx: opening it took more than 256 MiB of memory; run "):
        session.open_session(path, threads=1)


@pytest.mark.usefixtures("half_a_second")
def test_a_provider_that_compiles_the_network_gets_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = threading.Event()
    with pytest.raises(ModelContractError, match=r"^x: its first run took longer than 0\.5 s; "):
        session.within_bounds(lambda: waiting.wait(5), waiting.set, "its first run", "x", b"", ["CPUExecutionProvider"])
    providers = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
    slow = threading.Event()
    assert session.within_bounds(lambda: slow.wait(1.0), slow.set, "its first run", "x", b"", providers) is False


def test_a_long_loop_that_ends_is_no_fault(tmp_path: Path) -> None:
    path = tmp_path / "loop.onnx"
    path.write_bytes(long_loop(1000))
    assert Classifier(path, threads=1).predict(BLACK).probabilities.tolist() == pytest.approx([1 / 3] * 3)


# --- answers that turn bad after the first run


def _on_white(value: float) -> bytes:
    """Return a file that answers a third each, and ``value`` three times of a white picture."""
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMin", ["pixels", "axes"], ["darkest"], keepdims=0),
        helper.make_node("Unsqueeze", ["darkest", "last"], ["darkest_of_each"]),
        helper.make_node("Equal", ["darkest_of_each", "white"], ["is_white"]),
        helper.make_node("Where", ["is_white", "odd", "thirds"], ["probabilities"]),
    ]
    values = {
        "axes": np.array([1, 2, 3]),
        "last": np.array([1]),
        "white": np.float32(255),
        "odd": np.full((1, 3), value, np.float32),
        "thirds": np.full((1, 3), 1 / 3, np.float32),
    }
    return with_probabilities(nodes, values)


@pytest.mark.parametrize("value", [2.0, -1.0, np.nan, np.inf])
def test_a_prediction_of_no_probabilities_is_uncertain(value: float, tmp_path: Path) -> None:
    path = tmp_path / "odd.onnx"
    path.write_bytes(_on_white(value))
    (tmp_path / "pictures").mkdir()
    write_image(tmp_path / "pictures" / "black.png", BLACK)
    write_image(tmp_path / "pictures" / "white.png", WHITE)
    black, white = classify(open_source(str(tmp_path / "pictures")), Classifier(path, threads=1))
    assert black.uncertain is None
    assert white.uncertain == "the probabilities have left the range from 0 to 1"
    if not np.isfinite(value):
        assert white.fields()["confidence"] is None


def test_an_output_that_changes_its_shape_is_refused(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMin", ["pixels"], ["darkest"], keepdims=0),
        helper.make_node("Equal", ["darkest", "white"], ["is_white"]),
        helper.make_node("Cast", ["is_white"], ["more"], to=TensorProto.INT64),
        helper.make_node("Unsqueeze", ["more", "first"], ["more_of_them"]),
        helper.make_node("Add", ["three", "more_of_them"], ["count"]),
        helper.make_node("Shape", ["image"], ["batch"], start=0, end=1),
        helper.make_node("Concat", ["batch", "count"], ["shape"], axis=0),
        helper.make_node("Expand", ["third", "shape"], ["probabilities"]),
    ]
    values = UNIFORM | {"white": np.float32(255), "first": np.array([0])}
    path = tmp_path / "growing.onnx"
    path.write_bytes(with_probabilities(nodes, values))
    classifier = Classifier(path, threads=1)
    assert classifier.predict(BLACK).label == "dark"
    fault = r"growing\.onnx: output 'probabilities' is \(4,\) for a picture, and was \(3,\) for another; export "
    with pytest.raises(ModelContractError, match=fault):
        classifier.predict(WHITE)


def test_the_picture_of_the_first_run_is_neither_plain_nor_regular(grey_model: Path) -> None:
    seen: list[np.ndarray[Any, Any]] = []

    class Seen(Network):
        def run(self, batch: Any, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401
            seen.append(batch)
            return super().run(batch, *arguments, **options)

    Seen(grey_model, threads=1)
    [picture] = seen
    assert picture.shape == (1, HEIGHT, WIDTH, 1)
    assert len(np.unique(picture)) > 40  # of 48 pixels
    assert picture.std() > 60


# --- numbers


@pytest.mark.parametrize(
    ("values", "are"),
    [
        ([0.0, 1.0], True),
        ([-0.0005, 1.0005], True),
        ([0.5, 1.1], False),
        ([-0.1, 0.5], False),
        ([0.5, np.nan], False),
        ([np.inf, 0.0], False),
        ([], True),
    ],
)
def test_probabilities_are_numbers_from_0_to_1(values: list[float], are: bool) -> None:
    assert are_probabilities(np.array(values, np.float32)) is are


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("labels", [3, 1000])
def test_what_a_softmax_rounds_in_any_precision_is_no_fault(kind: type[np.floating[Any]], labels: int) -> None:
    logits = np.random.default_rng(labels).normal(0, 3, (1, labels))
    softmax = (np.exp(logits) / np.exp(logits).sum()).astype(kind)
    manifest = make_manifest(1, labels=tuple(map(str, range(labels))))
    check_answers({**{name: values[None] for name, values in GOOD.items()}, "probabilities": softmax}, manifest, "x")
