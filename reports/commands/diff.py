"""`roofscape diff`: two traces side by side, for people and for CI."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reports.commands.options import AsJson, Engine, Mode, View, ViewOption, read_trace, writable
from reports.commands.simulate import play

if TYPE_CHECKING:
    from profiler.traces import Trace
    from reports.differences import Difference

_TRACE = "A trace that `roofscape capture` or `roofscape import` wrote"


def diff(
    a: Annotated[Path, typer.Argument(metavar="A", help=f"{_TRACE}: before.")],
    b: Annotated[Path, typer.Argument(metavar="B", help=f"{_TRACE}: after, or on the other device.")],
    by: Annotated[
        str, typer.Option("--by", "-b", help="What aligns the calls: some of phase, module, op, name, kind.")
    ] = "phase,module,op",
    threshold: Annotated[str, typer.Option(help="A smaller change is no change: 5% or 0.05.")] = "5%",
    least: Annotated[str, typer.Option(help="A group with a smaller share of both totals is not judged.")] = "0.5%",
    chip: Annotated[
        list[str] | None,
        typer.Option("--chip", "-c", help="Compare simulated times on this chip; given twice, A's and B's chip."),
    ] = None,
    counted: Annotated[
        bool, typer.Option("--counted", help="Compare FLOPs and bytes, which are exact, even where times are there.")
    ] = False,
    engine: Annotated[Engine, typer.Option(help="Of the simulation.")] = Engine.analytic,
    mode: Annotated[Mode, typer.Option(help="Of the simulation.")] = Mode.graph,
    view: ViewOption = View.eager,
    top: Annotated[int, typer.Option(min=1, help="Show this many groups, the largest differences first.")] = 20,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", callback=writable, help="Also write an HTML page.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare two traces, aligned by phase, module and op: what became slower, by how much, and how sure that is.

    Measured times are compared where both traces have them, else FLOPs and bytes. Exit code: 0 where nothing is surely
    worse by more than the threshold, 1 where something is, 2 for broken input.

      roofscape diff before.parquet after.parquet --threshold 5%

      roofscape diff a100.parquet h100.parquet --by op

      roofscape diff llada.parquet llada.parquet --chip h100-sxm --chip my-chip.toml --by kind
    """
    from reports.console import print_json, print_line
    from reports.diff_page import build_diff_page

    traces = (read_trace(a, view), read_trace(b, view))
    settings = {
        "by": tuple(name.strip() for name in by.split(",") if name.strip()),
        "threshold": parse_ratio("--threshold", threshold),
        "least_share": parse_ratio("--least", least),
    }
    differences = _compare(traces, chip or [], counted, (engine, mode), settings)
    if output is not None:
        from reports.html import write_report

        write_report((build_diff_page(differences),), output, title=f"{traces[0].name} against {traces[1].name}")
    if as_json:
        print_json({"a": str(a), "b": str(b), "comparisons": [_json(difference) for difference in differences]})
    else:
        for difference in differences:
            _print(difference, top)
        if output is not None:
            print_line(f"wrote {output}")
    if any(difference.regressions for difference in differences):
        raise typer.Exit(1)


def parse_ratio(option: str, text: str) -> float:
    """`5%` or `0.05` as a ratio.

    >>> parse_ratio("--threshold", "5%"), parse_ratio("--threshold", "0.05")
    (0.05, 0.05)
    """
    from reports.errors import ReportError

    number, percent, rest = text.strip().partition("%")
    try:
        value = float(number) / (100 if percent else 1)
    except ValueError:
        value = float("nan")
    if rest or not 0 <= value < 10:
        raise ReportError(f"{option} must be a ratio such as 5% or 0.05, got {text!r}")
    return value


def _compare(
    traces: "tuple[Trace, Trace]",
    chips: Sequence[str],
    counted: bool,
    how: tuple[Engine, Mode],
    settings: dict[str, Any],
) -> "list[Difference]":
    """One comparison of times, or one each of FLOPs and bytes."""
    from reports.console import progress, remark
    from reports.differences import diff as compare_traces
    from reports.errors import ReportError

    a, b = traces
    if len(chips) > 2 or (chips and counted):
        raise ReportError("--chip may be given once or twice, and not with --counted")
    if chips:
        with progress("simulating"):
            on_a, on_b = (play(trace, name, *how) for trace, name in zip(traces, (chips[0], chips[-1]), strict=True))
        found = compare_traces(a, b, basis="simulated", cost_a=on_a.duration_s, cost_b=on_b.duration_s, **settings)
        note = f"A was simulated on {on_a.chip}, B on {on_b.chip}, by the {on_a.engine} engine in {on_a.mode} mode"
        return [replace(found, notes=(note, *found.notes))]
    if a.is_measured and b.is_measured and not counted:
        return [compare_traces(a, b, **settings)]
    if a.is_measured != b.is_measured and not counted:
        unmeasured = b if a.is_measured else a
        remark(
            f"nothing of {unmeasured.name} was measured, so FLOPs and bytes are compared; --chip compares simulations"
        )
    return [compare_traces(a, b, basis=basis, **settings) for basis in ("FLOPs", "bytes")]


def _json(difference: "Difference") -> dict[str, Any]:
    from reports.diff_verdicts import rows_frame

    return {
        "basis": difference.basis,
        "by": list(difference.by),
        "threshold": difference.threshold,
        "least_share": difference.least_share,
        "regressions": len(difference.regressions),
        "notes": list(difference.notes),
        "rows": rows_frame(difference.rows).to_dict("records"),
    }


def _print(difference: "Difference", top: int) -> None:
    from reports.console import print_line, print_table, remark
    from reports.diff_page import difference_table, findings

    groups = [row for row in difference.rows if row.level == "group"]
    above = [row for row in difference.rows if row.level != "group"]
    view = difference_table(difference, [*above, *groups[:top]])
    title = f"{difference.a} (A) against {difference.b} (B): {difference.basis}"
    print_table(title, [column.header for column in view.columns], view.texts(), left=1)
    if len(groups) > top:
        remark(f"{len(groups) - top} more groups; --top {len(groups)} shows all, --json gives every figure")
    sentences = findings(difference)
    for sentence in sentences[: len(sentences) - len(difference.notes)]:
        print_line(sentence)
    for note in difference.notes:
        remark(f"note: {note}")
