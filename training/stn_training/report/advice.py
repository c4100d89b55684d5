"""What to do next: sentences that follow from what was measured."""

import math
from collections.abc import Iterator

import numpy as np

from stn_runtime.errors import printable

from ..config import BENCHMARKS
from .measurement import Findings

_FEW_IN_A_CLASS, _FEW_MEASURED, _UNEVEN = 50, 300, 5.0
_LEARNED, _GAP, _LOW = 0.9, 0.05, 0.9
_SHORT = 20  # epochs
_TURN, _FALL = 30, 0.2
_EARNED = 0.01


def advice(findings: Findings) -> list[str]:
    """Return sentences, the most useful first; at least one."""
    own = [*_on_pictures(findings), *_on_classes(findings)] if findings.run.config.data not in BENCHMARKS else []
    sentences = [*own, *_on_training(findings), *_on_transformer(findings), *_on_device(findings)]
    return sentences or ["Nothing stands out. Try it with a camera: stn run 0 --model FILE.onnx"]


def _only_guesses(findings: Findings) -> bool:
    """Return whether the network may be no better than one that always says the most frequent class."""
    rows = findings.report.confusion.sum(axis=1)
    return bool(findings.interval[0] <= rows.max() / rows.sum())


def counted(count: int, one: str, several: str = "") -> str:
    """Return a number with its noun or verb in the right form: ``1 epoch``, ``2 epochs``."""
    return f"{count:,} {one if count == 1 else several or one + 's'}"


def _on_pictures(findings: Findings) -> Iterator[str]:
    """Yield advice on a data set of the user's own: which pictures to add or to take out."""
    measured, counts = len(findings.report.predicted), findings.counts
    if findings.twins:
        torn = sum(twin.label != twin.training_label for twin in findings.twins)
        in_two = f", {torn} of them under another class" if torn else ""
        yield (
            f"Of the {measured} measured pictures {counted(len(findings.twins), 'looks', 'look')} like one of "
            f"training{in_two}, so the accuracy says too much. Remove what is there twice, or keep what belongs "
            "together in one part with --group."
        )
    least, most = (printable(choose(counts, key=counts.__getitem__), 40) for choose in (min, max))
    fewest, greatest = min(counts.values()), max(counts.values())
    if greatest < _FEW_IN_A_CLASS:
        yield (
            f"No class has more than {greatest} training pictures. Take more, in the light and from the angles of the "
            "place where the camera will be; more pictures help more than any option."
        )
    elif fewest < _FEW_IN_A_CLASS:
        yield f"Class '{least}' has {counted(fewest, 'training picture')}, '{most}' {greatest}. Take more of the first."
    if greatest > _UNEVEN * fewest > 0:
        yield "The classes are of very unequal size. Even them out with --balance sampling."
    if measured < _FEW_MEASURED:
        low, high = findings.interval
        yield (
            f"{counted(measured, 'picture was', 'pictures were')} measured, so the accuracy could as well be {low:.0%} "
            f"or {high:.0%}. To be surer, put more of them into a folder 'test' beside one called 'train'."
        )


def _on_classes(findings: Findings) -> Iterator[str]:
    """Yield advice on the classes of a data set of the user's own."""
    report = findings.report
    wrong = report.confusion - np.diag(np.diag(report.confusion))
    if wrong.max() > 1:
        row, column = np.unravel_index(wrong.argmax(), wrong.shape)
        true, answer = (printable(report.classes[index], 40) for index in (row, column))
        yield (
            f"Most often '{true}' is taken for '{answer}' ({wrong[row, column]} of {report.confusion[row].sum()}). "
            "Look at these pictures: are some labelled wrongly, or is what tells them apart lost at this size?"
        )
    if findings.subject.reject is None:
        yield (
            "Whatever the camera shows gets one of these labels. Add a folder 'nothing' with pictures of the place "
            "without any of the classes, and it can also say that nothing is there."
        )


def _on_training(findings: Findings) -> Iterator[str]:
    run, config = findings.run, findings.run.config
    done = len(next(iter(run.epochs.values())))
    if done < config.epochs and not config.patience:
        yield f"Training stopped after {done} of {config.epochs} epochs. Go on: stn train --resume {run.folder}"
        return
    trained, accuracy = (run.at_best(name) for name in ("train_accuracy", "val_accuracy"))
    noise = 2 * math.sqrt(max(accuracy * (1 - accuracy), 0.01) / len(findings.report.predicted))
    if trained >= _LEARNED and trained - accuracy > max(_GAP, noise):
        remedies = [] if config.augment else ["--augment crop:4,jitter"]
        remedies += [] if config.weights else ["--weights imagenet with a network of torchvision"]
        remedies += [] if config.label_smoothing else ["--label-smoothing 0.1"]
        yield (
            f"It is right on {trained:.0%} of what it learns from and on {accuracy:.0%} of what it does not: it "
            f"remembers pictures. More of them help most; else {', or '.join(remedies) or 'a smaller network'}."
        )
    elif _only_guesses(findings):
        yield (
            "It is hardly better than one that always says the most frequent class. Train longer "
            f"(--epochs {3 * done}), find a better rate with --find-lr, and see with 'stn sheet' whether the pictures "
            "show what they should."
        )
    elif accuracy < _LOW and done <= _SHORT:
        yield (
            f"Learning had not ended when training did ({accuracy:.0%} after {counted(done, 'epoch')}). Train longer "
            f"(--epochs {3 * done}), or find a better rate with --find-lr."
        )


def _on_transformer(findings: Findings) -> Iterator[str]:
    if findings.identity is None:
        yield "The network has no spatial transformer. If the thing moves about the picture, try one: stn models."
        return
    if _only_guesses(findings):
        return  # nothing that it does tells of the transformer
    if findings.report.accuracy - findings.identity.accuracy < _EARNED:
        yield (
            "Held at the identity, the transformer loses nothing worth speaking of: it does not earn its place. "
            "Pictures in which the thing fills the frame upright need none; else raise --stn-lr-scale."
        )
    upright = _accuracy_turned(findings, 0)
    turned = min(_accuracy_turned(findings, sign * _TURN) for sign in (1, -1))
    if upright - turned > _FALL:
        yield (
            f"Turned by {_TURN} degrees, accuracy falls from {upright:.0%} to {turned:.0%}. If that happens before the "
            "camera, train with --augment rotate:30."
        )


def _on_device(findings: Findings) -> Iterator[str]:
    if findings.exported is None:
        checkpoint = findings.run.checkpoint
        yield f"No exported file was measured. Make one and name it with --model: stn export {checkpoint} -o model.onnx"
        return
    if findings.subject.reject is not None and findings.exported.manifest.threshold is None:
        yield "The file has no threshold; train again, so that one is found on validation pictures."
    name = findings.exported.path.name
    yield f"Try it where it will work: stn bench {name}, stn doctor {name}, stn run 0 --model {name} --show"


def _accuracy_turned(findings: Findings, degrees: float) -> float:
    points = (point for point in findings.points if (point.axis, point.value) == ("rotation", degrees))
    return next((point.accuracy for point in points), 0.0)
