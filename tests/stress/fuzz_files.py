"""Damaged pictures and models by the thousand, read in processes that are watched.

``python -m tests.stress.fuzz_files --images 20000 --models 2000`` prints a table by kind of file. Each file must be
read or refused in one sentence, with no crash, in ten seconds of one CPU, and in the memory that is promised: what
``images.MEMORY_SHARE`` grants on a machine of 1 GB. Files that did otherwise are kept; exit status 1.
"""

import argparse
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stn_runtime import Classifier, InputError
from stn_runtime.images import reading as images
from stn_runtime.model.golden import replay
from tests.stress.mutations import damaged, model_seeds, picture_seeds

MACHINE_BYTES = 1 << 30
SECONDS = 10.0
DEAD_SECONDS = 60.0  # of the clock, on a machine that has other things to do
MEGABYTES = {"images": (MACHINE_BYTES // images.MEMORY_SHARE >> 20) + 16, "models": 512}
SEEDS = {"images": picture_seeds, "models": model_seeds}
READER = (sys.executable, "-m", "tests.stress.fuzz_files", "--child")
FAULTS = ("wrong", "crashed", "hung", "slow", "memory")


@dataclass(frozen=True)
class Outcome:
    """What became of one file.

    Attributes:
        index: Number of the file.
        kind: Kind of the seed that it was made from.
        verdict: read, refused, or one of ``FAULTS``.
        seconds: CPU seconds.
        megabytes: Peak of the process's memory above its start, seeds included.
        told: What was said, if it was not read.
    """

    index: int
    kind: str
    verdict: str
    seconds: float = 0.0
    megabytes: float = 0.0
    told: str = ""


def watch(what: str, count: int, seed: int = 0, reader: Sequence[str] = READER) -> Iterator[Outcome]:
    """Yield what becomes of ``count`` damaged files, ``images`` or ``models``, whatever becomes of the reader."""
    first, kinds = 0, list(SEEDS[what]())
    while first < count:
        command = [*reader, what, str(first), str(count), str(seed)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
            verdict = None
            while verdict is None:
                line = _line_of(child)
                if line is None:
                    verdict = "hung"
                elif not line:
                    verdict = "crashed"
                else:
                    index, kind, found, seconds, megabytes, told = line.rstrip("\n").split("\t", 5)
                    yield Outcome(int(index), kind, found, float(seconds), float(megabytes), told)
                    first = int(index) + 1
                if first >= count:
                    break
            child.kill()
        if verdict is not None:
            yield Outcome(first, kinds[first % len(kinds)], verdict, told=f"exit status {child.returncode}")
            first += 1


def _line_of(child: "subprocess.Popen[bytes]") -> str | None:
    """Return the next line, empty when the child has ended, None when it says nothing any more."""
    assert child.stdout is not None
    data = b""
    while not data.endswith(b"\n"):
        ready, _, _ = select.select([child.stdout], [], [], DEAD_SECONDS)
        if not ready:
            return None
        byte = os.read(child.stdout.fileno(), 1)
        if not byte:
            return ""
        data += byte
    return data.decode("utf-8", "replace")


def read_files(what: str, first: int, last: int, seed: int) -> None:
    """Read files and write a line about each; this is the child."""
    before = _memory("VmRSS")
    images.usable_memory = lambda: MACHINE_BYTES  # type: ignore[assignment]
    seeds, reader = SEEDS[what](), {"images": _read_picture, "models": _read_model}[what]
    out = os.fdopen(os.dup(1), "w", encoding="utf-8", errors="replace")
    os.dup2(2, 1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "damaged.file"
        for index in range(first, last):
            kind, data = damaged(seeds, seed, index)
            path.write_bytes(data)
            verdict, seconds, megabytes, told = _measured(reader, path, before, MEGABYTES[what])
            told = " ".join(told.replace(str(path), path.name).split())[:300]
            out.write(f"{index}\t{kind}\t{verdict}\t{seconds}\t{megabytes}\t{told}\n")
            out.flush()


def _measured(reader: Callable[[Path], None], path: Path, before: float, limit: float) -> tuple[str, float, float, str]:
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    started, told, verdict = time.process_time(), "", "read"
    try:
        reader(path)
    except InputError as error:
        told, verdict = str(error), "refused"
        if "\n" in told or path.name not in told:
            verdict = "wrong"
    except Exception as error:  # what must not be
        told, verdict = f"{type(error).__name__}: {error}", "wrong"
    seconds, megabytes = time.process_time() - started, _memory("VmHWM") - before
    if verdict != "wrong" and seconds > SECONDS:
        verdict = "slow"
    if verdict != "wrong" and megabytes > limit:
        verdict = "memory"
    return verdict, seconds, megabytes, told


def _memory(name: str) -> float:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split(f"{name}:")[1].split()[0]) / 1024


def _read_picture(path: Path) -> None:
    reduced = images.read_reduced(
        path, lambda height, width: 8 if height > 300 else 2, grey=bool(path.stat().st_size % 2)
    )
    whole = images.read_image(path)
    for picture in (whole, reduced.image):
        if picture.dtype != np.uint8 or picture.ndim not in (2, 3) or picture.shape[2:] not in ((), (3,)):
            raise TypeError(f"{picture.dtype} {picture.shape}")


def _read_model(path: Path) -> None:
    classifier = Classifier(path, threads=1)
    classifier.predict(np.full((40, 50), 90, np.uint8))
    replay(classifier._network)


def table(outcomes: list[Outcome]) -> str:
    """Return a Markdown table by kind of file."""
    columns = ("read", "refused", *FAULTS)
    lines = [f"| | files | {' | '.join(columns)} | most MB | most s |", f"| --- |{' ---: |' * (len(columns) + 3)}"]
    for kind in [*dict.fromkeys(outcome.kind for outcome in outcomes), "all"]:
        found = [outcome for outcome in outcomes if kind in (outcome.kind, "all")]
        counts = " | ".join(str(sum(outcome.verdict == column for outcome in found)) for column in columns)
        megabytes, seconds = (max(getattr(outcome, name) for outcome in found) for name in ("megabytes", "seconds"))
        lines.append(f"| {kind} | {len(found)} | {counts} | {megabytes:.0f} | {seconds:.1f} |")
    return "\n".join(lines)


def main() -> int:
    """Read them, print the tables, and keep what did wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=20_000, help="damaged pictures (default: %(default)s)")
    parser.add_argument("--models", type=int, default=2_000, help="damaged models (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="another seed damages otherwise (default: %(default)s)")
    parser.add_argument("--keep", type=Path, default=Path("fuzz_kept"), help="folder for files that did wrong")
    args = parser.parse_args()
    failed = False
    for what, count in (("images", args.images), ("models", args.models)):
        outcomes = list(watch(what, count, args.seed))
        sys.stdout.write(f"{table(outcomes)}\n\n" if outcomes else "")
        for outcome in outcomes:
            if outcome.verdict in FAULTS:
                failed = True
                args.keep.mkdir(parents=True, exist_ok=True)
                kept = args.keep / f"{what}-{args.seed}-{outcome.index}"
                kept.write_bytes(damaged(SEEDS[what](), args.seed, outcome.index)[1])
                sys.stdout.write(f"{kept}: {outcome.kind} {outcome.verdict}: {outcome.told}\n")
    return 1 if failed else 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        read_files(sys.argv[2], *map(int, sys.argv[3:6]))
    else:
        sys.exit(main())
