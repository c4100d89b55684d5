"""Errors that a user can mend; each message is one sentence that names the input, what is wrong, and what to do.

A message quotes what strangers wrote, such as the names in a model file, through ``printable``.
"""

LONGEST_MESSAGE = 2000
"""Characters of a message that the command line prints."""


class InputError(Exception):
    """Something that was given cannot be used; the command line prints the message and exits with status 2."""


class ModelContractError(InputError):
    """A model file that is missing, damaged, foreign, or does not keep the contract of its manifest."""


class ImageReadError(InputError):
    """A picture that cannot be read; a run goes on with the next one."""


class MissingDependencyError(InputError):
    """A package or system library that is not installed, with the command that installs it."""


def printable(text: str, longest: int = 100) -> str:
    """Return the text of a stranger as one line that a terminal shows and does not obey.

    Names, labels, metadata, operators of a model file, and onnxruntime's messages, which quote these, may hold escape
    sequences, line ends, marks that turn the direction of writing, and megabytes.

    Args:
        text: Any text, lone surrogates included.
        longest: Number of characters that the result has at most.

    Returns:
        The text with what ``str.isprintable`` does not take escaped as in Python source, cut with ``...`` at the end.
    """
    if len(text) <= longest and text.isprintable():
        return text
    escaped = "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in text[: longest + 1]
    )
    return escaped if len(escaped) <= longest else f"{escaped[: longest - 3]}..."
