"""What one check says: the state, a sentence, and the remedy."""

from dataclasses import dataclass
from typing import Literal

from ..errors import LONGEST_MESSAGE, printable

State = Literal["ok", "note", "warning", "BROKEN"]
"""BROKEN: ``stn run`` cannot work; warning: something may go wrong; note: it matters only for some uses."""


@dataclass(frozen=True)
class Finding:
    """The answer of one check.

    Attributes:
        name: The checked part, such as onnxruntime.
        state: How it is.
        sentence: The answer, as a sentence.
        remedy: A command or step that mends it; empty where nothing needs mending.
    """

    name: str
    state: State
    sentence: str
    remedy: str = ""

    def __str__(self) -> str:
        remedy = f"\n{'':<24}{self.remedy}" if self.remedy else ""
        return f"{self.state:<7}  {self.name:<13}{printable(self.sentence, LONGEST_MESSAGE)}{remedy}"
