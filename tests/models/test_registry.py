"""Networks by name and JSON options, the messages for wrong ones, and the parameter table."""

import re

import pytest
import torch
from torch import nn

from stn_models import REGISTRY, Architecture, GridGenerator, make_transformer, parameter_table
from stn_models.registry import parse_options

NAMES = ["fcn", "cnn", "st-fcn", "st-cnn", "st-vgg", "st-search", "vgg", "speller", "cifar-small", "cifar-wide"]


def test_networks_are_known_by_the_names_in_configs() -> None:
    assert list(REGISTRY) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_complete_options_build_the_same_network(name: str) -> None:
    complete = Architecture(name).complete()
    torch.manual_seed(0)
    first = Architecture(name).build().state_dict()
    torch.manual_seed(0)
    second = Architecture(name, complete).build().state_dict()
    assert list(first) == list(second)
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert Architecture(name, complete).complete() == complete


def test_options_reach_the_network() -> None:
    model = Architecture("cifar-small", {"grid": "tps", "classes": 4}).build()
    assert model(torch.rand(1, 3, 32, 32)).shape == (1, 4)
    assert [module.name for module in model.modules() if isinstance(module, GridGenerator)] == ["tps"]


def test_json_lists_become_tuples() -> None:
    options = Architecture("cifar-small", {"mean": [0.1, 0.2, 0.3]}).complete()
    assert options == {"grid": "affine", "classes": 10, "dropout": 0.5, "mean": (0.1, 0.2, 0.3), "std": (0.5,)}


def test_no_width_is_a_width_that_can_be_asked_for() -> None:
    assert Architecture("fcn", {"width": None}).complete()["width"] is None
    assert Architecture("fcn", {"width": 8}).complete()["width"] == 8


def test_a_whole_number_will_do_for_a_fraction() -> None:
    assert Architecture("st-vgg", {"dropout": 0}).complete()["dropout"] == 0


def test_accepts_tells_which_options_a_network_has() -> None:
    assert Architecture("st-cnn").accepts("padding")
    assert not Architecture("cnn").accepts("grid")


@pytest.mark.parametrize("use", ["build", "complete", "accepts"])
def test_unknown_network_names_the_known_ones(use: str) -> None:
    architecture = Architecture("st-cn")
    with pytest.raises(
        ValueError, match=f"^no network 'st-cn'; did you mean st-fcn or st-cnn.*choose from {', '.join(NAMES)}, or "
    ):
        getattr(architecture, use)(*(["grid"] if use == "accepts" else []))


def test_misspelt_option_gets_the_nearest_one() -> None:
    with pytest.raises(
        ValueError, match=r"^network 'st-cnn': option 'image_sise' is not known; did you mean 'image_size'\?$"
    ):
        Architecture("st-cnn", {"image_sise": 28}).build()


def test_strange_option_gets_the_whole_list() -> None:
    with pytest.raises(
        ValueError,
        match=r"^network 'cifar-small': option 'xyz' is not known; choose from grid, classes, dropout, mean, st",
    ):
        Architecture("cifar-small", {"xyz": 28}).build()


@pytest.mark.parametrize(
    ("name", "option", "value", "expected"),
    [
        ("fcn", "image_size", "28", "a whole number"),
        ("fcn", "image_size", 28.0, "a whole number"),
        ("fcn", "image_size", True, "a whole number"),
        ("fcn", "image_size", None, "a whole number"),
        ("fcn", "width", "8", "a whole number"),
        ("fcn", "width", False, "a whole number"),
        ("fcn", "mean", 0.5, "a list"),
        ("st-vgg", "dropout", "0.2", "a number"),
        ("st-vgg", "dropout", True, "a number"),
        ("st-cnn", "grid", 3, "a text"),
        ("st-cnn", "align_corners", 1, "true or false"),
        ("st-cnn", "align_corners", "false", "true or false"),
    ],
)
def test_value_of_a_wrong_type_is_refused(name: str, option: str, value: object, expected: str) -> None:
    message = re.escape(f"network '{name}': option '{option}' must be {expected}, got {value!r}")
    with pytest.raises(ValueError, match=f"^{message}$"):
        Architecture(name, {option: value}).build()


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("grid", "afine", "no grid generator 'afine'"),
        ("interpolation", "bicubic", "option 'interpolation' must be one of bilinear, nearest; got 'bicubic'"),
        ("padding", "reflect", "option 'padding' must be one of zeros, border, reflection; got 'reflect'"),
        ("std", [0.0], "std must be above zero"),
        ("mean", [], "option 'mean' has 0 numbers for 1 channels"),
        ("width", 0, "option 'width' must be from 1 to 100000, got 0"),
        ("classes", 100_001, "option 'classes' must be from 1 to 100000, got 100001"),
        ("image_size", 5, "5 x 5 pixels are too few"),
    ],
)
def test_value_that_does_not_fit_is_refused(option: str, value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Architecture("st-cnn", {option: value}).build()


@pytest.mark.parametrize(
    ("option", "value"),
    [("width", -1), ("classes", -1), ("channels", -1), ("image_size", -5), ("mean", [None]), ("mean", ["a"])],
)
def test_value_that_makes_no_sense_is_refused_by_its_name(option: str, value: object) -> None:
    with pytest.raises(ValueError, match=option):
        Architecture("fcn", {option: value}).build()


def test_options_are_parsed_from_a_json_object() -> None:
    assert parse_options('{"grid": "tps", "mean": [0.5]}') == {"grid": "tps", "mean": [0.5]}


@pytest.mark.parametrize("text", ["grid=tps", "{'grid': 'tps'}", ""])
def test_options_that_are_not_json_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^network options are not JSON \(.*\): " + re.escape(text)):
        parse_options(text)


@pytest.mark.parametrize("text", ["[]", "3", '"tps"', "null"])
def test_options_that_are_no_object_are_refused(text: str) -> None:
    message = re.escape(f'network options must be a JSON object such as {{"grid": "tps"}}, got {text}')
    with pytest.raises(ValueError, match=f"^{message}$"):
        parse_options(text)


@pytest.mark.parametrize("name", NAMES)
def test_parameter_table_sums_to_its_total(name: str) -> None:
    model = Architecture(name).build()
    _header, *rows, total = parameter_table(model).splitlines()
    counts = [int(row.split()[-1].replace(",", "")) for row in rows]
    assert total.split()[0] == "total"
    assert sum(counts) == int(total.split()[-1].replace(",", "")) == sum(p.numel() for p in model.parameters())


def test_parameter_table_shows_layers_shapes_and_grids() -> None:
    table = parameter_table(nn.Sequential(make_transformer(1, (8, 12)), nn.Conv2d(1, 5, 3)))
    rows = [re.split(r"\s{2,}", row.strip()) for row in table.splitlines()]
    assert rows[0] == ["layer", "kind", "shape", "parameters"]
    assert ["0.grid", "AffineGrid", "6 -> 8 x 12 x 2", "0"] in rows
    assert ["1", "Conv2d", "weight 5x1x3x3, bias 5", "50"] in rows


def test_parameter_table_is_aligned() -> None:
    lines = parameter_table(Architecture("cifar-small").build()).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert lines[-1].endswith("39,884")
