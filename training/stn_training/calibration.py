"""What lets a device doubt, kept in the checkpoint: theta on the training pictures, and a threshold of confidence."""

import dataclasses
from pathlib import Path

import torch
from torch import Generator, nn

from stn_models import (
    Labelling,
    find_threshold,
    load_checkpoint,
    measure_threshold,
    recorded_transforms,
    save_checkpoint,
)
from stn_runtime.model.theta_statistics import ThetaStatistics, describe_theta

from .data.data_module import ImageData, seed_for, to_float
from .data.labelled_images import LabelledImages

MOST_PICTURES = 10_000
_BATCH = 200


def record_theta(checkpoint: Path, data: ImageData, device: torch.device | str = "cpu") -> ThetaStatistics | None:
    """Measure theta on up to 10,000 training pictures as training sees them, and keep the result in the checkpoint.

    Args:
        checkpoint: Checkpoint of the trained network; rewritten with its weights unchanged.
        data: Training data of the network.
        device: Device that runs the network.

    Returns:
        The statistics in the checkpoint; None for a network without a transformer and for too few pictures.
    """
    network, described = load_checkpoint(checkpoint)
    statistics = measure_theta(network.to(device), data)
    theta = dataclasses.asdict(statistics) if statistics is not None else None
    save_checkpoint(checkpoint, network, dataclasses.replace(described, theta=theta))
    return statistics


def measure_theta(network: nn.Module, data: ImageData) -> ThetaStatistics | None:
    """Return statistics of theta on up to 10,000 distorted and augmented training pictures; a seed repeats them."""
    generator = Generator().manual_seed(seed_for(data.config.seed, 6))
    order = torch.randperm(len(data.train), generator=generator)[:MOST_PICTURES]
    device = next(network.parameters()).device
    thetas = []
    for part in torch.split(order, _BATCH):
        drawn, labels = to_float(data.train.images[part].to(device)), data.train.labels[part]
        images, _ = data.distorted_and_augmented(drawn, labels, generator)
        with torch.inference_mode(), recorded_transforms(network) as calls:
            network(images)
        if not calls:
            return None
        thetas.append(torch.cat([call.theta.float() for call in calls], dim=1).cpu())
    pixels = torch.cat([torch.full((call.theta.shape[1],), 2 / max(call.image.shape[2:])) for call in calls])
    return describe_theta(torch.cat(thetas).numpy(), pixels.numpy())


def record_threshold(checkpoint: Path, data: LabelledImages, device: torch.device | str = "cpu") -> Labelling | None:
    """Find the confidence below which a picture should get no label, and keep it in the checkpoint.

    Args:
        checkpoint: Checkpoint of the trained network; rewritten with its weights unchanged.
        data: Labelled pictures as the network takes them, unseen in training.
        device: Device that runs the network.

    Returns:
        What the threshold does on these pictures; None where they cannot tell, see ``find_threshold``.
    """
    network, described = load_checkpoint(checkpoint)
    network.to(device)
    with torch.inference_mode():
        parts = [
            network(to_float(part.to(device))).float().softmax(dim=-1) for part in torch.split(data.images, _BATCH)
        ]
    probabilities, labels = torch.cat(parts).cpu().numpy(), data.labels.numpy()
    threshold = find_threshold(probabilities, labels, data.reject, data.end)
    save_checkpoint(checkpoint, network, dataclasses.replace(described, threshold=threshold))
    return None if threshold is None else measure_threshold(probabilities, labels, data.reject, threshold, data.end)
