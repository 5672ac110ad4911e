"""The clock at which a chip keeps its power limit: of a run as a whole, or of kernels that are repeated one by one.

A board that would draw more than its limit lowers its clock until it does not. Cores slow down and their voltage falls,
so time grows and joules shrink (`simulator.clocks`, `simulator.energy`); the clock is where both meet the limit.
"""

from collections.abc import Callable

import numpy as np

from roofline.chip import Chip
from roofline.chip_families import has_own_constants
from simulator.clocks import at_clock, held_ratio
from simulator.energy import OpEnergy, op_energy
from simulator.op_columns import FloatArray
from simulator.plans import PlanTable

# Boards settle a little below their limit. An H200 limited to 700 W reads 690 W (median of 1,875 bidirectional
# attention kernels of 1 ms and more; quartiles 689 and 691) and as much in products; a B200 limited to 1,000 W reads
# 982 W in attention and 985 to 994 W in layers of experts (power logs of aiconfigurator, vLLM 0.22.0).
HELD_PART = 0.986
LEAST_CLOCK = 0.2  # NVIDIA's boards go down to 210 to 345 MHz of 1,410 to 1,980, from memory
_HALVINGS = 40


def sets_its_clock(chip: Chip) -> bool:
    """Whether a chip's times are known at full clocks, so that a clock can follow from its power.

    Its products must have been fitted to the chip itself, with the clock that falls within a long kernel told apart.
    """
    return has_own_constants(chip, "gemm") and "gemm.sustained_clock_ratio" in dict(chip.calibration)


def kept_limit_w(chip: Chip) -> float | None:
    """Watts that a chip settles at under its limit; None where nobody knows one.

    Of chips whose clock does not follow from their power, imagined ones among them, it is the limit itself.
    """
    if chip.tdp_w is None:
        return None
    return HELD_PART * chip.tdp_w if sets_its_clock(chip) else chip.tdp_w


def run_clock(table: PlanTable, counts: FloatArray, makespan_s: Callable[[FloatArray], float], chip: Chip) -> float:
    """The highest part of the full clock at which a run's mean power keeps the limit, 1 where full clocks do.

    A run stands for one that is repeated, or goes on, until its clock has settled; shorter stretches are averaged.

    Args:
        table: plans at full clock of its ops on one chip.
        counts: calls of each op, [O].
        makespan_s: time of the run, given seconds of one call of each op [O].
        chip: whose limit it is.
    """
    held = held_ratio(table)

    def power_w(ratios: FloatArray) -> FloatArray:
        slower = at_clock(table, float(ratios[0]), held)
        energy = op_energy(slower, clock_ratio=float(ratios[0]))
        time_s = makespan_s(slower.duration_s[:, 0])
        if isinstance(energy, str) or time_s <= 0:
            return np.zeros(1)
        return np.array([energy.static_w + energy.total_j @ counts / time_s])

    return float(_highest_within(power_w, kept_limit_w(chip), 1)[0])


def kernel_clocks(table: PlanTable, chip: Chip) -> FloatArray:
    """The same of each op by itself, repeated until its clock has settled, [O].

    Args:
        table: plans at full clock of the ops on one chip.
        chip: whose limit it is.
    """
    held = held_ratio(table)

    def power_w(ratios: FloatArray) -> FloatArray:
        slower = at_clock(table, ratios[:, None], held)
        energy = op_energy(slower, clock_ratio=ratios)
        seconds = slower.duration_s[:, 0]
        if isinstance(energy, str):
            return np.zeros(len(ratios))
        drawn: FloatArray = energy.static_w + np.divide(
            energy.total_j, seconds, out=np.zeros_like(seconds), where=seconds > 0
        )
        return drawn

    return _highest_within(power_w, kept_limit_w(chip), len(table.op_columns))


def _highest_within(power_w: Callable[[FloatArray], FloatArray], limit_w: float | None, count: int) -> FloatArray:
    """The highest clocks, [count], that draw no more than the limit, by bisection: more clock draws more power."""
    high, low = np.ones(count), np.full(count, LEAST_CLOCK)
    if limit_w is None:
        return high
    is_over = power_w(high) > limit_w
    if not is_over.any():
        return high
    for _ in range(_HALVINGS):
        middle = (low + high) / 2.0
        too_much = power_w(middle) > limit_w
        high, low = np.where(too_much, middle, high), np.where(too_much, low, middle)
    return np.where(is_over, low, 1.0)


def stretch(energy: OpEnergy, counts: FloatArray, makespan_s: float, chip: Chip) -> float:
    """Factor on all times, at least 1, by which a run must last longer so that its mean power keeps the limit.

    What is left where the lowest clock draws too much, where kernels that overlap draw more than one after another, and
    all there is on a chip whose clock does not follow from its power: then joules stay, which is the upper end.
    Static power alone above the limit is no clock's matter: nothing is stretched.

    >>> four_j = OpEnergy(parts=(("hbm", np.array([4.0])),), static_w=200.0)
    >>> from roofline.chip import Memory
    >>> hbm = Memory(name="hbm", capacity_bytes=1e9, bandwidth_bytes_per_s=1e12, latency_s=0.0)
    >>> chip = Chip(
    ...     name="a", title="A", family="gpu", clock_hz=1e9, cores=1, launch_s=0.0, matrix_macs=(),
    ...     vector_flops=(("float32", 1),), special_flops=1, memories=(hbm,), tdp_w=700.0,
    ... )
    >>> stretch(four_j, np.array([2.0]), 0.01, chip)  # 8 J at 500 W beside what is static
    1.6
    """
    return float(_stretches(energy.total_j @ counts, np.array(makespan_s), float(energy.static_w), chip))


def repeated_stretch(energy: OpEnergy, duration_s: FloatArray, chip: Chip) -> FloatArray:
    """Factor on the time of each op by itself, [O], at least 1, by which a chip that nobody measured keeps its limit.

    The same as `stretch` of a run that is that op alone. Constants of a chip's own products hold lower clocks already.

    Args:
        energy: of one call of each op at full clock.
        duration_s: time of each, [O].
        chip: whose limit it is.
    """
    if has_own_constants(chip, "gemm"):
        return np.ones(len(duration_s))
    return _stretches(energy.total_j, duration_s, float(energy.static_w), chip)


def _stretches(dynamic_j: FloatArray, seconds: FloatArray, static_w: float, chip: Chip) -> FloatArray:
    """Factors on times by which their dynamic joules, spread over them, leave room for static power in the limit."""
    limit_w = kept_limit_w(chip)
    if limit_w is None or limit_w <= static_w:
        return np.ones_like(seconds)
    allowed_j = (limit_w - static_w) * seconds
    factors: FloatArray = np.fmax(1.0, np.divide(dynamic_j, allowed_j, out=np.ones_like(seconds), where=seconds > 0))
    return factors


def repeated_j(energy: OpEnergy, duration_s: FloatArray, chip: Chip) -> FloatArray:
    """Joules of each op by itself, [O], static power counted, at the times that tables of kernels show.

    Tables hold lower clocks within long kernels already; there joules are what the limit leaves of full voltage's. On
    other chips nothing is said of the limit here: `repeated_stretch` keeps it.

    Args:
        energy: of one call of each op at full clock.
        duration_s: time of each, [O].
        chip: whose limit it is.
    """
    wanted_j: FloatArray = energy.total_j + energy.static_w * duration_s
    limit_w = kept_limit_w(chip)
    if limit_w is None or not sets_its_clock(chip):
        return wanted_j
    return np.minimum(wanted_j, limit_w * duration_s)
