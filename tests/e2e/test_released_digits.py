import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torchvision

from stn_models import load_checkpoint
from stn_runtime import Classifier, PreprocessSpec
from stn_runtime.images.reading import read_image
from stn_runtime.model.doubt import doubt
from stn_runtime.model.golden import replay
from stn_runtime.model.manifest import Form, Precision, read_theta
from stn_runtime.model.network import Network
from stn_runtime.model.zoo import find_model, released_models
from stn_training.evaluation.accuracy import evaluate, load_test_images, open_subject
from tests.support.moving_digits import FRAMES_PER_DIGIT, frames, serve
from tests.support.process import default_signals
from tests.support.waiting import until

ZOO = Path(__file__).parents[2] / "models" / "stn_zoo"
SAMPLES = sorted(path for path in (ZOO / "samples").iterdir() if path.suffix in (".jpg", ".png"))
FILES = sorted(name for name in released_models() if name.startswith("digits"))


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return Classifier("digits")


def test_there_are_about_twenty_samples_of_every_digit() -> None:
    assert len(SAMPLES) >= 20
    assert {path.name[0] for path in SAMPLES} == set("0123456789")


def test_every_form_and_precision_is_released() -> None:
    made = {(export.form, export.precision) for export in (Classifier(name).manifest.export for name in FILES)}
    assert made == {(form, precision) for form in get_args(Form) for precision in get_args(Precision)}


@pytest.mark.parametrize("name", FILES)
def test_a_released_model_reads_the_samples_and_misreads_none(name: str) -> None:
    released = Classifier(name)
    predictions = dict(zip(SAMPLES, released.predict(list(SAMPLES)), strict=True))
    labelled = {
        sample: prediction.label
        for sample, prediction in predictions.items()
        if prediction.label != released.manifest.reject and prediction.confidence >= (released.manifest.threshold or 0)
    }
    assert {sample: label for sample, label in labelled.items() if label != sample.name[0]} == {}
    assert len(labelled) >= 18  # the card says which are not


@pytest.mark.parametrize("name", FILES)
def test_a_released_model_says_which_label_means_nothing_and_from_where_on_it_is_sure(name: str) -> None:
    manifest = Classifier(name).manifest
    assert manifest.labels == (*"0123456789", "nothing")
    assert manifest.reject == "nothing"
    assert manifest.threshold is not None
    assert 0.5 < manifest.threshold < 0.95


@pytest.mark.parametrize("level", [0, 128, 255])
def test_an_empty_picture_is_nothing(classifier: Classifier, level: int) -> None:
    assert classifier.predict(np.full((480, 640), level, np.uint8)).label == "nothing"


@pytest.mark.parametrize("name", FILES)
def test_a_released_file_is_small_and_answers_as_at_its_export(name: str) -> None:
    network = Network(find_model(name))
    assert find_model(name).stat().st_size < 2_000_000
    assert replay(network).passed
    assert (network.manifest.name, network.manifest.license) == (name, "Apache-2.0")
    assert network.manifest.verification["gate"]["pictures"] == 17_500


@pytest.mark.parametrize("name", FILES)
def test_no_sample_is_uncertain(name: str) -> None:
    released = Classifier(name)
    for sample in SAMPLES:
        picture = read_image(sample)
        assert doubt(released.predict(picture), picture.shape[:2], released.manifest) is None, sample.name


def test_every_released_file_says_of_theta_what_the_checkpoint_says() -> None:
    _, described = load_checkpoint(ZOO / "digits.safetensors")
    assert described.theta is not None
    theta = read_theta(described.theta, "digits")
    assert theta.pictures > 5_000
    assert all(Classifier(name).manifest.theta == theta for name in FILES)


def test_the_released_file_and_checkpoint_agree_on_noise(classifier: Classifier) -> None:
    checkpoint = open_subject(str(ZOO / "digits.safetensors"))
    spec: PreprocessSpec = classifier.manifest.preprocess
    random = np.random.default_rng(0).integers(0, 256, (16, spec.height, spec.width, 1), np.uint8)
    allowed = classifier.manifest.verification["theta_own"]["allowed"]["probabilities"]
    assert allowed < 1e-3
    np.testing.assert_allclose(classifier.run(random)["probabilities"], checkpoint.predict(random), atol=allowed)


@pytest.mark.slow
@pytest.mark.parametrize(("distort", "least"), [("", 0.985), ("rts", 0.980)])
def test_accuracy_on_the_test_digits(data_dir: Path, distort: str, least: float) -> None:
    subject = open_subject("digits")
    data = load_test_images("mnist", "test", distort, subject.spec, data_dir, seed=0)
    assert len(data) == 10_000
    assert evaluate(subject, data).accuracy >= least


@pytest.mark.slow
@pytest.mark.parametrize("distort", ["", "rts"])
def test_less_than_a_percent_of_the_test_digits_is_uncertain(
    classifier: Classifier, data_dir: Path, distort: str
) -> None:
    images = load_test_images("mnist", "test", distort, classifier.manifest.preprocess, data_dir, seed=0).images.numpy()
    predictions = [one for part in np.split(images, 50) for one in classifier.predict(list(part))]
    doubts = [doubt(prediction, images.shape[1:3], classifier.manifest) for prediction in predictions]
    assert sum(sentence is not None for sentence in doubts) < 100


@pytest.mark.slow
def test_every_label_of_the_rts_test_digits_is_that_of_pytorch(data_dir: Path) -> None:
    subjects = [open_subject("digits"), open_subject(str(ZOO / "digits.safetensors"))]
    data = load_test_images("mnist", "test", "rts", subjects[0].spec, data_dir, seed=0)
    exported, checkpoint = (evaluate(subject, data).predicted for subject in subjects)
    assert len(exported) == 10_000
    np.testing.assert_array_equal(exported, checkpoint)


@pytest.mark.slow
def test_moving_digits_are_read_live(data_dir: Path, tmp_path: Path) -> None:
    source = torchvision.datasets.MNIST(str(data_dir), train=False)
    chosen = np.random.default_rng(0).choice(len(source), 60, replace=False)
    server = serve(list(frames(source.data.numpy()[chosen], seed=0)))
    results = tmp_path / "live.jsonl"
    address = f"http://127.0.0.1:{server.server_port}/"
    command = [sys.executable, "-m", "stn_runtime", "run", address, "-o", str(results)]
    with subprocess.Popen([*command, "--save", str(tmp_path / "live.mp4")], preexec_fn=default_signals) as running:
        until(lambda: results.is_file() and "source_lost" in results.read_text(), seconds=120)
        running.send_signal(signal.SIGTERM)
    server.shutdown()
    assert running.returncode == 130
    records = [json.loads(line) for line in results.read_text().splitlines()]
    records = [record for record in records if "label" in record]
    truth = [str(int(source.targets[index])) for index in chosen]
    right = [record["label"] == truth[record["frame"] // FRAMES_PER_DIGIT] for record in records]
    sys.stderr.write(f"live: {sum(right)} of {len(right)} frames right, {60 * FRAMES_PER_DIGIT} sent\n")
    assert len(right) > 0.5 * 60 * FRAMES_PER_DIGIT
    assert np.mean(right) >= 0.95
