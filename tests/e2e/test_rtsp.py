"""Streams over RTSP, from GStreamer's server in a process of its own."""

import threading
from collections.abc import Iterator

import numpy as np
import pytest

from stn_runtime.sources.captures import CameraOptions
from stn_runtime.sources.frame import Frame
from stn_runtime.sources.opening import open_source
from stn_runtime.sources.source import Source
from tests.support.streams import RtspCamera, why_no_rtsp

REASON = why_no_rtsp()
pytestmark = pytest.mark.skipif(REASON is not None, reason=f"no RTSP server: {REASON}")

PATIENCE = 60.0  # seconds; how long a broken test waits
BARS = {  # R, G, B of videotestsrc's SMPTE bars, left to right
    "white": (255, 255, 255),
    "yellow": (255, 255, 0),
    "cyan": (0, 255, 255),
    "green": (0, 255, 0),
    "magenta": (255, 0, 255),
    "red": (255, 0, 0),
    "blue": (0, 0, 255),
}


@pytest.fixture(params=["h264", "mjpeg"])
def camera(request: pytest.FixtureRequest) -> Iterator[RtspCamera]:
    with RtspCamera(request.param) as camera:
        yield camera


@pytest.fixture
def source(camera: RtspCamera) -> Iterator[Source]:
    """The camera, for as long as a test that works can need it."""
    source = open_source(camera.url, CameraOptions(stall_seconds=2, wait=True))
    end = threading.Timer(PATIENCE, source.close)
    end.start()
    yield source
    end.cancel()
    source.close()


def test_a_stream_over_rtsp_is_lost_with_its_server_and_back_with_it(camera: RtspCamera, source: Source) -> None:
    events: list[str] = []
    times: list[float] = []
    for frame in source:
        if frame.event:
            events.append(frame.event)
            if frame.event == "source_lost":
                assert frame.error
                camera.start()
        else:
            assert_colour_bars(frame)
            times.append(frame.time or 0.0)
        if len(times) == 10 and not events:
            camera.kill()
        if len(times) >= 20 and "source_back" in events:
            break
    assert events == ["source_lost", "source_back"]
    assert times == sorted(set(times))


def assert_colour_bars(frame: Frame) -> None:
    assert frame.image is not None
    assert frame.image.shape == (240, 320, 3)
    middles = frame.image[80, [320 * (2 * bar + 1) // 14 for bar in range(7)]]
    np.testing.assert_allclose(middles.astype(int), list(BARS.values()), atol=30)
