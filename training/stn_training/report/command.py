"""The command report."""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from stn_runtime import InputError
from stn_runtime.machine.filesystem import check_writable, make_folder, write_whole

from ..config import BENCHMARKS
from .measurement import measure, read_run
from .page import page


def add_report_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``stn report``."""
    parser.add_argument("run", type=Path, help="folder of a training run")
    parser.add_argument("--model", type=Path, metavar="FILE", help="the .onnx file that was exported from it")
    parser.add_argument(
        "-o", "--output", type=Path, help="the page to write (default: report.html in the run's folder)"
    )
    parser.add_argument("--data", help="where the run's data are now (default: where they were in training)")
    parser.add_argument("--split", choices=("val", "test"), help="part to measure (default: test, or val without one)")


def report(args: argparse.Namespace) -> int:
    """Write the report of a run."""
    path = checked(args.output or args.run / "report.html")
    write_report(args.run, path, args.model, args.split, args.data)
    sys.stdout.write(f"{path}\n")
    return 0


def checked(path: Path) -> Path:
    """Return the path of a report, before the work that it is about.

    Raises:
        InputError: It cannot be one.
    """
    if path.suffix.lower() not in (".html", ".htm") or path.is_dir():
        raise InputError(f"{path}: a report is a page; give it the name of a file that ends in .html")
    make_folder(path.parent)
    check_writable(path.parent)
    return path


def write_report(
    folder: Path, path: Path, exported: Path | None = None, split: str | None = None, data: str | None = None
) -> None:
    """Measure the network of a training run and write a page about it.

    Args:
        folder: The run's folder.
        path: HTML file to write; it needs no other file and no network.
        exported: The .onnx file made of the run's checkpoint, to measure as well; None without one.
        split: Part of the data to measure, ``test`` or ``val``; None for the test part, where there is one.
        data: Place of the run's data, where it is not that of its training.

    Raises:
        InputError: The folder holds no run, or the data or files cannot be used.
    """
    run = read_run(folder)
    if data is not None:
        run = replace(run, config=replace(run.config, data=data))
    if run.config.data not in BENCHMARKS and not Path(run.config.data).exists():
        raise InputError(
            f"{folder}: its data, '{run.config.data}', are not there; say where they are with --data, or run this in "
            "the folder in which it was trained"
        )
    findings = measure(run, exported, split)
    try:
        write_whole(path, page(findings).encode())
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror or error})") from error
