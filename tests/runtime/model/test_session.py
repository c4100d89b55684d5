"""Opening model files, good and bad: one sentence each."""

import os
from collections.abc import Callable
from pathlib import Path

import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto

from stn_runtime import Classifier, InputError, Manifest, ModelContractError, TransformerSpec
from stn_runtime.machine.cpus import usable_cpus
from stn_runtime.model.golden import replay
from stn_runtime.model.manifest import METADATA_KEY
from stn_runtime.model.network import Network
from stn_runtime.model.session import open_session, read_manifest
from stn_runtime.model.zoo import find_model

CPU, CUDA, OPENVINO = "CPUExecutionProvider", "CUDAExecutionProvider", "OpenVINOExecutionProvider"


def _refused(path: Path, told: str) -> None:
    with pytest.raises(ModelContractError, match=told) as caught:
        Classifier(path, threads=1)
    assert "\n" not in str(caught.value)
    assert path.name in str(caught.value)


def test_a_good_file_opens_with_its_manifest(grey_model: Path, manifest_of: Callable[..., Manifest]) -> None:
    session = open_session(grey_model, threads=1)
    assert read_manifest(session, "grey.onnx") == manifest_of(1)
    assert session.get_providers()[-1] == "CPUExecutionProvider"


def test_a_file_opens_from_its_bytes(grey_model: Path, manifest_of: Callable[..., Manifest]) -> None:
    assert read_manifest(open_session(grey_model.read_bytes(), threads=1), "bytes") == manifest_of(1)


def test_a_file_whose_name_is_not_ascii_opens(grey_model: Path) -> None:
    path = grey_model.rename(grey_model.with_name("größe 写.onnx"))
    assert Classifier(path, threads=1).manifest.name == "tiny"


def test_threads_are_the_usable_cpus_unless_said(grey_model: Path) -> None:
    assert open_session(grey_model).get_session_options().intra_op_num_threads == usable_cpus()
    assert open_session(grey_model, threads=3).get_session_options().intra_op_num_threads == 3
    assert open_session(grey_model).get_session_options().inter_op_num_threads == 1


def test_usable_cpus_are_those_of_the_process() -> None:
    assert 1 <= usable_cpus() <= (os.cpu_count() or 1)


def test_threads_sleep_when_they_are_not_to_spin(grey_model: Path) -> None:
    sleeping = open_session(grey_model, spin=False).get_session_options()
    assert sleeping.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    with pytest.raises(RuntimeError, match="not have configuration"):
        open_session(grey_model).get_session_options().get_session_config_entry("session.intra_op.allow_spinning")


def test_a_foreign_model_is_told_from_ours(build_model: Callable[..., Path]) -> None:
    path = build_model(metadata={"author": "someone", "task": "detect"})
    _refused(path, r"no 'stn_edge' metadata \(found: author, task\).*; take a file that 'stn export' wrote$")


def test_a_model_without_any_metadata_is_refused(build_model: Callable[..., Path]) -> None:
    _refused(
        build_model(metadata={}), r"no 'stn_edge' metadata \(found: none\).*; take a file that 'stn export' wrote$"
    )


def test_a_manifest_that_is_not_json_is_refused(build_model: Callable[..., Path]) -> None:
    _refused(build_model(metadata={METADATA_KEY: "{"}), "the manifest is not JSON")


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_a_truncated_file_is_refused(grey_model: Path, share: float) -> None:
    data = grey_model.read_bytes()
    grey_model.write_bytes(data[: int(len(data) * share)])
    _refused(
        grey_model,
        "(onnxruntime cannot load it .*; |is empty .*; )copy or export the model again|no 'stn_edge' metadata",
    )


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "weights.pt").write_bytes(b"PK\x03\x04 pickled things")
    _refused(tmp_path / "weights.pt", r"onnxruntime cannot load it \(.*\); copy or export the model again$")


def test_a_folder_is_refused(tmp_path: Path) -> None:
    _refused(tmp_path, "is a folder; give an .onnx file or a released model's name")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    _refused(tmp_path / "gone.onnx", "no such file and no released model of that name")


def test_a_model_from_another_input_type_is_refused(build_model: Callable[..., Path]) -> None:
    path = build_model(input_type=TensorProto.INT32)
    _refused(path, r"input 'image' is tensor\(int32\) .*the manifest says tensor\(uint8\) N x \[6, 8, 1\]")


def test_a_model_of_another_size_than_its_manifest_is_refused(
    build_model: Callable[..., Path], manifest_of: Callable[..., Manifest]
) -> None:
    path = build_model(1, metadata={METADATA_KEY: manifest_of(3).to_json()})
    _refused(path, r"input 'image' is tensor\(uint8\) \['N', 6, 8, 1\], the manifest says .* \[6, 8, 3\]")


def test_a_model_with_another_input_name_is_refused(grey_model: Path) -> None:
    model = onnx.load(grey_model)
    model.graph.input[0].name = "x"
    for node in model.graph.node:
        node.input[:] = ["x" if name == "image" else name for name in node.input]
    onnx.save(model, grey_model)
    _refused(grey_model, r"inputs are \['x'\], expected only 'image'")


def test_a_model_with_other_outputs_than_its_manifest_is_refused(build_model: Callable[..., Path]) -> None:
    path = build_model(outputs=("theta", "probabilities", "outline", "rectified"))
    _refused(path, r"outputs are \['probabilities', 'theta', .*\], the manifest says \['theta', 'probabilities', ")


@pytest.mark.parametrize("labels", [("a", "b"), tuple("abcd")])
def test_a_model_with_another_number_of_labels_is_refused(
    build_model: Callable[..., Path], labels: tuple[str, ...]
) -> None:
    _refused(build_model(labels=labels), rf"'probabilities' is \['N', 3\], expected N x {len(labels)} labels")


@pytest.mark.parametrize("batch", [2, 8])
def test_a_model_for_a_fixed_batch_of_several_is_refused(build_model: Callable[..., Path], batch: int) -> None:
    told = rf"tiny\.onnx: takes {batch} pictures at a time, expected any number, or one$"
    _refused(build_model(batch=batch), told)


def test_a_model_for_one_picture_at_a_time_opens(
    build_model: Callable[..., Path], manifest_of: Callable[..., Manifest]
) -> None:
    session = open_session(build_model(batch=1), threads=1)
    assert session.get_inputs()[0].shape[0] == 1
    assert read_manifest(session, "tiny.onnx") == manifest_of(1)


TWO = tuple(
    TransformerSpec(name, "affine", theta, (6, 8), (3, 4), "bilinear", "zeros", False, True)
    for name, theta in {"first": (0, 6), "second": (6, 12)}.items()
)


@pytest.mark.parametrize("transformers", [TWO, ()], ids=["too many", "too few"])
def test_a_model_with_other_transformers_than_its_manifest_is_refused(
    build_model: Callable[..., Path], transformers: tuple[TransformerSpec, ...]
) -> None:
    _refused(build_model(transformers=transformers), "theta|outline")


def test_a_provider_that_is_not_there_is_named(grey_model: Path) -> None:
    told = r"^execution provider NoSuchProvider is not available here; there are .*CPUExecutionProvider"
    with pytest.raises(InputError, match=told):
        open_session(grey_model, providers=[CPU, "NoSuchProvider"])


def test_naming_no_provider_at_all_is_refused(grey_model: Path) -> None:
    told = "^no execution provider is named; leave them out, or name one such as CPUExecutionProvider$"
    with pytest.raises(InputError, match=told):
        open_session(grey_model, providers=[])


NOT_STARTED = f"execution provider {CUDA} could not be started; onnxruntime took {CPU}"


@pytest.fixture(params=["onnxruntime prints so", "onnxruntime is silent"])
def _cuda_does_not_start(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """CUDA is listed, but onnxruntime takes the CPU instead."""
    start = ort.InferenceSession

    def fall_back(model: str, options: ort.SessionOptions, providers: list[str], **_: object) -> ort.InferenceSession:
        if request.param == "onnxruntime prints so":
            print(f"EP Error when using {providers}")  # noqa: T201
        return start(model, options, providers=[CPU])

    monkeypatch.setattr(ort, "get_available_providers", lambda: [CUDA, CPU])
    monkeypatch.setattr(ort, "InferenceSession", fall_back)


@pytest.mark.usefixtures("_cuda_does_not_start")
@pytest.mark.parametrize("providers", [[CUDA], [CUDA, CPU]], ids=str)
def test_a_provider_that_was_named_and_does_not_start_is_an_error(
    grey_model: Path, capsys: pytest.CaptureFixture[str], providers: list[str]
) -> None:
    with pytest.raises(InputError, match=f"^{NOT_STARTED}$"):
        open_session(grey_model, providers=providers)
    assert capsys.readouterr().out == ""


@pytest.mark.usefixtures("_cuda_does_not_start")
def test_a_provider_that_was_not_named_and_does_not_start_is_one_sentence(
    grey_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    session = open_session(grey_model)
    said = capsys.readouterr()
    assert session.get_providers() == [CPU]
    assert said.out == ""
    assert [line for line in said.err.splitlines() if not line.startswith("EP Error")] == [NOT_STARTED]


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_what_onnxruntime_prints_of_a_provider_it_does_not_know_is_no_output(
    grey_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["DeadExecutionProvider", CPU])
    with pytest.raises(InputError, match=r"^execution provider DeadExecutionProvider could not be started; "):
        open_session(grey_model, providers=["DeadExecutionProvider"])
    assert capsys.readouterr().out == ""


def test_openvino_is_told_the_threads_and_to_keep_the_precision(
    grey_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, told = ort.InferenceSession, []

    def listening(
        model: str, options: ort.SessionOptions, providers: list[str], provider_options: list[dict[str, str]]
    ) -> ort.InferenceSession:
        told.extend(zip(providers, provider_options, strict=True))
        return start(model, options, providers=[CPU])

    monkeypatch.setattr(ort, "get_available_providers", lambda: [OPENVINO, CPU])
    monkeypatch.setattr(ort, "InferenceSession", listening)
    with pytest.raises(InputError, match="could not be started"):  # it is not here
        open_session(grey_model, threads=3, providers=[OPENVINO, CPU])
    assert told == [(OPENVINO, {"precision": "ACCURACY", "num_of_threads": "3"}), (CPU, {})]


@pytest.mark.skipif(OPENVINO not in ort.get_available_providers(), reason="needs onnxruntime-openvino")
@pytest.mark.parametrize("name", ["digits", "digits-int8", "digits-split", "traffic-signs"])
def test_released_models_answer_on_openvino_as_they_were_exported(name: str) -> None:
    network = Network(find_model(name), threads=1, providers=[OPENVINO])
    assert network.session.get_providers()[0] == OPENVINO
    assert replay(network).passed


def test_a_provider_that_starts_is_not_spoken_of(grey_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    session = open_session(grey_model, providers=[CPU], threads=1)
    assert session.get_providers() == [CPU]
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("groups", "cpus"),
    [
        ([["max", "100000"]], 8),
        ([["150000", "100000"]], 2),
        ([["10000", "100000"]], 1),
        ([["900000", "100000"]], 8),
        ([["-1", "100000"]], 8),
        ([["max", "100000"], ["300000", "100000"]], 3),
        ([["300000", "100000"], ["200000", "100000"], ["max", "100000"]], 2),
        ([["nonsense"]], 8),
        ([["0", "0"]], 8),
        ([], 8),
    ],
)
def test_the_quota_of_a_container_or_service_limits_the_cpus(
    monkeypatch: pytest.MonkeyPatch, groups: list[list[str]], cpus: int
) -> None:
    monkeypatch.setattr(
        "stn_runtime.machine.cpus.read_groups", lambda _, *names: groups if names == ("cpu.max",) else []
    )
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    assert usable_cpus() == cpus


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", r": is empty \(0 bytes\); copy or export the model again$"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n",
            r": is a Git LFS pointer, .* run 'git lfs pull'",
        ),
    ],
)
def test_what_is_plainly_no_model_is_named(data: bytes, told: str, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(data)
    _refused(tmp_path / "m.onnx", told)
