"""How far two measurements of the same matrix products lie apart: TensorRT-LLM's and vLLM's, by rows of the product.

    python benchmarks/gemm_repeats.py [TABLE.md]

Both run NVIDIA's library on one type of GPU, in other versions and on other machines. Mean absolute difference in
percent, over the rows that fits may see. Needs `roofscape[silicon]`.
"""

import sys

import numpy as np
import pandas as pd

from reports.markdown import markdown_table, print_or_write
from roofline.chipfile import load_chip
from simulator.size_classes import class_names
from simulator.validation.silicon import silicon_table
from simulator.validation.tables import MeasuredTable

CHIPS = ("a100-sxm-80gb", "h100-sxm", "h200-sxm", "b200-sxm", "l40s")
SIZES = ["m", "n", "k"]


def main(path: str = "") -> None:
    columns = [differences(name) for name in CHIPS]
    rows = [
        [name.removeprefix("m "), *(f"{column[name]:.1f}" if name in column else "" for column in columns)]
        for name in class_names("gemm")
    ]
    table = markdown_table(("rows", *CHIPS), rows, [False, *(True for _ in CHIPS)])
    print_or_write(table, path)


def differences(name: str) -> dict[str, float]:
    """Mean absolute difference of the two tables of a chip in percent, by size class."""
    first, second = (frame_of(silicon_table(load_chip(name), "gemm", "bfloat16", b)) for b in ("trtllm", "vllm"))
    both = first.merge(second, on=[*SIZES, "size_class"], suffixes=("", "_again"))
    apart = 100.0 * (both["measured_s_again"] / both["measured_s"] - 1.0).abs()
    return {str(key): float(value) for key, value in apart.groupby(both["size_class"]).mean().items()}


def frame_of(table: MeasuredTable) -> pd.DataFrame:
    """Sizes, class and seconds of the rows that fits may see."""
    seen = table.half(held_out=False)
    sizes = {name: seen.ops.size(name)[:, 0].astype(np.int64) for name in SIZES}
    return pd.DataFrame(sizes | {"size_class": seen.size_class, "measured_s": seen.measured_s})


if __name__ == "__main__":
    main(*sys.argv[1:])
