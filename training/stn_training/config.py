"""Settings of a training run: one frozen dataclass, from flags, a recipe or a run's folder."""

import dataclasses
import json
import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, get_args, get_type_hints

from stn_models import Architecture
from stn_runtime import InputError, PreprocessSpec
from stn_runtime.images.preprocessing import Fit
from stn_runtime.model.schema import FieldError, read_as

from .data.augmentations import is_geometric, parse_augmentation
from .data.distortions import DISTORTIONS, parse_mixture
from .data.listing import FileOptions
from .optimisation.precision import PRECISIONS
from .optimisation.schedule import SCHEDULES

OPTIMIZERS = ("adamw", "sgd")
BALANCES = ("", "weights", "sampling")
GREY_BENCHMARKS = ("mnist", "sklearn-digits", "digits")
BENCHMARKS = (
    *GREY_BENCHMARKS,
    "mnist-addition",
    "cifar10",
    "gtsrb",
    "svhn",
    "svhn-digits",
    "house-plates",
    "tiny-imagenet",
    "tiny-imagenet-merged",
)
"""``digits`` are MNIST, print and what is no digit; ``mnist-addition`` shows two digits, whose sum is the class;
``gtsrb`` are German traffic signs; ``svhn`` are whole house numbers, ``svhn-digits`` their cropped digits, and
``house-plates`` house numbers that are drawn; ``tiny-imagenet`` has its official split, ``tiny-imagenet-merged`` one of
70 : 30."""

NUMBERS = ("svhn", "house-plates")
"""Benchmarks whose pictures have numbers of several digits."""
ANY_SIZE = ("gtsrb", "svhn", "house-plates", "tiny-imagenet", "tiny-imagenet-merged")
"""Those whose pictures have no size of their own."""


@dataclass(frozen=True)
class TrainConfig:
    """One training run.

    Attributes:
        data: A name in BENCHMARKS or a folder of images.
        model: A name in the registry, or of a classification network of torchvision or timm (``backbone_names``).
        options: Options of that network; size, channels, classes, mean and std are filled in from the data when absent,
            but for the ImageNet normalisation of torchvision's and timm's networks.
        weights: What training starts from: a checkpoint of this network, a file of weights of a network of torchvision
            or timm (.pth, .safetensors), or ``imagenet`` for those that its package offers. Other classes get a fresh
            last layer.
        freeze: Epochs in which only the last layer and the localisation nets learn; after them, the rest learns at a
            tenth of ``lr``. None for a fifth of the epochs where published weights meet few images, else 0.
        data_dir: Folder of torchvision's files.
        typefaces: Folder of typefaces that ``digits`` and ``house-plates`` print with.
        backgrounds: Folder of photographs: without digits, for scenes, which are of drawn surfaces alone where it is
            empty; without signs, for ``gtsrb``, which then has the class ``nothing``.
        reject: Class that means none of the others; by default ``nothing`` where the data have it.
        all_files: Whether to take also what other programs left in folders of images, such as ``._IMG.jpg``.
        group: Regular expression for what in the paths of a folder's files names a group, such as frames of one video;
            a split that is made here does not tear a group apart.
        class_names: Text file with the names of a folder's classes, one a line, in the order of its folders sorted as
            text, 1, 10, 2.
        fit: How a picture that is not square becomes the square input: stretch, letterbox or crop.
        distort: A distortion or a mixture, see ``parse_mixture``; empty for none.
        augment: Names in AUGMENTATIONS, ``crop`` or ``crop:4``.
        mixup: Alpha of MixUp (Zhang et al. 2018); 0 for none.
        balance: What evens out unequal classes: ``weights`` in the loss, ``sampling``; empty for nothing.
        epochs: Passes over the training split; 0 for 20, and up to 100 where images are few.
        batch_size: Images a step; 0 for 128, and down to 8 where images are few.
        optimizer: adamw or sgd.
        momentum: Nesterov momentum of sgd; 0 for plain steps.
        schedule: onecycle, step (a tenth at a half and at three quarters) or constant.
        lr: Highest learning rate.
        weight_decay: Weight decay of the optimiser.
        stn_lr_scale: Learning rate of the localisation nets as a share of ``lr``.
        theta_weight: Weight in the loss of the first transformer's distance from where a distortion put the digit.
        ema: Decay of an exponential moving average of the weights, which is then what is kept; 0 for none.
        clip: Largest norm of the gradient; 0 for none.
        label_smoothing: Share of the target given to the other classes.
        precision: Of the arithmetic; auto takes bfloat16 where a short measurement finds it faster.
        patience: Epochs without a better validation accuracy before stopping; 0 never stops.
        seed: Decides weights, order, distortions, augmentations and dropout.
        picture_every: Epochs between before/after pictures; 0 for none.
    """

    data: str
    model: str = "st-vgg"
    options: Mapping[str, Any] = field(default_factory=dict)
    weights: str = ""
    freeze: int | None = None
    data_dir: str = "data"
    typefaces: str = "/usr/share/fonts"
    backgrounds: str = ""
    reject: str = ""
    all_files: bool = False
    group: str = ""
    class_names: str = ""
    fit: str = "stretch"
    distort: str = ""
    augment: tuple[str, ...] = ()
    mixup: float = 0.0
    balance: str = ""
    epochs: int = 0
    batch_size: int = 0
    optimizer: str = "adamw"
    momentum: float = 0.9
    schedule: str = "onecycle"
    lr: float = 2e-3
    weight_decay: float = 0.01
    stn_lr_scale: float = 0.1
    theta_weight: float = 0.0
    ema: float = 0.0
    clip: float = 1.0
    label_smoothing: float = 0.0
    precision: str = "auto"
    patience: int = 0
    seed: int = 0
    picture_every: int = 1

    def __post_init__(self) -> None:
        """Refuse values that no run can have.

        Raises:
            InputError: A value is out of its range.
        """
        choices = (
            ("optimizer", OPTIMIZERS),
            ("schedule", SCHEDULES),
            ("precision", PRECISIONS),
            ("balance", BALANCES),
            ("fit", get_args(Fit)),
        )
        for name, known in choices:
            if getattr(self, name) not in known:
                raise InputError(f"{name} must be one of {', '.join(known)}; got '{getattr(self, name)}'")
        for name in (
            "epochs",
            "batch_size",
            "freeze",
            "weight_decay",
            "stn_lr_scale",
            "theta_weight",
            "mixup",
            "clip",
            "patience",
            "picture_every",
            "seed",
        ):
            if not 0 <= (getattr(self, name) or 0) < 2**62:
                raise InputError(f"{name} must not be negative, infinite or huge, got {getattr(self, name)}")
        if not 0 < self.lr < math.inf:
            raise InputError(f"lr must be above 0 and finite, got {self.lr}")
        for name in ("momentum", "ema", "label_smoothing"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 0 and below 1, got {getattr(self, name)}")
        try:
            for text in self.augment:
                parse_augmentation(text)
            if self.theta_weight and is_geometric(self.augment):
                raise ValueError(
                    "theta_weight needs to know where each digit lies; leave out augmentations that move it"
                )
            self.mixture()
            Architecture(self.model, self.options).complete()
        except ValueError as error:
            raise InputError(str(error)) from error

    def mixture(self) -> tuple[tuple[str, float], ...]:
        """Return the distortions with their shares; empty for none."""
        return parse_mixture(self.distort) if self.distort else ()

    def files(self) -> FileOptions:
        """Return which files of a folder or table are taken."""
        return FileOptions(self.all_files, self.group, self.class_names)

    def preprocess(self) -> PreprocessSpec:
        """Return size and colour of the network's input: from the options, else from the distortion and the data."""
        architecture = Architecture(self.model, self.options)
        options = architecture.complete()
        canvas = max((DISTORTIONS[name].canvas for name, _ in self.mixture() if name != "none"), default=0)
        if not architecture.accepts("image_size"):
            size = 32
        elif "image_size" in self.options or not canvas:
            size = options["image_size"]
        else:
            size = canvas
        width = options.get("image_width") or size
        channels = 3
        if architecture.accepts("channels"):
            channels = self.options.get("channels", 1 if self.data in GREY_BENCHMARKS else 3)
        if channels not in (1, 3):
            raise InputError(f"option 'channels' must be 1 for grey or 3 for colour pictures, got {channels}")
        if canvas > size:
            remedy = f"give it the option image_size {canvas}" if architecture.accepts("image_size") else "use another"
            raise InputError(
                f"distortion '{self.distort}' makes images of {canvas} pixels, network '{self.model}' takes {size}; "
                f"{remedy}"
            )
        if canvas and width != size:
            raise InputError(
                f"distortion '{self.distort}' makes square images, network '{self.model}' takes {width} x {size}"
            )
        check_channels(self.mixture(), channels)
        return PreprocessSpec(size, width, channels, self.fit)  # type: ignore[arg-type]

    def to_json(self) -> str:
        """Return the config as JSON, the form that ``read_config`` reads."""
        return json.dumps(dataclasses.asdict(self), indent=2)

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any], source: str) -> "TrainConfig":
        """Return a config from parsed JSON or YAML.

        Raises:
            InputError: A key is unknown or a value unfit; the message names ``source``.
        """
        if "data" not in values:
            raise InputError(f"{source}: names no data; give {', '.join(BENCHMARKS)} or a folder of images")
        kinds = get_type_hints(cls)
        of_network = sorted({"image_size", "transformer"} & values.keys())
        if of_network:
            raise InputError(
                f"{source}: '{of_network[0]}' is an option of the network; write 'options: {{{of_network[0]}: ...}}'"
            )
        try:
            return read_as(
                cls, {key: _from_yaml(kinds.get(key), value) for key, value in values.items()}, refuse_unknown=True
            )
        except FieldError as error:
            raise InputError(f"{source}: option '{error.field}' {error.fault}") from error
        except InputError as error:
            raise InputError(f"{source}: {error}") from error


def check_channels(mixture: tuple[tuple[str, float], ...], channels: int) -> None:
    """Refuse a distortion that is for images of another number of channels than the network takes.

    Raises:
        InputError: The distortion needs another number of channels.
    """
    for name, _ in mixture:
        needed = DISTORTIONS[name].channels if name != "none" else None
        if needed not in (None, channels):
            kind = "grey" if needed == 1 else "colour"
            raise InputError(f"distortion '{name}' is for {kind} images, but the network takes {channels} channels")


def _from_yaml(kind: object, value: object) -> object:
    """Return a value as its option's kind where YAML reads another: a text for 1e-3, a number for the text 32."""
    if kind is float and isinstance(value, str):
        with suppress(ValueError):
            return float(value)
    if kind == tuple[str, ...] and isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    if kind is str and isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value
