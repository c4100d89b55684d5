"""Drawing a prediction on its picture."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..images.opencv import cv2
from ..images.preprocessing import Image
from ..model.classifier import Prediction

OUTLINE = (255, 170, 0)
_INK, _PLATE = (255, 255, 255), (20, 20, 20)
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_SHIFT = 4  # fractional bits of drawn coordinates
_INSET_SHARE = 0.3
_LEAST_SIDE = 240


def draw(image: Image, prediction: Prediction, sure: bool = True) -> Image:
    """Return a copy of the picture with the outline, the label with its probability, and the rectified inset.

    Args:
        image: The picture that was classified, grey or RGB.
        prediction: The prediction for that picture.
        sure: Whether the confidence reaches the threshold; if not, the label gets a question mark.

    Returns:
        RGB; a picture with a side under 240 pixels is enlarged by a whole factor, so that the label can be read.
    """
    canvas = np.ascontiguousarray(image if image.ndim == 3 else cv2.cvtColor(image, cv2.COLOR_GRAY2RGB), np.uint8)
    factor = -(-_LEAST_SIDE // max(1, min(canvas.shape[:2])))
    # A strip of 4000 x 10 pixels would become 96,000 pixels long.
    factor = max(1, min(factor, 4096 // max(canvas.shape[:2])))
    if factor > 1:
        canvas = canvas.repeat(factor, axis=0).repeat(factor, axis=1)
    elif canvas is image:
        canvas = canvas.copy()
    thickness = max(1, round(min(canvas.shape[:2]) / 240))
    for points in prediction.outline:
        draw_outline(canvas, (points + 0.5) * factor - 0.5, thickness)
    if prediction.rectified is not None:
        _draw_inset(canvas, prediction.rectified)
    mark = "" if sure else "?"
    _draw_label(canvas, f"{prediction.label}{mark}  {prediction.confidence:.0%}")
    return canvas


def draw_outline(canvas: Image, points: NDArray[np.floating], thickness: int) -> None:
    """Draw a closed outline, pixel coordinates (M, 2), into an RGB picture; its first side (the top) is brighter."""
    limit = 2**15  # beyond it OpenCV overflows, and nothing is visible
    fixed = (np.clip(np.nan_to_num(points), -limit, limit) * 2**_SHIFT).round().astype(np.int32)
    cv2.polylines(canvas, [fixed], True, _PLATE, thickness + 2, cv2.LINE_AA, _SHIFT)
    cv2.polylines(canvas, [fixed], True, OUTLINE, thickness, cv2.LINE_AA, _SHIFT)
    top = fixed[: len(fixed) // 4 + 1]
    cv2.polylines(canvas, [top], False, (255, 255, 255), thickness, cv2.LINE_AA, _SHIFT)


def _draw_inset(canvas: Image, rectified: Image) -> None:
    side = max(8, round(min(canvas.shape[:2]) * _INSET_SHARE))
    scale = side / max(rectified.shape[:2])
    height, width = (max(1, round(length * scale)) for length in rectified.shape[:2])
    if height + 4 > canvas.shape[0] or width + 4 > canvas.shape[1]:
        return
    inset = cv2.resize(rectified, (width, height), interpolation=cv2.INTER_NEAREST)
    inset = cv2.cvtColor(inset, cv2.COLOR_GRAY2RGB) if inset.ndim == 2 else inset
    canvas[-height - 4 :, -width - 4 :] = OUTLINE
    canvas[-height - 2 : -2, -width - 2 : -2] = inset


def _draw_label(canvas: Image, text: str) -> None:
    text = text.encode("utf-8", "replace").decode("utf-8")  # OpenCV crashes on a lone surrogate
    size = min(canvas.shape[:2]) / 400
    thickness = max(1, round(size * 2))
    (width, height), baseline = cv2.getTextSize(text, _FONT, size, thickness)
    if width > canvas.shape[1] - 8:
        size *= (canvas.shape[1] - 8) / width
        (width, height), baseline = cv2.getTextSize(text, _FONT, size, thickness)
    cv2.rectangle(canvas, (0, 0), (width + 8, height + baseline + 8), _PLATE, cv2.FILLED)
    cv2.putText(canvas, text, (4, height + 4), _FONT, size, _INK, thickness, cv2.LINE_AA)


def draw_lines(canvas: Image, lines: Sequence[str], place: Literal["bottom", "middle", "right"]) -> None:
    """Draw lines of text on a dark plate into an RGB picture.

    Args:
        canvas: The picture.
        lines: One or more lines; a font that would not fit is made smaller.
        place: bottom and middle are at the left edge, right is the top right corner.
    """
    height, width = canvas.shape[:2]
    texts = [line.encode("utf-8", "replace").decode("utf-8") for line in lines]
    size = max(0.35, min(height, width) / 900)
    widest = max(cv2.getTextSize(text, _FONT, size, 1)[0][0] for text in texts)
    size *= min(1.0, (width - 8) / max(1, widest))
    boxes = [cv2.getTextSize(text, _FONT, size, 1) for text in texts]
    step = max(box[0][1] + box[1] for box in boxes) + 2
    wide, high = max(box[0][0] for box in boxes) + 8, step * len(texts) + 4
    left = max(0, width - wide) if place == "right" else 0
    top = {"bottom": max(0, height - high), "middle": max(0, (height - high) // 2), "right": 0}[place]
    cv2.rectangle(canvas, (left, top), (left + wide, top + high), _PLATE, cv2.FILLED)
    for number, text in enumerate(texts):
        cv2.putText(canvas, text, (left + 4, top + step * (number + 1) - 3), _FONT, size, _INK, 1, cv2.LINE_AA)
