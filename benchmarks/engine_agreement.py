"""Plays the distinct rows of every measured table alone on the event engine; prints the largest deviation a family.

python benchmarks/engine_agreement.py [--rows N] [--chip CHIP]

All rows take half an hour; with --rows, as many of each table at random.
"""

import argparse

import numpy as np
import simpy

from roofline.chip import Chip
from roofline.chipfile import load_chip
from simulator.errors import SimulationError
from simulator.kernel_process import PS_PER_S, Device, KernelWork, kernel_work, play_kernel
from simulator.op_columns import FloatArray, OpColumns
from simulator.plans import plan_columns
from simulator.validation.silicon import SYSTEMS, TABLES, silicon_backends, silicon_table


def main() -> None:
    """Print a line a family: rows, largest deviation, and where."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=0)
    parser.add_argument("--chip", choices=tuple(SYSTEMS), default=None)
    options = parser.parse_args()
    for op, kind in TABLES.items():
        rows, worst, where = 0, 0.0, ""
        for chip_name in [options.chip] if options.chip else SYSTEMS:
            chip = load_chip(chip_name)
            for dtype in kind.dtypes:
                for backend in silicon_backends(chip_name, op):
                    try:
                        ops = _sample(silicon_table(chip, op, dtype, backend).ops, options.rows)
                    except SimulationError:  # no such table
                        continue
                    apart = deviation(ops, chip)
                    rows += len(apart)
                    if apart.max(initial=0.0) > worst:
                        worst, where = float(apart.max()), f"{chip_name}, {dtype}, {backend}"
        print(f"{op:<24} {rows:>8,} rows: at most {100 * worst:.5f} % apart ({where})", flush=True)


def deviation(ops: OpColumns, chip: Chip) -> FloatArray:
    """Part by which each op, played alone, takes another time than its plan says."""
    table = plan_columns(ops, [chip])
    played_s: dict[KernelWork, float] = {}
    apart = np.empty(len(ops))
    for row in range(len(ops)):
        work = kernel_work(table.plan(row), chip)
        if work not in played_s:
            env = simpy.Environment()
            env.process(play_kernel(Device(env, chip), work))
            env.run()
            played_s[work] = env.now / PS_PER_S
        apart[row] = abs(played_s[work] / table.duration_s[row, 0] - 1.0)
    return apart


def _sample(ops: OpColumns, count: int) -> OpColumns:
    if not count or len(ops) <= count:
        return ops
    return ops.take(np.sort(np.random.default_rng(0).choice(len(ops), count, replace=False)))


if __name__ == "__main__":
    main()
