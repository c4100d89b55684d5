"""A run on Ray Data: partitions of pictures to workers, and a parquet file from each.

A worker reads, decodes and classifies a partition by itself, so no picture travels between processes, and writes its
records as one file, whole. What is there of a run that broke off is known by its files: every picture has its row once,
whichever worker or driver died.
"""

import hashlib
import json
import logging
import os
import re
import socket
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from ..errors import InputError
from ..machine.redaction import describe_cause, without_secrets
from ..model.classifier import Classifier
from ..model.zoo import find_model
from ..sources.frame import Selection
from .batch_classifier import BatchClassifier
from .packages import required
from .parquet_records import write_whole
from .partitions import Division, Partition, absolute, divided, file_system, read_pictures

log = logging.getLogger(__name__)

_PLAN, _MODEL = "_run.json", "_model.onnx"  # names that readers of parquet folders pass over
_TOKEN = "RAY_AUTH_MODE"
_CONNECT_SECONDS = 10
_BATCH = 64  # pictures that a worker turns into rows at a time
_BLOCKS_PER_WORKER = 50


@dataclass(frozen=True)
class ClusterOptions:
    """What a run on a cluster is asked for.

    Attributes:
        sources: As for ``partitions.divided``.
        output: Folder or address that takes the parquet files.
        model: A released model's name, or an .onnx file of this machine.
        address: Of a Ray cluster; None takes the one that ``RAY_ADDRESS`` names, or starts one on this machine.
        workers: Number of workers; None takes one for each CPU of the cluster, by their threads.
        threads: onnxruntime's threads of a worker.
        providers: onnxruntime's execution providers; None chooses.
        topk: Number of labels in a record.
        threshold: Confidence below which a label is null; None takes the model's.
        full_decode: Whether JPEGs are decoded at full size.
        selection: Says which files of folders are wanted.
        limit: Number of pictures after which the run ends; None is all.
        resume: Whether partitions that the output holds already are left out.
    """

    sources: tuple[str, ...]
    output: str
    model: str
    address: str | None
    workers: int | None
    threads: int
    providers: tuple[str, ...] | None
    topk: int
    threshold: float | None
    full_decode: bool
    selection: Selection
    limit: int | None
    resume: bool


@dataclass(frozen=True)
class PartitionDone:
    """What became of a partition.

    Attributes:
        frames: Pictures that have a row.
        failed: Those of them that could not be read.
        labels: Pictures by label, or by why they have none, as in the summary of ``stn run``.
    """

    frames: int
    failed: int
    labels: Counter[str]


class _Worker:
    """Classifies partitions; one in each process of the pool.

    What fails comes back as a sentence: an exception of a worker reaches the driver buried in one of Ray's.
    """

    def __init__(self, output: str, options: dict[str, Any]) -> None:
        self.output, self.options = output, options
        self.classifier: BatchClassifier | None = None

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        nothing = {"number": row["number"], "frames": 0, "failed": 0, "labels": "{}"}
        try:
            return {**nothing, **self._classified(row), "error": ""}
        except InputError as error:
            return {**nothing, "error": str(error)}
        except Exception as error:  # whatever it is, the run ends with it
            return {**nothing, "error": f"Ray ended the run ({type(error).__name__}: {describe_cause(error)})"}

    def _opened(self) -> BatchClassifier:
        if self.classifier is None:
            system, path = file_system(self.output)
            with system.open_input_file(f"{path}/{_MODEL}") as file:
                self.classifier = BatchClassifier(bytes(file.read()), **self.options)
        return self.classifier

    def _classified(self, row: dict[str, Any]) -> dict[str, Any]:
        classifier = self._opened()
        partition = Partition(row["number"], row["base"], tuple(row["paths"]), row["row_group"], tuple(row["rows"]))
        tables, batch = [], []
        for picture in read_pictures(partition):
            batch.append(picture)
            if len(batch) == _BATCH:
                tables.append(classifier.table(batch))
                batch = []
        tables += [classifier.table(batch)] if batch else []
        table = required("pyarrow").concat_tables(tables)
        system, path = file_system(self.output)
        write_whole(table, system, f"{path}/{partition.name}")
        return _counts(table)


def _counts(table: Any) -> dict[str, Any]:  # noqa: ANN401  (pyarrow's)
    labels: Counter[str] = Counter()
    failed = 0
    for label, rejected, top, error in zip(
        *(table.column(name).to_pylist() for name in ("label", "rejected", "top", "error")), strict=True
    ):
        failed += error is not None
        if error is None:
            best = top[0]["label"] or "no text"
            labels["unsure" if label is None and not rejected else f"no label ({best})" if rejected else best] += 1
    return {"frames": table.num_rows, "failed": failed, "labels": json.dumps(labels)}


def classify_on_ray(options: ClusterOptions) -> tuple[int, Iterator[PartitionDone]]:
    """Prepare a run on a Ray cluster; return the number of partitions that are left, and them as they are done.

    Raises:
        InputError: A source, the model, the output or the cluster cannot be had, or the output is of another run.
    """
    ray = required("ray")
    required("ray.data")
    model = find_model(options.model)
    manifest = Classifier(model, threads=1, providers=["CPUExecutionProvider"]).manifest
    rule = manifest.label_rule(options.threshold)
    division = divided(options.sources, options.selection, options.limit)
    left = _left_over(options, division, model.read_bytes())
    sys.stderr.write(f"{manifest.name} runs on Ray{f'; {rule}' if rule else ''}\n")
    if len(left) < len(division.partitions):
        done = len(division.partitions) - len(left)
        sys.stderr.write(f"{done} of {len(division.partitions)} partitions are there already\n")
    return len(left), _classified(ray, left, options) if left else iter(())


def _classified(
    ray: Any,  # noqa: ANN401  (a module that may be missing)
    left: list[Partition],
    options: ClusterOptions,
) -> Iterator[PartitionDone]:
    was_running, output = ray.is_initialized(), without_secrets(options.output)
    _connect(ray, options.address)
    try:
        for row in _rows(ray, left, options):
            if row["error"]:
                raise InputError(f"{row['error']}; what is done stays in {output}, and --resume does the rest")
            yield PartitionDone(row["frames"], row["failed"], Counter(json.loads(row["labels"])))
    except ray.exceptions.RayError as error:
        raise InputError(
            f"Ray ended the run ({describe_cause(error)}); what is done stays in {output}, and --resume does the rest"
        ) from error
    finally:
        if not was_running:
            ray.shutdown()


def _rows(
    ray: Any,  # noqa: ANN401  (a module that may be missing)
    left: list[Partition],
    options: ClusterOptions,
) -> Iterator[dict[str, Any]]:
    """Return what becomes of each partition, as they are done."""
    settings = {
        "threads": options.threads,
        "providers": options.providers,
        "topk": options.topk,
        "threshold": options.threshold,
        "full_decode": options.full_decode,
    }
    workers = options.workers or max(1, int(ray.cluster_resources().get("CPU", 1)) // options.threads)
    workers = min(workers, len(left))
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    items = [{**asdict(one), "paths": list(one.paths), "rows": list(one.rows)} for one in left]
    blocks = min(len(items), _BLOCKS_PER_WORKER * workers)
    dataset = ray.data.from_items(items, override_num_blocks=blocks).map(
        _Worker,
        fn_constructor_kwargs={"output": absolute(options.output), "options": settings},
        compute=ray.data.ActorPoolStrategy(size=workers),
        num_cpus=options.threads,
    )
    rows: Iterator[dict[str, Any]] = dataset.iter_rows()
    return rows


def _connect(ray: Any, address: str | None) -> None:  # noqa: ANN401  (a module)
    """Join the cluster, or start one.

    Raises:
        InputError: It cannot be reached or started.
    """
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # the run says itself why it ended
    if ray.is_initialized():
        return
    _check_reachable(address)
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # else each worker warns of what Ray Data itself sets
    try:
        with _quiet():
            ray.init(address=address, logging_level="ERROR", log_to_driver=False)
    except (ConnectionError, RuntimeError, ValueError) as error:
        where = f"--address {address}: no Ray cluster can be reached there" if address else "Ray cannot be started here"
        token = "; if it asks for a token, set RAY_AUTH_MODE=token" if address and not os.environ.get(_TOKEN) else ""
        raise InputError(f"{where} ({describe_cause(error)}){token}") from error


def _check_reachable(address: str | None) -> None:
    """Refuse an address of HOST:PORT at which nothing listens, for which Ray itself waits without end."""
    match = re.fullmatch(r"(?:ray://)?(.+):(\d+)", address or "")
    if match is None:
        return
    try:
        socket.create_connection((match[1].strip("[]"), int(match[2])), _CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise InputError(f"--address {address}: nothing listens there ({describe_cause(error)})") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Ray's libraries from writing to standard error; what goes wrong is said in a sentence."""
    if log.isEnabledFor(logging.DEBUG):
        yield
        return
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "w", encoding="utf-8") as nothing:
            os.dup2(nothing.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _left_over(options: ClusterOptions, division: Division, model: bytes) -> list[Partition]:
    """Return the partitions that the output lacks; a new output is made ready.

    Raises:
        InputError: The output holds something else, or a run of another source or model.
    """
    output = without_secrets(options.output)
    system, path = file_system(options.output)
    fs = required("pyarrow.fs")
    plan: dict[str, Any] = {
        "digest": division.digest,
        "model": hashlib.sha256(model).hexdigest(),
    }
    plan |= {"threshold": options.threshold, "topk": options.topk, "full_decode": options.full_decode}
    try:
        found = system.get_file_info(path)
        if found.is_file:
            raise InputError(f"{output}: is a file; the output of a run on Ray is a folder of parquet files")
        there = {
            file.base_name
            for file in system.get_file_info(fs.FileSelector(path, allow_not_found=True))
            if not file.base_name.startswith(".")
        }
        if there - {_PLAN, _MODEL} and not options.resume:
            raise InputError(f"{output}: is not empty; add --resume to go on, or name another output")
        if _PLAN in there and options.resume:
            with system.open_input_file(f"{path}/{_PLAN}") as file:
                before = json.loads(file.read())
            differing = [name for name in plan if before.get(name) != plan[name]]
            if differing:
                raise InputError(f"{output}: holds a run of another {_MEANING[differing[0]]}; name another output")
        elif there - {_PLAN, _MODEL}:
            raise InputError(f"{output}: holds other files than those of a run; name another output")
        if not there - {_PLAN, _MODEL}:
            system.create_dir(path, recursive=True)
            for name, content in ((_MODEL, model), (_PLAN, json.dumps(plan).encode())):
                with system.open_output_stream(f"{path}/{name}") as file:
                    file.write(content)
    except OSError as error:
        raise InputError(f"{output}: cannot be used ({describe_cause(error)})") from error
    return [partition for partition in division.partitions if partition.name not in there]


_MEANING = {
    "digest": "source, or the source's pictures have changed since",
    "model": "model",
    "threshold": "--conf",
    "topk": "--topk",
    "full_decode": "way to decode",
}
