"""The page's own modules, under node: what they answer is what stn_runtime answers, to the bit where it can be."""

import base64
import dataclasses
import itertools
import json
import math
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from stn_runtime import Classifier, PreprocessSpec, preprocess
from stn_runtime.images.preprocessing import place
from stn_runtime.model.classifier import Prediction
from stn_runtime.model.doubt import doubt, outside_share
from stn_runtime.model.golden import encode
from stn_runtime.model.manifest import GoldenVector, Manifest, SequenceSpec
from stn_runtime.model.zoo import find_model, released_models
from stn_runtime.records.record import Record

NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(NODE is None, reason="needs node: apt-get install nodejs")
ANSWERS = Path(__file__).with_name("answers.mjs")

SIZES = [(480, 640), (31, 47), (120, 160), (96, 96), (64, 64), (200, 100), (33, 1), (1, 50), (320, 320), (719, 1281)]
INPUTS = [(32, 32), (64, 48), (160, 160)]


def answers(questions: list[dict[str, Any]]) -> list[Any]:
    lines = "".join(f"{json.dumps(question)}\n" for question in questions)
    done = subprocess.run([str(NODE), str(ANSWERS)], input=lines, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def values(questions: list[dict[str, Any]]) -> list[Any]:
    given = answers(questions)
    assert [answer["error"] for answer in given if "error" in answer] == []
    return [answer["value"] for answer in given]


def packed(data: bytes) -> str:
    return base64.b64encode(data).decode()


def released(name: str) -> Manifest:
    return Classifier(name, threads=1).manifest


def noisy(size: tuple[int, int], channels: int) -> NDArray[np.uint8]:
    return np.random.default_rng(size[0] + size[1]).integers(0, 256, (*size, channels), dtype=np.uint8)


def smooth(size: tuple[int, int], channels: int) -> NDArray[np.uint8]:
    rows, columns = np.mgrid[: size[0], : size[1]]
    waves = [128 + 110 * np.sin(columns / 9 + channel) * np.cos(rows / 7) for channel in range(channels)]
    return np.stack(waves, -1).astype(np.uint8)


@pytest.mark.parametrize("interpolation", ["area", "linear"])
@pytest.mark.parametrize("fit", ["stretch", "letterbox", "crop"])
def test_preprocessing_is_equal_to_the_bit(fit: str, interpolation: str) -> None:
    pictures, specs = [], []
    for size, given, channels, draw in itertools.product(SIZES, INPUTS, (1, 3), (noisy, smooth)):
        pictures.append(draw(size, 3))
        specs.append(PreprocessSpec(*given, channels, fit, interpolation))  # type: ignore[arg-type]
    got = values(
        [
            {
                "what": "preprocess",
                "height": picture.shape[0],
                "width": picture.shape[1],
                "data": packed(picture.tobytes()),
                "spec": dataclasses.asdict(spec),
            }
            for picture, spec in zip(pictures, specs, strict=True)
        ]
    )
    for text, picture, spec in zip(got, pictures, specs, strict=True):
        expected = preprocess(picture, spec)
        found = np.frombuffer(base64.b64decode(text), np.uint8).reshape(expected.shape)
        assert np.array_equal(found, expected), f"{picture.shape} to {spec}"


def test_the_input_lies_where_python_says() -> None:
    cases = [
        (size, PreprocessSpec(*given, 3, fit))  # type: ignore[arg-type]
        for size, given, fit in itertools.product(SIZES, INPUTS, ("stretch", "letterbox", "crop"))
    ]
    got = values(
        [
            {"what": "place", "height": size[0], "width": size[1], "spec": dataclasses.asdict(spec)}
            for size, spec in cases
        ]
    )
    for found, (size, spec) in zip(got, cases, strict=True):
        assert found == {name: list(pair) for name, pair in dataclasses.asdict(place(*size, spec)).items()}


def test_the_manifest_is_read_from_the_file_itself() -> None:
    whole = {name: path for name, path in released_models().items() if "split" not in name}
    got = values([{"what": "manifest", "data": packed(path.read_bytes())} for path in whole.values()])
    for found, name in zip(got, whole, strict=True):
        expected = json.loads(released(name).to_json())
        assert {key: expected[key] for key in found} == found
        assert {"labels", "threshold", "sequence", "golden"} <= set(found)


def test_what_is_no_model_for_a_page_is_refused_in_a_sentence() -> None:
    data = find_model("digits").read_bytes()
    cases = [
        (b"", "carries no manifest"),
        (b"\x89PNG\r\n\x1a\n", "is no whole ONNX file"),
        (data[: len(data) // 2], "is no whole ONNX file"),
        (data.replace(b"stn_edge", b"stn_hedg"), "carries no manifest"),
        (data.replace(b'"fit": "letterbox"', b'"fit": "lettermen"'), "preprocess names no known fit"),
        (data.replace(b'"schema": 1', b'"schema": 7'), "newer version"),
        (find_model("digits-split").read_bytes(), "is of the split form"),
    ]
    got = answers([{"what": "manifest", "data": packed(content)} for content, _ in cases])
    for answer, (_, sentence) in zip(got, cases, strict=True):
        assert sentence in answer["error"]
        assert answer["error"].startswith("model.onnx: ")


def asked_prediction(
    outputs: dict[str, Any], size: tuple[int, int], manifest: Manifest, threshold: float
) -> dict[str, Any]:
    return {
        "what": "prediction",
        "outputs": {name: np.ravel(array).tolist() for name, array in outputs.items()},
        "height": size[0],
        "width": size[1],
        "manifest": json.loads(manifest.to_json()),
        "threshold": threshold,
        "count": 5,
    }


def expected_record(prediction: Prediction, size: tuple[int, int], manifest: Manifest, threshold: float) -> object:
    record = Record(
        "it",
        0,
        None,
        prediction,
        sure=prediction.confidence >= threshold,
        rejected=manifest.rejects(prediction.label),
        uncertain=doubt(prediction, size, manifest),
    )
    return {**record.fields(), "latency_ms": {}}


def assert_alike(found: Any, expected: object) -> None:  # noqa: ANN401  (JSON)
    """Numbers may differ by what their rounding hides."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key in expected:
            assert_alike(found[key], expected[key])
    elif isinstance(expected, list):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_alike(one, other)
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, abs=0.011 if abs(expected) > 2 else 2e-6)
    else:
        assert found == expected


@pytest.mark.parametrize("size", [(480, 640), (640, 480), (160, 160), (37, 91)])
def test_records_are_those_of_the_runtime(size: tuple[int, int]) -> None:
    classifier = Classifier("digits", threads=1)
    manifest, threshold = classifier.manifest, classifier.manifest.threshold or 0.0
    pictures = [noisy(size, 3), smooth(size, 3), np.zeros((*size, 3), np.uint8)]
    outputs = classifier.run(np.stack([preprocess(picture, manifest.preprocess) for picture in pictures]))
    each = [{name: array[index] for name, array in outputs.items()} for index in range(len(pictures))]
    got = values([asked_prediction(one, size, manifest, threshold) for one in each])
    for index, found in enumerate(got):
        prediction = classifier.prediction(size, outputs, index, {})
        assert_alike(found, expected_record(prediction, size, manifest, threshold))


def test_texts_are_spelled_as_in_the_runtime() -> None:
    classifier = Classifier("digits", threads=1)
    labels = (*"0123456789", "end")
    manifest = dataclasses.replace(
        classifier.manifest, labels=labels, sequence=SequenceSpec(5, "end"), reject=None, theta=None
    )
    classifier.manifest = manifest
    random = np.random.default_rng(3)
    logits = random.normal(0, 3, (20, 5, len(labels)))
    logits[0, 0, -1] += 30  # a picture without a character
    probabilities = (np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)).astype(np.float32)
    outline = np.tile(np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]], np.float32), (20, 1, 1, 1))
    outputs: dict[str, Any] = {"probabilities": probabilities, "outline": outline, "theta": np.zeros((20, 6))}
    each = [{name: array[index] for name, array in outputs.items()} for index in range(20)]
    got = values([asked_prediction(one, (48, 64), manifest, 0.2) for one in each])
    for index, found in enumerate(got):
        prediction = classifier.prediction((48, 64), outputs, index, {})
        assert_alike(found, expected_record(prediction, (48, 64), manifest, 0.2))


def test_what_lies_outside_is_measured_alike() -> None:
    random = np.random.default_rng(0)
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    polygons = []
    for _ in range(200):  # turned and sheared rectangles, which never cross themselves
        turn = random.normal(0, 60, (2, 2))
        polygons.append(corners @ turn + random.uniform(-50, 250, 2))
    rectangle = (-0.5, -0.5, 199.5, 99.5)
    got = values(
        [
            {
                "what": "outside",
                "polygon": [{"x": x, "y": y} for x, y in polygon.tolist()],
                "rectangle": dict(zip(("left", "top", "right", "bottom"), rectangle, strict=True)),
            }
            for polygon in polygons
        ]
    )
    expected = [outside_share(polygon, rectangle) for polygon in polygons]
    assert 0.2 < np.mean(expected) < 0.9
    np.testing.assert_allclose(got, expected, atol=1e-4)


def test_half_precision_is_read_from_its_bits() -> None:
    bits = np.arange(1 << 16, dtype=np.uint16)
    (got,) = values([{"what": "half", "values": bits.tolist()}])
    expected = bits.view(np.float16).astype(np.float64)
    shown = [value if math.isfinite(value) else None for value in expected.tolist()]  # JSON has neither
    assert got == shown


def golden_manifest(probabilities: list[float]) -> dict[str, Any]:
    manifest = released("cifar10")
    spec = manifest.preprocess
    image = np.zeros((spec.height, spec.width, spec.channels), np.uint8)
    vector = GoldenVector(encode(image), {"probabilities": encode(np.array(probabilities, np.float32))})
    return json.loads(dataclasses.replace(manifest, golden=(vector,), verification={}).to_json())  # type: ignore[no-any-return]


@pytest.mark.parametrize(("change", "passed"), [(0.0, True), (5e-5, True), (2e-3, False), (float("nan"), False)])
def test_golden_vectors_decide_whether_a_network_is_used(change: float, passed: bool) -> None:
    recorded = [0.9, 0.1, *[0.0] * 8]
    actual = [None if math.isnan(change) else recorded[0] - change, *recorded[1:]]
    question = {"what": "replay", "manifest": golden_manifest(recorded), "outputs": [{"probabilities": actual}]}
    if actual[0] is None:  # JSON has no NaN; JavaScript makes one of nothing
        question["outputs"] = [{"probabilities": [*["none"], *recorded[1:]]}]
    (got,) = values([question])
    assert got["passed"] is passed
    assert got["pictures"] == 1


def test_damaged_golden_vectors_are_a_sentence() -> None:
    manifest = golden_manifest([1.0, *[0.0] * 9])
    broken = [
        {**manifest, "golden": []},
        {**manifest, "golden": [{**manifest["golden"][0], "image": "AAAA"}]},
        {**manifest, "golden": [{"image": manifest["golden"][0]["image"], "outputs": {}}]},
    ]
    got = answers([{"what": "replay", "manifest": one, "outputs": [{"probabilities": [1]}]} for one in broken])
    assert "no golden vectors" in got[0]["error"]
    assert all("is damaged" in answer["error"] for answer in got[1:])
