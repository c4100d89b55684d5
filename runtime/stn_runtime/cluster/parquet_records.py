"""Records as tables of parquet files, and files written whole."""

import uuid
from collections.abc import Iterable, Mapping
from typing import Any

from ..records.record import Record
from .packages import required


def schema() -> Any:  # noqa: ANN401  (pyarrow's)
    """Return the schema of records; ``error`` says why the other columns are null."""
    pa = required("pyarrow")
    scores = pa.list_(pa.struct([("label", pa.string()), ("probability", pa.float64())]))
    points = pa.list_(pa.list_(pa.list_(pa.float64())))
    kinds = {
        "source": pa.string(),
        "frame": pa.int64(),
        "label": pa.string(),
        "confidence": pa.float64(),
        "rejected": pa.bool_(),
        "top": scores,
        "characters": scores,
        "theta": pa.list_(pa.float64()),
        "outline": points,
        "uncertain": pa.string(),
        "error": pa.string(),
    }
    return pa.schema(kinds.items())


def table_of(records: Iterable[Record], kept: Mapping[str, Any]) -> Any:  # noqa: ANN401  (pyarrow's)
    """Return records as a table, with further columns behind them.

    Args:
        records: Of pictures.
        kept: Further columns, a value for each record; one of a record's own name is left out.
    """
    pa = required("pyarrow")
    table = pa.Table.from_pylist([record.fields() for record in records], schema=schema())
    for name, values in kept.items():
        if name not in table.column_names:
            table = table.append_column(name, pa.array(list(values)))
    return table


def write_whole(table: Any, filesystem: Any, path: str) -> None:  # noqa: ANN401  (pyarrow's)
    """Write a parquet file: under its name it is there as a whole or not at all.

    A file of an object store appears when it is closed; on a disk it is renamed then.
    """
    parquet = required("pyarrow.parquet")
    if filesystem.type_name != "local":
        parquet.write_table(table, path, filesystem=filesystem)
        return
    folder, _, name = path.rpartition("/")
    partial = f"{folder}/.{name}.{uuid.uuid4().hex}"  # readers of parquet folders pass over such names
    parquet.write_table(table, partial, filesystem=filesystem)
    filesystem.move(partial, path)
