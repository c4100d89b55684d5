"""Figures as text with aligned columns, and as CSV."""

import csv
import io
from collections.abc import Sequence
from dataclasses import astuple, fields
from pathlib import Path
from typing import Any

from stn_runtime.machine.filesystem import write_whole


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Return rows of cells as lines, the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *others in rows:
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *cells]))
    return "\n".join(lines)


def save_rows(rows: Sequence[Any], path: Path) -> None:
    """Write instances of one dataclass as CSV; None is an empty cell.

    Raises:
        OSError: The file cannot be written.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow([entry.name for entry in fields(rows[0])])
    writer.writerows(astuple(row) for row in rows)
    write_whole(path, text.getvalue().encode())
