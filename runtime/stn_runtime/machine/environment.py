"""What the command ``stn`` sets for OpenCV and onnxruntime, which read it when they load; a library leaves it alone."""

import os

_DEFAULTS = {
    # What goes wrong is said by us, in a sentence.
    "OPENCV_LOG_LEVEL": "SILENT",
    "OPENCV_FFMPEG_LOGLEVEL": "-8",
    # Without this, Windows takes up to 20 s to open a camera (opencv#17687).
    "OPENCV_VIDEOIO_MSMF_ENABLE_HW_TRANSFORMS": "0",
    # From 1.29 on onnxruntime would report to Microsoft (onnxruntime#27379).
    "ORT_DISABLE_TELEMETRY": "1",
}


def set_defaults() -> None:
    """Set these environment variables of this process, unless the user has."""
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
