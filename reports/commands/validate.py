"""`roofscape validate`: kernel models against measured silicon."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reports.commands.options import AsJson, OwnTable, writable

if TYPE_CHECKING:
    import pandas as pd

    from roofline.chip import Chip
    from simulator.validation.tables import MeasuredTable


def validate(
    chip: Annotated[
        str, typer.Option("--chip", "-c", help="A chip's name or file; default: all measured, h100-sxm of --table.")
    ] = "",
    op: Annotated[str, typer.Option(help="gemm, attention_prefill, attention_decode, ...; default: all.")] = "",
    dtype: Annotated[str, typer.Option(help="bfloat16, float8_e4m3fn, ...; default: the usual ones of each op.")] = "",
    backend: Annotated[str, typer.Option(help="trtllm, vllm, sglang, ...; default: all.")] = "",
    table: OwnTable = None,
    all_rows: Annotated[
        bool, typer.Option("--all-rows", help="Score every row of --table, also those that `fit --table` looks at.")
    ] = False,
    constants_of: Annotated[
        str, typer.Option(help="Predict with the constants of this chip instead of each one's own: how far they move.")
    ] = "",
    by_class: Annotated[bool, typer.Option("--by-class", help="Also the errors of each size class.")] = False,
    write_bands: Annotated[
        Path | None, typer.Option(callback=writable, help="Write the error bands that predictions carry.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", callback=writable, help="Write an HTML report with pictures.")
    ] = None,
    markdown: Annotated[Path | None, typer.Option(callback=writable, help="Also write the table as Markdown.")] = None,
    classes: Annotated[
        Path | None,
        typer.Option(callback=writable, help="Also write the errors by size class of fitted tables as Markdown."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Hold the kernel models against measured kernels that no fit has seen, and say how far off they are.

    Without --table the rows come from the package aiconfigurator-core (the extra `silicon`). Held out are rows
    whose sizes have an odd CRC-32; constants were fitted to the others of one backend, and the other backends are
    scored with the same constants. Of a table that nothing was fitted to, --all-rows scores every row.

      roofscape validate --chip h100-sxm --op gemm --dtype bfloat16 --json

      roofscape validate --chip h200-sxm --op gemm --dtype bfloat16 --constants-of h100-sxm

      roofscape validate --table mine.csv --chip my-chip.toml
    """
    from reports.console import print_json, print_line, progress, remark
    from simulator.bands import save_bands
    from simulator.validation import runs as validation

    with progress("reading measured tables"):
        tables = validation.chosen_tables(
            chip=chip, op=op, dtype=dtype, backend=backend, file=table, donor=constants_of, all_rows=all_rows
        )
    runs = []
    for measured, loaded in tables:
        with progress(f"predicting {len(measured):,} rows: {measured.op} {measured.dtype} {loaded.name}"):
            runs += list(validation.run_all([(measured, loaded)]))
    scores = validation.scores_frame(runs, by_class=by_class)
    if write_bands is not None:
        with progress("finding error bands"):
            save_bands(validation.bands(runs), write_bands)
    if output is not None:
        from reports.html import write_report
        from reports.validation_page import build_validation_page

        with progress("drawing the report"):
            write_report([build_validation_page(runs, scores)], output, title="Predicted against measured kernels")
    if markdown is not None:
        from reports.markdown import write_markdown

        write_markdown(HEADINGS, [cells(row) for _, row in scores.iterrows()], markdown)
    if classes is not None:
        from reports.markdown import write_markdown

        fitted = validation.scores_frame([run for run in runs if run.is_fitted], by_class=True)
        write_markdown(HEADINGS[:-2], [cells(row)[:-2] for _, row in fitted.iterrows()], classes)
    if table is not None and (unscored := _unscored(tables)):
        remark(unscored)
    if as_json:
        print_json(scores.to_dict("records"))
        return
    _print(scores, all_rows)
    for written in filter(None, (write_bands, output, markdown, classes)):
        print_line(f"wrote {written}")


HEADINGS = (
    *("chip", "op", "dtype", "backend", "size class", "rows", "mean %", "median %", "p90 %", "bias %"),
    *("datasheet roofline %", "fitted roofline %"),
)


def cells(row: "pd.Series[float]") -> list[str]:
    """One score as text."""

    def percent(name: str, sign: str = "") -> str:
        return "" if row[name] != row[name] else f"{row[name]:{sign}.1f}"

    backend = f"{row['backend']}{' (fitted)' if row['fitted_here'] else ''}"
    return [
        *(str(row["chip"]), str(row["op"]), str(row["dtype"]), backend, str(row["size_class"]), f"{row['rows']:,}"),
        *(percent("mape_percent"), percent("median_percent"), percent("p90_percent"), percent("bias_percent", "+")),
        *(percent("datasheet_mape_percent"), percent("fitted_roofline_mape_percent")),
    ]


def _unscored(tables: "list[tuple[MeasuredTable, Chip]]") -> str:
    """Which rows of a table of one's own are kept for fits; empty where every row is scored."""
    rows = sum(len(measured) for measured, _ in tables)
    scored = sum(int(measured.held_out.sum()) for measured, _ in tables)
    if scored == rows:
        return ""
    return (
        f"{scored:,} of {rows:,} rows are scored; the others are those that `roofscape fit --table` looks at: where "
        "constants come from elsewhere, --all-rows scores every row"
    )


def _print(scores: "pd.DataFrame", all_rows: bool) -> None:
    from reports.console import print_line, print_table

    rows = "all rows" if all_rows else "rows held out of every fit"
    title = f"predicted against measured: absolute error in percent of the measured time, {rows}"
    print_table(title, HEADINGS, [cells(row) for _, row in scores.iterrows()], left=5)
    dropped = int(scores.loc[scores["size_class"] == "all", "rows_dropped"].sum())
    if dropped:
        print_line(f"{dropped:,} measured rows were left out: faster than the chip's memory")
