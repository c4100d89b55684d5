"""The threshold in the manifest: the checkpoint's, or found on labelled pictures with the network that is written."""

import numpy as np
from numpy.typing import NDArray

from stn_models import Labelling, find_threshold, measure_threshold
from stn_runtime.model.manifest import Precision
from stn_runtime.model.network import Network

from .card import Card

_BATCH = 64


def threshold_for(
    card: Card, network: Network, precision: Precision, images: NDArray[np.uint8], labels: NDArray[np.int64]
) -> tuple[float | None, Labelling | None]:
    """Return the threshold of an exported network, and what it does on labelled pictures where that was measured.

    In float32 the card's threshold stays. In reduced precision, confidences differ from those that it was found on: it
    stays where the network keeps the risk with it (``Labelling.holds``), else another is found, as for a card without.

    Args:
        card: The classifier's card.
        network: The exported network, open.
        precision: Its precision.
        images: Labelled pictures (M, H, W, C), preprocessed; M may be 0.
        labels: (M,) indices into the card's labels; (M, D) of a network that spells texts.
    """
    if not len(images) or (card.threshold is not None and precision == "float32"):
        return card.threshold, None
    parts = [images[first : first + _BATCH] for first in range(0, len(images), _BATCH)]
    probabilities = np.concatenate([network.run(part)["probabilities"].astype(np.float32) for part in parts])
    reject, end = (None if name is None else card.labels.index(name) for name in (card.reject, card.end))
    if card.threshold is not None:
        kept = measure_threshold(probabilities, labels, reject, card.threshold, end)
        if kept.holds:
            return card.threshold, kept
    found = find_threshold(probabilities, labels, reject, end)
    if found is None:
        return card.threshold, None
    return found, measure_threshold(probabilities, labels, reject, found, end)
