"""The check of this device's samplers: right ones pass, wrong ones are found, refused ones are told apart."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from stn_runtime.cli import main
from stn_runtime.doctor import sampler_check
from stn_runtime.doctor.sampler_check import KINDS, OPSETS, SamplerResult, check_samplers, sampler_model
from stn_runtime.model.grid_sample import Interpolation, Padding

CPU = "CPUExecutionProvider"
DEAD = "DeadExecutionProvider"
OTHER = "OtherExecutionProvider"
FAST = SamplerResult(OTHER, 18, "bilinear", "zeros", False, 1e-6, 20.0, OTHER)


@pytest.fixture
def _a_dead_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    """A provider that onnxruntime lists but cannot start; it then prints so and takes the CPU."""
    start = ort.InferenceSession

    def fall_back(model: bytes, options: ort.SessionOptions, providers: list[str], **_: object) -> ort.InferenceSession:
        if DEAD in providers:
            print(f"EP Error when using {providers}")  # noqa: T201
        return start(model, options, providers=[CPU])

    monkeypatch.setattr(ort, "get_available_providers", lambda: [DEAD, CPU])
    monkeypatch.setattr(ort, "InferenceSession", fall_back)


def _let_doctor_find(monkeypatch: pytest.MonkeyPatch, *results: SamplerResult) -> None:
    monkeypatch.setattr("stn_runtime.doctor.sampler_check.check_samplers", lambda _: list(results))


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("interpolation", ["bilinear", "nearest"])
def test_the_bytes_are_a_valid_onnx_file(opset: int, interpolation: Interpolation) -> None:
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

    def nearest(opset: int, interpolation: Interpolation, padding: Padding, align_corners: bool) -> bytes:
        return written(opset, "nearest" if opset >= 20 else interpolation, padding, align_corners)

    monkeypatch.setattr(sampler_check, "sampler_model", nearest)
    wrong = {(result.opset, result.interpolation) for result in check_samplers([CPU]) if not result.is_right}
    assert wrong == {(20, "bilinear"), (22, "bilinear")}


def test_a_kind_that_does_not_load_is_refused_and_not_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampler_check, "sampler_model", lambda *_: b"no model")
    results = list(check_samplers([CPU]))
    assert len(results) == KINDS
    for result in results:
        assert result.is_refused
        assert not result.is_right
        assert not result.is_elsewhere
        assert result.ran_on.startswith("none: ")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_one_point_that_is_no_number_is_a_wrong_answer_and_no_refusal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], bad: float
) -> None:
    run = sampler_check._run

    def spoil(*arguments: Any) -> tuple[Any, float, str]:  # noqa: ANN401
        answer, microseconds, ran_on = run(*arguments)
        assert answer is not None
        answer[0, 1, 2, 3] = bad
        return answer, microseconds, ran_on

    monkeypatch.setattr(sampler_check, "_run", spoil)
    for result in check_samplers([CPU]):
        assert result.error == float("inf")
        assert not result.is_right
        assert not result.is_refused
    assert main(["doctor", "--providers", CPU]) == 1
    out = capsys.readouterr().out
    assert out.count("WRONG") == KINDS
    assert f"GridSample   {CPU}: 0 of {KINDS} kinds as specified" in out


@pytest.mark.usefixtures("_a_dead_provider")
def test_no_kind_runs_on_a_provider_that_cannot_be_started() -> None:
    for result in check_samplers([DEAD]):
        assert result.is_refused
        assert (result.provider, result.ran_on) == (DEAD, "none: the provider could not be started")


@pytest.mark.usefixtures("_a_dead_provider")
def test_doctor_fails_on_a_provider_that_runs_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 1
    said = capsys.readouterr()
    assert f"GridSample   {DEAD}: runs no kind of it (none: the provider could not be started)\n" in said.out
    assert f"GridSample   {CPU}: {KINDS} of {KINDS} kinds as specified" in said.out
    assert "WRONG" not in said.out
    assert "EP Error" not in said.out
    assert "EP Error" in said.err
    assert main(["doctor", "--providers", CPU]) == 0


def test_kinds_that_another_provider_ran_are_not_counted_as_its_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    elsewhere = dataclasses.replace(FAST, opset=20, microseconds=5.0, ran_on=CPU)
    assert (FAST.is_elsewhere, elsewhere.is_elsewhere, elsewhere.is_right) == (False, True, True)
    _let_doctor_find(monkeypatch, FAST, elsewhere, dataclasses.replace(FAST, provider=CPU, ran_on=CPU))
    assert main(["doctor"]) == 0
    theirs, ours = (line for line in capsys.readouterr().out.splitlines() if "GridSample" in line)
    assert theirs.startswith(f"ok       GridSample   {OTHER}: 1 of 2 kinds as specified ")
    assert theirs.endswith(f", the default one in 20 us; the others ran on {CPU}")
    assert ours.startswith(f"ok       GridSample   {CPU}: 1 of 1 kinds as specified ")
    assert ours.endswith(", the default one in 20 us")


def test_a_provider_that_leaves_every_kind_to_another_has_none_of_its_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _let_doctor_find(monkeypatch, dataclasses.replace(FAST, ran_on=CPU))
    assert main(["doctor"]) == 0
    [last] = (line for line in capsys.readouterr().out.splitlines() if "GridSample" in line)
    assert last.startswith(f"warning  GridSample   {OTHER}: 0 of 1 kinds as specified ")
    assert last.endswith(f"; the others ran on {CPU}")
    assert " us" not in last


def test_a_kind_that_is_refused_is_no_fault_where_others_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    nan = float("nan")
    refused = dataclasses.replace(FAST, opset=22, error=nan, microseconds=nan, ran_on="none: not implemented")
    _let_doctor_find(monkeypatch, FAST, refused)
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert f"GridSample   {OTHER}: 1 of 2 kinds as specified" in out
    assert "none: not implemented\n" in out
    assert "WRONG" not in out


def test_a_wrong_answer_of_another_provider_is_a_fault_all_the_same(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _let_doctor_find(monkeypatch, FAST, dataclasses.replace(FAST, opset=20, error=0.4, ran_on=CPU))
    assert main(["doctor"]) == 1
    assert f"{CPU}  WRONG\n" in capsys.readouterr().out


def test_doctor_needs_a_model_for_a_target(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--target", "jetson"]) == 2
    told = "stn: --target jetson looks into a model: give one, as in 'stn doctor model.onnx --target NAME'\n"
    assert capsys.readouterr() == ("", told)


@pytest.mark.parametrize("asked", [["--samplers"], ["--providers", CPU]], ids=" ".join)
def test_doctor_tests_the_device_or_a_model_and_not_both(
    capsys: pytest.CaptureFixture[str], grey_model: Path, asked: list[str]
) -> None:
    assert main(["doctor", str(grey_model), *asked]) == 2
    told = "stn: --samplers and --providers test this device: leave the model out\n"
    assert capsys.readouterr() == ("", told)


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
    _let_doctor_find(monkeypatch, FAST, dataclasses.replace(FAST, opset=20, error=0.4))
    assert main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert out.count("WRONG") == 1
    assert "1 of 2 kinds as specified" in out


def test_a_provider_that_is_not_here_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--providers", "NoSuchProvider"]) == 2
    told = capsys.readouterr().err
    assert told.startswith("stn: execution provider NoSuchProvider is not available here; there are ")
    assert told.count("\n") == 1
    assert CPU in told


def test_not_a_number_from_an_engine_is_not_right() -> None:
    assert not SamplerResult(CPU, 18, "bilinear", "zeros", False, float("inf"), 1.0, CPU).is_right
