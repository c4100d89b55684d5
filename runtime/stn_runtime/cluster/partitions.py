"""What a run on a cluster is divided into: parts of a folder, of an object store, or of parquet files."""

import hashlib
import json
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

from ..errors import ImageReadError, InputError
from ..images.foreign_files import is_below_foreign
from ..images.reading import IMAGE_SUFFIXES
from ..machine.redaction import describe_cause, without_secrets
from ..sources.frame import Selection
from ..sources.image_files import ImageFiles
from ..sources.opening import open_source
from .packages import required

PICTURES = 1000
"""Pictures of a partition; what a worker that dies has to do again."""

_READ_AHEAD = 16  # files that are read while others are classified
_PARQUET = ".parquet"


@dataclass(frozen=True)
class Partition:
    """Pictures that are classified by one worker and end in one file.

    Attributes:
        number: From 0.
        base: Address of the file system that the paths are of, or the folder that they start from.
        paths: The pictures; or, of a parquet file, its path alone.
        row_group: Which part of a parquet file; None of pictures.
    """

    number: int
    base: str
    paths: tuple[str, ...]
    row_group: int | None = None

    @property
    def name(self) -> str:
        """Name of the file with its records."""
        return f"part-{self.number:06d}{_PARQUET}"


@dataclass(frozen=True)
class Division:
    """How a source is divided.

    Attributes:
        partitions: In the order of their numbers.
        pictures: How many there are in all.
        digest: Differs where the pictures do.
    """

    partitions: tuple[Partition, ...]
    pictures: int
    digest: str


def absolute(address: str) -> str:
    """Return an address, or a path of this machine from its root on."""
    return address if "://" in address else str(Path(address).resolve())


def file_system(address: str) -> tuple[Any, str]:
    """Return pyarrow's file system of an address, ``s3://bucket/folder`` or a path, and the path in it.

    Raises:
        InputError: There is no such file system, or it cannot be used.
    """
    fs = required("pyarrow.fs")
    if "://" not in address:
        return fs.LocalFileSystem(), absolute(address)
    try:
        system, path = fs.FileSystem.from_uri(address)
    except (OSError, ValueError) as error:
        raise InputError(f"{without_secrets(address)}: cannot be opened ({describe_cause(error)})") from error
    return system, path


def divided(sources: Sequence[str], selection: Selection, limit: int | None) -> Division:
    """Return how sources are divided.

    Args:
        sources: Folders, files, patterns or lists of this machine as for ``stn run``; parquet files and folders; or
            addresses of a file system of pyarrow's.
        selection: Says which files of folders are wanted.
        limit: Number of pictures; None is all. A parquet file is taken in whole row groups.

    Raises:
        InputError: There is no such source, it holds no pictures, or cannot be listed.
    """
    partitions: list[Partition] = []
    digest, pictures = hashlib.sha256(), 0
    for source in sources:
        for base, paths, row_group, count in _pieces(source, selection):
            if limit is not None and pictures >= limit:
                break
            if limit is not None and row_group is None:
                paths = paths[: limit - pictures]
                count = len(paths)
            partitions.append(Partition(len(partitions), base, tuple(paths), row_group))
            places = [_address(base, _place(base, path)) for path in paths]
            digest.update(json.dumps([places, row_group, count]).encode())
            pictures += count
    if not pictures:
        raise InputError(f"{', '.join(map(without_secrets, sources))}: no pictures found")
    return Division(tuple(partitions), pictures, digest.hexdigest())


def _pieces(source: str, selection: Selection) -> Iterator[tuple[str, list[str], int | None, int]]:
    """Yield base, paths, row group and number of pictures of each partition of a source."""
    is_address = "://" in source
    if not is_address and not source.endswith(_PARQUET):
        base, paths = os.getcwd(), [str(path) for path in _local_files(source, selection)]
    else:
        system, path = file_system(source)
        base = source if is_address else os.getcwd()
        paths = _listed(system, path, source, selection)
        if paths and all(path.endswith(_PARQUET) for path in paths):
            yield from _row_groups(system, base, paths, source)
            return
    for first in range(0, len(paths), PICTURES):
        chosen = paths[first : first + PICTURES]
        yield base, chosen, None, len(chosen)


def _local_files(source: str, selection: Selection) -> Iterator[Path]:
    opened = open_source(source, selection=selection)
    if not isinstance(opened, ImageFiles):
        opened.close()
        raise InputError(f"{source}: --engine ray takes stored pictures; cameras and videos are for --engine local")
    return islice(iter(opened.paths), 0, None, selection.stride)


def _listed(system: Any, path: str, source: str, selection: Selection) -> list[str]:  # noqa: ANN401  (pyarrow's)
    """Return the pictures, or else the parquet files, at and below a path."""
    fs = required("pyarrow.fs")
    try:
        found = system.get_file_info(path)
        if found.type == fs.FileType.NotFound:
            raise InputError(f"{without_secrets(source)}: no such file or folder")
        files = [found] if found.is_file else system.get_file_info(fs.FileSelector(path, recursive=True))
    except OSError as error:
        raise InputError(f"{without_secrets(source)}: cannot be listed ({describe_cause(error)})") from error
    names = sorted(file.path for file in files if file.is_file)
    own = [name for name in names if selection.all_files or not is_below_foreign(Path(name), Path(path))]
    pictures = [name for name in own if PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES]
    tables = [name for name in own if name.endswith(_PARQUET) and not PurePosixPath(name).name.startswith((".", "_"))]
    if len(names) == 1 and not tables:
        return names
    return list(islice(pictures, 0, None, selection.stride)) or tables


def _row_groups(
    system: Any,  # noqa: ANN401  (pyarrow's)
    base: str,
    paths: Sequence[str],
    source: str,
) -> Iterator[tuple[str, list[str], int | None, int]]:
    for path in paths:
        file = _opened(system, path, source)
        picture_column(file.schema_arrow, path)
        for number in range(file.num_row_groups):
            yield base, [path], number, file.metadata.row_group(number).num_rows


def _opened(system: Any, path: str, source: str) -> Any:  # noqa: ANN401  (pyarrow's)
    parquet = required("pyarrow.parquet")
    try:
        return parquet.ParquetFile(path, filesystem=system)
    except (OSError, ValueError) as error:  # pyarrow's own errors are of these
        raise InputError(f"{without_secrets(source)}: cannot be read as parquet ({describe_cause(error)})") from error


def picture_column(schema: Any, path: str) -> tuple[str, bool]:  # noqa: ANN401  (pyarrow's)
    """Return the column of a table with the encoded pictures, and whether these are its field ``bytes``.

    Raises:
        InputError: There is none, or there are several.
    """
    types = required("pyarrow.types")
    found = []
    for field in schema:
        kind = field.type
        if types.is_binary(kind) or types.is_large_binary(kind):
            found.append((field.name, False))
        elif types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
            found.append((field.name, True))
    if len(found) != 1:
        names = f": {', '.join(name for name, _ in found)}" if found else ""
        raise InputError(f"{path}: has {len(found)} columns of bytes{names}; it takes one, with the encoded pictures")
    return found[0]


def read_pictures(partition: Partition) -> Iterator[tuple[str, int, Any]]:
    """Yield source, number in it, and bytes of each picture of a partition, or why there are none."""
    system, _ = file_system(partition.base)
    if partition.row_group is not None:
        yield from _rows(system, partition)
        return
    with ThreadPoolExecutor(4) as pool:
        waiting: deque[tuple[str, Future[Any]]] = deque()
        for path in partition.paths:
            waiting.append((path, pool.submit(_read, system, _place(partition.base, path))))
            if len(waiting) > _READ_AHEAD:
                path, pending = waiting.popleft()
                yield _address(partition.base, path), 0, pending.result()
        for path, pending in waiting:
            yield _address(partition.base, path), 0, pending.result()


def _rows(system: Any, partition: Partition) -> Iterator[tuple[str, int, Any]]:  # noqa: ANN401  (pyarrow's)
    (path,), group = partition.paths, partition.row_group
    file = _opened(system, path, path)
    column, is_field = picture_column(file.schema_arrow, path)
    first = sum(file.metadata.row_group(number).num_rows for number in range(group or 0))
    for index, value in enumerate(file.read_row_group(group, columns=[column]).column(0).to_pylist()):
        data = value["bytes"] if is_field and value is not None else value
        address = _address(partition.base, path)
        picture = ImageReadError(f"{address}: row {first + index} holds no picture") if data is None else data
        yield address, first + index, picture


def _read(system: Any, path: str) -> Any:  # noqa: ANN401  (pyarrow's)
    try:
        with system.open_input_file(path) as file:
            return file.read()
    except OSError as error:
        return ImageReadError(f"{path}: cannot be read ({describe_cause(error)})")


def _place(base: str, path: str) -> str:
    """Return a path as its file system takes it; a relative one starts where the driver ran, and not the worker."""
    return path if "://" in base else os.path.join(base, path)


def _address(base: str, path: str) -> str:
    """Return what a picture is called in its record."""
    scheme, separator, _ = base.partition("://")
    return f"{scheme}://{path}" if separator else path
