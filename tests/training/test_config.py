"""The config of a run: what it takes, and one sentence for everything that it does not."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stn_models import Architecture
from stn_runtime import InputError
from stn_training.config import TrainConfig
from stn_training.recipes import read_options, read_recipe, released_recipes

ANY_LINE = r"\A[^\n]*"

Refusal = Callable[..., str]


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"optimizer": "adam"}, "optimizer must be one of adamw, sgd; got 'adam'"),
        ({"schedule": "cosine"}, "schedule must be one of onecycle, step, constant; got 'cosine'"),
        ({"precision": "64"}, "precision must be one of auto, 32, 16-mixed, bf16-mixed; got '64'"),
        ({"epochs": -1}, "epochs must not be negative, infinite or huge, got -1"),
        ({"batch_size": -4}, "batch_size must not be negative, infinite or huge, got -4"),
        ({"freeze": -1}, "freeze must not be negative, infinite or huge, got -1"),
        ({"weight_decay": -0.1}, "weight_decay must not be negative, infinite or huge, got -0.1"),
        ({"stn_lr_scale": -1.0}, "stn_lr_scale must not be negative"),
        ({"clip": -1.0}, "clip must not be negative"),
        ({"patience": -1}, "patience must not be negative"),
        ({"picture_every": -1}, "picture_every must not be negative"),
        ({"seed": -1}, "seed must not be negative, infinite or huge, got -1"),
        ({"lr": 0.0}, "lr must be above 0"),
        ({"lr": -1e-3}, "lr must be above 0"),
        ({"label_smoothing": 1.0}, "label_smoothing must be at least 0 and below 1"),
        ({"label_smoothing": -0.1}, "label_smoothing must be at least 0 and below 1"),
        ({"label_smoothing": float("nan")}, "label_smoothing"),
        (
            {"augment": ("crop", "fog")},
            "no augmentation 'fog'; choose from crop, flip, rotate, affine, elastic, erase, jitter, shade, shadow, ",
        ),
        ({"distort": "swirl"}, "no distortion 'swirl'; choose from none, r, rts, rts-apart, p, e, tc, scene, camera"),
        ({"distort": "r:0.5"}, "add up to 0.5, not to 1"),
        ({"model": "resnet"}, "no network 'resnet'; did you mean resnet"),
        ({"options": {"grids": "tps"}}, "network 'st-vgg': option 'grids' is not known; did you mean 'grid'"),
        ({"options": {"width": "wide"}}, "option 'width' must be .* got 'wide'"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_value_that_cannot_be_run_is_refused_in_one_sentence(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=rf"{ANY_LINE}{sentence}"):
        TrainConfig("sklearn-digits", **values)


@pytest.mark.parametrize("name", ["lr", "weight_decay", "stn_lr_scale", "clip"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_that_is_not_finite_is_refused(name: str, value: float) -> None:
    with pytest.raises(InputError, match=name):
        TrainConfig("sklearn-digits", **{name: value})


def test_an_unknown_fit_is_refused() -> None:
    with pytest.raises(InputError, match="fit must be one of stretch, letterbox, crop; got 'squash'"):
        TrainConfig("sklearn-digits", fit="squash")


def test_a_seed_too_large_for_pytorch_is_refused() -> None:
    with pytest.raises(InputError, match="seed"):
        TrainConfig("sklearn-digits", seed=10**20)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (
            {},
            "r.yaml: names no data; give mnist, sklearn-digits, digits, mnist-addition, cifar10, gtsrb, svhn",
        ),
        ({"data": "d", "shuffling": 1}, "r.yaml: option 'shuffling' is not known; choose from data, model, options"),
        ({"data": "d", "batchsize": 1}, r"r.yaml: option 'batchsize' is not known; did you mean 'batch_size'\?"),
        ({"data": "d", "augment": ["flip", 5]}, r"r.yaml: option 'augment\[1\]' must be a text, got 5"),
        ({"data": [5]}, r"r.yaml: option 'data' must be a text, got \[5\]"),
        ({"data": "d", "epochs": "many"}, "r.yaml: option 'epochs' must be a whole number, got 'many'"),
        ({"data": "d", "epochs": 2.5}, "r.yaml: option 'epochs' must be a whole number, got 2.5"),
        ({"data": "d", "epochs": True}, "r.yaml: option 'epochs' must be a whole number, got True"),
        ({"data": "d", "epochs": None}, "r.yaml: option 'epochs' must be a whole number, got None"),
        ({"data": "d", "lr": "fast"}, "r.yaml: option 'lr' must be a number, got 'fast'"),
        ({"data": "d", "lr": True}, "r.yaml: option 'lr' must be a number, got True"),
        ({"data": "d", "lr": [1]}, r"r.yaml: option 'lr' must be a number, got \[1\]"),
        ({"data": "d", "options": "grid"}, "r.yaml: option 'options' must be an object, got 'grid'"),
        ({"data": "d", "options": None}, "r.yaml: option 'options' must be an object, got None"),
        ({"data": "d", "augment": 5}, "r.yaml: option 'augment' must be a list, got 5"),
        ({"data": "d", "model": ["fcn"]}, r"r.yaml: option 'model' must be a text, got \['fcn'\]"),
    ],
    ids=str,
)
def test_a_recipes_unfit_value_is_refused_with_its_name(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=rf"\A{sentence}"):
        TrainConfig.from_mapping(values, "r.yaml")


@pytest.mark.parametrize("values", [{"epochs": -1}, {"optimizer": "adam"}, {"model": "nix"}], ids=str)
def test_a_value_out_of_range_names_the_recipe_too(values: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"r\.yaml"):
        TrainConfig.from_mapping({"data": "d", **values}, "r.yaml")


def test_a_key_that_is_no_text_is_refused() -> None:
    with pytest.raises(InputError, match="option '1' is not known"):
        TrainConfig.from_mapping({"data": "d", 1: 2, "foo": 3}, "r.yaml")  # type: ignore[dict-item]


def test_a_network_option_that_is_no_text_is_refused() -> None:
    with pytest.raises(InputError, match="option '5' is not known"):
        TrainConfig.from_mapping({"data": "d", "options": {5: 6}}, "r.yaml")


def test_a_recipe_may_say_precision_32() -> None:
    assert TrainConfig.from_mapping({"data": "d", "precision": 32}, "r.yaml").precision == "32"


def test_yaml_numbers_are_understood_as_people_write_them(tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text(
        "data: sklearn-digits\nlr: 1e-3\nweight_decay: 0\nclip: 5\nepochs: 3\n"
        "augment: [crop, flip]\noptions: {width: 8, mean: [0.1, 0.2, 0.3]}\n",
        encoding="utf-8",
    )
    config = TrainConfig.from_mapping(read_options(recipe), str(recipe))
    assert (config.lr, config.weight_decay, config.clip, config.epochs) == (0.001, 0.0, 5.0, 3)
    assert isinstance(config.clip, float)
    assert config.augment == ("crop", "flip")
    assert config.options == {"width": 8, "mean": [0.1, 0.2, 0.3]}


def test_a_config_survives_its_json(tmp_path: Path) -> None:
    config = TrainConfig(
        "фото", "st-cnn", {"grid": "tps", "width": 8}, distort="camera:0.5,none:0.5", augment=("flip",), lr=1e-5, seed=7
    )
    path = tmp_path / "config.json"
    path.write_text(config.to_json(), encoding="utf-8")
    assert TrainConfig.from_mapping(read_options(path), "config.json") == config
    assert set(json.loads(config.to_json())) == {entry.name for entry in dataclasses.fields(TrainConfig)}


def test_a_config_cannot_be_changed() -> None:
    config = TrainConfig("sklearn-digits")
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot assign to field 'lr'"):
        config.lr = 1.0  # type: ignore[misc]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"- a\n- b\n", "is not a recipe; 'option: value' lines are expected"),
        (b"", "is not a recipe"),
        (b"5", "is not a"),
    ],
)
def test_a_file_that_is_no_recipe_is_refused(content: bytes, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_bytes(content)
    with pytest.raises(InputError, match=rf"r\.yaml: {sentence}"):
        read_options(tmp_path / "r.yaml")


@pytest.mark.parametrize("content", [b"data: [", b"\xff\xfe\x00data", b"a: b: c", None])
def test_a_recipe_that_cannot_be_read_is_refused(content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "r.yaml").write_bytes(content)
    with pytest.raises(InputError, match=r"r\.yaml: cannot be read as a recipe"):
        read_options(tmp_path / "r.yaml")


@pytest.mark.parametrize("content", ["data: [", "a: b: c"])
def test_a_broken_recipe_is_told_in_one_line(content: str, tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=r"\A[^\n]*\Z"):
        read_options(tmp_path / "r.yaml")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"model": "st-cnn"}, (42, 1)),
        ({"model": "fcn"}, (28, 1)),
        ({"model": "st-vgg"}, (64, 1)),
        ({"model": "cifar-small"}, (32, 3)),
        ({"model": "st-cnn", "distort": "tc"}, (60, 1)),
        ({"model": "st-cnn", "distort": "rts:0.5,none:0.5"}, (42, 1)),
        ({"model": "st-vgg", "distort": "camera"}, (56, 1)),
        ({"model": "st-vgg", "distort": "none"}, (64, 1)),
        ({"model": "st-vgg", "distort": "r", "options": {"image_size": 48}}, (48, 1)),
        ({"model": "st-vgg", "options": {"channels": 3}}, (64, 3)),
    ],
    ids=str,
)
def test_the_size_and_colour_follow_from_network_and_data(values: dict[str, Any], expected: tuple[int, int]) -> None:
    spec = TrainConfig("sklearn-digits", **values, fit="crop").preprocess()
    assert (spec.height, spec.width, spec.channels, spec.fit) == (expected[0], expected[0], expected[1], "crop")


def test_a_folder_of_images_is_rgb_unless_asked_otherwise() -> None:
    assert TrainConfig("photos").preprocess().channels == 3
    assert TrainConfig("photos", options={"channels": 1}).preprocess().channels == 1


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"distort": "tc", "options": {"image_size": 42}}, "makes images of 60 pixels, network 'st-vgg' takes 42"),
        ({"distort": "tc", "model": "cifar-small"}, "makes images of 60 pixels, network 'cifar-small' takes 32"),
        ({"distort": "rts-apart", "options": {"channels": 1}}, "'rts-apart' is for colour images, .* takes 1 channels"),
        ({"distort": "camera", "options": {"channels": 3}}, "'camera' is for grey images, .* takes 3 channels"),
    ],
    ids=str,
)
def test_a_distortion_that_the_network_cannot_take_is_refused(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        TrainConfig("sklearn-digits", **values).preprocess()


def test_no_option_is_advised_that_the_network_does_not_have() -> None:
    with pytest.raises(InputError, match=r"\A(?!.*image_size)"):
        TrainConfig("sklearn-digits", model="cifar-small", distort="tc").preprocess()


@pytest.mark.parametrize("name", list(released_recipes()))
def test_a_released_recipe_can_be_run_by_its_name(name: str) -> None:
    config = TrainConfig.from_mapping(read_recipe(name), name)
    assert config.preprocess().height >= 28
    assert Architecture(config.model, config.options).complete()


def test_a_misspelt_recipe_gets_its_neighbours() -> None:
    with pytest.raises(InputError, match=r"no recipe 'st-cnn-afine-rts'; there are st-cnn-affine-rts,"):
        read_recipe("st-cnn-afine-rts")


def test_every_network_of_the_papers_table_has_a_recipe_for_every_distortion() -> None:
    nets = [
        "fcn",
        "cnn",
        *(f"{net}-{grid}" for net in ("st-fcn", "st-cnn") for grid in ("affine", "projective", "tps")),
    ]
    assert {f"{net}-{distortion}" for net in nets for distortion in ("r", "rts", "p", "e")} <= set(released_recipes())
