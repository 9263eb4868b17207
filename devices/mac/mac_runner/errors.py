"""What ends or interrupts a run."""

from __future__ import annotations


class Lost(Exception):  # noqa: N818 - an event rather than a mistake
    """The host does not answer; it may again."""


class Refused(Exception):  # noqa: N818
    """It will not work: one line for the user."""


class Ended(Exception):  # noqa: N818
    """All is measured."""
