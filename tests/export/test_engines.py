"""The released files in engines other than onnxruntime: what loads, and that it answers as there."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

import stn_zoo
from stn_runtime.model.golden import TOLERANCES
from stn_runtime.model.network import Network
from stn_runtime.model.session import open_session
from tests.support.mnn import open_with_mnn

FOLDER = Path(str(stn_zoo.__file__)).parent
FILES = sorted(path.stem for path in FOLDER.glob("*.onnx"))
SPLIT = {name for name in FILES if "split" in name}
FLOAT32 = {name for name in FILES if not name.endswith(("float16", "int8"))}
FLOAT16 = {name for name in FILES if name.endswith("float16")}

Answer = Mapping[str, NDArray[np.generic]]


@cache
def asked(name: str, pictures: int) -> tuple[NDArray[np.generic], Answer]:
    """Return pictures of noise, and what onnxruntime answers."""
    session = open_session((FOLDER / f"{name}.onnx").read_bytes(), providers=["CPUExecutionProvider"])
    shape = [size if isinstance(size, int) else pictures for size in session.get_inputs()[0].shape]
    kind = np.uint8 if session.get_inputs()[0].type == "tensor(uint8)" else np.float32
    batch = np.random.default_rng(0).integers(0, 256, shape).astype(kind)
    outputs = [output.name for output in session.get_outputs()]
    return batch, dict(zip(outputs, session.run(outputs, {session.get_inputs()[0].name: batch}), strict=True))


def differences(name: str, answer: Answer, pictures: int) -> dict[str, float]:
    """Return the largest difference of each output from onnxruntime's."""
    return {
        output: float(np.abs(answer[output].astype(np.float64).reshape(right.shape) - right).max())
        for output, right in asked(name, pictures)[1].items()
    }


def assert_same(name: str, answer: Answer, pictures: int) -> None:
    """Hold an answer against what the export proved of the file, which says how much the network magnifies rounding.

    In int8 a value between two steps may be rounded either way: what ``stn verify`` allows another processor.
    """
    allowed = Network(FOLDER / f"{name}.onnx").manifest.verification["theta_own"]["allowed"]
    for output, apart in differences(name, answer, pictures).items():
        kind = "theta" if output.startswith("grid") else output
        limit = TOLERANCES["int8"][kind] if name.endswith("int8") and output != "rectified" else allowed[kind]
        assert apart <= limit, output


# OpenVINO


def compiled(name: str, **properties: str) -> Answer:
    """Return what OpenVINO answers on a CPU."""
    openvino = pytest.importorskip("openvino", reason="OpenVINO is not installed: pip install openvino")
    model = openvino.Core().compile_model(str(FOLDER / f"{name}.onnx"), "CPU", properties)
    answer = model(asked(name, 2)[0])
    return {output.get_any_name(): np.asarray(answer[output]) for output in model.outputs}


@pytest.mark.parametrize("name", FILES)
def test_openvino_told_to_compute_in_float32_answers_as_onnxruntime(name: str) -> None:
    assert_same(name, compiled(name, INFERENCE_PRECISION_HINT="f32"), 2)


def test_openvino_left_alone_computes_in_bfloat16_where_the_cpu_has_it() -> None:
    openvino = pytest.importorskip("openvino", reason="OpenVINO is not installed: pip install openvino")
    hint = openvino.Core().get_property("CPU", "INFERENCE_PRECISION_HINT")
    if hint.get_type_name() != "bf16":
        pytest.skip(f"this CPU has no bfloat16: OpenVINO computes in {hint.get_type_name()}")
    assert differences("digits", compiled("digits"), 2)["probabilities"] > 1e-2


# MNN


@pytest.mark.parametrize("name", FILES)
def test_mnn_answers_nearly_as_onnxruntime_and_refuses_int8(name: str, tmp_path: Path) -> None:
    """Its exponential is rough: probabilities are some 1e-4 off. A wrong sampler is off by 1e-2 and more."""
    pytest.importorskip("MNN", reason="MNN is not installed: pip install MNN")
    batch, right = asked(name, 2)
    if name.endswith("int8") and name != "digits-split-int8":  # whose localisation net is in float32
        with pytest.raises(RuntimeError, match="MNN"):
            open_with_mnn(FOLDER / f"{name}.onnx", tmp_path, ["image"], list(right), 1)
        return
    answer = open_with_mnn(FOLDER / f"{name}.onnx", tmp_path, ["image"], list(right), 1)(batch)
    apart = differences(name, dict(zip(right, answer, strict=True)), 2)
    assert apart.pop("rectified", 0) <= 1
    assert max(apart.values()) < 1e-3


# OpenCV

ENGINES = {"classic": getattr(cv2.dnn, "ENGINE_CLASSIC", None), "new": getattr(cv2.dnn, "ENGINE_NEW", None)}
LOADS = {
    "4": SPLIT,
    "5, classic": {
        "cifar10",
        "digits",
        "digits-int8",
        "digits-split",
        "digits-split-int8",
        "house-numbers-int8",
        "traffic-signs",
        "traffic-signs-int8",
    },
    "5, new": FLOAT32 | FLOAT16 | {"digits-split-int8"},  # whose localisation net is in float32
}
"""What each engine reads, measured with OpenCV 4.8, 4.14 and 5.0.0, one picture each: the classic one mixes them up."""


def by_opencv(name: str, engine: int | None) -> Answer:
    """Return what OpenCV answers.

    Raises:
        cv2.error: It cannot.
    """
    path, (batch, right) = str(FOLDER / f"{name}.onnx"), asked(name, 1)
    net = cv2.dnn.readNetFromONNX(path) if engine is None else cv2.dnn.readNetFromONNX(path, engine)
    net.setInput(batch)
    return dict(zip(right, net.forward(list(right)), strict=True))


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("engine", ["classic", "new"])
def test_what_opencv_reads_it_answers_as_onnxruntime_and_the_rest_it_refuses(name: str, engine: str) -> None:
    major = cv2.__version__.partition(".")[0]
    if major == "4" and engine == "new":
        pytest.skip("OpenCV 4 has one engine")
    if name in LOADS[major if major == "4" else f"{major}, {engine}"]:
        assert_same(name, by_opencv(name, ENGINES[engine] if major != "4" else None), 1)
    else:
        with pytest.raises(cv2.error):
            by_opencv(name, ENGINES[engine] if major != "4" else None)
