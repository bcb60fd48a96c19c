"""The errors that a person can mend."""

from __future__ import annotations


class InputError(ValueError):
    """Something that the user can mend: what was given, what was expected, what to do, in one line.

    Doors catch this class alone: the CLI prints the line and exits with 2, a dock shows a notification.
    Any other exception is our fault and flies with its traceback.
    """


class OutputError(InputError):
    """An output that cannot be written, through no fault of what was asked: a full disk, a quota, a lost server.

    What was to be written is still there: a door lets another place be given, or writes it elsewhere and says where.
    """
