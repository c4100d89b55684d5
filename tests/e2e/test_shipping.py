"""What operators are given stays true: the commands of their page, the systemd unit, its settings, the Dockerfile."""

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from stn_runtime.cli import COMMANDS, parser_of
from stn_runtime.images.reading import IMAGE_SUFFIXES
from stn_runtime.machine.systemd import SIGN_OF_LIFE_SECONDS
from stn_runtime.records.writers import CSV_COLUMNS

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "runtime" / "deploy"
PAGE = (ROOT / "runtime" / "README.md").read_text(encoding="utf-8")
PROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
DOCKERFILE = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
UNIT = (DEPLOY / "stn-edge.service").read_text(encoding="utf-8")
ON_DEVICES = [name for name, command in COMMANDS.items() if command.module.startswith("stn_runtime.")]
OF_OTHERS = {"--system-site-packages"}  # options that the page names by themselves, of venv


def commands_of_page() -> list[str]:
    """Every command of ours with arguments, in the page's blocks and between backticks."""
    parts = re.split(r"^```\w*\n(.*?)^```", PAGE, flags=re.DOTALL | re.MULTILINE)
    lines = [line for block in parts[1::2] for line in block.replace("\\\n", " ").splitlines()]
    lines += [text for prose in parts[::2] for text in re.findall(r"`([^`\n]+)`", prose)]
    ours = re.compile(rf"\bstn(?:-edge)? ((?:{'|'.join(ON_DEVICES)}) .+)")
    return [found[1] for line in lines if (found := ours.search(line))]


def settings(text: str) -> dict[str, str]:
    """Lines such as ``Key=value``; of ``Environment``, the variables themselves."""
    lines = [line.removeprefix("Environment=") for line in text.splitlines() if re.match(r"\w+=", line)]
    return {key: value for key, _, value in (line.partition("=") for line in lines)}


def extras() -> set[str]:
    section = PROJECT.split("[project.optional-dependencies]")[1].split("\n[")[0]
    return set(re.findall(r"^(\w+) = \[", section, re.MULTILINE))


@pytest.mark.parametrize("command", commands_of_page())
def test_a_command_of_the_page_is_understood(command: str) -> None:
    name, *words = shlex.split(command, comments=True)
    parser_of(name).parse_args(words[: words.index("|")] if "|" in words else words)


def test_the_page_shows_commands_in_blocks_tables_and_lines() -> None:
    found = commands_of_page()
    assert "run 0 2" in found  # of a table
    assert "doctor MODEL --target NAME" in found  # of a line
    assert any(command.startswith("run 0 --mjpg --wait --serve") for command in found)  # behind docker


def test_options_that_the_page_names_exist() -> None:
    known = {option for name in ON_DEVICES for option in parser_of(name)._option_string_actions}
    named = set(re.findall(r"`(--[\w-]+)", PAGE))
    assert len(named) > 20
    assert named - known == OF_OTHERS


def test_options_of_a_run_are_all_on_the_page() -> None:
    options = {option for option in parser_of("run")._option_string_actions if option.startswith("--")}
    assert {option for option in options if not re.search(rf"{option}(?![\w-])", PAGE)} == {"--help"}


def test_the_page_names_every_field_of_a_record_and_every_kind_of_picture() -> None:
    assert {name for name in CSV_COLUMNS if f"`{name}`" not in PAGE} == set()
    spelt = {".jpg": "JPEG", ".jp2": "JPEG 2000", ".tif": "TIFF", ".webp": "WebP"}
    kinds = PAGE.split("the first picture of an animation is taken. ")[1].split(" are read")[0]
    names = {spelt.get(suffix, suffix[1:].upper()) for suffix in IMAGE_SUFFIXES}
    assert set(re.split(r",\s+| and ", kinds)) == names


def test_extras_that_are_installed_exist() -> None:
    wanted = re.findall(r"\[([a-z,]+)\]\"", PAGE + DOCKERFILE)
    assert len(wanted) >= 4
    assert {extra for names in wanted for extra in names.split(",")} <= extras()


def test_the_unit_starts_a_run_that_keeps_its_records_and_waits_for_its_camera() -> None:
    unit, chosen = settings(UNIT), settings((DEPLOY / "stn-edge.conf").read_text(encoding="utf-8"))
    line = unit["ExecStart"].replace("$SOURCE", chosen["SOURCE"]).replace("$OPTIONS", chosen["OPTIONS"])
    program, *words = line.split()
    assert f"venv --system-site-packages {Path(program).parents[1]} " in PAGE
    args = parser_of(words[0]).parse_args(words[1:])
    assert (args.source, args.wait, args.resume) == (["0"], True, True)
    assert args.output.parent == Path("/var/lib", unit["StateDirectory"])
    assert (DEPLOY / "stn-edge.logrotate").read_text(encoding="utf-8").count(f"\n{args.output} {{\n") == 1


def test_the_unit_waits_for_several_signs_of_life_before_it_kills() -> None:
    assert settings(UNIT)["Type"] == "notify"
    assert int(settings(UNIT)["WatchdogSec"]) > 3 * SIGN_OF_LIFE_SECONDS


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze")
def test_systemd_finds_no_fault_in_the_unit(tmp_path: Path) -> None:
    copy = tmp_path / "stn-edge.service"
    copy.write_text(re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", UNIT, flags=re.MULTILINE), encoding="utf-8")
    done = subprocess.run(["systemd-analyze", "verify", copy], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_container_runs_a_command_of_ours() -> None:
    entry, command = (json.loads(line) for line in re.findall(r"^(?:ENTRYPOINT|CMD) (.*)$", DOCKERFILE, re.MULTILINE))
    assert f"\n{entry[0]} = " in PROJECT.split("[project.scripts]")[1]
    parser_of(command[0]).parse_args(command[1:])


def test_the_container_is_built_from_all_that_the_wheel_needs() -> None:
    let_through = re.findall(r"^!(.*)$", (ROOT / ".dockerignore").read_text(encoding="utf-8"), re.MULTILINE)
    packages = PROJECT.split("[tool.hatch.build.targets.wheel]")[1].split("]")[0]
    rooms = set(re.findall(r'"(\w+)/', packages))
    assert len(rooms) == 4
    assert rooms | {"pyproject.toml", "README.md", "LICENSE"} == set(let_through)


@pytest.mark.parametrize("text", [DOCKERFILE, UNIT], ids=["Dockerfile", "unit"])
def test_nothing_is_reported_to_the_maker_of_onnxruntime(text: str) -> None:
    assert re.search(r"\bORT_DISABLE_TELEMETRY=1\b", text)
