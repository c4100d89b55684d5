"""PyTorch's side of the proof: which pictures are compared."""

import logging

import numpy as np
import pytest
from numpy.typing import NDArray

from stn_export import Deployment
from stn_export.proof import reference
from stn_export.proof.reference import LEAST_REAL, Case, pytorch_reference
from tests.support.small_network import SPEC


@pytest.fixture(scope="module")
def pictures() -> NDArray[np.uint8]:
    """Pictures in the order of a folder: each brighter than the one before."""
    return np.repeat(np.arange(200, dtype=np.uint8), 28 * 28).reshape(200, 28, 28, 1)


def levels(cases: tuple[Case, ...]) -> set[int]:
    """Return the brightness of the real pictures, which are plain; those that are generated are noise, black, white."""
    return {int(picture.max()) for case in cases for picture in case.pictures if picture.min() == picture.max()}


def test_all_real_pictures_are_compared_where_that_is_quick(
    deployment: Deployment, pictures: NDArray[np.uint8], caplog: pytest.LogCaptureFixture
) -> None:
    found = pytorch_reference(deployment, SPEC, pictures)
    assert found.real_pictures == 200
    assert levels(found.own) == {*range(200), 255}
    assert not caplog.messages


def test_of_a_slow_network_some_of_the_whole_folder_are_compared_and_their_number_is_said(
    deployment: Deployment,
    pictures: NDArray[np.uint8],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(reference, "REAL_SECONDS", 0.0)
    caplog.set_level(logging.INFO)
    found = pytorch_reference(deployment, SPEC, pictures)
    assert LEAST_REAL <= found.real_pictures < 130
    chosen = levels(found.own) - {0, 255}
    assert len(chosen) >= found.real_pictures - 1
    assert min(chosen) < 20, "the end of the folder alone"
    assert max(chosen) > 180, "the beginning of the folder alone"
    [message] = caplog.messages
    assert message.startswith(f"of 200 real pictures {found.real_pictures} are compared")


def test_few_pictures_are_all_compared_however_long_it_takes(
    deployment: Deployment, pictures: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reference, "REAL_SECONDS", 0.0)
    assert pytorch_reference(deployment, SPEC, pictures[:LEAST_REAL]).real_pictures == LEAST_REAL
