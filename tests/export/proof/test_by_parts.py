"""Networks whose rounding grows are exported; a graph of theirs that is slightly wrong is not."""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import onnx
import pytest

from stn_export import export_onnx
from stn_export.proof.graph_cuts import CPU, Cut, find_cuts
from stn_export.proof.graph_proof import GraphProof
from stn_export.proof.module_evaluation import ModuleOriginal
from stn_export.proof.rounding import DisturbedRuns
from stn_export.pytorch.tracing import rewrite, trace
from stn_runtime.model.session import open_session
from tests.support.amplifying_networks import AMPLIFYING, amplifying
from tests.support.wrong_graphs import wrong_graphs

LONG = ("three in series, align_corners and border", "bare at 256")
"""Half a minute each, for what another network shows with other numbers."""


@dataclass(frozen=True)
class Traced:
    """A network's graph, and the network on its example; the runs are shared by all graphs held against it."""

    model: onnx.ModelProto
    cuts: tuple[Cut, ...]
    runs: DisturbedRuns


@cache
def traced(name: str) -> Traced:
    module, example = amplifying(name)
    model = rewrite(trace(module, example), name)
    runs = DisturbedRuns(ModuleOriginal(module), [tensor.numpy() for tensor in example])
    return Traced(model, find_cuts(model), runs)


def refusal(network: Traced, model: onnx.ModelProto, cuts: tuple[Cut, ...] | None = None) -> str | None:
    """Return where a graph is found wrong on the network's example, part by part and then end to end."""
    proof = GraphProof(model, find_cuts(model) if cuts is None else cuts)
    proof.add_parts(network.runs)
    if proof.refusal is None:
        feeds = dict(zip((value.name for value in model.graph.input), network.runs.inputs, strict=True))
        proof.add_outputs(network.runs, open_session(model.SerializeToString(), providers=CPU).run(None, feeds))
    return proof.refusal


@pytest.mark.parametrize("name", AMPLIFYING)
def test_a_network_whose_rounding_grows_is_exported(name: str, tmp_path: Path) -> None:
    module, example = amplifying(name)
    differences = export_onnx(module, tmp_path / "m.onnx", example)
    assert max(differences.values()) > 1e-5, "its rounding does not grow, so that this shows nothing"


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in LONG else ()) for name in AMPLIFYING]
)
def test_every_slightly_wrong_sampler_of_a_network_whose_rounding_grows_is_refused(name: str) -> None:
    network = traced(name)
    assert refusal(network, network.model) is None
    wrongs = wrong_graphs(network.model)
    assert len({wrong.split(",")[0] for wrong in wrongs}) >= 12
    assert [wrong for wrong, model in wrongs.items() if refusal(network, model) is None] == []


def test_end_to_end_alone_a_wrong_basis_is_lost_in_the_rounding_of_a_series() -> None:
    network = traced("three in series")
    wrong = wrong_graphs(network.model)["last row of the basis off by 1e-4, sampler 2"]
    assert refusal(network, wrong, cuts=()) is None
    assert str(refusal(network, wrong)).startswith("sampling grid '")


@pytest.mark.parametrize(
    ("wrong", "stage"),
    [
        ("grid shifted by 1e-4, sampler 0", "sampling grid"),
        ("nearest, sampler 0", "sampled image"),
        ("gamma of 1.1 on the sampled image, sampler 0", "output behind the samplers"),
    ],
)
def test_the_sentence_names_the_stage_the_difference_and_what_is_allowed(wrong: str, stage: str) -> None:
    network = traced("thin plate, clamped" if stage == "sampling grid" else "instance norm")
    sentence = str(refusal(network, wrong_graphs(network.model)[wrong]))
    assert re.fullmatch(rf"{stage} '\S+' by \d\.\de-0\d \(allowed \d\.\de-0\d\)", sentence), sentence
