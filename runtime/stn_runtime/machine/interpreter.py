"""This Python: its package manager, and interpreters in processes of their own."""

import shlex
import sys

PIP = f"{shlex.quote(sys.executable)} -m pip"
"""How a shell calls the package manager of this interpreter's environment, for remedies that are printed."""

# Without the working folder, whose files may have the names of packages.
_PREAMBLE = "import sys; sys.path = [entry for entry in sys.path if entry]\n"


def python_command(code: str, *arguments: str) -> list[str]:
    """Return the command that runs ``code`` in a new interpreter, with ``arguments`` in ``sys.argv[1:]``."""
    return [sys.executable, "-c", _PREAMBLE + code, *arguments]
