"""What a run on a cluster is divided into: parts of a folder, of an object store, or of parquet files."""

import glob
import hashlib
import json
import os
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
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
        rows: Which rows of that part, from its first: start, stop, step.
    """

    number: int
    base: str
    paths: tuple[str, ...]
    row_group: int | None = None
    rows: tuple[int, int, int] = (0, 0, 1)

    @property
    def pictures(self) -> int:
        """How many there are."""
        return len(self.paths) if self.row_group is None else len(range(*self.rows))

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
        limit: Number of pictures; None is all.

    Raises:
        InputError: There is no such source, it holds no pictures, or cannot be listed.
    """
    partitions: list[Partition] = []
    digest, pictures = hashlib.sha256(), 0
    for source in sources:
        for piece in _pieces(source, selection):
            left = None if limit is None else limit - pictures
            if left == 0:
                break
            one = _shortened(replace(piece, number=len(partitions)), left)
            partitions.append(one)
            places = [_address(one.base, _place(one.base, path)) for path in one.paths]
            digest.update(json.dumps([places, one.row_group, *one.rows]).encode())
            pictures += one.pictures
    if not pictures:
        raise InputError(f"{', '.join(map(without_secrets, sources))}: no pictures found")
    return Division(tuple(partitions), pictures, digest.hexdigest())


def _shortened(partition: Partition, most: int | None) -> Partition:
    """Return a partition with at most so many pictures."""
    if most is None or partition.pictures <= most:
        return partition
    if partition.row_group is None:
        return replace(partition, paths=partition.paths[:most])
    kept = range(*partition.rows)[:most]
    return replace(partition, rows=(kept.start, kept.stop, kept.step))


def _pieces(source: str, selection: Selection) -> Iterator[Partition]:
    """Yield the partitions of a source, without numbers."""
    if "://" in source:
        base = source
        system, path = file_system(source)
        pictures, tables = _listed(system, path, source, selection)
    else:
        base, system = os.getcwd(), required("pyarrow.fs").LocalFileSystem()
        pictures, tables = _local(source, selection)
    if not pictures:
        yield from _row_groups(system, base, tables, selection.stride)
        return
    if tables:
        sys.stderr.write(
            f"{without_secrets(source)}: holds pictures and {len(tables)} parquet "
            f"file{'s' * (len(tables) > 1)}; the pictures are taken, name {tables[0]} to take that\n"
        )
    pictures = pictures[:: selection.stride]
    for first in range(0, len(pictures), PICTURES):
        yield Partition(0, base, tuple(pictures[first : first + PICTURES]))


def _local(source: str, selection: Selection) -> tuple[list[str], list[str]]:
    """Return pictures and parquet files of a source of this machine.

    Raises:
        InputError: There is neither.
    """
    tables = _local_tables(source, selection)
    if source.endswith(_PARQUET) and tables:
        return [], tables
    try:
        opened = open_source(source, selection=replace(selection, stride=1))
    except InputError:
        if tables:
            return [], tables
        raise
    if not isinstance(opened, ImageFiles):
        opened.close()
        raise InputError(f"{source}: --engine ray takes stored pictures; cameras and videos are for --engine local")
    return [str(path) for path in opened.paths], tables


def _local_tables(source: str, selection: Selection) -> list[str]:
    """Return the parquet files that a path or a pattern names, or that lie in and below a folder."""
    if os.path.isdir(source):
        found = sorted(map(str, Path(source).rglob(f"*{_PARQUET}")))
        return [path for path in found if _is_table(path) and _is_own(path, source, selection)]
    named = [source] if os.path.isfile(source) else sorted(glob.glob(source, recursive=True))
    return [path for path in named if _is_table(path) and os.path.isfile(path)]


def _is_table(path: str) -> bool:
    return path.endswith(_PARQUET) and not PurePosixPath(path).name.startswith((".", "_"))


def _is_own(path: str, root: str, selection: Selection) -> bool:
    return selection.all_files or not is_below_foreign(Path(path), Path(root))


def _listed(
    system: Any,  # noqa: ANN401  (pyarrow's)
    path: str,
    source: str,
    selection: Selection,
) -> tuple[list[str], list[str]]:
    """Return the pictures and the parquet files at and below a path."""
    fs = required("pyarrow.fs")
    try:
        found = system.get_file_info(path)
        if found.type == fs.FileType.NotFound:
            raise InputError(f"{without_secrets(source)}: no such file or folder")
        files = [found] if found.is_file else system.get_file_info(fs.FileSelector(path, recursive=True))
    except OSError as error:
        raise InputError(f"{without_secrets(source)}: cannot be listed ({describe_cause(error)})") from error
    names = [name for name in sorted(file.path for file in files if file.is_file) if _is_own(name, path, selection)]
    tables = list(filter(_is_table, names))
    if found.is_file and not tables:
        return names, []
    return [name for name in names if PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES], tables


def _row_groups(
    system: Any,  # noqa: ANN401  (pyarrow's)
    base: str,
    paths: Sequence[str],
    stride: int,
) -> Iterator[Partition]:
    before = 0  # rows of the source
    for path in paths:
        file = _opened(system, _place(base, path), _address(base, path))
        picture_column(file.schema_arrow, path)
        for number in range(file.num_row_groups):
            count = file.metadata.row_group(number).num_rows
            partition = Partition(0, base, (path,), number, (-before % stride, count, stride))
            before += count
            if partition.pictures:
                yield partition


def _opened(system: Any, path: str, name: str) -> Any:  # noqa: ANN401  (pyarrow's)
    parquet = required("pyarrow.parquet")
    try:
        return parquet.ParquetFile(path, filesystem=system)
    except (OSError, ValueError) as error:  # pyarrow's own errors are of these
        raise InputError(f"{without_secrets(name)}: cannot be read as parquet ({describe_cause(error)})") from error


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
            name = _address(partition.base, path)
            waiting.append((name, pool.submit(_read, system, _place(partition.base, path), name)))
            if len(waiting) > _READ_AHEAD:
                name, pending = waiting.popleft()
                yield name, 0, pending.result()
        for name, pending in waiting:
            yield name, 0, pending.result()


def _rows(system: Any, partition: Partition) -> Iterator[tuple[str, int, Any]]:  # noqa: ANN401  (pyarrow's)
    (path,), group = partition.paths, partition.row_group
    address = _address(partition.base, path)
    file = _opened(system, _place(partition.base, path), address)
    column, is_field = picture_column(file.schema_arrow, path)
    first = sum(file.metadata.row_group(number).num_rows for number in range(group or 0))
    values = file.read_row_group(group, columns=[column]).column(0)
    for index in range(*partition.rows):
        value = values[index].as_py()
        data = value["bytes"] if is_field and value is not None else value
        picture = ImageReadError(f"{row_name(address, first + index)}: holds no picture") if data is None else data
        yield address, first + index, picture


def row_name(source: str, row: int) -> str:
    """Return what sentences call a picture: the file, or of a parquet file also the row."""
    return f"{source}, row {row}" if source.endswith(_PARQUET) else source


def _read(system: Any, path: str, name: str) -> Any:  # noqa: ANN401  (pyarrow's)
    try:
        if system.type_name == "local":
            return Path(path).read_bytes()  # pyarrow opens no file whose name is not UTF-8
        with system.open_input_file(path) as file:
            return file.read()
    except OSError as error:
        return ImageReadError(f"{name}: cannot be read ({error.strerror or describe_cause(error)})")


def _place(base: str, path: str) -> str:
    """Return a path as its file system takes it; a relative one starts where the driver ran, and not the worker."""
    return path if "://" in base else os.path.join(base, path)


def _address(base: str, path: str) -> str:
    """Return what a picture is called in its record; what of a name is not UTF-8 is escaped."""
    scheme, separator, _ = base.partition("://")
    name = f"{scheme}://{path}" if separator else path
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
