"""The manifest: a round trip, and every wrong field named."""

import dataclasses
import json
import math
from collections.abc import Callable
from typing import Any

import pytest

from stn_runtime import ExportSpec, Manifest, ModelContractError, TransformerSpec
from stn_runtime.model.manifest import SCHEMA, Form, Precision, read_theta
from stn_runtime.model.theta_statistics import ThetaStatistics

MISSING = object()
STATISTICS = ThetaStatistics((1.0, 0.0, 0.0, 0.0, 1.0, 0.0), ((0.5, 0.0, 2.0, 0.0, 0.0, 1.0),) * 6, 4.5, 1000)
EIGHT = {"mean": [0.0] * 8, "whitening": [[1.0] * 8] * 8, "limit": 4.5, "pictures": 1000}


@pytest.fixture
def manifest(manifest_of: Callable[..., Manifest]) -> Manifest:
    return manifest_of(1)


def _with(manifest: Manifest, path: str, value: object) -> str:
    """The manifest as JSON with one field replaced, or taken away when ``value`` is MISSING."""
    data = json.loads(manifest.to_json())
    *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    place: Any = data
    for part in parents:
        place = place[part]
    if value is MISSING:
        del place[last]
    else:
        place[last] = value
    return json.dumps(data)


def test_json_and_back_is_the_same_manifest(manifest: Manifest) -> None:
    assert Manifest.from_json(manifest.to_json(), "x.onnx") == manifest


def test_the_json_is_one_object_with_the_fields_of_the_design(manifest: Manifest) -> None:
    data = json.loads(manifest.to_json())
    assert data["schema"] == SCHEMA == 1
    assert data["labels"] == ["dark", "middle", "bright"]
    assert data["preprocess"] == {
        "height": 6,
        "width": 8,
        "channels": 1,
        "fit": "stretch",
        "interpolation": "area",
    }
    assert data["transformers"][0]["theta"] == [0, 6]
    assert data["export"] == {"form": "fused", "target": "cpu", "precision": "float32", "opset": 18}


def test_labels_in_any_script_survive(manifest_of: Callable[..., Manifest]) -> None:
    manifest = manifest_of(1, labels=("größe", "写真", "a\nb"))
    assert Manifest.from_json(manifest.to_json(), "x").labels == ("größe", "写真", "a\nb")


def test_fields_that_may_be_left_out_have_defaults(manifest: Manifest) -> None:
    data = json.loads(manifest.to_json())
    for name in ("data", "metrics", "parity", "versions", "license", "golden", "theta", "reject", "threshold"):
        del data[name]
    read = Manifest.from_json(json.dumps(data), "x")
    assert (read.data, read.metrics, read.parity, read.versions, read.license, read.golden) == ({}, {}, {}, {}, "", ())
    assert (read.theta, read.reject, read.threshold) == (None, None, None)


@pytest.mark.parametrize("threshold", [0.0, 0.8125, 1.0])
def test_the_rejected_class_and_the_threshold_survive(manifest_of: Callable[..., Manifest], threshold: float) -> None:
    read = Manifest.from_json(manifest_of(1, reject="dark", threshold=threshold).to_json(), "x")
    assert (read.reject, read.threshold, read.schema) == ("dark", threshold, 1)


@pytest.mark.parametrize(
    ("fields", "given", "rule"),
    [
        ({}, None, ""),
        ({}, 0.5, "no label below confidence 0.5"),
        ({"threshold": 0.98765}, None, "no label below confidence 0.98765"),
        ({"threshold": 0.98765}, 0.5, "no label below confidence 0.5"),
        ({"threshold": 0.98765}, 0.0, ""),
        ({"reject": "dark", "threshold": 0.25}, None, "no label below confidence 0.25 and for class 'dark'"),
        ({"reject": "dark"}, None, "no label for class 'dark'"),
    ],
)
def test_which_pictures_get_no_label_is_said_in_words(
    manifest_of: Callable[..., Manifest], fields: dict[str, Any], given: float | None, rule: str
) -> None:
    assert manifest_of(1, **fields).label_rule(given) == rule


def test_statistics_of_theta_survive(manifest_of: Callable[..., Manifest]) -> None:
    read = Manifest.from_json(manifest_of(1, theta=STATISTICS).to_json(), "x")
    assert read.theta == STATISTICS
    assert read.schema == 1  # a reader that does not know them leaves them out


def test_statistics_of_theta_in_a_checkpoint_are_checked_alone() -> None:
    assert read_theta(json.loads(json.dumps(dataclasses.asdict(STATISTICS))), "x") == STATISTICS
    damaged = {**dataclasses.asdict(STATISTICS), "mean": []}
    with pytest.raises(ModelContractError, match=r"^x\.safetensors: theta.mean must be a list.*; the file is damaged$"):
        read_theta({**damaged, "mean": "none"}, "x.safetensors")
    with pytest.raises(
        ModelContractError, match=r"^x\.safetensors: theta cannot be used: whitening must .*; the file is damaged$"
    ):
        read_theta({**damaged, "whitening": [[1.0]]}, "x.safetensors")


@pytest.mark.parametrize("form", ["fused", "portable", "split"])
@pytest.mark.parametrize("precision", ["float32", "float16", "int8"])
def test_every_form_and_precision_survives(
    manifest_of: Callable[..., Manifest], form: Form, precision: Precision
) -> None:
    manifest = manifest_of(1, export=ExportSpec(form, "raspberry-pi", precision, 20))
    read = Manifest.from_json(manifest.to_json(), "x")
    assert read == manifest
    assert (read.export.form, read.export.precision) == (form, precision)


def test_what_the_export_verified_survives(manifest_of: Callable[..., Manifest]) -> None:
    verification = {
        "pictures": 64,
        "allowed": {"probabilities": 1e-5, "theta": 2.5e-6},
        "gates": [{"name": "theta", "passed": True, "note": None}],
        "größe": "写真",
    }
    manifest = manifest_of(1, verification=verification)
    assert json.loads(manifest.to_json())["verification"] == verification
    assert Manifest.from_json(manifest.to_json(), "x").verification == verification


def test_a_file_from_before_the_verification_was_kept_has_none(manifest: Manifest) -> None:
    assert Manifest.from_json(_with(manifest, "verification", MISSING), "x").verification == {}


def _inside(transformer: TransformerSpec) -> TransformerSpec:
    return dataclasses.replace(transformer, name="body.stn", theta=(6, 12), on_image=False)


def test_a_split_file_whose_transformers_all_sample_the_image_is_fine(manifest: Manifest) -> None:
    assert Manifest.from_json(_with(manifest, "export.form", "split"), "x").export.form == "split"


@pytest.mark.parametrize("alone", [True, False])
def test_a_split_file_with_a_transformer_inside_the_network_is_refused(
    manifest_of: Callable[..., Manifest], manifest: Manifest, alone: bool
) -> None:
    (outer,) = manifest.transformers
    inner = _inside(outer)
    transformers = (dataclasses.replace(inner, theta=(0, 6)),) if alone else (outer, inner)
    other = manifest_of(1, transformers=transformers)
    assert Manifest.from_json(other.to_json(), "x.onnx") == other  # a fused file may
    told = (
        r"^x\.onnx: manifest.export.form is split, but a transformer does not sample the image; export the model again$"
    )
    with pytest.raises(ModelContractError, match=told):
        Manifest.from_json(_with(other, "export.form", "split"), "x.onnx")


def test_a_split_file_without_a_transformer_is_refused(manifest_of: Callable[..., Manifest]) -> None:
    split = manifest_of(1, export=ExportSpec("split", "cpu", "float32", 18), transformers=())
    told = r"^x\.onnx: manifest.export.form is split, but there is no transformer; export the model again$"
    with pytest.raises(ModelContractError, match=told):
        Manifest.from_json(split.to_json(), "x.onnx")


def test_unknown_extra_keys_are_tolerated(manifest: Manifest) -> None:
    data = json.loads(manifest.to_json())
    data["colour_of_the_box"] = "red"
    data["preprocess"]["antialias"] = 3
    data["transformers"][0]["note"] = None
    assert Manifest.from_json(json.dumps(data), "x") == manifest


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("where", ["metrics", "parity", "data", "verification"])
def test_a_figure_that_is_no_number_cannot_be_written(
    manifest_of: Callable[..., Manifest], where: str, bad: float
) -> None:
    manifest = manifest_of(1, **{where: {"good": 1.0, "bad": bad}})
    with pytest.raises(ModelContractError, match=r"^tiny: its data, metrics or figures hold NaN or infinity$"):
        manifest.to_json()


def test_whole_numbers_are_taken_for_figures(manifest: Manifest) -> None:
    assert Manifest.from_json(_with(manifest, "metrics.accuracy", 97), "x").metrics == {"accuracy": 97.0}


def test_a_network_without_transformers_is_fine(manifest: Manifest) -> None:
    assert Manifest.from_json(_with(manifest, "transformers", []), "x").transformers == ()


def test_a_newer_schema_asks_for_an_update(manifest: Manifest) -> None:
    told = r"^x\.onnx: the manifest has schema 2, this version reads up to 1; update stn-edge$"
    with pytest.raises(ModelContractError, match=told):
        Manifest.from_json('{"schema": 2, "shape_of_things_to_come": []}', "x.onnx")


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        ("name", MISSING, "manifest.name is missing"),
        ("name", 3, "manifest.name must be a text, got 3"),
        ("name", None, "manifest.name must be a text, got None"),
        ("labels", MISSING, "manifest.labels is missing"),
        ("labels", [], "manifest.labels is empty"),
        ("labels", "abc", "manifest.labels must be a list, got 'abc'"),
        ("labels", {"0": "dark"}, "manifest.labels must be a list, got"),
        ("labels.1", 7, r"manifest.labels\[1\] must be a text, got 7"),
        ("schema", "1", "manifest.schema must be a whole number, got '1'"),
        ("schema", True, "manifest.schema must be a whole number, got True"),
        ("schema", 1.5, "manifest.schema must be a whole number, got 1.5"),
        ("preprocess", MISSING, "manifest.preprocess is missing"),
        ("preprocess", [6, 8], "manifest.preprocess must be an object, got"),
        ("preprocess.height", "6", "manifest.preprocess.height must be a whole number, got '6'"),
        ("preprocess.height", 6.0, "manifest.preprocess.height must be a whole number, got 6.0"),
        ("preprocess.height", True, "manifest.preprocess.height must be a whole number, got True"),
        ("preprocess.height", 0, "manifest.preprocess asks for 0 x 8 x 1 pixels"),
        ("preprocess.width", -8, "manifest.preprocess asks for 6 x -8 x 1 pixels"),
        ("preprocess.width", MISSING, "manifest.preprocess.width is missing"),
        ("preprocess.channels", 4, "manifest.preprocess asks for 6 x 8 x 4 pixels"),
        ("preprocess.fit", "squash", "manifest.preprocess.fit must be one of stretch, letterbox, crop; got 'squash'"),
        ("preprocess.fit", [], "manifest.preprocess.fit must be one of"),
        ("preprocess.interpolation", "cubic", "manifest.preprocess.interpolation must be one of area, linear; got"),
        ("transformers", MISSING, "manifest.transformers is missing"),
        ("transformers.0", None, r"manifest.transformers\[0\] must be an object, got None"),
        ("transformers.0.grid", MISSING, r"manifest.transformers\[0\].grid is missing"),
        ("transformers.0.theta", [0], r"manifest.transformers\[0\].theta must have 2 entries, got \[0\]"),
        ("transformers.0.theta", [0, "6"], r"manifest.transformers\[0\].theta\[1\] must be a whole number, got '6'"),
        ("transformers.0.theta", [1, 6], r"manifest.transformers\[0\].theta is 1:6, expected to start at 0"),
        ("transformers.0.theta", [0, 0], r"manifest.transformers\[0\].theta is 0:0"),
        ("transformers.0.input_size", 6, r"manifest.transformers\[0\].input_size must be a list, got 6"),
        ("transformers.0.input_size", [0, 8], r"manifest.transformers\[0\] makes .* of \(0, 8\) pixels"),
        ("transformers.0.input_size", [6, -8], r"manifest.transformers\[0\] makes .* of \(6, -8\) pixels"),
        ("transformers.0.output_size", [0, 4], r"manifest.transformers\[0\] "),
        ("transformers.0.output_size", [3, -4], r"manifest.transformers\[0\] "),
        ("transformers.0.padding", "mirror", r"manifest.transformers\[0\].padding must be one of zeros, border"),
        ("transformers.0.interpolation", "bicubic", r"manifest.transformers\[0\].interpolation must be one of"),
        ("transformers.0.align_corners", 0, r"manifest.transformers\[0\].align_corners must be true or false, got 0"),
        ("transformers.0.on_image", "yes", r"manifest.transformers\[0\].on_image must be true or false, got 'yes'"),
        ("outputs", ["theta"], "manifest.outputs lacks 'probabilities'"),
        ("outputs", MISSING, "manifest.outputs is missing"),
        ("export", MISSING, "manifest.export is missing"),
        ("export.form", "melted", "manifest.export.form must be one of fused, portable, split; got 'melted'"),
        ("export.precision", "int4", "manifest.export.precision must be one of float32, float16, int8; got 'int4'"),
        ("export.form", None, "manifest.export.form must be one of fused, portable, split; got None"),
        ("export.form", ["fused"], r"manifest.export.form must be one of fused, portable, split; got \['fused'\]"),
        ("export.form", "Fused", "manifest.export.form must be one of fused, portable, split; got 'Fused'"),
        ("export.form", MISSING, "manifest.export.form is missing"),
        ("export.precision", 32, "manifest.export.precision must be one of float32, float16, int8; got 32"),
        ("export.precision", MISSING, "manifest.export.precision is missing"),
        ("export.target", None, "manifest.export.target must be a text, got None"),
        ("export.opset", "18", "manifest.export.opset must be a whole number, got '18'"),
        ("data", [], r"manifest.data must be an object, got \[\]"),
        ("verification", [], r"manifest.verification must be an object, got \[\]"),
        ("metrics.accuracy", "97", "manifest.metrics.accuracy must be a number, got '97'"),
        ("metrics.accuracy", True, "manifest.metrics.accuracy must be a number, got True"),
        ("versions.onnx", 1.2, "manifest.versions.onnx must be a text, got 1.2"),
        ("golden.0.image", 3, r"manifest.golden\[0\].image must be a text, got 3"),
        ("golden.1.outputs", "x", r"manifest.golden\[1\].outputs must be an object, got 'x'"),
        ("golden.1.outputs.theta", [], r"manifest.golden\[1\].outputs.theta must be a text, got \[\]"),
        ("theta", [], r"manifest.theta must be an object, got \[\]"),
        ("theta.mean", MISSING, "manifest.theta.mean is missing"),
        ("theta.mean.2", "0", r"manifest.theta.mean\[2\] must be a number, got '0'"),
        ("theta.mean", [], "manifest.theta cannot be used: whitening must be 0 x 0 numbers, as many as mean has"),
        (
            "theta.mean",
            [0.0] * 5,
            "manifest.theta cannot be used: whitening must be 5 x 5 numbers, as many as mean has",
        ),
        ("theta.mean.2", math.nan, "manifest.theta cannot be used: holds NaN or infinity"),
        ("theta.whitening.5.5", math.inf, "manifest.theta cannot be used: holds NaN or infinity"),
        (
            "theta.whitening.5",
            [1.0] * 5,
            "manifest.theta cannot be used: whitening must be 6 x 6 numbers, as many as mean has",
        ),
        (
            "theta.whitening",
            [[1.0] * 6] * 7,
            "manifest.theta cannot be used: whitening must be 6 x 6 numbers, as many as mean has",
        ),
        ("theta.limit", math.inf, "manifest.theta cannot be used: holds NaN or infinity"),
        ("theta.limit", 0, "manifest.theta cannot be used: has limit 0 of 1000 pictures"),
        ("theta.pictures", 0, "manifest.theta cannot be used: has limit 4.5 of 0 pictures"),
        ("theta.pictures", 0.5, "manifest.theta.pictures must be a whole number, got 0.5"),
        ("theta", EIGHT, "manifest.theta has 8 parameters, the transformers have 6"),
        ("reject", "nothing", "manifest.reject is 'nothing', which is none of the labels"),
        ("reject", 0, "manifest.reject must be a text, got 0"),
        ("reject", "", "manifest.reject is '', which is none of the labels"),
        ("threshold", 1.01, "manifest.threshold is 1.01, expected 0 to 1"),
        ("threshold", -0.5, "manifest.threshold is -0.5, expected 0 to 1"),
        ("threshold", math.nan, "manifest.threshold is nan, expected 0 to 1"),
        ("threshold", "0.5", "manifest.threshold must be a number, got '0.5'"),
    ],
)
def test_a_wrong_field_is_named(manifest_of: Callable[..., Manifest], path: str, value: object, told: str) -> None:
    manifest = manifest_of(1, theta=STATISTICS)
    with pytest.raises(ModelContractError, match=rf"^x\.onnx: {told}.*; export the model again$"):
        Manifest.from_json(_with(manifest, path, value), "x.onnx")


def test_a_long_wrong_value_is_cut(manifest: Manifest) -> None:
    with pytest.raises(ModelContractError, match=r"got 'xxx.*\.\.\.; export") as caught:
        Manifest.from_json(_with(manifest, "labels", "x" * 10_000), "x.onnx")
    assert len(str(caught.value)) < 150


def test_two_labels_may_be_alike_but_not_those_that_mean_none(manifest: Manifest) -> None:
    twice = _with(manifest, "labels", ["crane", "crane", "bright"])
    assert Manifest.from_json(twice, "x.onnx").labels == ("crane", "crane", "bright")
    rejecting = json.dumps({**json.loads(twice), "reject": "crane"})
    with pytest.raises(ModelContractError, match=r"manifest\.reject is 'crane', which is two of the labels; export"):
        Manifest.from_json(rejecting, "x.onnx")


@pytest.mark.parametrize("text", ["", "{", "nonsense", '{"name": "x"', "[" * 100_000])
def test_what_is_not_json_is_one_sentence(text: str) -> None:
    with pytest.raises(ModelContractError, match=r"^x\.onnx: the manifest is not JSON .*; export the model again$"):
        Manifest.from_json(text, "x.onnx")


@pytest.mark.parametrize("text", ["[]", "3", "null", '"text"'])
def test_json_that_is_no_object_is_one_sentence(text: str) -> None:
    with pytest.raises(ModelContractError, match=r"^x\.onnx: the manifest is not a JSON object; export"):
        Manifest.from_json(text, "x.onnx")


@pytest.mark.parametrize("number", ["1" * 5000, "1" + "0" * 400], ids=["5000 digits", "beyond a float"])
def test_a_number_beyond_all_limits_is_one_sentence(manifest: Manifest, number: str) -> None:
    text = manifest.to_json().replace("97.5", number)
    with pytest.raises(ModelContractError, match=r"^x\.onnx: "):
        Manifest.from_json(text, "x.onnx")
