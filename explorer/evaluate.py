"""Designs by thousands against workloads: seconds, joules and dollars of each, vectorized over both."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from explorer.design_chips import MATRIX_RATES, chip_columns, same_levels
from explorer.hardware import FloatArray, Hardware, take_columns
from explorer.power import Power
from explorer.workload import Workload
from simulator.energy import softmax_flops
from simulator.op_columns import DTYPES, BoolArray, OpColumns
from simulator.plans import PlanTable, plan_table

Mode = Literal["graph", "eager"]  # sums over kernels know no order of calls, so no pieces of a graph

# Designs that are planned at once: enough for NumPy, few enough that [kernels, designs] arrays stay in cache.
_BLOCK_DESIGNS = 256
_COMPUTING = 0.9  # units that work for this part of a core's time are what binds it
SAMPLER_FLOPS = 2.0  # comparison and running sum of one logit


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Costs:
    """What each workload costs on each design, [W, D] each; NaN where the design does not hold it.

    Attributes:
        run_s: time of one run.
        run_j: energy of one run, static power included.
        memory_part: part of the kernels' time in which memory is what binds.
        compute_part: part in which the units compute for longer than memory and all else that a core waits for; in the
            rest of the time cores wait for operands on the chip or for latencies.
        sampling_part: part of the time that goes into sampling from logits.
        power_w: mean power.
    """

    run_s: FloatArray
    run_j: FloatArray
    memory_part: FloatArray
    compute_part: FloatArray
    sampling_part: FloatArray
    power_w: FloatArray


def run_costs(
    workloads: Sequence[Workload],
    hardware: Hardware,
    power: Power,
    *,
    calibration: tuple[tuple[str, float], ...] = (),
    mode: Mode = "graph",
) -> Costs:
    """Cost every workload on every design.

    Each distinct kernel is planned once on each design; a workload is a weighted sum over kernels. A board that would
    draw more than its limit runs slower until it does not, as in `simulator.power_limit.stretch`.

    Args:
        workloads: what runs.
        hardware: the designs.
        power: their energy constants and limits.
        calibration: constants that the kernel models take on all of them.
        mode: `graph` plays kernels back to back; in `eager` the host issues each call, and whoever is slower counts.
    """
    ops, counts, owner = _joined(workloads)
    found = {name: np.full((len(workloads), len(hardware)), np.nan) for name in Costs.__slots__}
    shapes = same_levels(hardware)
    for shape in np.unique(shapes):
        alike = np.flatnonzero(shapes == shape)
        for start in range(0, len(alike), _BLOCK_DESIGNS):
            rows = alike[start : start + _BLOCK_DESIGNS]
            some = hardware.take(rows)
            plans = plan_table(ops, chip_columns(some, calibration))
            block = _block_costs(workloads, plans, counts, owner, some, take_columns(power, rows), mode)
            for name, values in block.items():
                found[name][:, rows] = values
    return Costs(**found)


def _joined(workloads: Sequence[Workload]) -> tuple[OpColumns, FloatArray, FloatArray]:
    """(ops of all workloads, calls of each op in each workload [W, O], the same where an op samples)."""
    ops = OpColumns(
        **{
            name: np.concatenate([getattr(workload.ops, name) for workload in workloads])
            for name in OpColumns.__slots__
        }
    )
    counts, sampling = np.zeros((len(workloads), len(ops))), np.zeros((len(workloads), len(ops)))
    start = 0
    for number, workload in enumerate(workloads):
        part = slice(start, start + len(workload))
        counts[number, part] = workload.counts
        sampling[number, part] = np.where(workload.is_sampling, workload.counts, 0.0)
        start += len(workload)
    return ops, counts, sampling


def _block_costs(
    workloads: Sequence[Workload],
    plans: PlanTable,
    counts: FloatArray,
    sampling: FloatArray,
    hardware: Hardware,
    power: Power,
    mode: Mode,
) -> dict[str, FloatArray]:
    issued_s = hardware.host_dispatch_s if mode == "eager" else 0.0
    kernel_s = np.maximum(plans.duration_s, issued_s)
    dynamic_j = _dynamic_j(plans, power)
    time_s, energy_j = _summed(counts, kernel_s), _summed(counts, dynamic_j)
    sampling_s, sampling_j = _summed(sampling, kernel_s), _summed(sampling, dynamic_j)
    unit_s, unit_j = _sampling_unit(workloads, hardware, power, issued_s)
    has_unit = (hardware.sampler_lanes > 0) & (unit_s < sampling_s)
    time_s = np.where(has_unit, time_s - sampling_s + unit_s, time_s)
    energy_j = np.where(has_unit, energy_j - sampling_j + unit_j, energy_j)
    room_w = np.maximum(power.tdp_w - power.static_w, 1e-9)
    slowed_s = np.maximum(time_s, energy_j / room_w)
    total_j = energy_j + power.static_w * slowed_s
    is_memory, is_compute = what_binds(plans)
    needed = np.array([workload.needed_bytes for workload in workloads])
    holds = ~(needed[:, None] > hardware.dram_bytes)  # what is unknown is held
    values = {
        "run_s": slowed_s,
        "run_j": total_j,
        "memory_part": _summed(counts, kernel_s * is_memory) / _summed(counts, kernel_s),
        "compute_part": _summed(counts, kernel_s * is_compute) / _summed(counts, kernel_s),
        "sampling_part": np.where(has_unit, unit_s, sampling_s) / time_s,
        "power_w": total_j / slowed_s,
    }
    return {name: np.where(holds, value, np.nan) for name, value in values.items()}


def what_binds(plans: PlanTable) -> tuple[BoolArray, BoolArray]:
    """(kernels that memory binds, those that the units do), [O, D] each; the others wait for operands or latencies."""
    columns = plans.columns
    is_memory = plans.memory_s >= columns.core_s
    units_s = np.maximum(np.maximum(columns.matrix_s, columns.vector_s), columns.special_s)
    return is_memory, ~is_memory & (units_s >= _COMPUTING * columns.core_s)


def _summed(counts: FloatArray, values: FloatArray) -> FloatArray:
    """Sums over kernels, [W, O] and [O, D] to [W, D], kernel by kernel: a product of matrices would round differently
    for other numbers of designs at once."""
    sums = np.zeros((len(counts), values.shape[1]))
    for number, row in enumerate(counts):
        for kernel in np.flatnonzero(row):
            sums[number] += row[kernel] * values[kernel]
    return sums


def _dynamic_j(plans: PlanTable, power: Power) -> FloatArray:
    """Dynamic joules of one call of each kernel, [O, D].

    A product of a narrower type costs less in proportion to its rate, and one that the matrix units do not take costs
    what vector FLOPs cost.
    """
    ops, chips = plans.op_columns, plans.chip_columns
    codes = ops.dtype[:, 0]
    rates = np.array([MATRIX_RATES.get(name, 1.0) for name in DTYPES])[codes][:, None]
    on_matrix = chips.has_matrix[codes]
    matrix_j = ops.required_matrix_flops * np.where(on_matrix, power.matrix_j_per_flop / rates, power.vector_j_per_flop)
    vector_flops = ops.vector_flops + softmax_flops(ops)[:, None]
    joules: FloatArray = matrix_j + vector_flops * power.vector_j_per_flop
    per_byte = _level_j_per_byte(plans, power)
    joules += np.einsum("loc,lc->oc", plans.columns.traffic_bytes, per_byte)
    return joules


def _level_j_per_byte(plans: PlanTable, power: Power) -> FloatArray:
    """Joules per byte of each memory level, main memory first, [levels, D]."""
    chips = plans.chip_columns
    per_level = [power.dram_j_per_byte]
    for level in range(1, chips.levels):
        per_level.append(np.where(chips.level_is_core[level], power.l1_j_per_byte, power.l2_j_per_byte))
    return np.stack(per_level)


def _sampling_unit(
    workloads: Sequence[Workload], hardware: Hardware, power: Power, issued_s: FloatArray | float
) -> tuple[FloatArray, FloatArray]:
    """(seconds, joules) of all sampling by a streaming unit, [W, D]: each pass reads its logits once.

    One launch a pass; logits stream past the lanes of all cores, from main memory.
    """
    lanes = np.maximum(hardware.sampler_lanes * hardware.cores * hardware.clock_hz, 1e-9)
    moved, logits, passes = (
        np.array([getattr(workload, name) for workload in workloads])[:, None]
        for name in ("logits_bytes", "logits", "sampled_passes")
    )
    streamed_s = np.maximum(logits / lanes, moved / hardware.dram_bytes_per_s)
    seconds = passes * np.maximum(hardware.launch_s, issued_s) + streamed_s
    joules = moved * power.dram_j_per_byte + SAMPLER_FLOPS * logits * power.vector_j_per_flop
    return seconds, joules
