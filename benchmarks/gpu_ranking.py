"""By how much each GPU is faster than the one before it on a layer's kernels: measured, and in brackets predicted.

    python benchmarks/gpu_ranking.py [TABLE.md]

Needs `roofscape[silicon]`. With a file name the table is written there (`make validate`).
"""

import sys

from reports.markdown import markdown_table, print_or_write
from simulator.validation.ranking import gains, layer_seconds

HEADINGS = ("work", "H100 over A100", "H200 over H100", "B200 over H200")


def main(path: str = "") -> None:
    rows = [
        [work.title, *(f"{measured:.2f} ({predicted:.2f})" for measured, predicted in gains(seconds))]
        for work, seconds in layer_seconds()
    ]
    table = markdown_table(HEADINGS, rows, [False, True, True, True])
    print_or_write(table, path)


if __name__ == "__main__":
    main(*sys.argv[1:])
