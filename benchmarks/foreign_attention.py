"""Attention kernels against times that no constant was fitted to, as a Markdown table.

    python benchmarks/foreign_attention.py [TABLE.md]

NVIDIA/cudnn-frontend, `benchmark/attention_training/results`, forward, bfloat16, ten calls: every such row of
cuDNN 9.27 and FlashAttention-4's kernels for Hopper on an H200 (`llama3.1/h200/llama3.1_20260928_130009.csv` @816ea45
and, with a window of 128 keys, `gpt_oss/h200/gpt_oss_20260928_115306.csv` @a0312cc, `auto_regressive_dit/h200/
auto_regressive_dit_20260928_115824.csv` @b1214d5), and of FlashAttention-2 on an A100 80GB PCIe
(`llama3.1/a100/llama3.1_20260928_133751.csv` @816ea45, `auto_regressive_dit/a100/
auto_regressive_dit_20260928_132520.csv` @d6d35d6). Nothing stores keys there, and calls are repeated on the same data.
"""

import sys

import numpy as np
import pandas as pd

from reports.markdown import markdown_table, print_or_write
from roofline.chipfile import load_chip
from simulator.prediction import predict

_LENGTHS = (2_048, 4_096, 8_192, 16_384, 32_768)
_CHUNKS = (985, 1_024, 2_048, 4_096, 8_192)  # queries on 62,208 keys
_CHIPS = {"H200": "h200-sxm", "A100": "a100-sxm-80gb"}
# Milliseconds at _LENGTHS: two sequences, 64 heads of 128 on 8 of keys.
_PROMPTS_MS = {
    ("H200", "cuDNN", True): (0.257, 0.893, 3.357, 13.888, 56.813),
    ("H200", "cuDNN", False): (0.416, 1.600, 6.271, 27.502, 113.197),
    ("H200", "FlashAttention-4", True): (0.264, 0.888, 3.260, 12.527, 55.166),
    ("H200", "FlashAttention-4", False): (0.410, 1.499, 5.817, 25.632, 103.706),
    ("A100", "FlashAttention-2", True): (0.764, 2.690, 10.123, 43.434, 176.476),
    ("A100", "FlashAttention-2", False): (1.270, 4.897, 20.684, 86.114, 349.461),
}
# At _LENGTHS: two sequences, 128 heads of 64, a window of 128 keys.
_WINDOW_MS = {
    ("H200", "cuDNN", True): (0.134, 0.262, 0.515, 1.017, 2.030),
    ("H200", "FlashAttention-4", True): (0.178, 0.352, 0.683, 1.357, 2.698),
}
# At _CHUNKS: one sequence, 9 heads of 128, no mask.
_CHUNKS_MS = {
    ("H200", "cuDNN", False): (0.719, 0.719, 1.463, 2.206, 3.702),
    ("H200", "FlashAttention-4", False): (0.641, 0.639, 1.307, 1.975, 3.319),
    ("A100", "FlashAttention-2", False): (1.433, 1.437, 3.882, 6.084, 11.932),
}
_WORK = {
    "whole sequences, heads of 128": (_PROMPTS_MS, _LENGTHS, {"batch": 2, "heads": 64, "kv_heads": 8, "head_dim": 128}),
    "window of 128, heads of 64": (
        _WINDOW_MS,
        _LENGTHS,
        {"batch": 2, "heads": 128, "kv_heads": 128, "head_dim": 64, "window": 128},
    ),
    "chunks of queries on 62,208 keys": (
        _CHUNKS_MS,
        _CHUNKS,
        {"batch": 1, "heads": 9, "kv_heads": 9, "head_dim": 128, "keys": 62_208},
    ),
}


_HEADINGS = ("chip", "kernels", "work", "mask", "rows", "mean error, %", "median, %", "bias, %", "in the 90 % band")


def main(path: str = "") -> None:
    lines = []
    for work, (times, queries, sizes) in _WORK.items():
        for (chip, kernels, causal), measured_ms in times.items():
            rows = pd.DataFrame([{"keys": count} | sizes | {"queries": count} for count in queries])
            rows = rows.assign(kind="attention", dtype="bfloat16", causal=int(causal), stores_kv=0.0)
            found = predict(rows, load_chip(_CHIPS[chip]))
            measured_s = 1e-3 * np.array(measured_ms)
            off = 100.0 * (found["predicted_s"].to_numpy() / measured_s - 1.0)
            inside = ((found["low_s"] <= measured_s) & (measured_s <= found["high_s"])).sum()
            errors = f"{np.abs(off).mean():.1f}", f"{np.median(np.abs(off)):.1f}", f"{off.mean():+.1f}"
            mask = "causal" if causal else "none"
            lines.append([chip, kernels, work, mask, str(len(off)), *errors, str(inside)])
    print_or_write(markdown_table(_HEADINGS, lines, [False] * 4 + [True] * 5), path)


if __name__ == "__main__":
    main(*sys.argv[1:])
