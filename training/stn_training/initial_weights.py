"""Weights that a new run starts from: a checkpoint of ours, or published ones of a network of torchvision or timm."""

import pickle
from pathlib import Path
from typing import Any

import torch
import torchvision
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from stn_models import REGISTRY, Checkpoint, CheckpointError, load_checkpoint
from stn_models.backbones import TIMM
from stn_models.checkpoint import HEADER_KEY
from stn_models.transformer import TransformedInput
from stn_runtime import InputError
from stn_runtime.errors import MissingDependencyError

from .config import TrainConfig

_PICKLED = (".pth", ".pt", ".tar", ".bin")

PUBLISHED = "imagenet"
"""As ``--weights``: what torchvision or timm offers for the network; it is downloaded."""


def is_checkpoint(weights: str) -> bool:
    """Return whether weights are a checkpoint of ours, which says of which network, or at least no published ones."""
    path = Path(weights)
    if weights == PUBLISHED or path.suffix.lower() in _PICKLED:
        return False
    if path.suffix != ".safetensors" or not path.is_file():
        return True
    try:
        with safe_open(path, framework="pt") as file:
            return HEADER_KEY in (file.metadata() or {})
    except (SafetensorError, OSError):
        return True  # for the reader of checkpoints to refuse


def network_of(weights: str) -> dict[str, Any]:
    """Return the options that a checkpoint decides: its network, without its classes, and how pictures become square.

    Raises:
        InputError: The file is no checkpoint.
    """
    _, described = _loaded(weights)
    options = {key: value for key, value in described.architecture.complete().items() if key != "classes"}
    return {"model": described.architecture.name, "options": options, "fit": described.preprocess["fit"]}


def take_weights(model: nn.Module, config: TrainConfig) -> tuple[str, ...]:
    """Copy the weights that a config names into a network; return the names of those that stay fresh.

    Of a checkpoint, the last layer stays fresh where its classes are others. Of published weights, the last layer and
    what has another shape in the first convolution: one of three channels is added up for grey pictures.

    Raises:
        InputError: The weights cannot be had, or are of another network.
        MissingDependencyError: A package that the file needs is missing.
    """
    if is_checkpoint(config.weights):
        return _take_checkpoint(model, config.weights)
    if config.model in REGISTRY:
        raise InputError(
            f"{config.weights}: published weights are for networks of torchvision and timm, not for '{config.model}'; "
            "name one with --model"
        )
    return _take_published(model.classifier, _published(config), config)  # type: ignore[arg-type]


def _take_checkpoint(model: nn.Module, weights: str) -> tuple[str, ...]:
    source, described = _loaded(weights)
    stored, own = source.state_dict(), model.state_dict()
    count = len(described.labels)
    fresh = [name for name, value in own.items() if name in stored and stored[name].shape != value.shape]
    for name in [*own.keys() ^ stored.keys(), *fresh]:
        is_last_layer = name in fresh and stored[name].shape[1:] == own[name].shape[1:] and len(stored[name]) == count
        if not is_last_layer:
            raise InputError(
                f"{weights}: holds network '{described.architecture.name}' with other layers ('{name}'); "
                "leave out --model, --transformer, --image-size and --options, or take another checkpoint"
            )
    model.load_state_dict({**own, **{name: value for name, value in stored.items() if name not in fresh}})
    return tuple(fresh)


def _take_published(body: nn.Module, stored: dict[str, Tensor], config: TrainConfig) -> tuple[str, ...]:
    own, names = body.state_dict(), dict(_published_names(body))
    layers = [name for name, module in body.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    allowed = (f"{layers[0]}.", f"{layers[-1]}.")
    taken, fresh = {}, []
    for name, published in names.items():
        value = stored.get(published)
        if value is not None and value.ndim == 4 and value.shape[1] == 3 and own[name].shape[1] == 1:
            value = value.sum(dim=1, keepdim=True)
        if value is not None and value.shape == own[name].shape:
            if own[name].is_floating_point() and not (value.is_floating_point() and bool(value.isfinite().all())):
                raise InputError(f"{config.weights}: '{published}' does not hold finite numbers with a fraction")
            taken[name] = value
        elif name.startswith(allowed) or name.endswith("num_batches_tracked"):
            fresh.append(name)
        else:
            shape = "is not in it" if value is None else f"is {tuple(value.shape)}, not {tuple(own[name].shape)}"
            raise InputError(
                f"{config.weights}: holds the weights of another network than '{config.model}' ('{published}' "
                f"{shape}); name theirs with --model"
            )
    body.load_state_dict({**own, **taken})
    return tuple(name for name in fresh if not name.endswith("num_batches_tracked"))


def _published_names(module: nn.Module, own: str = "", published: str = "") -> list[tuple[str, str]]:
    """Return the name of each weight and buffer of a body, and that without the transformers in front of its layers."""
    if isinstance(module, TransformedInput):
        return _published_names(module.module, f"{own}module.", published)
    direct = [name for name in module.state_dict() if "." not in name]
    names = [(own + name, published + name) for name in direct]
    for name, child in module.named_children():
        names += _published_names(child, f"{own}{name}.", f"{published}{name}.")
    return names


def _published(config: TrainConfig) -> dict[str, Tensor]:
    """Return the weights of a file, or those that the network's package offers.

    Raises:
        InputError: The file is none of weights, or there is nothing to download.
    """
    if config.weights == PUBLISHED:
        return _downloaded(config.model)
    path = Path(config.weights)
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise InputError(f"{path}: does not exist; give a file of weights, .pth or .safetensors") from error
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{path}: holds more than weights, and what else may run code; save them with "
            "torch.save(model.state_dict(), ...)"
        ) from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); give a file of weights") from error
    except (RuntimeError, EOFError, SafetensorError) as error:
        raise InputError(f"{path}: is no whole file of weights; copy or save it again") from error
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not content or not all(map(_is_weight, *zip(*content.items(), strict=True))):
        raise InputError(f"{path}: holds no weights by name; save them with torch.save(model.state_dict(), ...)")
    return {name.removeprefix("module."): value for name, value in content.items()}


def _is_weight(name: object, value: object) -> bool:
    return isinstance(name, str) and isinstance(value, Tensor) and not value.is_meta


def _downloaded(network: str) -> dict[str, Tensor]:
    try:
        if network.startswith(TIMM):
            import timm

            weights: dict[str, Tensor] = timm.create_model(network.removeprefix(TIMM), pretrained=True).state_dict()
            return weights
        offered: dict[str, Tensor] = torchvision.models.get_model_weights(network).DEFAULT.get_state_dict(
            progress=False, check_hash=True
        )
    except ModuleNotFoundError as error:
        raise MissingDependencyError(f"package '{error.name}' is needed for the weights of {network}") from error
    except (AttributeError, OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:120]
        raise InputError(
            f"the weights of {network} cannot be downloaded ({reason}); give a file of them, --weights FILE.pth"
        ) from error
    return offered


def _loaded(weights: str) -> tuple[nn.Module, Checkpoint]:
    try:
        return load_checkpoint(Path(weights))
    except CheckpointError as error:
        raise InputError(str(error)) from error
