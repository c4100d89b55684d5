"""Notifications to systemd: that a run has begun, and that it is alive (sd_notify(3))."""

import os
import socket

SIGN_OF_LIFE_SECONDS = 1.0
"""A source that waits notifies the watchdog at this interval."""


def notify(state: str = "WATCHDOG=1") -> None:
    """Notify systemd of a state of this process; do nothing where systemd did not start it."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address or not hasattr(socket, "AF_UNIX"):
        return
    place = f"\0{address[1:]}" if address.startswith("@") else address
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.setblocking(False)
            channel.sendto(state.encode(), place)
    except OSError:  # nobody listens any more, or just now
        pass
