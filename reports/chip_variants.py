"""Chips as they are and with changes, side by side for one question."""

from collections.abc import Sequence
from dataclasses import dataclass

from roofline.chip import Chip
from roofline.chip_changes import change_chip
from roofline.chipfile import load_chip


@dataclass(frozen=True, slots=True, kw_only=True)
class ChipVariant:
    """A chip, as its file says or changed.

    Attributes:
        label: what a row of a table is called.
        change: what is changed, empty for the chip as it is.
        chip: the chip.
    """

    label: str
    change: str
    chip: Chip


def chip_variants(names: Sequence[str], changes: Sequence[str]) -> tuple[ChipVariant, ...]:
    """Each chip as it is, and behind it with each of the changes.

    Raises:
        ChipError: an unknown chip, or a change that it does not take.
    """
    found = []
    for name in names:
        chip = load_chip(name)
        found.append(ChipVariant(label=chip.name, change="", chip=chip))
        found += [
            ChipVariant(label=f"{chip.name}, {change}", change=change, chip=change_chip(chip, change))
            for change in changes
        ]
    return tuple(found)
