"""What the command ``stn`` sets for OpenCV and onnxruntime, which read it when they load; a library leaves it alone."""

import os

_DEFAULTS = {
    # Without this, Windows takes up to 20 s to open a camera (opencv#17687).
    "OPENCV_VIDEOIO_MSMF_ENABLE_HW_TRANSFORMS": "0",
    # From 1.29 on onnxruntime would report to Microsoft (onnxruntime#27379).
    "ORT_DISABLE_TELEMETRY": "1",
}


# What goes wrong is said by us, in a sentence; the levels are OpenCV's and FFmpeg's own.
_QUIET = {"OPENCV_LOG_LEVEL": "SILENT", "OPENCV_FFMPEG_LOGLEVEL": "-8"}
_VERBOSE = {"OPENCV_LOG_LEVEL": "WARNING", "OPENCV_FFMPEG_LOGLEVEL": "24"}


def set_defaults(verbose: bool = False) -> None:
    """Set environment variables of this process, unless the user has.

    Args:
        verbose: Whether OpenCV and FFmpeg write their warnings to standard error.
    """
    for name, value in {**_DEFAULTS, **(_VERBOSE if verbose else _QUIET)}.items():
        os.environ.setdefault(name, value)
