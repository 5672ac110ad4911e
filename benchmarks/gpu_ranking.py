"""By how much each GPU is faster than the one before it on a layer's kernels: measured, and in brackets predicted.

    python benchmarks/gpu_ranking.py [TABLE.md]

Needs `roofscape[silicon]`. With a file name the table is written there (`make validate`).
"""

import sys
from pathlib import Path

from reports.markdown import markdown_table, write_text
from simulator.validation.ranking import gains, layer_seconds

HEADINGS = ("work", "H100 over A100", "H200 over H100", "B200 over H200")


def main(path: str = "") -> None:
    rows = [
        [work.title, *(f"{measured:.2f} ({predicted:.2f})" for measured, predicted in gains(seconds))]
        for work, seconds in layer_seconds()
    ]
    table = markdown_table(HEADINGS, rows, [False, True, True, True])
    if path:
        write_text(table, Path(path))
    else:
        print(table, end="")


if __name__ == "__main__":
    main(*sys.argv[1:])
