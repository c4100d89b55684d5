"""Golden vectors replayed: what passes, what fails, what is damaged."""

import base64
import dataclasses
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from stn_runtime import ExportSpec, GoldenVector, Manifest, ModelContractError, PreprocessSpec
from stn_runtime.model.golden import TOLERANCES, encode, golden_image, make_golden, replay
from stn_runtime.model.manifest import Precision
from stn_runtime.model.network import Network
from stn_runtime.model.parity import Parity

Answer = Callable[[NDArray[np.uint8]], dict[str, NDArray[np.float32]]]


@pytest.fixture
def replayed(build_model: Callable[..., Path]) -> Callable[..., Parity]:
    def run(channels: int = 1, **changes: Any) -> Parity:  # noqa: ANN401
        return replay(Network(build_model(channels, **changes), threads=1))

    return run


@pytest.fixture
def picture() -> NDArray[np.uint8]:
    return np.random.default_rng(7).integers(0, 256, (6, 8, 1), np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
def test_answers_worked_out_by_hand_pass(replayed: Callable[..., Parity], channels: int) -> None:
    result = replayed(channels)
    assert result.passed
    assert (result.pictures, result.labels_differ) == (2, 0)
    assert set(result.differences) == {"probabilities", "theta", "outline", "rectified"}
    assert max(result.differences.values()) < 1e-6


@pytest.mark.parametrize(
    ("name", "by", "passes"),
    [
        ("probabilities", 5e-5, True),
        ("probabilities", 2e-4, False),
        ("theta", -2e-4, False),
        ("outline", 2e-4, False),
        ("rectified", 1.0, True),
        ("rectified", 2.0, False),
        ("theta", float("nan"), False),
        ("outline", float("inf"), False),
    ],
)
def test_a_difference_counts_by_the_tolerance_of_its_output(
    replayed: Callable[..., Parity], picture: NDArray[np.uint8], expected_of: Answer, name: str, by: float, passes: bool
) -> None:
    outputs = expected_of(picture)
    outputs[name] = outputs[name].copy()  # THETA is shared
    outputs[name].reshape(-1)[-1] += by
    result = replayed(golden=(make_golden(picture, outputs),))
    assert result.passed is passes
    assert result.differences[name] == pytest.approx(abs(by) if np.isfinite(by) else np.inf, rel=1e-2)


@pytest.mark.parametrize(("lead", "differ"), [(2e-5, 0), (5e-4, 1)])
def test_another_label_fails_unless_both_tie_within_the_tolerance(
    replayed: Callable[..., Parity], expected_of: Answer, picture: NDArray[np.uint8], lead: float, differ: int
) -> None:
    picture[:] = 85  # one third: dark and middle are both 4/9
    outputs = expected_of(picture)
    outputs["probabilities"] = np.array([4 / 9 - lead / 2, 4 / 9 + lead / 2, 1 / 9], np.float32)
    other = outputs | {"probabilities": outputs["probabilities"][[1, 0, 2]]}
    results = [replayed(golden=(make_golden(picture, each),)) for each in (outputs, other)]
    assert sorted(result.labels_differ for result in results) == [0, differ]
    assert all(result.passed for result in results) is (not differ)


@pytest.mark.parametrize("name", ["probabilities", "theta", "outline", "rectified"])
@pytest.mark.parametrize("precision", ["float32", "float16", "int8"])
def test_a_file_is_replayed_with_the_tolerances_of_its_precision(
    replayed: Callable[..., Parity],
    picture: NDArray[np.uint8],
    expected_of: Answer,
    precision: Precision,
    name: str,
) -> None:
    outputs = expected_of(picture)
    outputs[name] = outputs[name].copy()
    for share, passes in ((0.9, True), (1.2, False)):
        allowed = TOLERANCES[precision][name]
        changed = outputs | {name: outputs[name].copy()}
        changed[name].reshape(-1)[-1] -= share * allowed
        export = ExportSpec("fused", "cpu", precision, 18)
        result = replayed(export=export, golden=(make_golden(picture, changed),))
        assert result.allowed(name) == allowed
        assert result.passed is passes


def test_reduced_precision_may_differ_more_and_float32_no_more_than_before() -> None:
    assert TOLERANCES["float32"] == {"probabilities": 1e-4, "theta": 1e-4, "outline": 1e-4, "rectified": 1.0}
    for name, tolerance in TOLERANCES["float32"].items():
        assert tolerance < TOLERANCES["float16"][name] <= TOLERANCES["int8"][name]


def test_a_file_without_golden_vectors_says_so(replayed: Callable[..., Parity]) -> None:
    with pytest.raises(ModelContractError, match=r"/tiny\.onnx: carries no golden vectors; export it again"):
        replayed(golden=())


@pytest.mark.parametrize("text", ["", "not base64!", "AAAA", encode(np.zeros(3, np.uint8))])
@pytest.mark.parametrize("where", ["image", "outputs"])
def test_a_damaged_vector_is_named(
    replayed: Callable[..., Parity], manifest_of: Callable[..., Manifest], where: str, text: str
) -> None:
    first, second = manifest_of(1).golden
    damaged = (
        dataclasses.replace(second, image=text)
        if where == "image"
        else dataclasses.replace(second, outputs={**second.outputs, "theta": text})
    )
    with pytest.raises(ModelContractError, match=r"/tiny\.onnx: golden vector 1 is damaged \("):
        replayed(golden=(first, damaged))


def test_a_vector_for_an_output_that_is_not_there_is_damaged(
    replayed: Callable[..., Parity], picture: NDArray[np.uint8], expected_of: Answer
) -> None:
    vector = make_golden(picture, expected_of(picture) | {"logits": np.zeros(3, np.float32)})
    with pytest.raises(ModelContractError, match=r"/tiny\.onnx: golden vectors of an unknown output 'logits'; update"):
        replayed(golden=(vector,))


OTHER_OUTPUTS = r"/tiny\.onnx: golden vector 1 is damaged: it has other outputs than the file$"


def test_a_vector_without_probabilities_is_damaged(
    replayed: Callable[..., Parity], picture: NDArray[np.uint8], expected_of: Answer
) -> None:
    whole = expected_of(picture)
    lacking = {name: values for name, values in whole.items() if name != "probabilities"}
    with pytest.raises(ModelContractError, match=OTHER_OUTPUTS):
        replayed(golden=(make_golden(picture, whole), make_golden(picture, lacking)))


def test_a_vector_may_have_recorded_the_probabilities_alone(
    replayed: Callable[..., Parity], picture: NDArray[np.uint8], expected_of: Answer
) -> None:
    parity = replayed(golden=(make_golden(picture, {"probabilities": expected_of(picture)["probabilities"]}),))
    assert parity.passed
    assert set(parity.differences) == {"probabilities"}


@pytest.mark.parametrize("name", ["probabilities", "theta", "outline", "rectified"])
@pytest.mark.parametrize("by", [-1, 1])
def test_a_vector_of_outputs_of_another_size_is_damaged(
    replayed: Callable[..., Parity], picture: NDArray[np.uint8], expected_of: Answer, name: str, by: int
) -> None:
    whole = expected_of(picture)
    other = whole | {name: np.resize(whole[name], whole[name].size + by)}
    with pytest.raises(ModelContractError, match=OTHER_OUTPUTS):
        replayed(golden=(make_golden(picture, whole), make_golden(picture, other)))


def test_an_error_of_the_run_itself_is_not_blamed_on_the_vectors(
    replayed: Callable[..., Parity], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ValueError("the kernel is out of order")

    monkeypatch.setattr(Network, "run", fail)
    with pytest.raises(ValueError, match=r"^the kernel is out of order$"):
        replayed()


def test_arrays_are_stored_little_endian_whatever_they_come_as() -> None:
    assert encode(np.array([1, 2], ">f4")) == encode(np.array([1, 2], "<f4"))


@pytest.mark.parametrize("cut", [0, 4])
def test_a_golden_vector_that_unpacks_to_gigabytes_or_is_cut_is_damaged(
    monkeypatch: pytest.MonkeyPatch, cut: int
) -> None:
    monkeypatch.setattr("stn_runtime.model.golden._MOST_BYTES", 1000 if not cut else 1 << 20)
    packed = zlib.compress(bytes(100_000))
    text = base64.b64encode(packed[: len(packed) - cut]).decode()
    with pytest.raises(ValueError, match="it is cut off, or too large"):
        golden_image(GoldenVector(text, {}), PreprocessSpec(100, 1000, 1))
