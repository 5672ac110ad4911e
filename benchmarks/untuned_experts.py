"""Layers of experts that a library was not tuned for: how slow they are, and what the mark `untuned` explains.

    python benchmarks/untuned_experts.py

Of TensorRT-LLM's bfloat16 rows that ran untuned, the measured time over the time predicted for the same layer tuned;
of vLLM's float8 rows, to which nothing was fitted, the mean error with the mark and without; of tuned rows, those that
no rule explains. Needs `roofscape[silicon]`; docs/kernels/experts.md says what the mark means.
"""

from dataclasses import replace

import numpy as np

from roofline.chipfile import load_chip
from simulator.op_columns import SIZE_NAMES
from simulator.validation.scores import predict_s, score
from simulator.validation.silicon import silicon_table
from simulator.validation.tables import MeasuredTable


def main() -> None:
    for name in ("h100-sxm", "h200-sxm", "b200-sxm"):
        chip = load_chip(name)
        table = silicon_table(chip, "moe", dtype="bfloat16", backend="trtllm")
        rows = np.flatnonzero(is_untuned(table))
        ratio = (table.measured_s / predict_s(as_if_tuned(table), chip))[rows]
        part = len(rows) / len(table)
        print(f"{name}: {part:.0%} of TensorRT-LLM's rows are untuned, {np.median(ratio):.1f} times as slow (median)")
    for name in ("h100-sxm", "h200-sxm"):
        chip = load_chip(name)
        table = silicon_table(chip, "moe", dtype="float8_e4m3fn", backend="vllm")
        table = table.take(np.flatnonzero(is_untuned(table)))
        errors = [score(table, predict_s(each, chip)).mape_percent for each in (table, as_if_tuned(table))]
        print(f"{name}: vLLM's rows are {errors[0]:.0f} % off with the mark, {errors[1]:.0f} % without it")
    for name in ("h100-sxm", "a100-sxm-80gb"):
        chip = load_chip(name)
        table = silicon_table(chip, "moe", dtype="bfloat16", backend="trtllm")
        ratio = table.measured_s / predict_s(table, chip)
        others = ratio[~is_untuned(table)]
        few = ratio[((table.ops.size("expert_ranks") >= 16) & (table.ops.size("tokens") <= 4))[:, 0]]
        slow, tenth = (others > 2).mean(), np.percentile(few, 90)
        print(f"{name}: {slow:.1%} of the others take more than twice the prediction, up to {others.max():.0f} times;")
        print(f"    of up to 4 tokens on 16 ranks and more a tenth takes {tenth:.1f} times")


def is_untuned(table: MeasuredTable) -> np.ndarray:
    return table.ops.size("untuned")[:, 0] > 0


def as_if_tuned(table: MeasuredTable) -> MeasuredTable:
    sizes = table.ops.sizes.copy()
    sizes[:, SIZE_NAMES.index("untuned")] = 0.0
    return replace(table, ops=replace(table.ops, sizes=sizes))


if __name__ == "__main__":
    main()
