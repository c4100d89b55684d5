"""Errors that a user can mend; each message is one sentence that names the input, what is wrong, and what to do."""


class InputError(Exception):
    """Something that was given cannot be used; the command line prints the message and exits with status 2."""


class ModelContractError(InputError):
    """A model file that is missing, damaged, foreign, or does not keep the contract of its manifest."""


class ImageReadError(InputError):
    """A picture that cannot be read; a run goes on with the next one."""


class MissingDependencyError(InputError):
    """A package or system library that is not installed, with the command that installs it."""
