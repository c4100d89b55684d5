import copy
from collections.abc import Callable

import numpy as np
import onnx
import pytest
import torch

from stn_export import Deployment, Parity, export_graph, verify
from stn_export.proof.reference import SCALES, Reference, hostile_thetas, pytorch_reference, torch_outputs
from stn_export.proof.verification import open_both, tolerances_of, verify_against, with_theta_inputs
from stn_models import injected_thetas, make_transformer
from stn_runtime import InputError, PreprocessSpec
from stn_runtime.model.manifest import Precision
from stn_runtime.model.parity import compare
from tests.support.small_network import SPEC

NO_IMAGES = np.empty((0, 28, 28, 1), np.uint8)


def sampler(model: onnx.ModelProto) -> onnx.NodeProto:
    return next(node for node in model.graph.node if node.op_type == "GridSample")


def set_attribute(model: onnx.ModelProto, name: str, value: object) -> None:
    node = sampler(model)
    kept = [attribute for attribute in node.attribute if attribute.name != name]
    del node.attribute[:]
    node.attribute.extend([*kept, onnx.helper.make_attribute(name, value)])


def nudge_basis(model: onnx.ModelProto) -> None:
    basis = next(entry for entry in model.graph.initializer if entry.name.endswith("grid.basis"))
    values = onnx.numpy_helper.to_array(basis).copy()
    values[0] += 0.01  # a hundredth of half the picture, times t11
    basis.CopyFrom(onnx.numpy_helper.from_array(values, basis.name))


WRONGS: dict[str, Callable[[onnx.ModelProto], None]] = {
    "nearest": lambda model: set_attribute(model, "mode", "nearest"),
    "border": lambda model: set_attribute(model, "padding_mode", "border"),
    "reflection": lambda model: set_attribute(model, "padding_mode", "reflection"),
    "align_corners": lambda model: set_attribute(model, "align_corners", 1),
    "basis": nudge_basis,
}


def test_the_exported_graph_passes(deployment: Deployment, graph: onnx.ModelProto) -> None:
    parity = verify(deployment, graph, SPEC, NO_IMAGES)
    assert parity.passed
    assert set(parity.differences) == {"probabilities", "theta", "outline", "rectified"}


@pytest.mark.parametrize("wrong", WRONGS)
def test_a_sampler_that_is_slightly_wrong_fails(
    deployment: Deployment, reference: Reference, graph: onnx.ModelProto, wrong: str
) -> None:
    changed = onnx.ModelProto()
    changed.CopyFrom(graph)
    WRONGS[wrong](changed)
    assert not verify_against(reference, deployment, changed, SPEC).passed


def test_feeding_theta_to_the_cut_graph_moves_what_it_samples(deployment: Deployment, graph: onnx.ModelProto) -> None:
    cut, names = with_theta_inputs(graph)
    assert names == ["theta_0"]
    network, _ = open_both(cut, deployment, SPEC, "fused", "float32")
    picture = np.random.default_rng(0).integers(0, 256, (1, 28, 28, 1), np.uint8)
    mirrored = np.array([[-1, 0, 0, 0, 1, 0]], np.float32)
    outputs = network.run(picture, given={"theta_0": mirrored})
    np.testing.assert_array_equal(outputs["rectified"], picture[:, :, ::-1])
    np.testing.assert_array_equal(outputs["theta"], mirrored)


def test_injected_thetas_reach_pytorch_too(deployment: Deployment) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (2, 28, 28, 1), np.uint8)
    with injected_thetas(deployment.model, [torch.tensor([[1.0, 0, 0, 0, -1, 0]])]):
        outputs = torch_outputs(deployment, picture)
    np.testing.assert_array_equal(outputs["rectified"], picture[:, ::-1])


def test_hostile_thetas_are_seven_and_begin_with_the_identity(deployment: Deployment) -> None:
    thetas = [theta for [theta] in hostile_thetas(deployment)]
    assert len(thetas) == len(SCALES) + 1 == 7
    assert thetas[0].tolist() == [[1, 0, 0, 0, 1, 0]]


def test_a_network_full_of_nan_is_refused(deployment: Deployment, graph: onnx.ModelProto) -> None:
    broken = copy.deepcopy(deployment)
    with torch.no_grad():
        next(broken.model.classifier.parameters()).fill_(float("nan"))
    with pytest.raises(InputError, match="PyTorch's own 'probabilities' is not finite"):
        verify(broken, graph, SPEC, NO_IMAGES)


def test_transformers_used_in_another_order_than_declared_are_verified() -> None:
    class Backwards(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.second = make_transformer(1, (28, 28), "similarity")
            self.first = make_transformer(1, (28, 28), "affine")
            self.head = torch.nn.Linear(28 * 28, 3)

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return self.head(self.second(self.first(image)).flatten(1))

    backwards = Deployment(Backwards().eval(), SPEC).eval()
    assert [used.grid for used in backwards.transformers] == ["affine", "similarity"]
    assert verify(backwards, export_graph(backwards, SPEC), SPEC, NO_IMAGES).passed


@pytest.mark.parametrize("precision", ["float32", "float16", "int8"])
def test_a_theta_that_is_no_number_never_passes(
    deployment: Deployment, graph: onnx.ModelProto, precision: Precision
) -> None:
    """Only the output: grid and sampler read the theta that is right."""
    broken = copy.deepcopy(graph)
    maker = next(node for node in broken.graph.node if "theta" in node.output)
    for node in broken.graph.node:
        node.input[:] = ["right" if name == "theta" else name for name in node.input]
    maker.output[:] = ["right"]
    broken.graph.initializer.append(onnx.numpy_helper.from_array(np.full(6, np.nan, np.float32), "nan"))
    broken.graph.node.append(onnx.helper.make_node("Add", ["right", "nan"], ["theta"]))
    pictures = np.random.default_rng(0).integers(0, 256, (4, 28, 28, 1), np.uint8)
    network, _ = open_both(broken, deployment, SPEC, "fused", precision)
    found = compare(torch_outputs(deployment, pictures), network.run(pictures), tolerances_of("fused", precision))
    assert found.labels_differ == 0
    assert found.differences["theta"] == np.inf
    assert all(found.differences[name] <= found.allowed(name) for name in found.differences if name != "theta")
    assert not found.passed


@pytest.mark.parametrize("tolerance", [1e3, np.inf])
def test_an_infinite_difference_is_not_allowed_whatever_the_tolerance(tolerance: float) -> None:
    assert not Parity({"theta": np.inf}, 0, 1, {"theta": tolerance}).passed
    assert Parity({"theta": 999.0}, 0, 1, {"theta": tolerance}).passed


class Sensitive(torch.nn.Module):
    """A classifier whose rounding grows: its pictures hardly vary, and are normalised."""

    def __init__(self) -> None:
        super().__init__()
        self.transformer = make_transformer(1, (28, 28), "affine")
        self.features = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.InstanceNorm2d(4), torch.nn.Flatten())
        self.head = torch.nn.Linear(4 * 26 * 26, 5)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.features(self.transformer(image) * 0.002 + 5))
        return 20 * logits


def test_a_classifier_whose_rounding_grows_passes_and_a_wrong_sampler_of_it_does_not() -> None:
    torch.manual_seed(0)
    sensitive = Deployment(Sensitive().eval(), SPEC).eval()
    graph, reference = export_graph(sensitive, SPEC), pytorch_reference(sensitive, SPEC, NO_IMAGES)
    verification = verify_against(reference, sensitive, graph, SPEC)
    assert verification.own.differences["probabilities"] > 1e-4, "its rounding does not grow: this shows nothing"
    assert verification.passed, verification.table()
    for wrong in ("nearest", "basis"):
        changed = onnx.ModelProto()
        changed.CopyFrom(graph)
        WRONGS[wrong](changed)
        assert not verify_against(reference, sensitive, changed, SPEC).passed, wrong


@pytest.mark.parametrize(("count", "side"), [(0, 28), (1, 28), (61, 28), (61, 224)])
def test_all_real_pictures_are_compared_whatever_their_size(count: int, side: int) -> None:
    spec = PreprocessSpec(side, side, 1)
    images = np.random.default_rng(3).integers(0, 256, (count, side, side, 1), np.uint8)
    mean = Deployment(torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(2), torch.nn.Flatten()), spec).eval()
    reference = pytorch_reference(mean, spec, images)
    compared = {picture.tobytes() for case in reference.own for picture in case.pictures}
    assert {picture.tobytes() for picture in images} <= compared
    assert max(len(case.pictures) for case in reference.own) * side * side <= 64**3
    verification = verify_against(reference, mean, export_graph(mean, spec), spec)
    assert verification.report()["real_pictures"] == count
    assert verification.table().endswith(f"{count} of the pictures are real")
