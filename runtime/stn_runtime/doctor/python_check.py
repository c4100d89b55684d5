"""Python, its word size and the operating system."""

import platform
import struct
import sys
import sysconfig

from .finding import Finding


def check_python() -> Finding:
    """Return the version of Python and the system; 32 bits are too few for onnxruntime, whatever the kernel has."""
    bits = 8 * struct.calcsize("P")
    sentence = f"{platform.python_version()}, {bits}-bit, on {platform.machine()}, {_system()}"
    if bits < 64:
        return Finding(
            "python", "BROKEN", f"{sentence}: onnxruntime is made for 64 bits only", "install a 64-bit operating system"
        )
    if "musl" in str(sysconfig.get_config_var("SOABI")):
        return Finding(
            "python",
            "warning",
            f"{sentence}: there are no onnxruntime wheels for musl",
            "use a system with glibc, such as Debian, or the distribution's own onnxruntime",
        )
    return Finding("python", "ok", sentence)


def _system() -> str:
    if sys.platform != "linux":
        return f"{platform.system()} {platform.release()}"
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return f"Linux {platform.release()}"
