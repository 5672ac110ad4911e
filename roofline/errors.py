"""Errors of the roofline folder, caught by the command line and shown as one line."""


class ChipError(ValueError):
    """A chip file, a chip name or a chip figure that cannot be used."""
