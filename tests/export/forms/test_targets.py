"""The table of targets, and what the linter says of a file on each."""

import base64
import re
from dataclasses import replace

import onnx
import pytest
from onnx import TensorProto, helper

from stn_export import TARGETS, Exported, Target, plan_export
from stn_export.forms.targets import find_target, target_table
from stn_export.linting import lint
from stn_runtime import InputError
from stn_runtime.model.session import CLASSIFIER_KEY


def sampler_file(
    opset: int = 18, mode: str = "bilinear", padding: str = "zeros", kind: int = TensorProto.FLOAT, dims: int = 2
) -> onnx.ModelProto:
    """Return a graph of one GridSample with fixed shapes."""
    sizes = [4] * dims
    node = helper.make_node("GridSample", ["image", "grid"], ["sampled"], "sampler", mode=mode, padding_mode=padding)
    tensors = {"image": [1, 3, *sizes], "grid": [1, *sizes, dims], "sampled": [1, 3, *sizes]}
    infos = {name: helper.make_tensor_value_info(name, kind, shape) for name, shape in tensors.items()}
    graph = helper.make_graph([node], "g", [infos["image"], infos["grid"]], [infos["sampled"]])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def grid_file(body: str) -> onnx.ModelProto:
    """Return a graph of opset 20 that makes a grid of theta and samples there, with fixed shapes."""
    return onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 20, "com.microsoft": 1, "of.somebody": 1]>'
        " graph (float[1, 2, 3] theta, float[1, 1, 5, 7] image) => (float[1, 1, 4, 3] y)"
        f" <int64[4] sizes = {{1, 1, 4, 3}}> {{ {body} y = GridSample(image, grid) }}"
    )


def foreign_sampler_file() -> onnx.ModelProto:
    """Return a graph of the sampler that onnxruntime had before ONNX had one."""
    model = sampler_file(16)
    model.graph.node[0].domain = "com.microsoft"
    model.opset_import.add(domain="com.microsoft", version=1)
    return model


def failures(model: onnx.ModelProto, target: str) -> list[str]:
    return [finding.sentence for finding in lint(model, find_target(target)) if finding.fails]


def notes(model: onnx.ModelProto, target: str) -> list[str]:
    return [finding.sentence for finding in lint(model, find_target(target)) if not finding.fails]


@pytest.mark.parametrize("target", TARGETS.values(), ids=lambda target: target.name)
def test_a_plan_follows_its_target(target: Target) -> None:
    plan = plan_export(target.name)
    assert (plan.target, plan.form, plan.precision, plan.opset) == (
        target.name,
        target.form,
        target.precision,
        target.opset,
    )


def test_what_is_given_goes_before_what_the_target_prefers() -> None:
    plan = plan_export("generic-npu", form="fused", precision="int8")
    assert (plan.form, plan.precision, plan.opset) == ("fused", "int8", 18)
    assert plan_export("cpu", form="portable").opset == 13
    assert plan_export("cpu", opset=16).opset == 16


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"target": "gpu"}, "no target 'gpu'; choose from cpu, cuda, tensorrt"),
        ({"opset": 11}, "opset 11 is too old for the fused form: GridSample exists from 16 on; use 16 or later"),
        ({"opset": 15}, "opset 15 is too old for the fused form: .*; use 16 to 18, or --form portable"),
        ({"opset": 12, "form": "portable"}, "opset 12 is too old for the portable form: .*; use 13 or later"),
        ({"opset": 20}, r"opset 20: from 20 on the modes of GridSample have other names, .* \(TensorRT#4646\); use 18"),
        ({"opset": 22, "form": "portable"}, "opset 22: from 20 on"),
        ({"opset": 19}, "opset 19: an export has at most 18, where GridSample is the same; use 18"),
    ],
)
def test_a_plan_that_cannot_work_is_one_sentence(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        plan_export(**arguments)


def test_the_table_names_every_target_and_its_issues() -> None:
    table = target_table()
    assert all(f"\n{name} " in f"\n{table}" for name in TARGETS)
    assert "TensorRT#4646" in table


@pytest.mark.parametrize("target", [name for name, row in TARGETS.items() if row.form == "fused"])
def test_what_we_export_for_a_target_passes_its_linter(exported: Exported, single_file: Exported, target: str) -> None:
    static = TARGETS[target].static
    # apart from its name, each plan is that of cpu or that of qnn, so one of the two files is its file too
    assert plan_export(target) == replace(plan_export("qnn" if static else "cpu"), target=target)
    file = single_file if static else exported
    assert lint(onnx.load(file.path), find_target(target)) == []


@pytest.mark.parametrize("target", ["opencv", "generic-npu"])
def test_the_split_form_passes_where_there_is_no_sampler(split_file: Exported, target: str) -> None:
    assert plan_export(target) == replace(plan_export("opencv"), target=target)
    assert split_file.manifest.export.target == "opencv"
    assert notes(onnx.load(split_file.path), target) == [
        "it holds two graphs, and a converter sees the first: take the second out with "
        "stn_export.classifier_graph, and convert both"
    ]
    assert failures(onnx.load(split_file.path), target) == []
    assert any("GridSample" in sentence for sentence in failures(sampler_file(), target))


@pytest.mark.parametrize(
    ("model", "target", "message"),
    [
        (sampler_file(20, "linear"), "tensorrt", "samples nearest instead of bilinear, without a word .TensorRT#4646."),
        (sampler_file(20, "linear"), "openvino", "refuses to load it .openvino#33531."),
        (sampler_file(mode="bicubic"), "tensorrt", "has the mode bicubic: tensorrt samples bilinear and nearest only"),
        (sampler_file(kind=TensorProto.FLOAT16), "tensorrt", "samples in float16: tensorrt's kernel is float32; keep"),
        (sampler_file(20, "linear", dims=3), "tensorrt", "samples volumes .5-D.: only onnxruntime on the CPU has it"),
        (grid_file("grid = AffineGrid(theta, sizes)"), "openvino", "1 AffineGrid: most engines do not have it .tvm#"),
        (
            grid_file("u = com.microsoft.Gelu(theta) grid = AffineGrid(u, sizes)"),
            "tensorrt",
            "operators of the domain com.microsoft: tensorrt has those of ai.onnx$",
        ),
        (
            grid_file("u = of.somebody.Turn(theta) grid = AffineGrid(u, sizes)"),
            "cpu",
            "operators of the domain of.somebody: cpu has those of ai.onnx, com.microsoft$",
        ),
        (foreign_sampler_file(), "cpu", "is com.microsoft's GridSample, which only old onnxruntime has; export it"),
    ],
)
def test_what_a_target_does_wrong_is_said_with_its_issue(model: onnx.ModelProto, target: str, message: str) -> None:
    assert any(re.search(message, sentence) for sentence in failures(model, target)), failures(model, target)


@pytest.mark.parametrize(
    ("model", "target", "message"),
    [
        (sampler_file(22, "linear"), "web", "opsets 16 to 19 only .onnxruntime#28264."),
        (sampler_file(mode="nearest"), "coreml", "the mode nearest: coreml samples bilinear only; there it runs on"),
        (sampler_file(padding="reflection"), "coreml", "reflection: coreml has zeros, border only; there it runs on"),
        (sampler_file(kind=TensorProto.FLOAT16), "cuda", "float16: cuda's kernel is float32; there it runs on the CPU"),
        (sampler_file(20, "linear", dims=3), "cuda", "samples volumes .5-D.: .*#21382.; there it runs on the CPU"),
        (sampler_file(mode="bicubic"), "cpu", "is bicubic: PyTorch and onnxruntime differ at borders .onnxruntime#"),
        (grid_file("grid = AffineGrid(theta, sizes)"), "cpu", "1 AffineGrid: .* run 'stn optimize'"),
        (grid_file("grid = AffineGrid(theta, sizes)"), "cpu", "the grid of .* is not one matrix product"),
        (sampler_file(24, "linear"), "cpu", "is of opset 24, which other engines read wrongly; run 'stn optimize'"),
        (sampler_file(24, "linear"), "cuda", "is of opset 24, which other engines read wrongly; run 'stn optimize'"),
    ],
)
def test_what_a_target_does_right_but_slowly_is_a_note(model: onnx.ModelProto, target: str, message: str) -> None:
    assert failures(model, target) == []
    assert any(re.search(message, sentence) for sentence in notes(model, target)), notes(model, target)


def test_a_volume_is_nothing_to_remark_on_where_it_runs() -> None:
    sentences = notes(sampler_file(20, "linear", dims=3), "cpu")
    assert not any("volumes" in sentence for sentence in sentences)


def test_operators_that_a_target_has_from_another_domain_are_nothing_to_remark_on() -> None:
    findings = lint(grid_file("u = com.microsoft.Gelu(theta) grid = AffineGrid(u, sizes)"), find_target("web"))
    assert not any("domain" in finding.sentence for finding in findings)


@pytest.mark.parametrize("target", [name for name, row in TARGETS.items() if row.static])
def test_open_sizes_where_shapes_are_to_be_fixed_are_said_with_what_to_do(exported: Exported, target: str) -> None:
    ours, foreign = onnx.load(exported.path), onnx.load(exported.path)
    del foreign.metadata_props[:]
    opened = f"input 'image' has an open size, {target} wants fixed shapes; "
    assert f"{opened}export the checkpoint with --target {target}" in notes(ours, target)
    assert f"{opened}fix it with 'python -m onnxruntime.tools.make_dynamic_shape_fixed'" in notes(foreign, target)


def test_open_sizes_are_nothing_to_remark_on_elsewhere(exported: Exported) -> None:
    assert notes(onnx.load(exported.path), "tensorrt") == []


def test_the_graph_inside_a_split_file_is_looked_into_too(split_file: Exported) -> None:
    model = onnx.load(split_file.path)
    hidden = next(entry for entry in model.metadata_props if entry.key == CLASSIFIER_KEY)
    hidden.value = base64.b64encode(sampler_file(20, "linear").SerializeToString()).decode()
    assert any("openvino#33531" in sentence for sentence in failures(model, "openvino"))


@pytest.mark.parametrize("target", [row for row in TARGETS.values() if row.versions == (16,)], ids=lambda row: row.name)
def test_a_target_that_reads_the_first_sampler_alone_says_what_it_makes_of_newer_ones(target: Target) -> None:
    assert len(target.newer) > 20
    said = failures(sampler_file(20, "linear"), target.name) + notes(sampler_file(20, "linear"), target.name)
    assert f"sampler is of opset 20: {target.newer}; run 'stn optimize', which brings it to 18" in said


def test_what_only_costs_time_does_not_fail() -> None:
    findings = lint(sampler_file(padding="border"), find_target("cpu"))
    assert [finding.fails for finding in findings] == [False]
    assert "fastest with zeros and 0 (onnxruntime#27359, openvino#28448)" in findings[0].sentence


def test_a_file_without_a_sampler_has_nothing_to_look_for() -> None:
    node = helper.make_node("Relu", ["x"], ["y"])
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
    model = helper.make_model(helper.make_graph([node], "g", [x], [y]), opset_imports=[helper.make_opsetid("", 18)])
    assert [finding.sentence for finding in lint(model, find_target("tensorrt"))] == [
        "there is no GridSample in it: nothing about spatial transformers to look for"
    ]
