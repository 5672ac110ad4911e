"""Errors of the simulator folder, caught by the command line and shown as one line."""


class SimulationError(ValueError):
    """A trace that cannot be played on a chip as asked."""


class NoRowsError(SimulationError):
    """A table of measured kernels holds none of the type that was asked for."""
