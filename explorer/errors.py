"""Errors of the explorer folder, caught by the command line and shown as one line."""


class ExplorationError(ValueError):
    """A space of designs, a template or a store that cannot be used as asked."""
