"""Python in a process of its own."""

import sys

# Without the working folder, whose files may have the names of packages.
_PREAMBLE = "import sys; sys.path = [entry for entry in sys.path if entry]\n"


def python_command(code: str, *arguments: str) -> list[str]:
    """Return the command that runs ``code`` in a new interpreter, with ``arguments`` in ``sys.argv[1:]``."""
    return [sys.executable, "-c", _PREAMBLE + code, *arguments]
