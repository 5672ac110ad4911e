"""Layers of experts that a library was not tuned for: how slow they are, and what the mark `untuned` explains.

    python benchmarks/untuned_experts.py [TABLE.md]

Of TensorRT-LLM's bfloat16 rows that ran untuned, the measured time over the time predicted for the same layer tuned;
of vLLM's float8 rows, to which nothing was fitted, the mean error with the mark and without; of tuned rows, those that
no rule explains. Needs `roofscape[silicon]`; docs/kernels/experts.md says what the mark means. With a file name the
table is written there (`make validate`).
"""

import sys
from dataclasses import replace

import numpy as np

from reports.markdown import markdown_table, print_or_write
from roofline.chipfile import load_chip
from simulator.op_columns import SIZE_NAMES
from simulator.validation.scores import predict_s, score
from simulator.validation.silicon import silicon_table
from simulator.validation.tables import MeasuredTable

CHIPS = ("h100-sxm", "h200-sxm", "b200-sxm", "a100-sxm-80gb")
FLOAT8_CHIPS = ("h100-sxm", "h200-sxm")
QUESTIONS = (
    "TensorRT-LLM, bfloat16: rows that ran untuned, %",
    "their time over that predicted for the layer tuned, median",
    "vLLM, float8, rows that ran untuned: mean error with the mark, %",
    "and without it, %",
    "TensorRT-LLM, bfloat16, other rows: more than twice the prediction, %",
    "the slowest of them, times the prediction",
    "up to 4 tokens on 16 ranks and more: 90th percentile, times the prediction",
)


def main(path: str = "") -> None:
    columns = [[*library_rows(name), *float8_errors(name), *other_rows(name)] for name in CHIPS]
    rows = [[question, *answers] for question, *answers in zip(QUESTIONS, *columns, strict=True)]
    table = markdown_table(["rows", *CHIPS], rows, [False, *[True] * len(CHIPS)])
    print_or_write(table, path)


def library_rows(name: str) -> list[str]:
    """The part of TensorRT-LLM's rows that ran untuned, and how slow they are."""
    chip, table = load_chip(name), silicon_table(load_chip(name), "moe", dtype="bfloat16", backend="trtllm")
    rows = np.flatnonzero(is_untuned(table))
    if not len(rows):
        return ["0", ""]
    ratio = (table.measured_s / predict_s(as_if_tuned(table), chip))[rows]
    return [f"{100.0 * len(rows) / len(table):.0f}", f"{np.median(ratio):.1f}"]


def float8_errors(name: str) -> list[str]:
    """Mean error of vLLM's untuned float8 rows with the mark, and without it."""
    if name not in FLOAT8_CHIPS:
        return ["", ""]
    chip = load_chip(name)
    table = silicon_table(chip, "moe", dtype="float8_e4m3fn", backend="vllm")
    table = table.take(np.flatnonzero(is_untuned(table)))
    return [f"{score(table, predict_s(each, chip)).mape_percent:.0f}" for each in (table, as_if_tuned(table))]


def other_rows(name: str) -> list[str]:
    """How many of the other rows take twice the prediction, the slowest, and those of few rows a rank."""
    chip = load_chip(name)
    table = silicon_table(chip, "moe", dtype="bfloat16", backend="trtllm")
    ratio = table.measured_s / predict_s(table, chip)
    others = ratio[~is_untuned(table)]
    few = ratio[((table.ops.size("expert_ranks") >= 16) & (table.ops.size("tokens") <= 4))[:, 0]]
    return [f"{100.0 * (others > 2).mean():.1f}", f"{others.max():.0f}", f"{np.percentile(few, 90):.1f}"]


def is_untuned(table: MeasuredTable) -> np.ndarray:
    return table.ops.size("untuned")[:, 0] > 0


def as_if_tuned(table: MeasuredTable) -> MeasuredTable:
    sizes = table.ops.sizes.copy()
    sizes[:, SIZE_NAMES.index("untuned")] = 0.0
    return replace(table, ops=replace(table.ops, sizes=sizes))


if __name__ == "__main__":
    main(*sys.argv[1:])
