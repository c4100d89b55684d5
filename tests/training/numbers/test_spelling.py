"""A network that spells texts goes all the way: trained, measured, exported in every form, run, reported."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import matplotlib as mpl
import numpy as np
import onnx
import pytest

from stn_runtime import Classifier, ModelContractError
from stn_runtime.cli import main
from stn_runtime.model.sequences import likely_sequences
from stn_training.numbers import plates

TYPEFACES = Path(mpl.get_data_path()) / "fonts" / "ttf"
OPTIONS = '{"image_size": 32, "width": 4, "hidden": 32, "transformer": ["affine@input"]}'
FORMS = ("fused", "portable", "split")


@pytest.fixture(scope="module")
def few() -> pytest.MonkeyPatch:
    patch = pytest.MonkeyPatch()
    patch.setattr(plates, "_COUNTS", {"train": 300, "val": 60, "test": 80})
    yield patch
    patch.undo()


@pytest.fixture(scope="module")
def run(few: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "plates"
    flags = ["--model", "speller", "--options", OPTIONS, "--typefaces", str(TYPEFACES), "--epochs", "2"]
    assert main(["train", "house-plates", *flags, "--lr", "0.01", "--output", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def models(run: Path) -> dict[str, Path]:
    paths = {form: run / f"{form}.onnx" for form in FORMS}
    for form, path in paths.items():
        assert main(["export", str(run / "model.safetensors"), "-o", str(path), "--form", form]) == 0
    return paths


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("plates")
    typefaces = [str(path) for path in sorted(TYPEFACES.glob("DejaVuSans*.ttf"))]
    for index in range(8):
        cv2.imwrite(str(folder / f"{index}.png"), plates.draw_plate((99, index), typefaces)[0][..., ::-1])
    return sorted(folder.iterdir())


def test_every_form_gives_texts_with_their_characters(models: dict[str, Path], pictures: list[Path]) -> None:
    for path in models.values():
        classifier = Classifier(path, topk=4)
        assert classifier.manifest.sequence is not None
        assert (classifier.manifest.sequence.length, classifier.manifest.sequence.end) == (5, "end")
        for prediction in classifier.predict(pictures):
            assert prediction.probabilities.shape == (5, 11)
            assert "".join(score.label for score in prediction.characters) == prediction.label
            assert prediction.top[0].label == prediction.label
            texts = likely_sequences(prediction.probabilities, 10, 4)
            assert [score.label for score in prediction.top] == ["".join(map(str, text)) for text, _ in texts]
            assert prediction.confidence == pytest.approx(texts[0][1])


def test_fused_and_portable_spell_the_same_and_split_does_on_pictures_of_the_networks_size(
    models: dict[str, Path], pictures: list[Path]
) -> None:
    small = [cv2.resize(cv2.imread(str(path)), (32, 32), interpolation=cv2.INTER_AREA)[..., ::-1] for path in pictures]
    found = {form: Classifier(path).predict(small) for form, path in models.items()}
    for fused, portable, split in zip(*(found[form] for form in FORMS), strict=True):
        np.testing.assert_allclose(portable.probabilities, fused.probabilities, atol=1e-5)
        np.testing.assert_allclose(split.probabilities, fused.probabilities, atol=1e-4)
        assert fused.label == portable.label


def test_golden_vectors_are_replayed_and_compared_with_the_checkpoint(models: dict[str, Path], run: Path) -> None:
    for path in models.values():
        assert main(["verify", str(path)]) == 0
        assert main(["verify", str(path), "--checkpoint", str(run / "model.safetensors")]) == 0


def test_records_have_the_text_its_characters_and_no_label_below_the_threshold(
    models: dict[str, Path], pictures: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", str(pictures[0].parent), "--model", str(models["fused"]), "--conf", "0"]) == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(records) == len(pictures)
    for record in records:
        spelled = "".join(score["label"] for score in record.get("characters", ()))
        assert record["top"][0]["label"] == spelled
        assert record["rejected"] == (spelled == "")
        assert record["label"] == (spelled or None)
        assert 0 <= record["confidence"] <= min([1, *(score["probability"] for score in record.get("characters", ()))])
    assert main(["run", str(pictures[0].parent), "--model", str(models["fused"]), "--conf", "1"]) == 0
    assert {json.loads(line)["label"] for line in capsys.readouterr().out.splitlines()} == {None}


def test_annotated_pictures_table_and_steady_video_are_written(
    models: dict[str, Path], pictures: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, saved = tmp_path / "t.csv", tmp_path / "saved"
    flags = ["--model", str(models["split"]), "--output", str(table), "--save", str(saved)]
    assert main(["run", str(pictures[0].parent), *flags]) == 0
    assert "characters" in table.read_text().splitlines()[0]
    assert len(list(saved.glob("*.png"))) == len(pictures)
    clip = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(clip), cv2.VideoWriter_fourcc(*"MJPG"), 10, (128, 128))
    for path in pictures:
        writer.write(cv2.imread(str(path)))
    writer.release()
    capsys.readouterr()
    assert main(["run", str(clip), "--model", str(models["fused"]), "--smooth", "0.5", "--conf", "0"]) == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    for record in records:
        assert record["top"][0]["label"] == "".join(score["label"] for score in record.get("characters", ()))


def test_a_whole_number_counts_as_right_and_each_character_is_in_the_table(
    models: dict[str, Path], run: Path, few: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = []
    for model in (run / "model.safetensors", models["fused"]):
        capsys.readouterr()
        assert main(["evaluate", str(model), "house-plates", "--typefaces", str(TYPEFACES)]) == 0
        out = capsys.readouterr().out
        assert "80 images, all characters of each" in out
        names = [line.split()[0] for line in out.splitlines() if "%" in line]
        assert names[:10] == list("0123456789")
        assert "end" not in names
        lines.append(next(line for line in out.splitlines() if line.startswith("accuracy")))
    assert lines[0] == lines[1]  # PyTorch and onnxruntime


def test_the_report_speaks_of_numbers(run: Path, models: dict[str, Path], few: pytest.MonkeyPatch) -> None:
    assert main(["report", str(run), "--model", str(models["fused"]), "-o", str(run / "page.html")]) == 0
    text = (run / "page.html").read_text(encoding="utf-8")
    assert "taken for" in text
    assert "3 characters" in text
    assert "--balance" not in text  # which is not for texts
    assert "folder &#x27;nothing&#x27;" not in text


def test_reduced_precision_is_measured_on_whole_numbers(run: Path, few: pytest.MonkeyPatch, tmp_path: Path) -> None:
    out = tmp_path / "half.onnx"
    flags = ["--precision", "float16", "--data", "house-plates", "--typefaces", str(TYPEFACES)]
    assert main(["export", str(run / "model.safetensors"), "-o", str(out), *flags]) == 0
    gate = Classifier(out).manifest.verification["gate"]
    assert gate["pictures"] == 80


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"length": 4}, "expected N x 4 x 11"),
        ({"length": 0}, "manifest.sequence.length"),
        ({"length": 10**9}, "manifest.sequence.length"),
        ({"end": "stop"}, "manifest.sequence.end"),
        (None, "expected N x 11"),
    ],
)
def test_a_file_whose_graph_and_manifest_spell_differently_is_refused(
    changes: dict[str, object] | None, part: str, models: dict[str, Path], tmp_path: Path
) -> None:
    model = onnx.load(models["fused"])
    (entry,) = (entry for entry in model.metadata_props if entry.key == "stn_edge")
    manifest = json.loads(entry.value)
    manifest["sequence"] = None if changes is None else manifest["sequence"] | changes
    entry.value = json.dumps(manifest)
    onnx.save(model, tmp_path / "other.onnx")
    with pytest.raises(ModelContractError, match=part):
        Classifier(tmp_path / "other.onnx")


def test_texts_and_single_labels_are_not_mixed_up(
    run: Path, few: pytest.MonkeyPatch, refusal: Callable[..., str], tmp_path: Path
) -> None:
    faces = ["--typefaces", str(TYPEFACES)]
    out = ["--output", str(tmp_path / "run")]
    assert "--model speller" in refusal("train", "house-plates", "--model", "vgg", *faces, *out)
    assert "has one label an image" in refusal("train", "sklearn-digits", "--model", "speller", *out)
    for flag in (["--mixup", "0.2"], ["--balance", "weights"]):
        sentence = refusal("train", "house-plates", "--model", "speller", "--options", OPTIONS, *faces, *flag, *out)
        assert "is for single labels" in sentence
    assert "spells texts" in refusal("evaluate", run / "model.safetensors", "sklearn-digits")


def test_the_manifest_says_which_answers_mean_nothing(models: dict[str, Path]) -> None:
    manifest = Classifier(models["fused"]).manifest
    assert manifest.rejects("")
    assert not manifest.rejects("12")
    assert "no character" in manifest.label_rule()
    assert not replace(manifest, sequence=None).rejects("")
