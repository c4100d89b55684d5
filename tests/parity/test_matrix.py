"""Every transformer, padding, form and precision against PyTorch, in batches of 1, 3 and 64, with hostile thetas.

At the size of 28 the matrix is whole: 5 transformers x 3 paddings x 3 forms x 3 precisions. At 42 a transformer for
each padding runs in the fused form, since rewriting, forms and precisions do not look at the size. The rest of
the size of 42 runs with ``-m slow``. In reduced precision the batch of 64 has the network's own thetas only.
"""

import pytest

from .matrix import FORMS, OUTPUTS, PRECISIONS, Cell, cells, measure

WHOLE = [cell for cell in cells() if cell.size == 28]
LARGER = [Cell("attention", "zeros", 42), Cell("projective", "border", 42), Cell("tps", "reflection", 42)]


def check_float32(cell: Cell, forms: tuple[str, ...]) -> None:
    for kind, verification in measure(cell, [(form, "float32") for form in forms]).items():
        assert set(verification.differences) == set(OUTPUTS)
        assert verification.passed, f"{kind}\n{verification.table()}"


def check_reduced(cell: Cell) -> None:
    reduced = [(form, precision) for form in FORMS for precision in PRECISIONS if precision != "float32"]
    for kind, verification in measure(cell, reduced).items():
        assert verification.passed, f"{kind}\n{verification.table()}"
        assert verification.injected.differences["outline"] <= 1e-4, kind
        assert verification.injected.differences["rectified"] <= 1, kind


@pytest.mark.parametrize("cell", WHOLE, ids=str)
def test_every_form_and_precision_answers_as_pytorch_does(cell: Cell) -> None:
    check_float32(cell, FORMS)
    check_reduced(cell)


@pytest.mark.parametrize("cell", LARGER, ids=str)
def test_a_larger_picture_is_answered_as_by_pytorch(cell: Cell) -> None:
    check_float32(cell, FORMS[:1])


@pytest.mark.slow
@pytest.mark.parametrize("cell", [cell for cell in cells() if cell.size == 42], ids=str)
def test_a_larger_picture_is_answered_in_every_form_and_precision(cell: Cell) -> None:
    check_float32(cell, FORMS)
    check_reduced(cell)


def test_the_larger_cells_are_of_the_matrix_and_have_every_padding() -> None:
    assert set(LARGER) <= set(cells())
    assert {cell.padding for cell in LARGER} == {cell.padding for cell in cells()}
