"""Errors that a user can act on.

Every message says what is wrong, where (file and line when there is one), the offending value, and what to change.
Programming mistakes stay `AssertionError` and the like: they keep their traceback.
"""


class UserError(Exception):
    """Something the caller can mend: printed without a traceback, exit status 2."""


class ConfigError(UserError, ValueError):
    """An option or a combination of options that cannot work."""


class DataError(UserError, ValueError):
    """An input file or shard folder that is missing, damaged or of the wrong form."""


class CheckpointError(UserError, RuntimeError):
    """A checkpoint that is missing, incomplete, or does not belong to this run."""


class ConversionError(UserError, RuntimeError):
    """A model folder or checkpoint that cannot be converted completely and exactly."""


class EnvironmentProblem(UserError, RuntimeError):
    """A package, device or external program that is missing or is the wrong one."""


class IncompleteError(UserError, RuntimeError):
    """A program did what it could and filed it, but a part failed; the same command tries that again."""


class NonFiniteError(UserError, FloatingPointError):
    """A loss or gradient norm that is NaN or infinite."""


class Interrupted(Exception):
    """The program was told to stop, kept what it had, and can go on from there: exit status 143."""
