"""Error bands of joules: how far the power of kernels was from predictions, and how far their time can be.

A band of power is a pair of factors between which 90 % of kernels fell whose board power was measured, each repeated
until the sensor had settled (`benchmarks/power_bands.py` makes the file). Joules are power times time, and the two are
taken to err independently.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from roofline.chip import Chip
from simulator.bands import Band, OpBands, combine, kernel_families, shipped_bands
from simulator.op_columns import FloatArray, OpColumns

_FILE = "power_bands.json"
# Families whose power nobody logged, and the one whose band they take: masked attention that of attention without a
# mask; what streams through main memory that of decoding, which streams keys and values.
RELATIVES: dict[str, str] = {
    "attention_prefill": "attention_bidirectional",
    **dict.fromkeys(("elementwise", "copy", "random", "gather", "scatter", "mixing"), "attention_decode"),
    **dict.fromkeys(("reduction", "norm", "softmax", "row_scale", "sort", "topk"), "attention_decode"),
}
# Joules a FLOP of two boards of one kind differ by a quarter (docs/energy.md, constants at the limit); a chip whose own
# power was not logged may be either.
BOARDS_RATIO = 1.25**0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class JoulesBand:
    """Where the joules of a run lie.

    Attributes:
        low_j: lower end of the 90 % band.
        high_j: upper end.
        basis: what it rests on, one line for each kind of kernel.
    """

    low_j: float
    high_j: float
    basis: tuple[str, ...]


def power_bands(ops: OpColumns, chip: Chip, bands: Sequence[Band] | None = None) -> OpBands | None:
    """The band of every op's power on a chip; None where no power was compared at all.

    Args:
        ops: the ops.
        chip: what they run on.
        bands: of power, to look in; the shipped ones where not given.
    """
    known = shipped_bands(_FILE) if bands is None else tuple(bands)
    if not known:
        return None
    low, high, group = np.ones(len(ops)), np.ones(len(ops)), np.zeros(len(ops), dtype=np.int64)
    basis: dict[str, int] = {}
    for families, chosen in kernel_families(ops):
        if chosen.any():
            found = [_look_up(known, chip, RELATIVES.get(family, family)) for family in families]
            low[chosen] = min(lowest for lowest, _, _ in found)
            high[chosen] = max(highest for _, highest, _ in found)
            words = "; ".join(dict.fromkeys(said for _, _, said in found))
            group[chosen] = basis.setdefault(words, len(basis))
    return OpBands(low_ratio=low, high_ratio=high, group=group, basis=tuple(basis))


def _look_up(bands: Sequence[Band], chip: Chip, family: str) -> tuple[float, float, str]:
    """(low, high, what they rest on): of the chip itself, else of all chips and of another board, else the widest."""
    of_family = [band for band in bands if band.op == family]
    own = [band for band in of_family if band.chip == chip.name]
    if own:
        return own[0].low_ratio, own[0].high_ratio, f"power of {family} measured on {chip.name}"
    said = f"power of {family} on other chips" if of_family else "power of kinds that no log holds: the widest band"
    pooled = of_family or list(bands)
    low, high = min(band.low_ratio for band in pooled), max(band.high_ratio for band in pooled)
    return low / BOARDS_RATIO, high * BOARDS_RATIO, said


def off_ratio(power: FloatArray | float, time: FloatArray | float) -> FloatArray:
    """By what part joules are off at most, of what power and time are; all in parts of the prediction.

    >>> float(off_ratio(0.03, 0.04))
    0.05
    """
    off: FloatArray = np.hypot(power, time)
    return off


def run_band(
    *,
    op_j: FloatArray,
    counts: FloatArray,
    bands: OpBands,
    total_j: float,
    time_ratios: tuple[float, float],
    most_j: float,
) -> JoulesBand:
    """The band of a run's joules; powers of one kind of kernel err together, those of different ones do not.

    Args:
        op_j: joules of one call of each op, static power counted, [O].
        counts: calls of each op, [O].
        bands: of the ops' power.
        total_j: of the run, idle times counted.
        time_ratios: ends of the makespan's band over the makespan.
        most_j: what the power limit allows for the time of the run; infinite where there is none.
    """
    low_j, high_j = combine(op_j, counts, bands)
    whole_j = float(op_j @ counts)
    above_j = min(high_j - whole_j, max(0.0, most_j - total_j))
    below = float(off_ratio((whole_j - low_j) / total_j, 1.0 - time_ratios[0])) if total_j > 0 else 0.0
    above = float(off_ratio(above_j / total_j, time_ratios[1] - 1.0)) if total_j > 0 else 0.0
    return JoulesBand(low_j=total_j * max(0.0, 1.0 - below), high_j=total_j * (1.0 + above), basis=bands.basis)
