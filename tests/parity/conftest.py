from collections.abc import Iterator

import pytest
import torch

from tests.support.operator_table import operator_table_made_once  # noqa: F401  (a fixture)


@pytest.fixture(scope="session", autouse=True)
def _on_one_thread() -> Iterator[None]:
    """Networks this small gain nothing from threads, and lose a factor of ten to them on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
