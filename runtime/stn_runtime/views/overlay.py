"""Drawing a record on its picture.

An orange line is the border of what the transformer samples; its upper side is white, with the word "top" at it.
Dashes at an edge say that the region goes on beyond it. What the network does not see is dark. The inset, in a corner,
is what the classifier saw.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..images.preprocessing import Image
from ..model.classifier import Prediction
from ..records.record import Record
from ..sources.frame import Frame
from .canvas import OUTLINE, SHADE, Canvas
from .inset import SteadyCorner
from .lettering import Line

__all__ = ["OUTLINE", "SHADE", "Annotator", "Note", "draw"]


@dataclass(frozen=True)
class Note:
    """Lines of text in a corner of the picture."""

    lines: Sequence[str]
    place: Literal["bottom left", "top right"]


class Annotator:
    """Draws the records of one view on their pictures.

    The inset of a video or camera stays in its corner, so that it does not jump from frame to frame.

    Args:
        live: Whether the pictures are those of cameras, which bear the camera's name.
    """

    def __init__(self, live: bool = False) -> None:
        self._live = live
        self._corner = SteadyCorner()
        self._numbers: dict[str, int] = {}

    def draw(self, frame: Frame, record: Record, notes: Sequence[Note] = (), image: Image | None = None) -> Image:
        """Return a copy of the frame's picture with its record drawn on it, RGB.

        A picture with a side under 240 pixels is enlarged by a whole factor, so that the text can be read.

        Args:
            frame: Has a picture.
            record: Has a prediction.
            notes: More lines of text.
            image: The picture at another size, grey or RGB; None is the frame's own.

        Raises:
            ValueError: There is no picture or no prediction.
        """
        prediction = record.prediction
        if frame.image is None or prediction is None:
            raise ValueError(f"{record.source} #{record.frame}: there is no picture with a prediction to draw")
        whole = frame.size or (frame.image.shape[0], frame.image.shape[1])
        canvas = Canvas(frame.image if image is None else image, prediction, whole)
        canvas.draw_region()
        captions = [_label_line(canvas, prediction, record.missing_label)]
        if self._live:
            captions.append(self._name_line(canvas, frame.source))
        if record.uncertain:
            captions += canvas.small_lines(f"uncertain: {record.uncertain}", "uncertain")
        canvas.draw_lines(captions, "top left")
        for note in notes:
            canvas.draw_lines([canvas.small_line(line, ascii(line)[1:-1]) for line in note.lines], note.place)
        canvas.draw_inset(self._corner, frame.source, frame.time)
        canvas.draw_words()
        return canvas.pixels

    def _name_line(self, canvas: Canvas, source: str) -> Line:
        """Return the line with the name of a picture's source: the one place where that is decided."""
        number = self._numbers.setdefault(source, len(self._numbers) + 1)
        return canvas.small_line(source, f"source {number}")


def draw(image: Image, prediction: Prediction, sure: bool = True) -> Image:
    """Return a copy of a picture with its prediction drawn on it, RGB.

    Args:
        image: The picture that was classified, grey or RGB.
        prediction: The prediction for that picture.
        sure: Whether the confidence reaches the threshold.
    """
    return Annotator().draw(Frame("", 0, None, image), Record("", 0, None, prediction, sure=sure))


def _label_line(canvas: Canvas, prediction: Prediction, missing: str | None) -> Line:
    """Return the line with the label; a label that OpenCV cannot draw is named by its number in the manifest."""
    before, after = ("" if missing is None else f"{missing}: "), f"  {prediction.confidence:.0%}"
    values = prediction.probabilities
    name = f"class {int(np.argmax(values))}" if values.ndim == 1 else "text"
    text = f"{before}{prediction.shown_label}{after}"
    return canvas.label_line(text, f"{before}{name}{after}", missing is None)
