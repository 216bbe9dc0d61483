"""The one exception family: every message is a sentence for the person who can mend it."""

GUIDE = "docs/how-to/errors.md"  # with an anchor for each of the commonest errors
EXPLAIN = "chiasm explain"  # the command that prints a section of it


def renamed(what: str, old: str, new: str) -> str:
    """Return the remark that a name is an earlier one, with its present one.

    Example:
        >>> renamed("option", "--light", "--lamp")
        "The option '--light' is now called '--lamp'; write that: the earlier name is deprecated."
    """
    return f"The {what} '{old}' is now called '{new}'; write that: the earlier name is deprecated."


class ChiasmError(Exception):
    """Base of all errors that chiasm raises on purpose.

    Args:
        args: the sentence.
        see: anchor of ``GUIDE`` where more is said; a note of the exception has the command that
            prints it, which a traceback and the command line show below the sentence.
    """

    def __init__(self, *args: object, see: str = "") -> None:
        super().__init__(*args)
        self.see = see
        if see:
            self.add_note(f"More: {EXPLAIN} {see}")


class DataError(ChiasmError):
    """A file, folder or table that cannot be read as what it should be."""


class ConfigurationError(ChiasmError):
    """A setting that is unknown, out of range or contradicts another one."""


class GenotypeError(ChiasmError):
    """A genotype file that is malformed, of an unknown version, or does not fit the pools."""


class ArtifactError(ChiasmError):
    """A trained model's folder with a missing, altered or incompatible file."""


class SplitError(ChiasmError):
    """Training, calibration and test samples that overlap, or are too few for what was asked."""


class OutOfMemoryError(ChiasmError):
    """A device or a machine that has no memory left for a computation."""


class DeviceLostError(ChiasmError):
    """A device that answers no more in the middle of a computation."""
