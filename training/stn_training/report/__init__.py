"""The report of a run: all that was measured and drawn, and what to do next, in one HTML file."""

from .command import write_report

__all__ = ["write_report"]
