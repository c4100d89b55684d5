import pytest

from stn_runtime.model.manifest import Form, Precision

from .matrix import OUTPUTS, Cell, cells, measure

FORMS: list[tuple[Form, Precision]] = [("fused", "float32"), ("portable", "float32"), ("split", "float32")]
REDUCED: list[tuple[Form, Precision]] = [
    ("fused", "float16"),
    ("fused", "int8"),
    ("portable", "float16"),
    ("split", "int8"),
]


@pytest.mark.parametrize("cell", cells(), ids=str)
def test_every_form_answers_as_pytorch_does(cell: Cell) -> None:
    for kind, verification in measure(cell, FORMS if cell.size == 28 else FORMS[:1]).items():
        assert set(verification.differences) == set(OUTPUTS)
        assert verification.passed, f"{kind}\n{verification.table()}"


@pytest.mark.parametrize("cell", [cell for cell in cells() if cell.size == 28], ids=str)
def test_grid_and_sampler_are_exact_in_reduced_precision(cell: Cell) -> None:
    for kind, verification in measure(cell, REDUCED).items():
        assert verification.passed, f"{kind}\n{verification.table()}"
        assert verification.injected.differences["outline"] <= 1e-4, kind
        assert verification.injected.differences["rectified"] <= 1, kind
