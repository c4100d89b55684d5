"""A training run from a config to a folder: checkpoints, log, pictures; resumable from its last whole epoch."""

import logging
import math
import os
import pickle
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytorch_lightning as lightning
import torch
from pytorch_lightning.plugins.environments import TorchElasticEnvironment  # type: ignore[attr-defined]
from torch import Generator
from torch.nn import functional

from stn_models import Architecture, localization_parameters
from stn_runtime import InputError, PreprocessSpec
from stn_runtime.machine.filesystem import existing_parent, make_folder, write_whole

from .calibration import record_theta, record_threshold
from .config import NUMBERS, TrainConfig
from .data.data_module import ImageData, rendered, seed_for, to_float
from .data.datasets import load_backgrounds, load_dataset, with_photographs
from .data.distortions import DIGIT_SIZE
from .data.duplicates import find_contradictions, find_twins, report_contradictions, report_twins
from .data.labelled_images import LabelledImages, with_reject
from .digits.scenes import Scenery
from .initial_weights import take_weights
from .module import ClassifierTraining, classes_second
from .open_settings import settled
from .optimisation.devices import is_launched, joined, shared, training_device, world
from .optimisation.precision import choose_precision
from .optimisation.rate_finder import STEPS, RangeTest
from .optimisation.schedule import draw_schedule
from .recorder import BEST, LAST, SCHEDULE, Recorder
from .run_folder import check_folder, check_same_data

log = logging.getLogger(__name__)

_RECOVERIES = 3
_RECOVERY_SHARE = 0.1
"""How often a run goes on after its transformer collapsed, each time with this share of the localisation nets' rate."""


@dataclass(frozen=True)
class Result:
    """Result of a run: the metrics of the best epoch and the file with its weights."""

    checkpoint: Path
    epoch: int
    metrics: Mapping[str, float]
    seconds: float


def fit(config: TrainConfig, folder: Path, resume: bool = False) -> Result:
    """Train a network and write its checkpoints, log and pictures to a folder.

    Args:
        config: Settings of the run.
        folder: Receives config.json, last.ckpt (every epoch, for resuming), model.safetensors (the best epoch),
            metrics.csv and pictures/.
        resume: Whether to go on from ``last.ckpt``; a run that broke off before its first epoch ended starts anew.

    Raises:
        InputError: The data cannot be used, the folder holds another run, or training diverged or collapsed.
    """
    started = time.monotonic()
    with joined():
        ready = shared(lambda: _prepared(config, folder, resume), existing_parent(folder))
        data = ImageData(ready.train, ready.val, ready.config, ready.config.preprocess(), ready.scenery)
        recorder = _trained(ready.config, folder, ready.architecture, data, folder / LAST if resume else None)
        if recorder.is_heard:
            record_theta(folder / BEST, data, training_device())
            labelling = record_threshold(folder / BEST, data.val, training_device())
            if labelling is not None:
                log.info("%s", labelling.sentence())
    return Result(folder / BEST, recorder.best_epoch, recorder.best_metrics, time.monotonic() - started)


@dataclass(frozen=True)
class _Prepared:
    """What a run needs, the same on every device."""

    config: TrainConfig
    architecture: Architecture
    train: LabelledImages
    val: LabelledImages
    scenery: Scenery


def _prepared(config: TrainConfig, folder: Path, resume: bool) -> _Prepared:
    """Read the data, settle what is open in the settings, and begin the run's folder.

    Raises:
        InputError: The data cannot be used, or the folder holds another run.
    """
    check_folder(config, folder, resume)
    data = load_data(config, folder)
    if resume:
        check_same_data(folder, data.train)
    ranks = world()[1]
    if min(len(data.train), len(data.val)) < ranks:
        raise InputError(
            f"{config.data}: {len(data.train)} training and {len(data.val)} validation images are too few for {ranks} "
            "devices; ask for fewer with --devices"
        )
    config = data.config
    architecture = architecture_for(config, config.preprocess(), data)
    if config.precision == "auto":
        config = replace(config, precision=fastest_precision(config, architecture, data, training_device()))
    if config.weights and not resume:
        fresh = take_weights(architecture.build(), config)
        log.info("weights of %s%s", config.weights, f"; {', '.join(fresh)} begin anew" if fresh else "")
    make_folder(folder)
    if data.train.paths:
        report_twins(find_twins(data.train, data.val), "validation", folder)
        report_contradictions(find_contradictions(data.train))
    log.info(
        "%d training and %d validation images, %d classes", len(data.train), len(data.val), len(data.train.classes)
    )
    if not resume:
        write_whole(folder / "config.json", config.to_json().encode())
        has_transformer = any(True for _ in localization_parameters(architecture.build()))
        steps = config.epochs * -(-len(data.train) // config.batch_size)
        share = config.stn_lr_scale if has_transformer else 1.0
        draw_schedule(config.schedule, steps, config.epochs, config.lr, share, folder / SCHEDULE)
    return _Prepared(config, architecture, data.train, data.val, data.scenery or Scenery())


def find_rate(config: TrainConfig, path: Path) -> float:
    """Raise the learning rate step by step, draw the loss against it, and return a highest rate to train with.

    Args:
        config: Settings of a run, of which nothing else is written.
        path: The PNG to write.

    Raises:
        InputError: The data cannot be used, or the loss is not finite at the lowest rate already.
    """
    spec = config.preprocess()
    data = load_data(config)
    config = data.config
    architecture = architecture_for(config, spec, data)
    if config.precision == "auto":
        config = replace(config, precision="32")  # a measurement of the precision would take longer than this
    lightning.seed_everything(seed_for(config.seed, 5) % 2**32, verbose=False)
    test = RangeTest(config.lr)
    endless = replace(config, epochs=STEPS)
    make_folder(path.parent)
    trainer = new_trainer(endless, path.parent, [test], limit_val_batches=0, max_steps=STEPS)
    _run(trainer, new_module(endless, architecture, data, 1.0), data, None)
    if not math.isfinite(test.losses[0]):
        raise InputError("the loss is not finite from the first step on; look at the data with 'stn sheet'")
    test.draw(path)
    return test.suggestion()


def _trained(
    config: TrainConfig,
    folder: Path,
    architecture: Architecture,
    data: ImageData,
    resumed: Path | None,
) -> Recorder:
    """Train; after a collapse go on from the last good epoch, the localisation nets at a lower rate.

    Raises:
        InputError: Training diverged, or collapsed for good.
    """
    share = 1.0
    for attempt in range(_RECOVERIES + 1):
        lightning.seed_everything(seed_for(config.seed, 5) % 2**32, verbose=False)
        has_begun = resumed is not None and resumed.exists()
        module = new_module(replace(config, weights="") if has_begun else config, architecture, data, share)
        recorder = Recorder(folder, architecture, data.spec, data.train, config)
        _run(new_trainer(config, folder, [recorder]), module, data, resumed if has_begun else None)
        if not recorder.failure:
            return recorder
        has_transformer = any(True for _ in localization_parameters(module.model))
        if not has_transformer or attempt == _RECOVERIES:
            raise InputError(recorder.failure)
        share *= _RECOVERY_SHARE
        resumed = folder / LAST
        log.warning(
            "%s; going on from %s with a localisation rate of %.2g",
            recorder.failure.partition(";")[0],
            "the last good epoch" if resumed.exists() else "the start",
            config.lr * config.stn_lr_scale * share,
        )
    raise AssertionError


def new_module(config: TrainConfig, architecture: Architecture, data: ImageData, share: float) -> ClassifierTraining:
    """Return what Lightning trains, freshly initialised from PyTorch's global seed.

    Raises:
        InputError: The network cannot be built.
    """
    try:
        model = architecture.build()
    except ValueError as error:
        raise InputError(str(error)) from error
    if config.weights:
        take_weights(model, config)
    weights = None
    if config.balance == "weights":
        counts = torch.bincount(data.train.labels, minlength=len(data.train.classes)).float()
        weights = len(data.train) / (len(counts) * counts.clamp(min=1))
    module = ClassifierTraining(model, config, len(data.train.classes), weights, share)
    module.to(memory_format=torch.channels_last)  # faster on a CPU and on tensor cores
    return module


def fastest_precision(config: TrainConfig, architecture: Architecture, data: ImageData, device: torch.device) -> str:
    """Return the precision in which a training step on the first images is fastest."""
    module = new_module(config, architecture, data, 1.0).to(device)
    generator = Generator().manual_seed(config.seed)
    chosen = torch.arange(min(config.batch_size, len(data.train)))
    labels = data.train.labels[chosen].to(device)
    images, _ = data.distorted_and_augmented(to_float(data.train.images[chosen].to(device)), labels, generator)
    return choose_precision(
        lambda model: functional.cross_entropy(classes_second(model(images)), labels), module.model, device
    )


def load_data(config: TrainConfig, folder: Path | None = None) -> ImageData:
    """Return the training images, the validation images as the network will see them, and the settings settled.

    Args:
        config: Settings of the run.
        folder: The run's; beside it a file holds the images where they are too many for memory.

    Raises:
        InputError: The data cannot be used.
    """
    spec = config.preprocess()
    _check_network(config, spec)
    if config.data in NUMBERS:
        _check_texts(config, True)
    source: PreprocessSpec | None = spec
    if config.data == "digits":
        source = None
    elif config.mixture():
        source = replace(spec, height=DIGIT_SIZE, width=DIGIT_SIZE)
    train, val = (
        with_reject(
            load_dataset(
                config.data,
                split,
                source,
                Path(config.data_dir),
                config.files(),
                Path(config.typefaces),
                existing_parent(folder) if folder else None,
            ),
            config.reject,
        )
        for split in ("train", "val")
    )
    if config.data == "gtsrb" and config.backgrounds:
        train, val = (
            with_photographs(data, Path(config.backgrounds), spec, part)
            for data, part in ((train, "train"), (val, "val"))
        )
    has_scenes = config.backgrounds and config.data != "gtsrb"
    scenery = Scenery(load_backgrounds(Path(config.backgrounds))) if has_scenes else Scenery()
    seen = rendered(val, config.mixture(), spec, seed_for(config.seed, 4), scenery, training_device())
    return ImageData(train, seen, settled(config, len(train)), spec, scenery)


def _run(trainer: lightning.Trainer, module: ClassifierTraining, data: ImageData, last: Path | None) -> None:
    """Train, from the checkpoint ``last`` where there is one.

    Raises:
        InputError: The checkpoint is damaged or not of this network.
        KeyboardInterrupt: A signal ended the run.
    """
    if last is not None:
        try:
            saved = torch.load(last, map_location="cpu", weights_only=False)["state_dict"]
            module.load_state_dict(saved)
        except (RuntimeError, KeyError, TypeError, EOFError, OSError, pickle.UnpicklingError) as error:
            reason = " ".join(str(error).split())[:160]
            raise InputError(
                f"{last}: cannot be resumed, it is damaged or the data have other classes now; train anew ({reason})"
            ) from error
    try:
        with warnings.catch_warnings():
            for message in (".*does not have many workers", ".*LeafSpec.*is deprecated"):  # nothing a user can mend
                warnings.filterwarnings("ignore", message)
            trainer.fit(module, data, ckpt_path=last, weights_only=False)
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):  # PyTorch's batch normalisation
            raise
        raise InputError(
            "the network normalises over a batch, which must have two images or more; raise batch_size"
        ) from error
    except SystemExit as error:  # how Lightning ends on a signal
        raise KeyboardInterrupt from error
    if trainer.interrupted:
        raise KeyboardInterrupt


def _check_network(config: TrainConfig, spec: PreprocessSpec) -> None:
    """Refuse a network that cannot be built, before the data are read.

    Raises:
        InputError: A place of a transformer does not exist, or the input is too small.
    """
    from_spec = {"image_size": spec.height, "channels": spec.channels}
    named = Architecture(config.model)
    usable = {key: value for key, value in from_spec.items() if named.accepts(key)}
    try:
        Architecture(config.model, {**usable, **config.options}).build_without_memory()
    except ValueError as error:
        raise InputError(f"network '{config.model}' cannot be built: {error}") from error


def architecture_for(config: TrainConfig, spec: PreprocessSpec, data: ImageData) -> Architecture:
    """Return the network with what the data decide filled in."""
    sample = data.train.select(torch.randperm(len(data.train), generator=Generator().manual_seed(config.seed))[:2000])
    generator = Generator().manual_seed(config.seed)
    seen, _ = data.distorted_and_augmented(to_float(sample.images), sample.labels, generator)
    from_data = {
        "image_size": spec.height,
        "channels": spec.channels,
        "classes": len(data.train.classes),
        "mean": tuple(round(float(value), 4) for value in seen.mean(dim=(0, 2, 3))),
        "std": tuple(max(round(float(value), 4), 0.05) for value in seen.std(dim=(0, 2, 3))),
    }
    if data.train.end is not None:
        from_data["positions"] = data.train.labels.shape[1]
    asked = config.options.get("classes", from_data["classes"])
    if asked != from_data["classes"]:
        raise InputError(f"option 'classes' is {asked}, but the data have {from_data['classes']}; leave it out")
    named = Architecture(config.model)
    defaults = named.complete()
    _check_texts(config, data.train.end is not None)
    usable = {
        key: value
        for key, value in from_data.items()
        if key in defaults and key not in config.options and (key not in ("mean", "std") or defaults[key] is not None)
    }
    return Architecture(config.model, {**usable, **config.options})


def _check_texts(config: TrainConfig, has_texts: bool) -> None:
    """Refuse a network or an option that does not fit to texts, or to single labels.

    Raises:
        InputError: It does not.
    """
    spells = "positions" in Architecture(config.model).complete()
    if has_texts != spells:
        what, remedy = ("one label an image", "another --model") if spells else ("texts", "--model speller")
        raise InputError(f"{config.data}: has {what}, which network '{config.model}' is not for; take {remedy}")
    for name in ("mixup", "balance", "distort"):
        if spells and getattr(config, name):
            raise InputError(f"{name} is for single labels, and {config.data} has texts; leave it out")


def new_trainer(
    config: TrainConfig,
    folder: Path,
    callbacks: list[lightning.Callback],
    **settings: Any,  # noqa: ANN401  (Lightning's own)
) -> lightning.Trainer:
    """Return Lightning's trainer for the settings of a run, without its own files, logs and bars."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    if is_launched():
        here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        settings |= {
            "accelerator": "gpu" if torch.cuda.is_available() else "cpu",
            "devices": here,
            "num_nodes": world()[1] // here,
            "strategy": "ddp",
            "plugins": [TorchElasticEnvironment()],
        }
    return lightning.Trainer(
        default_root_dir=folder,
        max_epochs=config.epochs,
        precision=config.precision,  # type: ignore[arg-type]
        gradient_clip_val=config.clip or None,
        reload_dataloaders_every_n_epochs=1,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=callbacks,
        **settings,
    )
