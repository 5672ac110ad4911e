"""`roofscape predict`: what a table of ops takes on a chip."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from reports.commands.options import AsJson, ChipName, writable


class ConditionSet(StrEnum):
    """Conditions that rows are predicted under where they give none."""

    benchmark = "benchmark"
    program = "program"


_CONDITIONS = {
    ConditionSet.benchmark: "conditions: as benchmarks measure kernels (--conditions program: as programs run them)",
    ConditionSet.program: "conditions: as programs run kernels, with cold caches; error bands are those of benchmarks",
}


_ENDINGS = ("", ".csv", ".gz", ".txt", ".parquet")  # without one: a pipe or a device


def predict(
    ops_file: Annotated[
        Path, typer.Argument(help="CSV or Parquet file with one op a row; its columns: docs/predict.md.")
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", callback=writable, help="Write the rows with their predictions (.csv or .parquet)."
        ),
    ] = None,
    chip: ChipName = "h100-sxm",
    conditions: Annotated[
        ConditionSet,
        typer.Option(
            help="Of rows that give none: as benchmarks measure a kernel (replayed, so small operands are in the last "
            "cache; 8-bit products quantize their activations; causal attention stores its tokens), or as a program "
            "runs it (cold caches, nothing else)."
        ),
    ] = ConditionSet.benchmark,
    as_json: AsJson = False,
) -> None:
    """Predict the time of every op of a table: seconds and joules with error bands, and what binds.

    The file has the columns kind and dtype and the sizes of each kind, for example

      kind,dtype,m,n,k

      gemm,bfloat16,4096,4096,4096

    Rows of different kinds may stand together; what a kind does not need stays empty.
    """
    from reports import formatting
    from reports.console import print_json, print_line, print_table, progress, remark
    from reports.errors import ReportError
    from roofline.chipfile import load_chip
    from simulator import prediction
    from simulator.op_frame import doubtful_rows, mistaken_columns
    from simulator.validation.tables import read_frame, write_frame

    loaded = load_chip(chip)
    if output is not None and output.suffix not in _ENDINGS:
        raise ReportError(f"predictions are written as .csv, .csv.gz or .parquet, got {str(output)!r}")
    frame = read_frame(ops_file)
    if "kind" in frame:  # else it is no table of ops, and what its columns are like says nothing
        for remarked in (*mistaken_columns(frame), *doubtful_rows(frame)):
            remark(remarked)
    if frame.empty:
        remark(f"{ops_file} has no rows")
    with progress(f"predicting {len(frame):,} ops on {loaded.name}"):
        predicted = prediction.predict(frame, loaded, conditions=conditions.value)
        if output is not None:
            write_frame(predicted, output)
    if gap := prediction.energy_gap(predicted, loaded):
        remark(gap)
    if as_json:
        print_json(predicted.astype(object).where(predicted.notna(), None).to_dict("records"))
        return
    shown = predicted.head(20)
    rows = [
        (
            str(row["kind"]),
            str(row["dtype"]),
            formatting.format_seconds(row["predicted_s"]),
            formatting.low_to_high(row["low_s"], row["high_s"], formatting.format_seconds),
            str(row["bound_by"]),
            formatting.format_joules(row["joules"]),
            formatting.low_to_high(row["joules_low"], row["joules_high"], formatting.format_joules),
        )
        for row in shown.to_dict("records")
    ]
    print_table(
        f"{ops_file.name} on {loaded.name}: predicted",
        ("kind", "dtype", "time", "90 % band", "bound by", "energy", "90 % band"),
        rows,
    )
    if len(predicted) > len(shown):
        print_line(f"the first {len(shown)} of {len(predicted):,} rows")
    print_line(_CONDITIONS[conditions])
    print_line(f"all rows: {formatting.format_seconds(float(predicted.predicted_s.sum()))} one after another")
    if output is not None:
        print_line(f"wrote {output}")
