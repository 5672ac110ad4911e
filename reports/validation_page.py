"""The page that `roofscape validate` writes: the table of errors and a picture for every measured table."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from reports.charts.validation import predicted_against_measured
from reports.formatting import format_count, format_number
from reports.report import Figure, Report, Section, TableView, numbers, or_else, texts
from simulator.op_columns import CONDITIONS, SIZE_NAMES
from simulator.size_classes import in_order
from simulator.validation.runs import Run

_POINTS = 1500  # drawn of each table

_COLUMNS = (
    *texts(chip="chip", op="kernels", dtype="dtype", backend="backend", size_class="size class"),
    *numbers(format_count, rows="rows"),
    *numbers(
        format_number,
        mape_percent="mean %",
        median_percent="median %",
        p90_percent="p90 %",
        bias_percent="bias %",
    ),
    *numbers(
        or_else(format_number, "-"),
        datasheet_mape_percent="datasheet roofline %",
        fitted_roofline_mape_percent="fitted roofline %",
    ),
)


def build_validation_page(runs: Sequence[Run], scores: pd.DataFrame) -> Report:
    """The page of these runs; `scores` is their `scores_frame`."""
    whole = scores[scores["size_class"] == "all"]
    findings = tuple(
        f"{row.op} {row.dtype} on {row.chip} ({row.backend}): mean absolute error {row.mape_percent:.1f} % over "
        f"{row.rows:,} kernels held out, bias {row.bias_percent:+.1f} %; a datasheet roofline is "
        f"{row.datasheet_mape_percent:.0f} % off."
        for row in whole[whole["fitted_here"]].itertuples()
    )
    note = (
        "Measured by others, predicted here; errors in percent of the measured time, over rows that no fit has seen. "
        "The rooflines are for all rows of a table; the fitted one needs four that are not scored."
    )
    table = TableView(title="", frame=scores, columns=_COLUMNS, note=note)
    sections = [Section(title="Errors", tables=(table,))]
    sections += [_section(run.held_out()) for run in runs]
    return Report(title="Predicted against measured kernels", findings=findings, sections=tuple(sections))


def _section(run: Run) -> Section:
    table = run.table
    drawn = np.random.default_rng(0).permutation(len(table))[:_POINTS]
    rows = pd.DataFrame(
        {
            "measured_us": 1e6 * table.measured_s[drawn],
            "predicted_us": 1e6 * run.predicted_s[drawn],
            "ratio": run.predicted_s[drawn] / table.measured_s[drawn],
            "size_class": table.size_class[drawn],
            "sizes": [_sizes_text(table.ops.sizes[row]) for row in drawn],
        }
    )
    order = {label: place for place, label in enumerate(in_order(table.op, table.size_class.tolist()))}
    rows = rows.sort_values("size_class", key=lambda labels: labels.map(order), kind="stable")
    name = f"{table.op} {table.dtype}, {table.chip}, {table.backend}"
    error = 100.0 * np.abs(run.predicted_s / table.measured_s - 1.0).mean()
    text = f"{min(len(table), _POINTS):,} of {len(table):,} rows held out; mean absolute error {error:.1f} %"
    return Section(title=name, figures=(Figure(chart=predicted_against_measured(rows, name, text)),))


def _sizes_text(sizes: "np.ndarray[tuple[int], np.dtype[np.float64]]") -> str:
    named = zip(SIZE_NAMES, sizes, strict=True)
    return ", ".join(f"{name} {value:g}" for name, value in named if value and name not in CONDITIONS)
