"""What a run says of itself at its end."""

from collections import Counter
from dataclasses import dataclass, field

from ..errors import printable
from ..records.record import Record

_LABELS_SHOWN = 10
_WITHOUT_LABEL = ("no label (", "unsure")  # what has no label is never among "other labels"


@dataclass
class Summary:
    """Counts of a run.

    Attributes:
        frames: Frames that have a record.
        failed: Those of them that could not be read.
        labels: Frames by label; those below the threshold are counted as ``unsure``, those of the label that means
            none of the others as ``no label`` with its name.
        seconds: Duration from the first frame asked for to the last record.
    """

    frames: int = 0
    failed: int = 0
    labels: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    def count(self, record: Record) -> None:
        """Count one record; the event of a camera is no frame."""
        if record.event is not None:
            return
        self.frames += 1
        self.failed += record.error is not None
        if record.prediction is not None:
            name = record.prediction.shown_label
            missing = f"no label ({name})" if record.rejected else record.missing_label
            self.labels[missing or name] += 1

    def text(self) -> str:
        """Return the counts as one line, and a second one with the most frequent labels where there are any."""
        rate = f", {self.frames / self.seconds:.1f} a second" if self.seconds and self.frames else ""
        ranked = self.labels.most_common()
        last = len(ranked) if len(ranked) <= _LABELS_SHOWN + 1 else _LABELS_SHOWN
        kept = ranked[:last] + [entry for entry in ranked[last:] if entry[0].startswith(_WITHOUT_LABEL)]
        shown = [f"{printable(label, 40)}: {count}" for label, count in kept]
        hidden = len(ranked) - len(kept)
        others = [f"{hidden} other label{'s' * (hidden > 1)}"] if hidden else []
        labels = f"\nlabels: {', '.join(shown + others)}" if shown else ""
        return f"{self.frames} frame{'s' * (self.frames != 1)}, {self.failed} failed{rate}{labels}"
