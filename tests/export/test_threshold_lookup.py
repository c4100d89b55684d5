"""The threshold in the manifest: of the checkpoint, or found on labelled pictures with the network that is written."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from stn_export import Card, Exported, TestSet, export_checkpoint, export_classifier, plan_export
from stn_export.proof import gates
from stn_export.threshold_lookup import threshold_for
from stn_models import load_checkpoint, save_checkpoint
from stn_runtime import Classifier, InputError, Manifest
from stn_runtime.cli import main
from stn_runtime.images.writing import write_image
from stn_runtime.model.manifest import Precision
from stn_runtime.model.network import Network
from tests.support.small_network import ARCHITECTURE, LABELS, SPEC, restless

CARD = Card("card", ("nothing", "cat", "dog"), SPEC, reject="nothing")


class Answers:
    """A network that answers picture i with the i-th confidence for cat, the rest for nothing and dog alike."""

    def __init__(self, confidences: Sequence[float]) -> None:
        self._confidences = iter(confidences)

    def run(self, batch: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        cat = np.array([next(self._confidences) for _ in batch], np.float32)
        return {"probabilities": np.stack(((1 - cat) / 2, cat, (1 - cat) / 2), 1)}


NOTHINGS, CATS = (0.5, 0.6, 0.7), (0.65, 0.8, 0.9)
TRUTH = np.array([0] * 3 + [1] * 3)


def _threshold(
    card: Card, precision: Precision = "float32", confidences: Sequence[float] = NOTHINGS + CATS
) -> tuple[float | None, int | None]:
    """Return the threshold of a card's network, and how many cats and dogs get a label with it."""
    images = np.zeros((len(TRUTH), 28, 28, 1), np.uint8)
    threshold, done = threshold_for(card, Answers(confidences), precision, images, TRUTH)  # type: ignore[arg-type]
    return threshold, None if done is None else done.labelled


def test_a_card_without_a_threshold_gets_the_one_that_the_pictures_tell() -> None:
    assert _threshold(CARD) == (0.75, 2)
    assert _threshold(replace(CARD, reject=None)) == (0.75, 2)  # three of six are wrong, all below


def test_the_threshold_of_a_card_stays_in_float32() -> None:
    assert _threshold(replace(CARD, threshold=0.3)) == (0.3, None)


@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_in_reduced_precision_it_stays_where_it_holds_and_is_found_anew_where_it_does_not(
    precision: Precision,
) -> None:
    known = replace(CARD, threshold=0.75)
    assert _threshold(known, precision) == (0.75, 2)
    shifted = [confidence + 0.08 for confidence in NOTHINGS + CATS]  # a nothing is at 0.78 now
    assert _threshold(known, precision, shifted) == (0.83, 2)


def test_pictures_that_cannot_tell_leave_the_card_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.export.test_threshold_lookup.TRUTH", np.ones(6, np.int64))  # no nothing
    assert _threshold(CARD) == (None, None)
    none = np.empty((0, 28, 28, 1), np.uint8)
    assert threshold_for(CARD, Answers(()), "float32", none, np.empty(0, np.int64)) == (None, None)  # type: ignore[arg-type]


# --- from checkpoint to file


@pytest.fixture
def rejecting(checkpoint: Path, tmp_path: Path) -> Path:
    path = tmp_path / "rejecting.safetensors"
    network, described = load_checkpoint(checkpoint)
    save_checkpoint(path, network, replace(described, reject="3"))
    return path


@pytest.fixture
def photos(tmp_path: Path, exported: Exported) -> Path:
    """A folder per class of noise, each picture in the folder of what PyTorch makes of it, but for some in '3'."""
    folder, random = tmp_path / "photos", np.random.default_rng(0)
    classifier = Classifier(exported.path, threads=1)
    for index in range(60):
        picture = random.integers(0, 256, (28, 28), np.uint8) // (1 + index % 3)
        label = "3" if index % 4 == 0 else classifier.predict(picture).label
        (folder / label).mkdir(parents=True, exist_ok=True)
        write_image(folder / label / f"{index}.png", picture)
    return folder


def _manifest(path: Path) -> Manifest:
    return Network(path).manifest


def test_a_checkpoints_class_and_threshold_are_in_every_form(rejecting: Path, tmp_path: Path) -> None:
    network, described = load_checkpoint(rejecting)
    save_checkpoint(rejecting, network, replace(described, threshold=0.625))
    for form in ("fused", "split"):
        done = export_checkpoint(rejecting, tmp_path / f"{form}.onnx", plan=plan_export(form=form))
        assert (_manifest(done.path).reject, _manifest(done.path).threshold) == ("3", 0.625)


def test_a_file_is_compared_with_the_class_and_the_threshold_of_its_checkpoint(
    rejecting: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = export_checkpoint(rejecting, tmp_path / "model.onnx").path
    assert main(["verify", str(model), "--checkpoint", str(rejecting)]) == 0
    assert "threshold" not in capsys.readouterr().out
    assert main(["verify", str(model), "--checkpoint", str(checkpoint)]) == 2
    assert "its labels are not those of" in capsys.readouterr().err
    network, described = load_checkpoint(rejecting)
    save_checkpoint(rejecting, network, replace(described, threshold=0.625))
    assert main(["verify", str(model), "--checkpoint", str(rejecting)]) == 0
    assert "it has no threshold, and the checkpoint's is 0.625\n" in capsys.readouterr().out


def test_a_folder_per_class_gives_the_threshold_and_a_run_keeps_to_it(
    rejecting: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "model.onnx"
    assert main(["export", str(rejecting), "-o", str(output), "--images", str(photos)]) == 0
    said = capsys.readouterr()
    manifest = _manifest(output)
    assert manifest.threshold is not None
    assert 0 < manifest.threshold < 1
    report = manifest.verification["threshold"]
    assert report["pictures"] + report["rejected"] == 60
    assert (
        f"{photos}: threshold {manifest.threshold:g}: {report['labelled']} of {report['pictures']} pictures" in said.out
    )
    assert "the threshold is too low if training saw these pictures" in said.err
    assert main(["run", str(photos), "-m", str(output), "-o", str(tmp_path / "labels.csv"), "--fields", "label"]) == 0
    labels = [line.split(",")[0] for line in (tmp_path / "labels.csv").read_text().splitlines()[1:]]
    assert len([label for label in labels if label]) == report["labelled"] + report["mistaken"]
    assert "3" not in labels


@pytest.mark.parametrize("layout", ["splits", "pattern"])
def test_the_class_is_a_folder_anywhere_below(rejecting: Path, photos: Path, tmp_path: Path, layout: str) -> None:
    source = f"{photos}/*/*.png"
    if layout == "splits":
        source = str(tmp_path / "dataset")
        (tmp_path / "dataset").mkdir()
        photos.rename(tmp_path / "dataset" / "train")
    output = tmp_path / "model.onnx"
    assert main(["export", str(rejecting), "-o", str(output), "--images", source]) == 0
    assert _manifest(output).threshold is not None


def test_pictures_without_labels_give_none_and_it_is_said(
    rejecting: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "model.onnx"
    assert main(["export", str(rejecting), "-o", str(output), "--images", str(photos / "3")]) == 0
    assert (_manifest(output).reject, _manifest(output).threshold) == ("3", None)
    told = "no threshold: it takes --images in a folder per class, among them some of '3' and of others\n"
    assert told in capsys.readouterr().err


def test_of_many_pictures_every_class_is_read(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stn_export.commands._MEASURED_IMAGES", 10)
    for label in LABELS:
        (tmp_path / "photos" / label).mkdir(parents=True)
        write_image(tmp_path / "photos" / label / "0.png", np.full((28, 28), 200, np.uint8))
        if label != "9":
            write_image(tmp_path / "photos" / label / "1.png", np.full((28, 28), 100, np.uint8))
    output = tmp_path / "model.onnx"
    assert main(["export", str(checkpoint), "-o", str(output), "--images", str(tmp_path / "photos")]) == 0
    assert _manifest(output).verification["threshold"]["pictures"] == 10
    assert _manifest(output).verification["real_pictures"] == 10


def test_int8_keeps_a_threshold_that_holds_and_replaces_one_that_does_not(
    rejecting: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gates, "LARGEST_DROP", {"int8": 100.0})  # of random weights on noise
    pictures = np.random.default_rng(5).integers(0, 256, (40, 28, 28, 1), np.uint8)
    labels = np.arange(40) % 10
    data = TestSet(pictures, labels, pictures[:16], "noise")
    network, described = load_checkpoint(rejecting)
    plan, found = plan_export("cpu", precision="int8"), {}
    for threshold in (1.0, 0.0):
        save_checkpoint(rejecting, network, replace(described, threshold=threshold))
        done = export_checkpoint(rejecting, tmp_path / "int8.onnx", plan=plan, data=data)
        found[threshold] = done.manifest.threshold
        answers = Network(done.path).run(pictures)["probabilities"]
        is_labelled = (answers.max(1) >= done.manifest.threshold) & (answers.argmax(1) != 3)
        assert done.labelling is not None
        assert done.labelling.mistaken == int((is_labelled & (labels == 3)).sum())
    assert found[1.0] == 1.0  # labels nothing, so nothing wrongly
    assert found[0.0] is not None
    assert found[0.0] > 0.0  # of four pictures of '3', some got a label


def test_a_card_that_rejects_what_is_no_label_is_refused_before_any_work(tmp_path: Path) -> None:
    card = Card("mine", LABELS, SPEC, reject="nothing")
    with pytest.raises(InputError, match=r"^mine: the card rejects 'nothing', which is none of its labels$"):
        export_classifier(restless(ARCHITECTURE), tmp_path / "model.onnx", card)
