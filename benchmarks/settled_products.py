"""How far off settled products are, with the clock that a run's power sets and with the term of long kernels.

    python benchmarks/settled_products.py [TABLE.md]

Mean absolute errors of time, in percent, on products of random data (TensorRT-LLM and SGLang) that were repeated
for 0.1 s and more and that no fit has seen: the table of docs/energy.md, Constants at the limit. Needs the `silicon`
extra; takes some ten seconds. With a file name the table is written there (`make validate`).
"""

import sys

import numpy as np

from reports.markdown import markdown_table, print_or_write
from roofline.chipfile import load_chip
from simulator.clocks import steady_chip
from simulator.plans import plan_columns
from simulator.validation.power_at_limit import RANDOM_DATA, settled_products, settled_s
from simulator.validation.silicon import SYSTEMS, silicon_table

HEADINGS = ("chip", "rows", "at its clock", "with the term of long kernels", "at full clock")


def main(path: str = "") -> None:
    lines = []
    for name in SYSTEMS:
        chip = load_chip(name)
        errors = []
        for backend in RANDOM_DATA:
            table = settled_products(silicon_table(chip, "gemm", "bfloat16", backend)).half(held_out=True)
            steady = plan_columns(table.ops, [steady_chip(chip)])
            bursts = plan_columns(table.ops, [chip])
            predicted = (settled_s(steady, chip), bursts.duration_s[:, 0], steady.duration_s[:, 0])
            errors.append(np.abs(np.stack(predicted) / table.measured_s - 1.0))
        rows = np.concatenate(errors, axis=1)
        lines.append([name, f"{rows.shape[1]:,}", *(f"{mean:.1f}" for mean in 100.0 * rows.mean(axis=1))])
    table = markdown_table(HEADINGS, lines, [False, True, True, True, True])
    print_or_write(table, path)


if __name__ == "__main__":
    main(*sys.argv[1:])
