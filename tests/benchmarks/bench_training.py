"""A training epoch: this package's loop against the bare PyTorch loop, and against the loop that people write.

``python -m tests.benchmarks.bench_training --data-dir DIR`` prints a Markdown table: images a second, and medians of
the ratios of runs in turns. *bare* draws the same distortions with the same functions, in the same precision, and does
nothing else: no validation, no figures, no checkpoint, no hooks. *DataLoader + PIL* distorts one picture after the
other with torchvision's transforms, in float32, in as many worker processes as there are threads, none for one.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytorch_lightning as lightning
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from tqdm import tqdm

from stn_models import Architecture
from stn_training import TrainConfig
from stn_training.data.data_module import ImageData, to_float
from stn_training.data.distortions import distort
from stn_training.data.labelled_images import LabelledImages
from stn_training.fit import architecture_for, fastest_precision, load_data, new_module, new_trainer
from stn_training.optimisation.devices import training_device
from stn_training.recipes import released_recipes

RECIPES = ("fcn-rts", "st-fcn-affine-rts", "st-cnn-affine-rts")
CANVAS = 42


@dataclass(frozen=True)
class Case:
    """What one row compares.

    Attributes:
        config: Settings of the run, with its precision.
        data: Training images.
        architecture: The network.
    """

    config: TrainConfig
    data: ImageData
    architecture: Architecture

    @property
    def steps(self) -> int:
        """Batches of an epoch."""
        return -(-len(self.data.train) // self.config.batch_size)


class Pictures(Dataset[tuple[Tensor, int]]):
    """Digits as PIL pictures, distorted one by one as RTS: what torchvision's tutorials do."""

    def __init__(self, data: LabelledImages) -> None:
        self.pictures = [Image.fromarray(image[..., 0]) for image in data.images.numpy()]
        self.labels = data.labels.tolist()
        margin = (CANVAS - 28) // 2
        turned = transforms.RandomAffine(
            45, translate=(margin / CANVAS,) * 2, scale=(0.7, 1.2), interpolation=transforms.InterpolationMode.BILINEAR
        )
        self.transform = transforms.Compose([transforms.Pad(margin), turned, transforms.ToTensor()])

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(self.pictures[index]), self.labels[index]


class Stopwatch(lightning.Callback):
    """Takes the time from the first batch to the end of the last step."""

    def on_train_batch_start(self, trainer: lightning.Trainer, module: object, batch: object, number: int) -> None:
        if number == 0:
            self.started = time.perf_counter()

    def on_train_batch_end(self, *_: object) -> None:
        self.seconds = time.perf_counter() - self.started


def ours(case: Case) -> float:
    """Return the seconds of an epoch as ``stn train`` runs it."""
    stopwatch = Stopwatch()
    with tempfile.TemporaryDirectory() as folder:
        trainer = new_trainer(case.config, Path(folder), [stopwatch])
        trainer.fit(new_module(case.config, case.architecture, case.data, 1.0), case.data)
    return stopwatch.seconds


def bare(case: Case) -> float:
    """Return the seconds of an epoch of the shortest loop that trains the same."""
    config, data = case.config, case.data.train
    generator = torch.Generator().manual_seed(config.seed)
    never = torch.zeros(config.batch_size, dtype=torch.bool)
    step = _step(case, case.architecture.build().to(memory_format=torch.channels_last))
    order = torch.randperm(len(data), generator=generator)
    started = time.perf_counter()
    for chosen in torch.split(order, config.batch_size):
        images = to_float(data.images[chosen])
        distorted = distort(images, config.mixture(), CANVAS, generator, never[: len(chosen)])
        step(distorted.images, data.labels[chosen], config.precision)
    return time.perf_counter() - started


def loaded(case: Case) -> float:
    """Return the seconds of an epoch of a DataLoader with PIL pictures."""
    workers = torch.get_num_threads() if torch.get_num_threads() > 1 else 0
    loader = DataLoader(Pictures(case.data.train), case.config.batch_size, shuffle=True, num_workers=workers)
    step = _step(case, case.architecture.build())
    started = time.perf_counter()
    for images, labels in loader:
        step(images, labels, "32")
    return time.perf_counter() - started


def _step(case: Case, network: nn.Module) -> Callable[[Tensor, Tensor, str], None]:
    config, parameters = case.config, list(network.train().parameters())
    optimizer = torch.optim.AdamW(parameters, config.lr, weight_decay=config.weight_decay, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.lr, total_steps=case.steps + 1)

    def step(images: Tensor, labels: Tensor, precision: str) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16-mixed"):
            loss = functional.cross_entropy(network(images), labels)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(parameters, config.clip)
        optimizer.step()
        schedule.step()

    return step


def prepared(recipe: str, data_dir: str, images: int) -> Case:
    """Return the case of a recipe on its first training images, in the precision that a run would choose."""
    options = {**released_recipes()[recipe], "data_dir": data_dir, "epochs": 1, "picture_every": 0}
    config = TrainConfig.from_mapping(options, recipe)
    whole = load_data(config)
    spec = config.preprocess()
    train, val = whole.train.select(range(images)), whole.val.select(range(10))
    data = ImageData(train, val, config, spec)
    architecture = architecture_for(config, spec, data)
    precision = fastest_precision(config, architecture, data, training_device())
    return Case(replace(config, precision=precision), data, architecture)


WAYS: dict[str, Callable[[Case], float]] = {"ours": ours, "bare": bare, "loaded": loaded}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", required=True, help="where torchvision keeps MNIST")
    parser.add_argument("--images", type=int, default=10_000, help="of an epoch (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each loop, in turns (default: %(default)s)")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="(default: 1 2)")
    args = parser.parse_args()
    head = ("recipe", "threads", "precision", "images a second", "of the bare loop", "of DataLoader + PIL")
    sys.stdout.write(f"| {' | '.join(head)} |\n| --- | ---: | --- | ---: | ---: | ---: |\n")
    for recipe in RECIPES:
        for threads in args.threads:
            torch.set_num_threads(threads)
            case = prepared(recipe, args.data_dir, args.images)
            times: dict[str, list[float]] = {name: [] for name in WAYS}
            for number in tqdm(range(args.rounds + 1), f"{recipe}, {threads}", leave=False, disable=None):
                for name, way in WAYS.items():
                    seconds = way(case)
                    if number:  # the first round warms up
                        times[name].append(seconds)
            ratios = {
                name: statistics.median(other / own for other, own in zip(times[name], times["ours"], strict=True))
                for name in ("bare", "loaded")
            }
            rate = args.images / statistics.median(times["ours"])
            cells = (f"{rate:,.0f}", f"{ratios['bare']:.2f}x", f"{ratios['loaded']:.1f}x")
            sys.stdout.write(f"| `{recipe}` | {threads} | {case.config.precision} | {' | '.join(cells)} |\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
