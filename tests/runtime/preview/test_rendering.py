"""Pictures of the preview."""

import logging
from collections.abc import Callable

import numpy as np
import pytest

pytest.importorskip("prometheus_client")
pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

from stn_runtime.preview import rendering
from stn_runtime.preview.latest import ClassifiedFrame
from stn_runtime.preview.preview import Preview
from stn_runtime.preview.rendering import annotated_jpeg
from stn_runtime.records.record import Record
from stn_runtime.sources.frame import Frame
from stn_runtime.views.overlay import Annotator
from tests.runtime.preview.clients import (
    SQUARE,
    classified_frame,
    decoded,
    get,
    is_orange,
    make_prediction,
    open_stream,
    read_until,
)


@pytest.mark.parametrize(
    ("height", "width", "expected"), [(1600, 2560, (800, 1280)), (2560, 640, (1280, 320)), (720, 1280, (720, 1280))]
)
def test_a_large_picture_is_made_smaller(height: int, width: int, expected: tuple[int, int]) -> None:
    image = np.full((height, width, 3), 128, np.uint8)
    outline = np.array([[[0.25, 0.25], [0.75, 0.25], [0.75, 0.75], [0.25, 0.75]]], np.float32) * (width, height)
    record = Record("cam", 0, None, make_prediction(outline.astype(np.float32)))
    drawn = decoded(annotated_jpeg(ClassifiedFrame(1, image, Frame("cam", 0, None, image), record), Annotator()))
    assert drawn.shape == (*expected, 3)
    assert is_orange(drawn[expected[0] // 2, expected[1] // 4])


def test_the_outline_of_a_reduced_picture_is_in_its_pixels() -> None:
    image = np.full((300, 400, 3), 128, np.uint8)
    frame = Frame("x.jpg", 0, None, image, size=(1200, 1600))
    drawn = decoded(
        annotated_jpeg(
            ClassifiedFrame(1, image, frame, Record("x.jpg", 0, None, make_prediction(4 * SQUARE))), Annotator()
        )
    )
    assert is_orange(drawn[150, 100])


def test_a_frame_is_drawn_once_for_all_clients_and_only_when_a_client_asks(
    serve: Callable[..., Preview], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []

    def draw(classified: ClassifiedFrame, annotator: Annotator) -> bytes:
        drawn.append(classified.number)
        return annotated_jpeg(classified, annotator)

    monkeypatch.setattr(rendering, "annotated_jpeg", draw)
    preview = serve()
    for number in range(5):
        preview.show(*classified_frame(number))
    assert get(preview, "/healthz")[0] == 200
    assert drawn == []
    clients = [open_stream(preview) for _ in range(5)]
    for client in clients:
        read_until(lambda data: data.count(b"--frame\r\n") > 1, client)
    assert get(preview, "/snapshot.jpg")[0] == 200
    assert drawn == [5]


def test_a_drawing_that_fails_is_logged_in_a_sentence_and_other_answers_go_on(
    serve: Callable[..., Preview], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(classified: ClassifiedFrame, annotator: Annotator) -> bytes:
        raise ValueError("no paint left")

    monkeypatch.setattr(rendering, "annotated_jpeg", fail)
    preview = serve()
    preview.show(*classified_frame())
    with caplog.at_level(logging.DEBUG):
        assert get(preview, "/snapshot.jpg")[0] == 500
    messages = [entry.getMessage() for entry in caplog.records if entry.name.startswith("stn_runtime")]
    assert messages == ["preview: '/snapshot.jpg' could not be answered (no paint left)"]
    assert get(preview, "/healthz")[0] == 200
