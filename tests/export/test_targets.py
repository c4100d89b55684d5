"""The table of targets, and what the linter says of a file on each."""

import re
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from stn_export import TARGETS, Exported, Target, export_checkpoint, plan_export
from stn_export.linting import lint
from stn_export.targets import find_target, target_table
from stn_runtime import InputError


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


def failures(model: onnx.ModelProto, target: str) -> list[str]:
    return [finding.sentence for finding in lint(model, find_target(target)) if finding.fails]


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
        ({"opset": 15}, "opset 15 is too old for the fused form: .*; use 16 to 19, or --form portable"),
        ({"opset": 12, "form": "portable"}, "opset 12 is too old for the portable form: .*; use 13 or later"),
        ({"opset": 20}, r"opset 20: from 20 on the modes of GridSample have other names, .* \(TensorRT#4646\); use 18"),
        ({"opset": 22, "form": "portable"}, "opset 22: from 20 on"),
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
def test_what_we_export_for_a_target_passes_its_linter(exported: Exported, target: str) -> None:
    assert plan_export(target) == replace(plan_export("cpu"), target=target)  # so the file of cpu is its file too
    assert failures(onnx.load(exported.path), target) == []


@pytest.mark.parametrize("target", ["opencv", "generic-npu"])
def test_the_split_form_passes_where_there_is_no_sampler(checkpoint: Path, tmp_path: Path, target: str) -> None:
    done = export_checkpoint(checkpoint, tmp_path / "split.onnx", plan=plan_export(target))
    assert done.manifest.export.target == target
    assert failures(onnx.load(done.path), target) == []
    assert any("GridSample" in sentence for sentence in failures(sampler_file(), target))


@pytest.mark.parametrize(
    ("model", "target", "message"),
    [
        (sampler_file(20, "linear"), "tensorrt", "samples nearest instead of bilinear, without a word .TensorRT#4646."),
        (sampler_file(20, "linear"), "openvino", "refuses to load it .openvino#33531."),
        (sampler_file(22, "linear"), "web", "opsets 16 to 19 only .onnxruntime#28264."),
        (sampler_file(mode="bicubic"), "tensorrt", "has the mode bicubic: tensorrt samples bilinear and nearest only"),
        (sampler_file(mode="nearest"), "coreml", "has the mode nearest: coreml samples bilinear only"),
        (sampler_file(padding="reflection"), "coreml", "has the padding reflection: coreml has zeros, border only"),
        (
            sampler_file(kind=TensorProto.FLOAT16),
            "cuda",
            "float16: cuda's kernel is float32 .pytorch#94733.",
        ),
        (sampler_file(20, "linear", dims=3), "cuda", "samples volumes .5-D.: only onnxruntime on the CPU"),
    ],
)
def test_what_a_target_does_wrong_is_said_with_its_issue(model: onnx.ModelProto, target: str, message: str) -> None:
    assert any(re.search(message, sentence) for sentence in failures(model, target)), failures(model, target)


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
