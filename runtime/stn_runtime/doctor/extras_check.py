"""Which extras of the package are installed."""

import re
from collections.abc import Mapping
from importlib import metadata

from ..machine.interpreter import PIP
from .finding import Finding

_EXTRAS = ("serve", "cluster", "train", "export")


def check_extras() -> Finding:
    """Return which extras of the package are installed, judged by what each of them requires."""
    try:
        required = _requirements(metadata.requires("stn-edge") or [])
    except metadata.PackageNotFoundError:
        return Finding("extras", "note", "not known: stn-edge runs from its source folder and is not installed")
    there = [extra for extra, names in required.items() if all(map(_is_installed, names))]
    lacking = [extra for extra in required if extra not in there]
    sentence = f"installed: {', '.join(there) or 'none'}"
    if lacking:
        sentence += f"; not installed: {', '.join(lacking)} ({PIP} install 'stn-edge[{lacking[0]}]')"
    return Finding("extras", "note", sentence)


def _requirements(lines: list[str]) -> Mapping[str, list[str]]:
    """Return the distributions that each extra adds, from lines such as ``torch>=2.6; extra == 'train'``."""
    required: dict[str, list[str]] = {extra: [] for extra in _EXTRAS}
    for line in lines:
        match = re.match(r"([\w.-]+).*extra == ['\"](\w+)['\"]", line)
        if match and match.group(2) in _EXTRAS:
            required[match.group(2)].append(match.group(1))
    return {extra: names for extra, names in required.items() if names}


def _is_installed(distribution: str) -> bool:
    try:
        metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True
