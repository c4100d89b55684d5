"""The command evaluate."""

import argparse
import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import torch

from stn_models import load_checkpoint, save_checkpoint
from stn_runtime import InputError
from stn_runtime.errors import printable
from stn_runtime.machine.filesystem import make_folder, write_whole

from ..data.data_module import to_float
from ..data.datasets import SPLITS, TYPEFACES
from ..data.distortions import DISTORTIONS
from ..data.labelled_images import LabelledImages
from ..data.listing import FileOptions
from ..evaluation import ablation, sweep, thetas
from ..evaluation.accuracy import (
    Report,
    Subject,
    evaluate_at_identity,
    files_of,
    load_test_images,
    open_subject,
    spaced,
)
from ..evaluation.accuracy import evaluate as measure
from ..evaluation.activation_maps import map_tiles, save_maps
from ..pictures import save_confusion, tiles_of
from ..tables import save_rows
from .options import ALL_FILES, CLASS_NAMES, DATA, GROUP, TYPEFACES_HELP, seed

_MAPS_SHOWN = 12


def add_evaluate_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``stn evaluate``."""
    parser.add_argument("model", help="checkpoint (.safetensors), .onnx file or released model")
    parser.add_argument("data", help=DATA)
    parser.add_argument("--split", choices=SPLITS, default="test", help="which part (default: %(default)s)")
    parser.add_argument("--distort", default="", help=f"{', '.join(DISTORTIONS)}, or a mixture")
    parser.add_argument("--data-dir", type=Path, default=Path("data"), help="where benchmark data sets are kept")
    parser.add_argument("--all-files", action="store_true", help=ALL_FILES)
    parser.add_argument("--group", default="", metavar="REGEX", help=GROUP)
    parser.add_argument("--class-names", default="", metavar="FILE", help=CLASS_NAMES)
    parser.add_argument("--typefaces", type=Path, default=TYPEFACES, help=f"{TYPEFACES_HELP} (default: %(default)s)")
    parser.add_argument("--seed", type=seed, default=0, help="decides the distortions (default: %(default)s)")
    parser.add_argument("--output", type=Path, help="folder for confusion.csv, confusion.png and report.json")
    parser.add_argument(
        "--ablate", action="store_true", help="accuracy and time with theta as learned and at the identity"
    )
    parser.add_argument(
        "--sweep", action="store_true", help="accuracy against rotation, scale, shift, shear and noise; sweep.png"
    )
    parser.add_argument(
        "--thetas", action="store_true", help="angle, scale, shear and shift of theta, class by class; thetas.png"
    )
    parser.add_argument(
        "--maps", action="store_true", help="what speaks for the answers to some pictures, wrong ones first; maps.png"
    )
    parser.add_argument(
        "--against", nargs="+", default=[], metavar="MODEL", help="more models, for --ablate and --sweep"
    )
    parser.add_argument("--record", metavar="NAME", help="keep the accuracy in the checkpoint, for its manifest")


def evaluate(args: argparse.Namespace) -> int:
    """Measure a model on labelled images."""
    subject = open_subject(args.model)
    others = _opened_against(args, subject)
    if args.record and subject.network is None:
        raise InputError(f"{args.model}: --record writes to a checkpoint (.safetensors)")
    if args.output is not None:
        make_folder(args.output)  # before the work, not after it
    data = load_test_images(
        args.data,
        args.split,
        args.distort,
        subject.spec,
        args.data_dir,
        args.seed,
        files=files_of(subject.path, args.data, FileOptions(args.all_files, args.group, args.class_names)),
        reject=subject.reject,
        typefaces=args.typefaces,
    )
    report = measure(subject, data)
    sys.stdout.write(report.table() + "\n")
    identity = evaluate_at_identity(subject, data)
    if identity is not None:
        sys.stdout.write(f"accuracy {identity.accuracy:.2%} with every transformer held at the identity\n")
    if args.output is not None:
        _write_report(args, report, identity)
    if args.record:
        network, described = load_checkpoint(subject.path)
        metrics = {**described.metrics, args.record: 100 * report.accuracy}
        save_checkpoint(subject.path, network, dataclasses.replace(described, metrics=metrics))
    _understand(args, [subject, *others], data)
    if args.maps:
        _draw_maps(args.output / "maps.png", subject, data, report)
    return 0


def _opened_against(args: argparse.Namespace, subject: Subject) -> list[Subject]:
    """Return the models of ``--against``, after checking what the flags beside it need.

    Raises:
        InputError: Flags lack what they need, or a model is not like the first.
    """
    if args.against and not (args.ablate or args.sweep):
        raise InputError("--against names models for --ablate and --sweep; give one of these")
    drawing = next((flag for flag in ("sweep", "thetas", "maps") if getattr(args, flag)), None)
    if args.output is None and drawing is not None:
        raise InputError(f"--{drawing} draws a picture; give a folder for it with --output")
    if args.maps:
        _check_maps(args.model, subject)
    if args.thetas and (subject.network is None or subject.predict_at_identity is None):
        what = "has no transformer" if subject.network is not None else "is no checkpoint"
        raise InputError(f"{args.model}: {what}; --thetas needs a checkpoint (.safetensors) of a network with one")
    others = [open_subject(name) for name in args.against]
    for name, other in zip(args.against, others, strict=True):
        for what, own, its in (
            ("labels", subject.labels, other.labels),
            ("preprocessing", subject.spec, other.spec),
        ):
            if own != its:
                raise InputError(f"{name}: its {what} are not those of {args.model}; compare exports of one checkpoint")
    return others


def _understand(args: argparse.Namespace, subjects: list[Subject], data: LabelledImages) -> None:
    """Do what ``--ablate``, ``--sweep`` and ``--thetas`` ask for, one after the other."""
    if args.ablate:
        found = ablation.ablate(subjects, data)
        threads = torch.get_num_threads()
        sys.stdout.write(f"{ablation.table(found)}\ntimes on {threads} thread{'s' * (threads > 1)}, in turns\n")
        if args.output is not None:
            save_rows(found, args.output / "ablation.csv")
    if args.sweep:
        points = sweep.sweep(subjects, data, args.seed)
        save_rows(points, args.output / "sweep.csv")
        sweep.save_sweep(points, args.output / "sweep.png")
        sys.stdout.write(f"{args.output / 'sweep.png'}: {len(points)} points in sweep.csv\n")
    if args.thetas and subjects[0].network is not None:
        chosen = spaced(data, thetas.MOST_PICTURES)
        measured = thetas.measure_thetas(subjects[0].network, chosen)
        rows = list(thetas.rows(measured, chosen))
        sys.stdout.write(f"{thetas.table(rows)}\n")
        save_rows(rows, args.output / "thetas.csv")
        thetas.save_thetas(measured, chosen, args.output / "thetas.png")
        sys.stdout.write(f"{args.output / 'thetas.png'}: {len(chosen)} pictures, all figures in thetas.csv\n")


def _check_maps(name: str, subject: Subject) -> None:
    """Refuse a model of which no activation maps can be drawn, before the work.

    Raises:
        InputError: It is no checkpoint, or has no map of features for single labels.
    """
    if subject.network is None:
        raise InputError(f"{name}: is no checkpoint; --maps needs one (.safetensors)")
    spec = subject.spec
    if map_tiles(subject.network, torch.zeros(1, spec.channels, spec.height, spec.width), [0]) is None:
        raise InputError(f"{name}: has no map of features for single labels; leave out --maps")


def _draw_maps(path: Path, subject: Subject, data: LabelledImages, report: Report) -> None:
    """Draw some pictures, the wrong answers first, and below each what speaks for its answer."""
    true = np.array([subject.labels.index(name) for name in data.classes])[data.labels.numpy()]
    order = np.argsort(report.predicted == true, kind="stable")[:_MAPS_SHOWN]
    images, answers = to_float(data.images[torch.from_numpy(order)]), report.predicted[order]
    shown = [printable(label, 24) for label in subject.labels]
    names = [(shown[label], shown[answer]) for label, answer in zip(true[order], answers, strict=True)]
    tiles = map_tiles(subject.network, images, answers.tolist()) if subject.network is not None else None
    save_maps(tiles_of(images), tiles or [], names, path)
    wrong = sum(one != other for one, other in names)
    sys.stdout.write(f"{path}: {len(names)} pictures, {wrong} of them with a wrong answer\n")


def _write_report(args: argparse.Namespace, report: Report, identity: Report | None) -> None:
    save_confusion(report.confusion, report.classes, args.output)
    figures = {
        "model": args.model,
        "data": args.data,
        "split": args.split,
        "distort": args.distort,
        "seed": args.seed,
        "images": len(report.predicted),
        "accuracy": report.accuracy,
        "accuracy_at_identity": identity.accuracy if identity is not None else None,
    }
    write_whole(args.output / "report.json", f"{json.dumps(figures, indent=2)}\n".encode())
