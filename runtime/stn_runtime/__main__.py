"""``python -m stn_runtime`` is ``stn``."""

from .cli import console

console()
