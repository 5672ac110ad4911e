"""How much of the error at 2 to 16 rows is the same for all of these rows, and so a kernel's and not scatter.

    python benchmarks/few_rows_scatter.py [TABLE.md]

TensorRT-LLM's bfloat16 products that fits may see, of 2 to 16 rows, beside which another of these has the same n and k.
Mean absolute logarithm of measured over predicted time, in percent; the same after the mean of the others with this n
and k is taken away; and the correlation of the logarithms with those of vLLM's measurements of the same products. Needs
`roofscape[silicon]`.
"""

import sys

import numpy as np
import pandas as pd

from reports.markdown import markdown_table, print_or_write
from roofline.chipfile import load_chip
from simulator.validation.scores import predict_s
from simulator.validation.silicon import SYSTEMS, silicon_table

HEADINGS = ("chip", "rows", "error", "without what the same n and k share", "correlation with vLLM's")
LEAST_ROWS, MOST_ROWS = 2, 16
SIZES = ["m", "n", "k"]


def main(path: str = "") -> None:
    lines = []
    for name in SYSTEMS:
        own = logs_of(name, "trtllm")
        error, left, rows = shared_part(own)
        both = own.merge(logs_of(name, "vllm"), on=SIZES, suffixes=("", "_again"))
        alike = float(np.corrcoef(both["log"], both["log_again"])[0, 1])
        lines.append([name, f"{rows:,}", f"{100.0 * error:.1f}", f"{100.0 * left:.1f}", f"{alike:.2f}"])
    print_or_write(markdown_table(HEADINGS, lines, [False, True, True, True, True]), path)


def logs_of(name: str, backend: str) -> pd.DataFrame:
    """Sizes and ln(measured / predicted) of the products of few rows that fits may see."""
    chip = load_chip(name)
    seen = silicon_table(chip, "gemm", "bfloat16", backend).half(held_out=False)
    sizes = {size: seen.ops.size(size)[:, 0].astype(np.int64) for size in SIZES}
    rows = np.flatnonzero((sizes["m"] >= LEAST_ROWS) & (sizes["m"] <= MOST_ROWS))
    few, columns = seen.take(rows), {size: column[rows] for size, column in sizes.items()}
    return pd.DataFrame(columns | {"log": np.log(few.measured_s / predict_s(few, chip))})


def shared_part(logs: pd.DataFrame) -> tuple[float, float, int]:
    """Mean absolute logarithm, what is left without the mean of others of the same n and k, and rows that have others.

    >>> shared_part(pd.DataFrame({"n": [8, 8, 9], "k": [4, 4, 4], "log": [0.25, 0.75, 3.0]}))
    (0.5, 0.5, 2)
    """
    groups = logs.groupby(["n", "k"])["log"]
    count, total = groups.transform("size"), groups.transform("sum")
    several = count > 1
    own = logs["log"][several]
    others = (total[several] - own) / (count[several] - 1)
    return float(own.abs().mean()), float((own - others).abs().mean()), int(several.sum())


if __name__ == "__main__":
    main(*sys.argv[1:])
