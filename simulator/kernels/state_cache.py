"""What a benchmark that repeats a kernel on the same tensors finds in the last shared cache, and at which rate."""

import numpy as np

from simulator.chip_columns import ChipColumns
from simulator.kernels.constants import Constant
from simulator.op_columns import FloatArray

_SHARPNESS = 8.0  # a cache goes from holding all to holding nothing within a factor of two in size

# What kernels along sequences have in common; each family has its own values.
CACHE_CONSTANTS: tuple[Constant, ...] = (
    Constant(name="cache_efficiency", low=0.1, high=1.0, start=0.5, unit="", meaning="bandwidth of the last cache"),
    Constant(name="held_ratio", low=0.1, high=2.0, start=0.7, unit="", meaning="part of that cache that holds data"),
)
UPDATE_CONSTANTS: tuple[Constant, ...] = (
    Constant(name="update_setup_s", low=1e-6, high=2e-5, start=4e-6, unit="s", meaning="fixed cost of one position"),
    Constant(name="update_efficiency", low=0.2, high=1.0, start=0.7, unit="", meaning="bandwidth of states"),
    *CACHE_CONSTANTS,
)


def held(chips: ChipColumns, scope: str, distinct_bytes: FloatArray) -> FloatArray:
    """Part of a kernel's bytes that the last shared cache keeps from one use to the next, [O, C].

    Args:
        chips: the chips.
        scope: of the constants.
        distinct_bytes: bytes between two uses of the same byte, [O, 1].
    """
    return held_part(chips, chips.constant("held_ratio", scope, default=1.0), distinct_bytes)


def held_part(chips: ChipColumns, held_ratio: FloatArray, distinct_bytes: FloatArray) -> FloatArray:
    """The same for a usable part of the cache that is known, [C]."""
    usable = held_ratio * np.maximum(chips.last_cache, 1.0)
    fill = np.minimum(distinct_bytes / usable, 1e3)
    part: FloatArray = np.where(chips.last_cache > 0, 1.0 / (1.0 + fill**_SHARPNESS), 0.0)
    return part


def level_efficiency(chips: ChipColumns, scope: str, name: str) -> FloatArray:
    """Achievable part of each memory's bandwidth, [levels, C]: of main memory the constant of this name."""
    efficiency = np.ones((chips.levels, len(chips)))
    innermost = np.max(np.where(chips.level_exists & ~chips.level_is_core, np.arange(chips.levels)[:, None], 0), axis=0)
    efficiency[innermost, np.arange(len(chips))] = chips.constant("cache_efficiency", scope, default=1.0)
    general = chips.level_bandwidth[0] / chips.level_peak_bandwidth[0]
    efficiency[0] = np.minimum(1.0, chips.constant(name, scope, default=general))
    return efficiency
