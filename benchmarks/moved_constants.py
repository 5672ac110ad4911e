"""How far constants of matrix products move: those of one chip on another, and the same with 200 kernels of it.

    python benchmarks/moved_constants.py [TABLE.md]

Errors are over rows held out of TensorRT-LLM's bfloat16 products; `own constants` are those that half of the chip's
table was fitted to. Needs `roofscape[silicon]`. With a file name the table is written there (`make validate`).
"""

import sys

from reports.markdown import markdown_table, print_or_write
from roofline.chip import Chip
from roofline.chip_families import with_constants_of
from roofline.chipfile import load_chip
from simulator.validation.families import family
from simulator.validation.fitting import fit
from simulator.validation.scores import predict_s, score
from simulator.validation.silicon import silicon_table
from simulator.validation.tables import MeasuredTable

HEADINGS = ("chip", "constants of", "moved as they are, %", "after 200 kernels, %", "own constants, %")
KERNELS = 200
DONOR = "h100-sxm"
CHIPS = ("h200-sxm", "b200-sxm", "a100-sxm-80gb", "l40s")


def main(path: str = "") -> None:
    table = markdown_table(HEADINGS, [row(name) for name in CHIPS], [False, False, True, True, True])
    print_or_write(table, path)


def row(name: str) -> list[str]:
    """Errors on a chip with the constants of the donor: moved, moved and fitted again, its own."""
    chip = load_chip(name)
    moved = with_constants_of(chip, load_chip(DONOR))
    measured = silicon_table(chip, "gemm", "bfloat16", "trtllm")
    chosen = family("gemm", "bfloat16")
    fitted = fit(measured, moved, chosen.constants, scope=chosen.scope, rows=KERNELS, seed=0, stay_near=True)
    errors = (error(measured, moved), fitted.after.mape_percent, error(measured, chip))
    return [name, DONOR, *(f"{each:.1f}" for each in errors)]


def error(table: MeasuredTable, chip: Chip) -> float:
    held = table.half(held_out=True)
    return score(held, predict_s(held, chip)).mape_percent


if __name__ == "__main__":
    main(*sys.argv[1:])
