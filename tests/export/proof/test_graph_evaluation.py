"""A file of a network whose rounding grows is optimised; a new file that is slightly wrong is refused."""

from dataclasses import dataclass

import onnx
import pytest
import torch

from stn_export.graph_comparison import BATCHES, DifferenceError, compare_graphs, random_inputs
from stn_export.optimizer import optimize_onnx
from stn_export.proof.graph_cuts import find_cuts
from stn_export.proof.graph_evaluation import GraphOriginal
from stn_export.proof.graph_proof import GraphProof
from stn_export.proof.rounding import DisturbedRuns
from tests.support.amplifying_networks import amplifying
from tests.support.wrong_graphs import wrong_graphs


@dataclass(frozen=True)
class Series:
    """A series of transformers as PyTorch exports it, the same optimised, and slightly wrong ones by name."""

    old: onnx.ModelProto
    new: onnx.ModelProto
    wrong: dict[str, onnx.ModelProto]


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> Series:
    module, example = amplifying("three in series")
    folder = tmp_path_factory.mktemp("series")
    small = [image[:, :, :28, :28] for image in example]  # at 48 x 48 it shows no more, and takes three times as long
    torch.onnx.export(module, tuple(small), folder / "old.onnx", opset_version=18, dynamo=True, external_data=False)
    optimized = optimize_onnx(folder / "old.onnx", folder / "new.onnx")
    assert max(optimized.differences.values()) > 1e-4, "its rounding does not grow: this shows nothing"
    old, new = onnx.load(folder / "old.onnx"), onnx.load(folder / "new.onnx")
    wrong = {name: model for name, model in wrong_graphs(new).items() if name.endswith("sampler 2")}
    assert len(wrong) >= 12
    return Series(old, new, wrong)


def test_every_slightly_wrong_last_sampler_of_an_optimised_series_is_refused(series: Series) -> None:
    original = GraphOriginal(series.old)
    inputs = [random_inputs(series.old, batch, seed) for seed, batch in enumerate(BATCHES)]
    runs = [DisturbedRuns(original, list(feeds.values())) for feeds in inputs]  # for all graphs: they take the time

    def refusal(model: onnx.ModelProto) -> str | None:
        proof = GraphProof(model, find_cuts(model))
        for batch in runs:
            if proof.refusal is None:
                proof.add_parts(batch)
        return proof.refusal

    assert refusal(series.new) is None
    assert [name for name, model in series.wrong.items() if refusal(model) is None] == []


@pytest.mark.parametrize("name", ["grid of the first picture for all", "grid shifted by half a pixel"])
def test_a_wrong_graph_is_refused_in_one_sentence_whichever_batch_shows_it(name: str, series: Series) -> None:
    [model] = [model for full, model in series.wrong.items() if full.startswith(name)]
    with pytest.raises(
        DifferenceError, match=r"^file.onnx: .* differs in .* by .* \(allowed .*\); nothing was written$"
    ):
        compare_graphs(series.old, model, "file.onnx")
