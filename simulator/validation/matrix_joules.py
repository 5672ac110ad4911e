"""Joules of a FLOP on the matrix units, which fits of power set: read from a chip, and put into it."""

from dataclasses import replace

from roofline.chip import Chip, Energy
from simulator.errors import SimulationError


def matrix_joules(chip: Chip, dtype: str) -> float:
    """Joules of a FLOP of a measured table's type.

    Raises:
        SimulationError: the chip has none for it.
    """
    known = {} if chip.energy is None else dict(chip.energy.matrix_j_per_flop)
    if dtype not in known:
        raise SimulationError(f"chip {chip.name!r}: energy.matrix_j_per_flop has no {dtype}, which the table has")
    return known[dtype]


def with_matrix_joules(energy: Energy, dtype: str, joules: float) -> Energy:
    """The constants with so many joules a FLOP of one type, and those of other types in proportion."""
    ratio = joules / dict(energy.matrix_j_per_flop)[dtype]
    return replace(energy, matrix_j_per_flop=tuple((name, ratio * value) for name, value in energy.matrix_j_per_flop))


def two_digits(value: float) -> float:
    """As many digits as parts of a table can agree on.

    >>> two_digits(8.764e-13)
    8.8e-13
    """
    return float(f"{value:.2g}")
