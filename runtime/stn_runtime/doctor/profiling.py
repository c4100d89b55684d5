"""Which execution provider runs which node of a graph, by onnxruntime's own profile."""

import contextlib
import json
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray


def bare_session(model: Path | bytes, provider: str, profile: Path | None = None) -> ort.InferenceSession:
    """Open a graph on one thread of one execution provider, without a fallback for the whole session.

    Args:
        model: The file, or its bytes.
        provider: Name of the execution provider.
        profile: Prefix of the file that the session's profile goes to; None makes no profile.

    Raises:
        RuntimeError: The provider could not be started.
    """
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    if profile is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile)
    with contextlib.redirect_stdout(sys.stderr):  # where onnxruntime prints that it falls back
        session = ort.InferenceSession(str(model) if isinstance(model, Path) else model, options, providers=[provider])
    session.disable_fallback()
    if session.get_providers()[0] != provider:
        raise RuntimeError("the provider could not be started")
    return session


def profile_nodes(
    model: Path | bytes, provider: str, feeds: Mapping[str, NDArray[np.generic]]
) -> list[tuple[str, str]]:
    """Run a graph once; return the operator and the execution provider of each node that ran, in order.

    Raises:
        RuntimeError: The provider could not be started; onnxruntime raises others when the graph does not run.
    """
    with tempfile.TemporaryDirectory() as folder:
        session = bare_session(model, provider, Path(folder, "profile"))
        session.run(None, dict(feeds))
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    nodes = [event.get("args", {}) for event in events]
    return [(node.get("op_name", ""), node["provider"]) for node in nodes if node.get("provider")]
