"""Calibration constants of a chip's family, for a chip that has none of its own."""

from collections.abc import Callable, Iterable
from dataclasses import replace

from roofline.chip import Chip


def with_family_constants(chip: Chip, names: Iterable[str], load: Callable[[str], Chip]) -> Chip:
    """The chip with the constants that it lacks, taken from the first shipped chip of its family that has them.

    Constants of a scope (`gemm`, `attention.decode`, ...) were fitted together, so a scope is taken whole or not at
    all. What is taken is named among the sources. A measured chip is left as it is: its rates hold what software
    reaches there.

    Args:
        chip: as its file says.
        names: of the shipped chips.
        load: loads one of them by name, as its file says.
    """
    if chip.is_measured:
        return chip
    calibration, sources = chip.calibration, chip.sources
    for name in sorted(set(names) - {chip.name}):
        donor = load(name)
        if donor.family != chip.family:
            continue
        known = {_scope(key) for key, _ in calibration}
        taken = tuple((key, value) for key, value in donor.calibration if _scope(key) not in known)
        calibration += taken
        for scope in dict.fromkeys(_scope(key) for key, _ in taken):
            section = f"calibration.{scope}" if scope else "calibration"
            sources += ((section, f"constants of {donor.name}, a chip of the same family: not fitted to this one"),)
    return replace(chip, calibration=calibration, sources=sources)


def _scope(key: str) -> str:
    return key.rpartition(".")[0]
