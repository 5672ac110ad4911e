"""What each constant of attention is worth: how much larger errors are without it, the others fitted again.

    python benchmarks/attention_worth.py [TABLE.md]

Points of the mean error over a chip's regimes, on rows that fits may see: some of them fit, half of them score. What is
left out takes the value of a chip without calibration. Needs `roofscape[silicon]`. With a file name the table is
written there; some minutes of CPU time.
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from reports.markdown import markdown_table, print_or_write
from roofline.chip import Chip
from roofline.chipfile import load_chip
from simulator.kernels.attention_constants import CONSTANTS
from simulator.validation.families import section_of
from simulator.validation.fitting import search
from simulator.validation.joint_fit import REGIMES, logs_of, with_values
from simulator.validation.scores import predict_s, score
from simulator.validation.silicon import silicon_backends, silicon_table
from simulator.validation.tables import MeasuredTable

CHIPS = ("h100-sxm", "a100-sxm-80gb", "l40s", "b200-sxm")  # an H200 runs the kernels of an H100
ROWS, EVALUATIONS = 400, 6
HEADINGS = ("constant", *(f"{name}, points" for name in CHIPS))


def main(path: str = "") -> None:
    worth = {name: dict(worth_on(load_chip(name))) for name in CHIPS}
    names = dict.fromkeys(constant for found in worth.values() for constant in found)
    rows = [[f"`{each}`", *(f"{worth[c][each]:+.2f}" if each in worth[c] else "" for c in CHIPS)] for each in names]
    table = markdown_table(HEADINGS, rows, [False] + [True] * len(CHIPS))
    print_or_write(table, path)


def worth_on(chip: Chip) -> Iterator[tuple[str, float]]:
    """Every constant of a chip's attention, and by how many points the mean error of its regimes grows without it."""
    there = [op for op in REGIMES if silicon_backends(chip.name, op)]
    fitted, scored = zip(*(halves(silicon_table(chip, op, "bfloat16", "vllm")) for op in there), strict=True)
    known = {constant.name: constant for constant in CONSTANTS}
    sections = {"attention", *map(section_of, there)}
    names = [
        name for name, _ in chip.calibration if name.rpartition(".")[0] in sections and name.rpartition(".")[2] in known
    ]
    whole = error(chip, names, fitted, scored)
    for name in names:
        without = replace(chip, calibration=tuple(each for each in chip.calibration if each[0] != name))
        yield name, error(without, [each for each in names if each != name], fitted, scored) - whole


def halves(table: MeasuredTable) -> tuple[MeasuredTable, MeasuredTable]:
    """Rows to fit to and rows to score, both of those that fits may see."""
    drawn = np.random.default_rng(0).permutation(np.flatnonzero(~table.held_out))
    return table.take(np.sort(drawn[:ROWS])), table.take(np.sort(drawn[len(drawn) // 2 :]))


def error(chip: Chip, names: Sequence[str], fitted: Sequence[MeasuredTable], scored: Sequence[MeasuredTable]) -> float:
    """Mean error in percent over the scored tables, these constants fitted again from where they are."""
    known = {constant.name: constant for constant in CONSTANTS}
    values = dict(chip.calibration)
    bare = replace(chip, calibration=tuple(each for each in chip.calibration if each[0] not in names))
    free = tuple((name, known[name.rpartition(".")[2]]) for name in names)
    found = search(
        lambda unknown: logs_of(fitted, with_values(bare, free, unknown)),
        [constant for _, constant in free],
        [[values[name] for name in names]],
        evaluations=EVALUATIONS,
    )
    again = with_values(bare, free, found)
    return float(np.mean([score(table, predict_s(table, again)).mape_percent for table in scored]))


if __name__ == "__main__":
    main(*sys.argv[1:])
