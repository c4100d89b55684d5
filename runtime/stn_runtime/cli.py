"""The command line: finds the command's module only when it is called, so that `stn run` never loads PyTorch."""

import argparse
import io
import logging
import os
import re
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module, metadata

from .arguments import did_you_mean
from .errors import LONGEST_MESSAGE, InputError, MissingDependencyError, printable
from .machine.environment import set_defaults
from .machine.interpreter import PIP
from .machine.redaction import mask_addresses
from .machine.threads import any_daemon_alive


@dataclass(frozen=True)
class Command:
    """A subcommand.

    Attributes:
        module: Has a function of the command's name, and another, ``add_<name>_arguments``.
        help: One line.
        extra: What to install for it beyond the device's packages.
    """

    module: str
    help: str
    extra: str = ""


_PACKAGES = ("stn_runtime", "stn_training", "stn_export", "stn_models")

COMMANDS = {
    "run": Command("stn_runtime.commands.run", "classify a camera, a video, a picture or a folder of pictures"),
    "verify": Command("stn_runtime.commands.verify", "check that a model answers here as it did in PyTorch"),
    "bench": Command("stn_runtime.bench.command", "measure how fast a model runs here"),
    "doctor": Command("stn_runtime.doctor.command", "find what this device, or a model on a target, cannot do"),
    "models": Command("stn_runtime.commands.models", "list released models and networks, or show one"),
    "train": Command("stn_training.commands.train", "train a classifier with a spatial transformer", "train"),
    "evaluate": Command(
        "stn_training.commands.evaluate", "measure a checkpoint or an .onnx file on labelled images", "train"
    ),
    "sheet": Command(
        "stn_training.commands.sheet", "draw a contact sheet of a data set, distorted as in training", "train"
    ),
    "report": Command("stn_training.report.command", "write a page about a training run: what to do next", "train"),
    "anchors": Command("stn_training.anchors.command", "find anchor boxes for a detection data set", "train"),
    "export": Command("stn_export.commands", "turn a checkpoint into an .onnx file proven equal to it", "export"),
    "optimize": Command("stn_export.commands", "make the spatial transformers of any .onnx file fast", "export"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        0 all well; 1 some inputs failed; 2 wrong usage or an unusable model; 130 interrupted.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    name = arguments[0] if arguments else ""
    # Closed by whoever started the program; what is written there is not wanted.
    sys.stdout, sys.stderr = (stream or open(os.devnull, "w") for stream in (sys.stdout, sys.stderr))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    verbose = "--verbose" in arguments or "-v" in arguments
    set_defaults(verbose)
    try:
        if name not in COMMANDS:
            return _overview(arguments)
        with _logging_to_stderr(verbose):
            module = _module(name)
            _warn_of_several_wheels()
            status: int = getattr(module, name)(_parse(name, arguments[1:]))
    except InputError as error:
        _say(str(error), verbose)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of our output is gone: nobody is left to write to
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:  # a full disk, a folder that was taken away
        place = f"{error.filename}: " if error.filename else "the system refused: "
        _say(f"{place}{error.strerror or error} (option --verbose shows where)", verbose)
        return 2
    return status


def console() -> None:
    """Run ``main`` as the program ``stn``."""
    status = main()
    with suppress(OSError):
        sys.stdout.flush()
    if any_daemon_alive():
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def _overview(arguments: list[str]) -> int:
    width = max(map(len, COMMANDS))
    listing = "\n".join(f"  {name:<{width}}  {command.help}" for name, command in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="stn",
        usage="stn COMMAND ...",
        description="Spatial transformers on edge devices.",
        epilog=f"commands ('stn COMMAND --help' tells more):\n{listing}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"stn-edge {metadata.version('stn-edge')}")
    if not arguments:
        parser.print_help(sys.stderr)
        return 2
    if arguments[0] in ("-h", "--help", "--version"):
        parser.parse_args(arguments[:1])
    hint = did_you_mean(arguments[0], COMMANDS) or f"; choose from {', '.join(COMMANDS)}"
    parser.error(f"no command '{arguments[0]}'{hint}")


def parser_of(name: str) -> argparse.ArgumentParser:
    """Return the parser of a command.

    Raises:
        MissingDependencyError: Its packages are not installed.
    """
    parser = argparse.ArgumentParser(prog=f"stn {name}", description=COMMANDS[name].help, allow_abbrev=False)
    getattr(_module(name), f"add_{name}_arguments")(parser)
    parser.add_argument("-v", "--verbose", action="store_true", help="show the log, and where an error comes from")
    return parser


def _parse(name: str, arguments: Sequence[str]) -> argparse.Namespace:
    parser = parser_of(name)
    args, unknown = parser.parse_known_args(arguments)
    if unknown:
        option, kind = unknown[0].partition("=")[0], "no option" if unknown[0].startswith("-") else "unexpected"
        parser.error(f"{kind} '{option}'{did_you_mean(option, re.findall(r'--[a-z-]+', parser.format_help()))}")
    args.words = list(arguments)  # for a command that starts itself again
    return args


@contextmanager
def _logging_to_stderr(verbose: bool) -> Iterator[None]:
    """Write warnings and the progress of this project to standard error while the block runs, or its whole log."""
    handler = _Log()
    handler.setFormatter(logging.Formatter("%(name)s: %(message)s" if verbose else "%(message)s"))
    root, ours = logging.getLogger(), [logging.getLogger(name) for name in _PACKAGES]
    levels = [logger.level for logger in ours]
    root.addHandler(handler)
    for logger in ours:
        logger.setLevel(logging.DEBUG if verbose else logging.INFO)
    try:
        yield
    finally:
        root.removeHandler(handler)
        for logger, level in zip(ours, levels, strict=True):
            logger.setLevel(level)


class _Log(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        """Write a line to standard error, above a progress bar where there is one."""
        from tqdm import tqdm  # which bare help does not need

        tqdm.write(mask_addresses(self.format(record)), file=sys.stderr)


def _say(sentence: str, verbose: bool) -> None:
    """Write an error's sentence to standard error, in verbose mode below its traceback, without secrets."""
    if verbose:
        sys.stderr.write(mask_addresses(traceback.format_exc()))
    sys.stderr.write(f"stn: {printable(sentence, LONGEST_MESSAGE)}\n")


def _module(name: str) -> object:
    command = COMMANDS[name]
    try:
        return import_module(command.module)
    except ModuleNotFoundError as error:
        if not command.extra:
            raise MissingDependencyError(f"package '{error.name}' is not installed: {PIP} install stn-edge") from error
        raise MissingDependencyError(
            f"'stn {name}' needs package '{error.name}', which is missing: {PIP} install 'stn-edge[{command.extra}]'"
        ) from error


def _warn_of_several_wheels() -> None:
    opencv = sys.modules.get("stn_runtime.images.opencv")
    wheels = opencv.installed_wheels() if opencv is not None else []
    if len(wheels) > 1:
        sys.stderr.write(
            f"OpenCV wheels overwrite each other: {', '.join(wheels)}; keep one, {PIP} uninstall the others\n"
        )
