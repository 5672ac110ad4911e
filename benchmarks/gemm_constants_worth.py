"""What each constant and rule of matrix products is worth: how much the error rises without it, others fitted again.

    python benchmarks/gemm_constants_worth.py [TABLE.md]

In points of mean error on TensorRT-LLM's bfloat16 products, and behind a stroke on those of up to 512 rows. Rows held
out of fits are never looked at: of the others some are drawn to fit to, and the rest are scored. Needs
`roofscape[silicon]` and some minutes. With a file name the table is written there (`make constants-worth`).
"""

import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

import numpy as np

from reports.markdown import markdown_table, print_or_write
from roofline.chip import Chip
from roofline.chipfile import load_chip
from simulator.kernels.constants import Constant
from simulator.validation.families import family
from simulator.validation.fitting import fit
from simulator.validation.scores import predict_s, score, score_few_rows
from simulator.validation.silicon import silicon_table
from simulator.validation.tables import MeasuredTable

CHIPS = ("h100-sxm", "b200-sxm", "a100-sxm-80gb", "l40s")
HEADINGS = ("without", *(f"{chip}: all / up to 512 rows" for chip in CHIPS))
FITTED_ROWS, SCORED_ROWS = 1200, 4000
CONSTANTS = family("gemm", "bfloat16").constants
# What leaves a constant out that has no default.
ABSENT = {
    "memory_efficiency": 1.0,
    "t0_s": 0.0,
    "ingest_bytes_per_clock_per_core": 1e9,
    "epilogue_bytes_per_clock_per_core": 1e9,
    "split_k_s": 0.0,
}
RULES: dict[str, dict[str, float]] = {
    "power_of_two_tiles": {"power_of_two_tiles": 0.0},
    "k_padding_bytes": {"k_padding_bytes": 128.0},
    "cluster_cores": {"cluster_cores": 1.0},
    "largest_tiles_first": {"largest_tiles_first": 0.0},
    "split_least_k": {"split_least_k": 0.0},
    "slice_below_macs": {"slice_below_macs": 0.0},
    "slow_most_rows": {"slow_most_rows": 0.0},
    "least_rows_of_96_tiles": {"least_rows_of_96_tiles": 0.0},
    "counter_tiles_per_core": {"counter_tiles_per_core": np.inf},
    "split_least_macs": {"split_least_macs": 0.0},
    "skinny_split_fill": {"skinny_split_fill": np.inf},
}


def main(path: str = "") -> None:
    with ProcessPoolExecutor(len(CHIPS)) as pool:
        columns = list(pool.map(worth_of, CHIPS))
    names = [*(constant.name for constant in CONSTANTS), *RULES]
    rows = [[name, *(column.get(name, "") for column in columns)] for name in names]
    rows = [["nothing: the error itself", *(column["nothing"] for column in columns)], *(r for r in rows if any(r[1:]))]
    table = markdown_table(HEADINGS, rows, [False, *(True for _ in CHIPS)])
    print_or_write(table, path)


def worth_of(name: str) -> dict[str, str]:
    """By constant or rule of a chip, what errors rise by without it."""
    chip, table = load_chip(name), drawn(load_chip(name))
    held = {key.removeprefix("gemm.") for key, _ in chip.calibration if key.startswith("gemm.")}
    listed = [constant for constant in CONSTANTS if constant.name in held]
    changes = {constant.name: {constant.name: absent(constant)} for constant in listed}
    changes |= {rule: values for rule, values in RULES.items() if rule in held}
    whole, few = errors(table, chip, listed, {})
    worth = {"nothing": f"{whole:.2f} / {few:.2f}"}
    for what, values in changes.items():
        without = errors(table, chip, [constant for constant in listed if constant.name != what], values)
        worth[what] = f"{without[0] - whole:+.2f} / {without[1] - few:+.2f}"
    return worth


def drawn(chip: Chip) -> MeasuredTable:
    """Some of the rows that fits may see; those beyond the first play the part of rows held out."""
    table = silicon_table(chip, "gemm", "bfloat16", "trtllm").half(held_out=False)
    order = np.random.default_rng(0).permutation(len(table))[: FITTED_ROWS + SCORED_ROWS]
    return replace(table.take(order), held_out=np.arange(len(order)) >= FITTED_ROWS)


def absent(constant: Constant) -> float:
    """The value that leaves a constant out."""
    return ABSENT[constant.name] if constant.default is None else constant.default


def errors(
    table: MeasuredTable, chip: Chip, constants: list[Constant], values: dict[str, float]
) -> tuple[float, float]:
    """Mean errors with some values set and these constants fitted again: over all rows, and up to 512."""
    keys = {f"gemm.{name}" for name in values}
    kept = tuple(entry for entry in chip.calibration if entry[0] not in keys)
    changed = replace(chip, calibration=kept + tuple((f"gemm.{name}", value) for name, value in values.items()))
    found = fit(table, changed, constants, scope="gemm", rows=FITTED_ROWS, stay_near=True)
    scored = table.half(held_out=True)
    predicted_s = predict_s(scored, found.chip)
    (few,) = score_few_rows(scored, predicted_s)
    return score(scored, predicted_s).mape_percent, few.mape_percent


if __name__ == "__main__":
    main(*sys.argv[1:])
