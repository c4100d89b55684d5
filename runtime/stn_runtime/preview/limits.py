"""Limits of the preview's server, so that no client holds up the run or the other clients."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Limits on clients.

    Attributes:
        head_seconds: Time for the head of a request to arrive; the connection is cut after it.
        stall_seconds: Time for a client to take what was sent; the connection is cut after it.
        connections: Number of connections at a time. The default leaves room for both streams of each watcher.
        watchers: Number of picture streams, and number of event streams, at a time.
    """

    head_seconds: float = 8.0
    stall_seconds: float = 20.0
    connections: int = 160
    watchers: int = 64
