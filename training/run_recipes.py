"""Run released recipes side by side, one process each, and collect what they reach on the test split.

A run that is finished is passed over and one that broke off is resumed, so the same command goes on at any time:

    python training/run_recipes.py ~/runs --data-dir DIR --jobs 2 'st-cnn-*' --seeds 0 1 2
"""

import argparse
import csv
import fnmatch
import multiprocessing
import os
import shutil
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path

from stn_runtime import InputError
from stn_runtime.machine.filesystem import write_whole
from stn_training.recipes import released_recipes

_RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Row:
    """What one run reached; errors in per cent of the test split."""

    recipe: str
    seed: int
    test_error: float
    error_at_identity: float | None
    epochs: int
    seconds: int
    device: str
    precision: str


def run(name: str, seed: int, folder: Path, overrides: dict[str, object], threads: int) -> Row:
    """Train one recipe, or what is left of it, and measure it on the test split."""
    import torch

    from stn_training import TrainConfig, fit
    from stn_training.evaluation.accuracy import evaluate, evaluate_at_identity, load_test_images, open_subject
    from stn_training.recipes import read_options

    torch.set_num_threads(threads)
    config_file = folder / "config.json"
    resumed = config_file.exists()
    values = read_options(config_file) if resumed else {**released_recipes()[name], **overrides, "seed": seed}
    config = TrainConfig.from_mapping(values, name)
    seconds_before = float((folder / "seconds").read_text()) if (folder / "seconds").exists() else 0.0
    started = time.monotonic()
    result = fit(config, folder, resume=resumed)
    seconds = seconds_before + time.monotonic() - started
    (folder / "seconds").write_text(str(seconds))
    subject = open_subject(str(result.checkpoint))
    data = load_test_images(
        config.data, "test", config.distort, subject.spec, Path(config.data_dir), seed=0, reject=subject.reject
    )
    identity = evaluate_at_identity(subject, data)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{threads} CPU thread"
    row = Row(
        name,
        seed,
        round(100 * (1 - evaluate(subject, data).accuracy), 2),
        round(100 * (1 - identity.accuracy), 2) if identity is not None else None,
        config.epochs,
        round(seconds),
        device,
        str(read_options(config_file)["precision"]),
    )
    write_whole(folder / "row.csv", "\n".join([",".join(asdict(row)), _line(row), ""]).encode())
    return row


def _line(row: Row) -> str:
    return ",".join("" if value is None else str(value) for value in asdict(row).values())


def collect(root: Path) -> None:
    """Copy the figures of every finished run below ``root`` to the results beside this script."""
    _RESULTS.mkdir(exist_ok=True)
    for folder in sorted(path.parent for path in root.glob("*/row.csv")):
        shutil.copyfile(folder / "metrics.csv", _RESULTS / f"{folder.name}.csv")
    table = _RESULTS / "results.csv"
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for path in [*([table] if table.exists() else []), *sorted(root.glob("*/row.csv"))]:
        with path.open(newline="", encoding="utf-8") as file:
            rows |= {(row["recipe"], row["seed"]): row for row in csv.DictReader(file)}
    lines = [",".join(Row.__dataclass_fields__)] + [",".join(rows[key].values()) for key in sorted(rows)]
    write_whole(table, "\n".join([*lines, ""]).encode())


def main() -> int:
    """Run what the arguments name."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, help="a folder of runs, outside of the repository")
    parser.add_argument(
        "names", nargs="+", help="recipes, in the order in which they are to run; * stands for anything"
    )
    parser.add_argument("--data-dir", default="data", help="where benchmark data sets are kept")
    parser.add_argument("--backgrounds", help="photographs, for recipes with scenes")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="a run of each recipe for each seed")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="runs at the same time, a thread each")
    parser.add_argument("--epochs", type=int, help="instead of the recipes' own")
    args = parser.parse_args()
    known = released_recipes()
    names = [name for pattern in args.names for name in fnmatch.filter(known, pattern)]
    if not names:
        raise InputError(f"no recipe fits {' '.join(args.names)}; there are {', '.join(sorted(known))}")
    overrides: dict[str, object] = {"data_dir": args.data_dir}
    overrides |= {key: getattr(args, key) for key in ("epochs", "backgrounds") if getattr(args, key)}
    wanted = [(name, seed, args.root / f"{name}-{seed}") for seed in args.seeds for name in dict.fromkeys(names)]
    left = [job for job in wanted if not (job[2] / "row.csv").exists()]
    context = multiprocessing.get_context("spawn")
    failed = 0
    with ProcessPoolExecutor(args.jobs, mp_context=context) as pool:
        running = {pool.submit(run, *job, overrides, 1): job for job in left}
        for done in as_completed(running):
            name, seed, _ = running[done]
            try:
                sys.stdout.write(f"{done.result()}\n")
            except InputError as error:
                failed += 1
                sys.stdout.write(f"{name} with seed {seed}: {error}\n")
            sys.stdout.flush()
            collect(args.root)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
