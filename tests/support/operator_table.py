"""PyTorch's table of operators, made once: its exporter makes it anew for each export, in 0.7 of 1.9 seconds."""

import functools
from collections.abc import Iterator

import pytest
from torch.onnx._internal.exporter._registration import ONNXRegistry


@pytest.fixture(scope="session", autouse=True)
def operator_table_made_once() -> Iterator[None]:
    """Keep the table of each opset, and give every export one of its own to add to."""
    original = ONNXRegistry.from_torchlib
    kept = functools.cache(original)

    def copied(*opset: int, **named_opset: int) -> ONNXRegistry:
        made, table = kept(*opset, **named_opset), ONNXRegistry()
        vars(table).update(vars(made), functions={name: list(metas) for name, metas in made.functions.items()})
        return table

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ONNXRegistry, "from_torchlib", staticmethod(copied))
        yield
