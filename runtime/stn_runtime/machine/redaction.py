"""Addresses and error texts without the secrets in them, for records, messages, logs, pages and file names."""

import re

from ..errors import printable

# A query key that names a credential, with its value up to the next key: takes "pwd=x" of "?pwd=x&size=1".
_CREDENTIAL = re.compile(
    r"((?<![a-z])[a-z]*(?:pas|pwd?|secret|token|key|auth|use?r|login|sig|session|cred)[a-z]*=)(?:(?!_[a-z]+=)[^&;#/\s])*",
    re.IGNORECASE,
)
_AUTHORITY = re.compile(r"(?:\[[0-9a-f:.%]*\]|[^:\[\]]*\.[^:\[\]]*|localhost)(?::\d{1,5})?|[^:\[\]]*", re.IGNORECASE)
_LONGEST_CAUSE = 200


def without_secrets(address: str) -> str:
    """Return an address without user and password, and with the values of other credentials masked.

    A password may hold ``@``, ``/``, ``?`` and ``#`` that should have been encoded: everything before the last ``@`` of
    what could be the authority counts as user and password. In ``cam.lan:554/user@x`` the slash ends the authority,
    since what stands before a port is a host: it has a dot or brackets, or is ``localhost``. ``admin:12/34@cam`` may
    be a password, and counts as one.
    """
    scheme, separator, rest = address.partition("://")
    if not separator:
        return address
    return _CREDENTIAL.sub(r"\1***", f"{scheme}://{rest[_end_of_credentials(rest) :]}")


def mask_addresses(text: str) -> str:
    """Return a text whose addresses are without secrets."""
    return re.sub(r"\w+://\S+", lambda match: without_secrets(match[0]), text)


def has_unencoded_credentials(address: str) -> bool:
    """Return whether user or password of an address hold characters that must be percent-encoded there."""
    rest = address.partition("://")[2]
    credentials = rest[: max(0, _end_of_credentials(rest) - 1)]
    return bool(re.search(r"[@/?#]", credentials))


def describe_cause(error: object) -> str:
    """Return an error, or its text, for the brackets of a sentence: one printable line, cut, without secrets."""
    text = re.sub(r"^\[\w+ -?\d+\] ", "", " ".join(str(error).split())) or type(error).__name__  # [Errno 111]
    return printable(mask_addresses(text), _LONGEST_CAUSE)


def _end_of_credentials(rest: str) -> int:
    """Return where the host begins in what follows ``://``; 0 where no user is named."""
    last = rest.rfind("@") + 1
    if not last:
        return 0
    first = re.split(r"[/?#@]", rest, maxsplit=1)[0]
    delimiter = rest[len(first)]
    if delimiter == "@" and ":" not in first:  # a user alone; what follows is judged anew
        begin = len(first) + 1
        return begin + _end_of_credentials(rest[begin:])
    # After host and port comes a path, which may hold an @ of its own; one with a colon before it may be a password.
    is_host = delimiter == "/" and _AUTHORITY.fullmatch(first) is not None
    return 0 if is_host and ":" not in rest[len(first) : last] else last
