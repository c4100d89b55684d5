"""The check of this device's samplers: right ones pass, wrong ones are found, refused ones are told apart."""

import dataclasses

import onnx
import onnxruntime as ort
import pytest

from stn_runtime import sampler_check
from stn_runtime.cli import main
from stn_runtime.sampler_check import OPSETS, SamplerResult, check_samplers, sampler_model

CPU = "CPUExecutionProvider"


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("interpolation", ["bilinear", "nearest"])
def test_the_bytes_are_a_valid_onnx_file(opset: int, interpolation: str) -> None:
    model = onnx.load_from_string(sampler_model(opset, interpolation, "reflection", True))
    onnx.checker.check_model(model, full_check=True)
    [node] = model.graph.node
    attributes = {entry.name: onnx.helper.get_attribute_value(entry) for entry in node.attribute}
    spelled = b"linear" if (interpolation, opset >= 20) == ("bilinear", True) else interpolation.encode()
    assert attributes == {"mode": spelled, "padding_mode": b"reflection", "align_corners": 1}
    assert model.opset_import[0].version == opset


def test_onnxruntime_on_the_cpu_samples_right_in_every_kind() -> None:
    results = list(check_samplers([CPU]))
    assert len(results) == len(OPSETS) * 2 * 3 * 2
    assert all(result.is_right and result.ran_on == CPU and result.microseconds > 0 for result in results)


def test_an_engine_that_samples_nearest_instead_of_bilinear_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """As TensorRT does from opset 20 on."""
    written = sampler_model

    def nearest(opset: int, interpolation: str, padding: str, align_corners: bool) -> bytes:
        return written(opset, "nearest" if opset >= 20 else interpolation, padding, align_corners)

    monkeypatch.setattr(sampler_check, "sampler_model", nearest)
    wrong = {(result.opset, result.interpolation) for result in check_samplers([CPU]) if not result.is_right}
    assert wrong == {(20, "bilinear"), (22, "bilinear")}


def test_a_kind_that_does_not_load_is_unknown_and_not_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampler_check, "sampler_model", lambda *_: b"no model")
    results = list(check_samplers([CPU]))
    assert all(result.is_unknown and not result.is_right for result in results)
    assert results[0].ran_on.startswith("none: ")


def test_doctor_says_what_samples_here(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--providers", CPU]) == 0
    out = capsys.readouterr().out
    assert f"onnxruntime  {ort.__version__}" in out
    assert f"GridSample   {CPU}: 48 of 48 kinds as specified" in out
    assert "WRONG" not in out


def test_doctor_lists_every_kind_when_asked(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--providers", CPU, "--samplers"]) == 0
    assert capsys.readouterr().out.count(f"\n{CPU}") == 48


def test_doctor_fails_on_a_wrong_sampler(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def wrong(_: object) -> list[SamplerResult]:
        right = SamplerResult(CPU, 18, "bilinear", "zeros", False, 1e-6, 20.0, CPU)
        return [right, dataclasses.replace(right, opset=20, error=0.4)]

    monkeypatch.setattr("stn_runtime.doctor.check_samplers", wrong)
    assert main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert out.count("WRONG") == 1
    assert "1 of 2 kinds as specified" in out


def test_a_provider_that_is_not_here_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--providers", "NoSuchProvider"]) == 2
    assert capsys.readouterr().err == (
        f"stn: execution provider NoSuchProvider is not available here; there are {CPU}\n"
    )


def test_not_a_number_from_an_engine_is_not_right() -> None:
    assert not SamplerResult(CPU, 18, "bilinear", "zeros", False, float("inf"), 1.0, CPU).is_right
