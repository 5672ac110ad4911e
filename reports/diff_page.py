"""The page that `roofscape diff` writes: findings, the largest differences, the whole table."""

from collections.abc import Sequence

import pandas as pd

from reports.charts.differences import difference_bars
from reports.diff_verdicts import DiffRow, rows_frame
from reports.differences import Difference
from reports.formatting import (
    Formatter,
    format_bytes,
    format_change,
    format_count,
    format_flops,
    format_seconds,
    shorten,
)
from reports.report import Column, Figure, Report, Section, TableView, numbers, or_else, texts

_SHOWN = 300
_MOST_NAMED = 5


def build_diff_page(differences: Sequence[Difference]) -> Report:
    """One section for each basis that was compared."""
    first = differences[0]
    return Report(
        title=f"{first.a} (A) against {first.b} (B)",
        findings=tuple(sentence for difference in differences for sentence in findings(difference)),
        sections=tuple(_section(difference) for difference in differences),
    )


def writer(difference: Difference) -> Formatter:
    """What writes the compared figures."""
    return {"FLOPs": format_flops, "bytes": format_bytes}.get(difference.basis, format_seconds)


def findings(difference: Difference) -> tuple[str, ...]:
    """The verdict on the whole, the regressions, and what is only in one, as sentences."""
    write = writer(difference)
    whole = difference.rows[0]
    sure = f", {whole.certainty}" if whole.certainty else ""
    totals = f"A {write(whole.total_a)}, B {write(whole.total_b)}, {format_change(whole.ratio)}{sure}"
    sentences = [f"{_title(difference)} of the whole trace: {totals}."]
    worse = [row for row in difference.regressions if row.level != "trace"]
    named = "; ".join(f"{shorten(row.label, 80)} {format_change(row.ratio)}" for row in worse[:_MOST_NAMED])
    more = f" and {len(worse) - _MOST_NAMED} more" if len(worse) > _MOST_NAMED else ""
    limit = f"by more than {100 * difference.threshold:g} %"
    sentences.append(
        f"Surely worse {limit}: {named}{more}."
        if difference.regressions and worse
        else f"The whole trace is surely worse {limit}."
        if difference.regressions
        else f"Nothing is surely worse {limit}."
    )
    for side in "AB":
        rows = [row for row in difference.rows if row.level == "group" and row.verdict == f"only in {side}"]
        if rows:
            total = sum((row.total_a if side == "A" else row.total_b) or 0.0 for row in rows)
            sentences.append(f"Only in {side}: {format_count(len(rows))} groups, {write(total)}.")
    return (*sentences, *difference.notes)


def difference_table(difference: Difference, rows: Sequence[DiffRow]) -> TableView:
    """Rows as people read them."""
    frame = rows_frame(rows)
    write = or_else(writer(difference), "-")
    frame["label"] = [_indent(row) for row in rows]
    return TableView(
        title="",
        frame=frame,
        columns=(
            Column(name="label", header=" / ".join(difference.by), write=lambda text: shorten(str(text), 110)),
            *texts(verdict="B is"),
            *numbers(or_else(format_change, "-"), ratio="change"),
            *texts(certainty="95 % interval"),
            *numbers(write, total_a="A", total_b="B"),
            *numbers(format_count, calls_a="calls A", calls_b="calls B"),
            *numbers(or_else(format_change, "-"), flops_ratio="FLOPs", bytes_ratio="bytes"),
        ),
        note=_note(difference),
    )


def _section(difference: Difference) -> Section:
    groups = [row for row in difference.rows if row.level == "group"] or list(difference.rows[1:])
    above = [row for row in difference.rows if row not in groups]
    shown = [*above, *groups[:_SHOWN]]
    title = _title(difference)
    figures: tuple[Figure, ...] = ()
    if any(row.difference for row in groups):
        figures = (Figure(chart=difference_bars(_bars(groups), title, writer(difference), _unit(difference))),)
    left_out = f" {len(groups) - _SHOWN} rows with smaller differences are left out." if len(groups) > _SHOWN else ""
    return Section(
        title=title,
        text=f"Aligned by {', '.join(difference.by)}; the largest differences first.{left_out}",
        figures=figures,
        tables=(difference_table(difference, shown),),
    )


def _unit(difference: Difference) -> str:
    return {"FLOPs": "FLOP", "bytes": "B"}.get(difference.basis, "s")


def _bars(groups: Sequence[DiffRow]) -> pd.DataFrame:
    return rows_frame(groups)[["label", "verdict", "difference", "total_a", "total_b", "certainty"]]


def _title(difference: Difference) -> str:
    return {"measured": "Measured time", "simulated": "Simulated time"}.get(
        difference.basis, f"Counted {difference.basis}"
    )


def _indent(row: DiffRow) -> str:
    return f"phase {row.label}" if row.level == "phase" else row.label


def _note(difference: Difference) -> str:
    share = f"{100 * difference.least_share:g} %"
    if difference.basis != "measured":
        return f"Figures are exact. Small: less than {share} of both. FLOPs and bytes are counted, not measured."
    return (
        "Change: of the median step or repeat times their number; where the interval of 95 % (bootstrap over steps or "
        "repeats) holds no change, or over all rows more than 5 % of such findings would be chance, it says not sure. "
        f"Small: less than {share} of both. FLOPs and bytes are counted: where they changed too, B was asked for more."
    )
