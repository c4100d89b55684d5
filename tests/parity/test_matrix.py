import pytest

from stn_export.verification import TOLERANCES

from .matrix import Cell, cells, measure


@pytest.mark.parametrize("cell", cells(), ids=str)
def test_onnxruntime_answers_as_pytorch_does(cell: Cell) -> None:
    for parity in measure(cell):
        assert parity.labels_differ == 0
        assert set(parity.differences) == set(TOLERANCES)
        for name, difference in parity.differences.items():
            assert difference <= TOLERANCES[name], f"{name} differs by {difference:.2e}"
