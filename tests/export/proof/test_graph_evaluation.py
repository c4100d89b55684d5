"""A file of a network whose rounding grows is optimised; a new file that is slightly wrong is refused."""

from pathlib import Path

import onnx
import pytest
import torch

from stn_export.optimizer import DifferenceError, compare_graphs, optimize_onnx
from tests.support.amplifying_networks import amplifying
from tests.support.wrong_graphs import wrong_graphs


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A series of transformers as PyTorch exports it, and the same file optimised."""
    module, example = amplifying("three in series")
    folder = tmp_path_factory.mktemp("series")
    torch.onnx.export(module, tuple(example), folder / "old.onnx", opset_version=18, dynamo=True, external_data=False)
    optimized = optimize_onnx(folder / "old.onnx", folder / "new.onnx")
    assert max(optimized.differences.values()) > 1e-4, "its rounding does not grow: this shows nothing"
    return folder / "old.onnx", folder / "new.onnx"


def test_every_slightly_wrong_last_sampler_of_an_optimised_series_is_refused(files: tuple[Path, Path]) -> None:
    old, new = map(onnx.load, files)
    wrongs = {name: model for name, model in wrong_graphs(new).items() if name.endswith("sampler 2")}
    assert len(wrongs) >= 12
    for model in wrongs.values():
        with pytest.raises(DifferenceError, match=r"differs in .* by .* \(allowed .*\); nothing was written"):
            compare_graphs(old, model, "file.onnx")
