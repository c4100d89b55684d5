"""How well a model finds one digit anywhere in a whole frame, and says when there is none.

``python -m tests.benchmarks.bench_digits MODEL --data-dir DIR`` prints Markdown tables. The frames are made by numpy
and OpenCV from MNIST's test digits, from typefaces, and from photographs that scikit-image and scikit-learn carry; no
network is trained on them. Each test digit has the same frames in every run, whatever ``--count`` says. Null is no
label: a confidence below the manifest's threshold, or the label that it names as reject.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from zlib import crc32

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from tqdm import tqdm

from stn_runtime import Classifier, Frame, InputError, Prediction, Record, Source, View, classify
from stn_runtime.views.event_command import EventCommand
from stn_runtime.views.overlay import draw
from stn_training import LabelledImages, load_dataset, load_test_images
from tests.support.glyphs import LETTERS, Typeface, find_typefaces, handwritten, printed
from tests.support.moving_digits import RATE
from tests.support.photographs import Picture, Sway, find_photographs, pan
from tests.support.scenes import Mark, Scene, Sensor, Tone, carried_card, empty_paper, on_card, on_paper

SEED = 1
SIZES = {"640x480": (480, 640), "1280x720": (720, 1280), "480x640": (640, 480)}  # (height, width)
HEIGHTS = {"1": 1.0, "1/2": 1 / 2, "1/4": 1 / 4, "1/6": 1 / 6, "1/8": 1 / 8}  # of the frame's shorter side
SURE = 0.8
FIVE_MINUTES, LEAST_SECONDS = 300, 30
SMOOTH_SECONDS = 0.5
WANTED_TYPEFACES, MOST_TYPEFACES = 10, 30
_BATCH = 16

Group = str
"""What figures are also counted by: a size of frames, or a typeface."""


@dataclass(frozen=True)
class Kind:
    """Frames of one kind, each taken by itself.

    Attributes:
        part: Table in which it stands.
        name: What is seen.
        height: Of the digit, a key of HEIGHTS; empty where it varies.
        indices: Numbers of the frames.
        take: Returns the frame of a number, and its group.
    """

    part: str
    name: str
    height: str
    indices: Sequence[int]
    take: Callable[[int, Generator], tuple[Scene, Group]]

    @property
    def title(self) -> str:
        """Name and height."""
        return f"{self.name}, {self.height}" if self.height else self.name


@dataclass
class Tally:
    """Counts of frames. The right label is that of the digit whose middle is nearest to that of the outline."""

    right: int = 0
    null: int = 0
    wrong: int = 0
    sure: int = 0  # of the wrong ones

    def add(self, truth: str | None, label: str | None, confidence: float) -> None:
        """Count a frame; ``truth`` is None where there is no digit."""
        self.null += label is None
        self.right += label is not None and label == truth
        self.wrong += label is not None and label != truth
        self.sure += label is not None and label != truth and confidence > SURE

    @property
    def frames(self) -> int:
        """All that were counted."""
        return self.right + self.null + self.wrong


@dataclass
class Subject:
    """A model, and what has been counted of it.

    Attributes:
        classifier: The model.
        threshold: Confidence below which a label is null.
        reject: Label that is null as well.
        tallies: By the title of the kind, and by group; the group of all is empty.
        clips: By name: frames, those named a digit, and events that name one.
    """

    classifier: Classifier
    threshold: float
    reject: str | None
    tallies: dict[str, dict[Group, Tally]] = field(default_factory=dict)
    clips: dict[str, tuple[int, int, int]] = field(default_factory=dict)

    @classmethod
    def open(cls, model: str) -> "Subject":
        """Open a model with the threshold and reject label of its manifest; without them every frame has a label."""
        classifier = Classifier(model)
        manifest = classifier.manifest
        return cls(classifier, getattr(manifest, "threshold", None) or 0.0, getattr(manifest, "reject", None))

    def label(self, prediction: Prediction) -> str | None:
        """Return the label, None for null."""
        is_null = prediction.confidence < self.threshold or prediction.label == self.reject
        return None if is_null else prediction.label


class Clip(Source):
    """A simulated camera, as quick as it is read."""

    timed, streams = True, 1

    def __init__(self, pictures: Iterator[Picture]) -> None:
        self._pictures = pictures

    def __iter__(self) -> Iterator[Frame]:
        for number, picture in enumerate(self._pictures):
            yield Frame("camera", number, number / RATE, picture)

    def ready(self, timeout: float) -> bool:
        return True


class Events(EventCommand):
    """Counts the commands that ``--on-event`` would run with a digit as label, and runs none."""

    def __init__(self, subject: Subject) -> None:
        self._labels: dict[str, str] = {}
        self._subject = subject
        self.fired = 0

    def _run(self, record: Record, variables: dict[str, str]) -> None:
        self.fired += variables["STN_LABEL"] not in ("", self._subject.reject)


def generator(title: str, index: int) -> Generator:
    """Return the random numbers of one frame."""
    return np.random.default_rng([SEED, crc32(title.encode()), index])


@dataclass(frozen=True)
class Material:
    """What frames are made of."""

    digits: NDArray[np.uint8]  # (N, 28, 28)
    labels: tuple[str, ...]
    which: tuple[int, ...]  # numbers of the digits that are shown
    photographs: dict[str, Picture]
    typefaces: list[Typeface]
    sensor: Sensor

    def size(self, random: Generator) -> tuple[Group, tuple[int, int]]:
        """Return one of the sizes of frames, with its name."""
        return list(SIZES.items())[random.integers(len(SIZES))]

    def digit(self, scene: str, height: str, index: int, random: Generator) -> tuple[Scene, Group]:
        """Return a frame with one test digit."""
        group, size = self.size(random)
        glyph = handwritten(self.labels[index], self.digits[index])
        if scene == "card before a photograph":
            photograph = list(self.photographs.values())[random.integers(len(self.photographs))]
            return on_card(glyph, HEIGHTS[height], size, photograph, self.sensor, random), group
        tone: Tone = "dark" if scene == "dark ink on paper" else "light"
        return on_paper([(glyph, HEIGHTS[height])], size, tone, self.sensor, random), group

    def two(self, index: int, random: Generator) -> tuple[Scene, Group]:
        """Return a frame with a test digit and another of another label."""
        others = [other for other in self.which if self.labels[other] != self.labels[index]]
        both = (index, others[random.integers(len(others))])
        shares = random.choice((1 / 2, 1 / 3, 1 / 4, 1 / 6, 1 / 8), 2, replace=False)
        glyphs = [handwritten(self.labels[one], self.digits[one]) for one in both]
        group, size = self.size(random)
        tone: Tone = "dark" if random.random() < 0.7 else "light"
        return on_paper(list(zip(glyphs, shares, strict=True)), size, tone, self.sensor, random), group

    def print(self, characters: str, height: str, index: int, random: Generator) -> tuple[Scene, Group]:
        """Return a frame with one printed character; typefaces and characters take turns."""
        typeface = self.typefaces[index % len(self.typefaces)]
        character = characters[(index + index // len(self.typefaces)) % len(characters)]
        _, size = self.size(random)
        scene = on_paper([(printed(character, typeface), HEIGHTS[height])], size, "dark", self.sensor, random)
        return scene, typeface.name

    def kinds(self) -> list[Kind]:
        """Return all kinds of frames that are made here."""
        scenes = ("dark ink on paper", "light ink on a board", "card before a photograph")
        found = [
            Kind("one", scene, height, self.which, partial(self.digit, scene, height))
            for scene in scenes
            for height in HEIGHTS
        ]
        count = range(len(self.which))
        if self.typefaces:
            found += [
                Kind("letters", "printed letters", height, count, partial(self.print, LETTERS, height))
                for height in ("1/2", "1/4", "1/8")
            ]
            found += [
                Kind("printed", "printed digits", height, count, partial(self.print, "0123456789", height))
                for height in ("1/4", "1/8")
            ]
        return [*found, Kind("two", "two digits", "", self.which, self.two)]

    def clips(self, seconds: float) -> dict[str, Callable[[], Iterator[Picture]]]:
        """Return what opens each clip without a digit, by name."""

        def panned(name: str) -> Iterator[Picture]:
            return pan(self.photographs[name], SIZES["640x480"], seconds, RATE, generator(name, 0))

        def paper() -> Iterator[Picture]:
            random = generator("empty paper", 0)
            return pan(empty_paper((720, 960), random), SIZES["640x480"], seconds, RATE, random)

        makers: dict[str, Callable[[], Iterator[Picture]]] = {name: partial(panned, name) for name in self.photographs}
        first = next(iter(self.photographs))
        makers["empty paper"] = paper
        makers[f"card without writing, before {first}"] = lambda: carried_card(
            panned(first), RATE, generator("card", 0)
        )
        return {name: partial(self._taken, name, make) for name, make in makers.items()}

    def _taken(self, name: str, make: Callable[[], Iterator[Picture]]) -> Iterator[Picture]:
        """Yield the frames of a clip with the sensor's noise, its exposure wobbling."""
        random = generator(name, 1)
        wobble, sigma = Sway.draw(random, 7), random.uniform(2.0, 5.0)
        for number, picture in enumerate(make()):
            exposure = 0.93 + 0.06 * wobble.at(number / RATE) + random.normal(0, 0.006)
            yield self.sensor.expose(picture, random, sigma, exposure)


def benchmark_kinds(which: Sequence[int], data: LabelledImages, rts: LabelledImages) -> list[Kind]:
    """Return MNIST as it is and RTS, whose pictures are the network's input."""

    def plain(index: int, _: Generator) -> tuple[Scene, Group]:
        return _whole(data, index), ""

    def distorted(index: int, _: Generator) -> tuple[Scene, Group]:
        return _whole(rts, index), ""

    return [
        Kind("benchmark", "MNIST, 28 x 28", "", which, plain),
        Kind("benchmark", "RTS, of the network's input size", "", range(len(rts)), distorted),
    ]


def _whole(data: LabelledImages, index: int) -> Scene:
    """Return a picture of a data set, in which the digit is taken to be all of it."""
    image = data.images[index].numpy().squeeze()
    box = np.array((0, 0, image.shape[1], image.shape[0]), np.float32)
    return Scene(image, (Mark(data.classes[int(data.labels[index])], box, image.shape[0], 0.0),))


def outlined(prediction: Prediction, marks: Sequence[Mark]) -> str | None:
    """Return the label of the digit whose middle is nearest to that of the outline; None where there is no digit."""
    digits = [mark for mark in marks if mark.label.isdigit()]
    if len(digits) < 2 or not len(prediction.outline):
        return digits[0].label if digits else None
    middle = prediction.outline[0].mean(0)
    return min(digits, key=lambda mark: float(np.hypot(*(mark.centre - middle)))).label


def count_frames(kind: Kind, subjects: Sequence[Subject]) -> Picture:
    """Show each frame of a kind to each model; return the first frame with the first model's answer on it."""
    shown: Picture | None = None
    for start in range(0, len(kind.indices), _BATCH):
        taken = [kind.take(index, generator(kind.title, index)) for index in kind.indices[start : start + _BATCH]]
        for subject in subjects:
            groups = subject.tallies.setdefault(kind.title, {})
            predictions = subject.classifier.predict([scene.image for scene, _ in taken])
            for (scene, group), prediction in zip(taken, predictions, strict=True):
                label, truth = subject.label(prediction), outlined(prediction, scene.marks)
                for name in {"", group}:
                    groups.setdefault(name, Tally()).add(truth, label, prediction.confidence)
                if shown is None:
                    shown = draw(scene.image, prediction, label is not None)
    if shown is None:
        raise InputError(f"{kind.title}: there is no frame to show; --count must be at least 1")
    return shown


def count_clip(name: str, open_clip: Callable[[], Iterator[Picture]], subjects: Sequence[Subject]) -> Picture:
    """Show a clip to each model as ``stn run --smooth 0.5`` would; return a frame with the first model's answer."""
    shown: list[Picture] = []

    class Snapshot(View):
        def show(self, frame: Frame, record: Record) -> bool:
            if not shown and frame.image is not None and record.prediction is not None and record.frame == 3 * RATE:
                shown.append(draw(frame.image, record.prediction, record.label not in (None, subjects[0].reject)))
            return True

    for subject in subjects:
        events = Events(subject)
        records = classify(
            Clip(open_clip()),
            subject.classifier,
            threshold=subject.threshold,
            smooth_seconds=SMOOTH_SECONDS,
            views=[events, Snapshot()],
        )
        named = [record.label not in (None, subject.reject) for record in records]
        subject.clips[name] = (len(named), sum(named), events.fired)
    return shown[0]


def tables(subject: Subject, kinds: Sequence[Kind]) -> str:
    """Return the tables of a model, Markdown."""
    parts: dict[str, list[str]] = {part: [] for part in ("one", "benchmark", "printed", "two", "letters")}
    for kind in kinds:
        groups = subject.tallies[kind.title]
        every = groups[""]
        row = [kind.name, *([kind.height] if kind.part in ("one", "printed") else [])]
        if kind.part == "two":
            row += [percent(every.right + every.wrong, every.frames), percent(every.right, every.right + every.wrong)]
        elif kind.part == "letters":
            row = [kind.title, str(every.frames), percent(every.right + every.wrong, every.frames), "-"]
        else:
            row += [percent(getattr(every, name), every.frames) for name in ("right", "null", "wrong")]
            row.append(percent(every.sure, every.wrong))
        if kind.part == "one":
            row += [percent(groups[size].right, groups[size].frames) if size in groups else "-" for size in SIZES]
        elif kind.part == "printed":
            row.append(worst(groups))
        parts[kind.part].append(f"| {' | '.join(row)} |")
    for name, (frames, named, fired) in subject.clips.items():
        events = fired * FIVE_MINUTES * RATE / frames
        parts["letters"].append(f"| {name} | {frames} | {percent(named, frames)} | {events:.0f} |")
    sure = f"of the wrong over {SURE:.0%} sure"
    heads = {
        "one": (
            "one handwritten digit",
            "height",
            "right",
            "null",
            "wrong",
            sure,
            *(f"right at {size}" for size in SIZES),
        ),
        "benchmark": ("benchmark", "right", "null", "wrong", sure),
        "printed": ("printed digits", "height", "right", "null", "wrong", sure, "worst typefaces, right"),
        "two": ("two of different label", "named", "of the named: the outlined digit's label"),
        "letters": ("no digit", "frames", "named a digit", "events in 5 minutes"),
    }
    manifest = subject.classifier.manifest
    text = f"**{subject.classifier.path.name}**, model {manifest.name}: "
    text += f"threshold {subject.threshold:g}, label for nothing {subject.reject or 'none'}\n\n"
    for part, rows in parts.items():
        if rows:
            head = heads[part]
            text += "\n".join([f"| {' | '.join(head)} |", "| --- " * len(head) + "|", *rows]) + "\n\n"
    return text


def percent(count: int, of: int) -> str:
    """Return a share; a dash of nothing."""
    return f"{100 * count / of:.1f} %" if of else "-"


def worst(groups: dict[Group, Tally]) -> str:
    """Return the three groups with the fewest right frames."""
    ranked = sorted((tally.right / tally.frames, name) for name, tally in groups.items() if name)
    return ", ".join(f"{name} {share:.0%}" for share, name in ranked[:3])


def figures(subject: Subject) -> dict[str, Any]:
    """Return all counts of a model as plain values."""
    stills = {
        title: {group or "all": asdict(tally) for group, tally in groups.items()}
        for title, groups in subject.tallies.items()
    }
    clips = {
        name: {"frames": all_, "named": named, "events": fired} for name, (all_, named, fired) in subject.clips.items()
    }
    threshold, reject = subject.threshold, subject.reject
    return {"threshold": threshold, "reject": reject, "seed": SEED, "frames": stills, "clips": clips}


def montage(pictures: dict[str, Picture]) -> Picture:
    """Return a contact sheet of pictures with their titles."""
    width, height, bar, columns = 400, 300, 24, 5
    tiles = []
    for title, picture in pictures.items():
        tile = np.zeros((height + bar, width, 3), np.uint8)
        factor = min(width / picture.shape[1], height / picture.shape[0])
        method = cv2.INTER_AREA if factor < 1 else cv2.INTER_NEAREST
        small = cv2.resize(picture, None, fx=factor, fy=factor, interpolation=method)
        tile[bar : bar + small.shape[0], : small.shape[1]] = small[:height, :width]
        cv2.putText(tile, title, (4, 17), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255), 1, cv2.LINE_AA)
        tiles.append(tile)
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % columns)
    return np.vstack([np.hstack(tiles[start : start + columns]) for start in range(0, len(tiles), columns)])


def load_material(data: LabelledImages, which: tuple[int, ...], fonts: Path | None) -> Material:
    """Return what frames are made of; standard error says what this machine lacks.

    Raises:
        InputError: There is no photograph at all, or the folder of typefaces does not exist.
    """
    photographs, typefaces = find_photographs(), find_typefaces(fonts)
    if len(typefaces) > MOST_TYPEFACES:
        typefaces = [typefaces[place * len(typefaces) // MOST_TYPEFACES] for place in range(MOST_TYPEFACES)]
    if not photographs:
        raise InputError("no photographs: pip install scikit-learn scikit-image")
    if len(photographs) < 5:
        sys.stderr.write(
            "few photographs: scikit-image, which carries most of them, is missing (pip install scikit-image)\n"
        )
    if len(typefaces) < WANTED_TYPEFACES:
        sys.stderr.write(
            f"only {len(typefaces)} typefaces, at least {WANTED_TYPEFACES} are wanted: give --fonts FOLDER\n"
        )
    sys.stderr.write(f"photographs: {', '.join(photographs)}\n")
    sys.stderr.write(f"typefaces: {', '.join(typeface.name for typeface in typefaces)}\n")
    labels = tuple(data.classes[label] for label in data.labels.tolist())
    return Material(data.images.numpy()[..., 0], labels, which, photographs, typefaces, Sensor(SEED))


def measure(args: argparse.Namespace) -> None:
    """Print the tables."""
    subjects = [Subject.open(model) for model in (args.model, args.split_model) if model is not None]
    data = load_dataset("mnist", "test", None, args.data_dir)
    count = len(data) if args.count is None else max(1, min(args.count, len(data)))
    which = tuple(np.linspace(0, len(data) - 1, count).round().astype(int).tolist())
    spec = subjects[0].classifier.manifest.preprocess
    rts = load_test_images("mnist", "test", "rts", spec, args.data_dir, 0, count)
    material = load_material(data, which, args.fonts)
    kinds = [*material.kinds(), *benchmark_kinds(which, data, rts)]
    seconds = min(FIVE_MINUTES, max(LEAST_SECONDS, FIVE_MINUTES * count / len(data)))
    clips = material.clips(seconds)
    pictures = {}
    with tqdm(total=len(kinds) + len(clips), leave=False, disable=None) as progress:
        for kind in kinds:
            pictures[kind.title] = count_frames(kind, subjects)
            progress.update()
        for name, open_clip in clips.items():
            pictures[name] = count_clip(name, open_clip, subjects)
            progress.update()
    for subject in subjects:
        sys.stdout.write(tables(subject, kinds))
    if args.json is not None:
        found = {subject.classifier.path.name: figures(subject) for subject in subjects}
        args.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if args.montage is not None and not cv2.imwrite(str(args.montage), montage(pictures)[..., ::-1]):
        raise InputError(f"{args.montage}: cannot be written")


def main() -> int:
    """Measure; 0 = the tables are printed, 2 = a model, data or folder cannot be used."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="a released model's name, or an .onnx file")
    parser.add_argument("--data-dir", type=Path, required=True, help="where torchvision keeps MNIST")
    parser.add_argument("--count", type=int, help="test digits, evenly spaced (default: all)")
    parser.add_argument("--split-model", metavar="FILE", help="the same model in the split form, shown the same frames")
    parser.add_argument("--fonts", type=Path, metavar="FOLDER", help="of typefaces (default: those fontconfig knows)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="for all counts, also by frame size and typeface")
    parser.add_argument("--montage", type=Path, metavar="FILE", help="for a contact sheet, one frame of each kind")
    try:
        measure(parser.parse_args())
    except (InputError, OSError) as error:
        sys.stderr.write(f"bench_digits: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
