"""A report is one page that holds all it shows, and says what was measured."""

import html.parser
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from stn_models import load_checkpoint
from stn_runtime.cli import main
from stn_training.report.advice import advice
from stn_training.report.measurement import Findings, measure, read_run
from stn_training.report.page import page as render

Refusal = Callable[..., str]
NAMES = ("round", "<b>square</b> & co")
SECTIONS = ("next", "training", "classes", "mistakes", "transformer", "robustness", "file", "data")


def draw(name: str, random: np.random.Generator) -> np.ndarray:
    picture = np.full((40, 56, 3), random.integers(120, 255), np.uint8)
    centre = tuple(int(value) for value in random.integers(12, 28, 2))
    colour = tuple(int(value) for value in random.integers(0, 90, 3))
    if name == "round":
        cv2.circle(picture, centre, 9, colour, -1)
    else:
        cv2.rectangle(picture, (centre[0] - 8, centre[1] - 8), (centre[0] + 8, centre[1] + 8), colour, -1)
    return picture


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root, random = tmp_path_factory.mktemp("report") / "shapes & co", np.random.default_rng(0)
    for name in ("round", "square"):
        folder = root / name
        folder.mkdir(parents=True)
        for index in range(40):
            cv2.imwrite(str(folder / f"{index}.png"), draw(name, random))
    (root.parent / "names.txt").write_text("\n".join(NAMES))
    return root


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "one"
    flags = ["--model", "st-vgg", "--image-size", "32", "--epochs", "2", "--options", '{"width": 8}']
    names = ["--class-names", str(data.parent / "names.txt")]
    out = ["--output", str(folder), "--export", str(folder / "model.onnx"), "--report", str(folder / "page.html")]
    assert main(["train", str(data), *flags, *names, *out]) == 0
    return folder


@pytest.fixture(scope="module")
def page(run: Path) -> str:
    return (run / "page.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def findings(run: Path) -> Findings:
    return measure(read_run(run), run / "model.onnx")


class Reader(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sources: list[str] = []
        self.identities: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.sources += [values[name] or "" for name in ("src", "href") if name in values]
        self.identities += [values["id"] or ""] if "id" in values else []
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_and_needs_nothing_from_elsewhere(page: str) -> None:
    reader = Reader()
    reader.feed(page)
    assert not reader.open
    assert reader.identities == list(SECTIONS)
    assert len(reader.sources) > 20
    for source in reader.sources:
        assert source.startswith("data:image/png;base64,") or source[1:] in SECTIONS
    assert "http" not in re.sub(r"base64,[^\"]*", "", page)


def test_the_page_says_what_was_measured(page: str, findings: Findings) -> None:
    accuracy = float((findings.report.predicted == findings.data.labels.numpy()).mean())
    assert f"<b>{accuracy:.2%}</b>" in page
    assert f"right of {len(findings.data)} test pictures" in page
    assert findings.identity is not None
    assert f"<b>{findings.identity.accuracy:.2%}</b>" in page
    assert f"{findings.exported.size / 1e6:.2f} MB" in page if findings.exported else False
    assert "largest difference from PyTorch at the export, probabilities" in page
    assert "2 epochs on 64 pictures" in page  # 80 of which 8 are for validation and 8 for testing
    assert "may lie below" not in page  # nothing changes the training pictures


def test_names_of_strangers_are_escaped(page: str) -> None:
    assert "&lt;b&gt;square&lt;/b&gt; &amp; co" in page
    assert "<b>square</b>" not in page


def test_mistakes_are_the_wrong_answers_the_most_confident_first(findings: Findings) -> None:
    true = findings.data.labels.numpy()
    wrong = set(np.flatnonzero(findings.report.predicted != true).tolist())
    assert {mistake.index for mistake in findings.mistakes} == wrong
    confidences = [mistake.confidence for mistake in findings.mistakes]
    assert confidences == sorted(confidences, reverse=True)
    for mistake in findings.mistakes:
        assert mistake.answer == NAMES[findings.report.predicted[mistake.index]]


def test_the_interval_is_that_of_wilson(findings: Findings) -> None:
    low, high = findings.interval
    count, share = len(findings.report.predicted), findings.report.accuracy
    for bound in (low, high):  # where the measured share is 1.96 standard deviations away
        assert abs(share - bound) == pytest.approx(1.96 * np.sqrt(bound * (1 - bound) / count), abs=1e-9)


def test_advice_follows_from_few_pictures_and_a_missing_reject_class(findings: Findings) -> None:
    text = "\n".join(advice(findings))
    assert "No class has more than 32 training pictures" in text
    assert "into a folder 'test'" in text
    assert "Add a folder 'nothing'" in text


def test_of_a_network_that_guesses_nothing_is_concluded_about_its_transformer(findings: Findings) -> None:
    right = replace(findings.report, accuracy=0.95, confusion=np.array([[19, 1], [1, 19]]), predicted=np.zeros(40, int))
    guesses = replace(
        findings.report, accuracy=0.55, confusion=np.array([[20, 0], [18, 2]]), predicted=np.zeros(40, int)
    )
    for report, said in ((right, False), (guesses, True)):
        text = "\n".join(advice(replace(findings, report=report, identity=report)))
        assert ("always says the most frequent class" in text) == said
        assert ("does not earn its place" in text) == (not said)


def test_a_report_of_a_run_without_an_exported_file_says_how_to_make_one(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "new" / "r.html"
    assert main(["report", str(run), "-o", str(path), "--split", "val"]) == 0
    assert capsys.readouterr().out == f"{path}\n"
    text = path.read_text(encoding="utf-8")
    assert "stn export" in text
    assert "val pictures" in text


def test_a_folder_without_a_run_and_a_wrong_name_are_refused(run: Path, tmp_path: Path, refusal: Refusal) -> None:
    assert "holds no training run" in refusal("report", str(tmp_path))
    assert "ends in .html" in refusal("report", str(run), "-o", "r.pdf")
    assert "ends in .html" in refusal("train", "mnist", "--report", "r.pdf")
    assert "a.onnx" in refusal("report", str(run), "--model", str(tmp_path / "a.onnx"), "-o", str(tmp_path / "r.html"))
    assert "has other labels" in refusal(
        "report", str(run), "--model", "models/stn_zoo/cifar10.onnx", "-o", str(tmp_path / "r.html")
    )


def test_the_epoch_that_was_kept_is_named_also_where_two_are_equally_right(run: Path, page: str) -> None:
    _, described = load_checkpoint(run / "model.safetensors")
    assert f"kept are the weights of epoch {described.training['epoch']}, the best" in page


def test_a_file_of_another_training_is_refused(run: Path, data: Path, tmp_path: Path, refusal: Refusal) -> None:
    names = ["--class-names", str(data.parent / "names.txt")]
    flags = ["--model", "st-vgg", "--image-size", "32", "--epochs", "1", "--seed", "5", "--options", '{"width": 8}']
    other = tmp_path / "other.onnx"
    assert main(["train", str(data), *flags, *names, "--output", str(tmp_path / "two"), "--export", str(other)]) == 0
    sentence = refusal("report", str(run), "--model", str(other), "-o", str(tmp_path / "r.html"))
    assert "it was not exported from it" in sentence


def test_a_run_whose_data_have_moved_is_told_where_they_are(
    run: Path, data: Path, tmp_path: Path, refusal: Refusal
) -> None:
    moved = shutil.copytree(run, tmp_path / "moved")
    config = json.loads((moved / "config.json").read_text())
    (moved / "config.json").write_text(json.dumps(config | {"data": "nowhere"}))
    assert "say where they are with --data" in refusal("report", str(moved))
    assert main(["report", str(moved), "--data", str(data)]) == 0
    assert (moved / "report.html").is_file()


def test_an_interrupted_run_is_called_one(findings: Findings) -> None:
    run = replace(findings.run, config=replace(findings.run.config, epochs=9))
    assert any("Training stopped after 2 of 9 epochs" in text for text in advice(replace(findings, run=run)))
    assert "2 epochs of 9" in render(replace(findings, run=run))


def test_a_test_part_that_cannot_be_read_is_not_replaced_by_another(
    run: Path, data: Path, tmp_path: Path, refusal: Refusal
) -> None:
    split = tmp_path / "split"
    for part in ("train", "test"):
        shutil.copytree(data, split / part)
    for picture in (split / "test").glob("*/*.png"):
        picture.write_bytes(b"no picture")
    assert "of split 'test' can be read" in refusal("report", str(run), "--data", str(split))


def test_a_report_cannot_be_a_folder_and_that_is_said_before_the_work(
    run: Path, tmp_path: Path, refusal: Refusal
) -> None:
    (tmp_path / "r.html").mkdir()
    assert "the name of a file" in refusal("report", str(run), "-o", str(tmp_path / "r.html"))
