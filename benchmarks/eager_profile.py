"""A measured forward by kind of kernel, beside the bound and what is predicted for eager and for compiled kernels.

    python benchmarks/eager_profile.py PROFILE.json.gz [TABLE.md]

The profile of docs/whole-models.md is AMD-AGI/TraceLens at commit 171dd74, MIT license:
tests/traces/h100/Qwen_Qwen1.5-0.5B-Chat__1016005.json.gz. With a second file name the table is written there
(`make eager-profile PROFILE=...`).
"""

import sys
from pathlib import Path

import numpy as np

from profiler.importers.kineto import import_kineto
from reports.markdown import markdown_table, print_or_write
from roofline.analysis import analyze
from roofline.chipfile import load_chip
from simulator import analytic
from simulator.result import SimulationResult

HEADINGS = ("kind", "calls", "measured, ms", "predicted eager, ms", "predicted compiled (graph), ms", "cold bound, ms")


def main(profile: str, path: str = "") -> None:
    trace, chip = import_kineto(Path(profile)), load_chip("h100-sxm")
    points = analyze(trace, chip, by="kind")
    modes = [analytic.simulate(trace, chip, mode=mode) for mode in ("eager", "graph")]
    rows = []
    for point in points:
        predicted = [milliseconds(kind_seconds(mode, point.kind)) for mode in modes]
        rows.append([point.label, f"{point.calls:,}", milliseconds(point.measured_s), *predicted])
        rows[-1].append(milliseconds(point.bound_s))
    measured_s, bound_s = (sum(each) for each in zip(*((p.measured_s, p.bound_s) for p in points), strict=True))
    whole = [f"{1e3 * m.duration_s.sum():.3g} ({1e3 * m.low_s:.3g} to {1e3 * m.high_s:.3g})" for m in modes]
    rows.append(["all", f"{sum(point.calls for point in points):,}", milliseconds(measured_s), *whole])
    rows[-1].append(milliseconds(bound_s))
    table = markdown_table(HEADINGS, rows, [False, *[True] * 5])
    print_or_write(table, path)


def kind_seconds(result: SimulationResult, kind: str) -> float:
    return float(result.duration_s[np.array(result.op_kinds)[result.op] == kind].sum())


def milliseconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{1e3 * seconds:.3g}"


if __name__ == "__main__":
    main(*sys.argv[1:])
