"""What to do next: sentences that follow from what was measured."""

from collections.abc import Iterator

import numpy as np

from stn_runtime.errors import printable

from .measurement import Findings

_FEW_IN_A_CLASS = 50
_FEW_MEASURED = 300
_GAP = 0.05
_UNEVEN = 5.0
_FALL = 0.2
_LATE = 0.9
_TURNED, _TURN = ("rotation", 30)
_EARNED = 0.01


def advice(findings: Findings) -> list[str]:
    """Return sentences, the most useful first; at least one."""
    sentences = [*_on_data(findings), *_on_training(findings), *_on_transformer(findings), *_on_device(findings)]
    return sentences or ["Nothing stands out. Try it with a camera: stn run 0 --model FILE.onnx"]


def _on_data(findings: Findings) -> Iterator[str]:
    report, counts = findings.report, findings.counts
    if findings.twins:
        torn = sum(twin.label != twin.training_label for twin in findings.twins)
        in_two = f", {torn} of them under another class" if torn else ""
        yield (
            f"Of the {len(report.predicted)} measured pictures {counted(len(findings.twins), 'looks', 'look')} like "
            f"one of "
            f"training{in_two}, so the accuracy says too much. Remove what is there twice, or keep what belongs "
            f"together "
            "in one part with --group."
        )
    least, most = min(counts, key=counts.__getitem__), max(counts, key=counts.__getitem__)
    if counts[least] < _FEW_IN_A_CLASS:
        yield (
            f"Class '{printable(least, 40)}' has {counts[least]} training pictures. Take more, in the light and from "
            f"the "
            "angles of the place where the camera will be; more pictures help more than any option."
        )
    if counts[least] and counts[most] > _UNEVEN * counts[least]:
        yield (
            f"'{printable(most, 40)}' has {counts[most]} training pictures and '{printable(least, 40)}' "
            f"{counts[least]}. "
            "Even them out with --balance sampling."
        )
    if len(report.predicted) < _FEW_MEASURED:
        low, high = findings.interval
        yield (
            f"{len(report.predicted)} pictures were measured, so the accuracy could as well be {low:.0%} or "
            f"{high:.0%}. "
            "Keep more of them for testing."
        )
    wrong = report.confusion - np.diag(np.diag(report.confusion))
    if wrong.max() > 1:
        row, column = np.unravel_index(wrong.argmax(), wrong.shape)
        yield (
            f"Most often '{printable(report.classes[row], 40)}' is taken for '{printable(report.classes[column], 40)}' "
            f"({wrong[row, column]} of {report.confusion[row].sum()}). Look at these pictures: are some labelled "
            f"wrongly, "
            "or is what tells them apart lost at this size?"
        )
    if findings.subject.reject is None:
        yield (
            "Whatever the camera shows gets one of these labels. Add a folder 'nothing' with pictures of the place "
            "without any of the classes, and it can also say that nothing is there."
        )


def _on_training(findings: Findings) -> Iterator[str]:
    epochs, config = findings.run.epochs, findings.run.config
    accuracy = epochs.get("val_accuracy", np.array([]))
    trained = epochs.get("train_accuracy", np.array([]))
    if not np.isfinite(accuracy).any():
        return
    best = int(np.nanargmax(accuracy))
    if (
        best >= _LATE * (len(accuracy) - 1)
        and len(accuracy) > 1
        and accuracy[best] < 1
        and config.schedule == "constant"
    ):
        yield f"It was still getting better at its end. Train longer: --epochs {2 * len(accuracy)}."
    if len(trained) > best and trained[best] - accuracy[best] > _GAP:
        remedies = [] if config.augment else ["--augment crop:4,jitter"]
        remedies += ["--weights imagenet with a network of torchvision"] if not config.weights else []
        remedies += ["--label-smoothing 0.1"] if not config.label_smoothing else []
        yield (
            f"It is right on {trained[best]:.0%} of what it learns from and {accuracy[best]:.0%} of what it does "
            f"not: it "
            f"remembers pictures. More of them help most; else {', or '.join(remedies) or 'a smaller network'}."
        )
    elif accuracy[best] < 0.9 and len(accuracy) <= 20:
        yield (
            f"Learning had not ended when training did ({accuracy[best]:.0%} after "
            f"{counted(len(accuracy), 'epoch')}). Train "
            f"longer "
            f"(--epochs {3 * len(accuracy)}), or find a better rate with --find-lr."
        )


def _on_transformer(findings: Findings) -> Iterator[str]:
    if findings.identity is None:
        yield "The network has no spatial transformer. If the thing moves about the picture, try one: stn models."
    elif findings.report.accuracy - findings.identity.accuracy < _EARNED:
        yield (
            "Held at the identity, the transformer loses nothing worth speaking of: it does not earn its place. "
            "Pictures in "
            "which the thing fills the frame upright need none; else raise --stn-lr-scale."
        )
    upright = _accuracy_at(findings, _TURNED, 0)
    turned = min((_accuracy_at(findings, _TURNED, sign * _TURN) for sign in (1, -1)), default=upright)
    if upright - turned > _FALL:
        yield (
            f"Turned by {_TURN} degrees, accuracy falls from {upright:.0%} to {turned:.0%}. If that happens before the "
            "camera, train with --augment rotate:30."
        )


def _on_device(findings: Findings) -> Iterator[str]:
    if findings.exported is None:
        checkpoint = findings.run.checkpoint
        yield f"No exported file was measured. Make one, name it with --model: stn export {checkpoint} -o model.onnx"
        return
    if findings.subject.reject is not None and findings.exported.manifest.threshold is None:
        yield "The file has no threshold; train again, so that one is found on validation pictures."
    yield (
        f"Try it where it will work: stn bench {findings.exported.path.name}, stn doctor "
        f"{findings.exported.path.name}, stn run 0 --model {findings.exported.path.name} --show"
    )


def counted(count: int, one: str, several: str = "") -> str:
    """Return a number with its noun or verb in the right form: ``1 epoch``, ``2 epochs``."""
    return f"{count:,} {one if count == 1 else several or one + 's'}"


def _accuracy_at(findings: Findings, axis: str, value: float) -> float:
    return next((point.accuracy for point in findings.points if (point.axis, point.value) == (axis, value)), 0.0)
