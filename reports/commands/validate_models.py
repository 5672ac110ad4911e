"""`roofscape validate-models`: whole models against what others measured."""

from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reports.commands.options import AsJson, writable

if TYPE_CHECKING:
    import pandas as pd

HEADINGS = (
    *("model", "step", "chip", "batch", "measured, ms", "predicted, ms", "error %", "residual, ms"),
    *("mean step measured, ms", "predicted, ms", "error %"),
    *("measured, J", "predicted, J", "error %", "measured, W", "predicted, W", "error %"),
)
_TITLES = {
    "decode_step": "decode, J/token",
    "denoise_step": "denoise, J/image",
    "text_step": "denoise text, J/step",
    "forward": "eager forward, J/step",
}
SUMMARY_HEADINGS = (
    *("model", "step", "chip", "rows", "time, mean % off", "must reach", "bias %"),
    *("joules, mean % off", "must reach", "power, mean % off"),
)


def validate_models(
    model: Annotated[str, typer.Option("--model", "-m", help="A model of the table; default: all.")] = "",
    markdown: Annotated[Path | None, typer.Option(callback=writable, help="Also write the table as Markdown.")] = None,
    as_json: AsJson = False,
) -> None:
    """Hold whole models against published measurements by others: time of a step and joules, measured and predicted.

    Each model is captured on `meta` at the batch that was measured and simulated on the chip that it ran on. No
    constant was fitted to these figures.

      roofscape validate-models --model llama-3.1-8b --json
    """
    from reports.console import print_json, print_line, progress, remark
    from reports.errors import ReportError
    from reports.markdown import markdown_table, write_markdown
    from reports.whole_model_figures import read_measured_models
    from reports.whole_models import predict_models, summarize_errors

    measured = read_measured_models()
    known = tuple(dict.fromkeys(one.model for one in measured))
    if model and model not in known:
        raise ReportError(f"unknown model {model!r}; measured: {', '.join(known)}")
    with progress("capturing and simulating whole models"):
        frame = predict_models(tuple(one for one in measured if model in ("", one.model)))
    summary = summarize_errors(frame)
    if markdown is not None:
        means_table = markdown_table(
            SUMMARY_HEADINGS,
            [_summary_cells(row) for _, row in summary.iterrows()],
            [False] * 3 + [True] * (len(SUMMARY_HEADINGS) - 3),
        )
        below = "Mean absolute errors of each model, and the mean signed error of its times (+: too slow):\n\n"
        rows = [_cells(row) for _, row in frame.iterrows()]
        write_markdown(HEADINGS, rows, markdown, below=below + means_table.rstrip("\n"))
    if as_json:
        each, means = (table.astype(object).where(table.notna(), None) for table in (frame, summary))
        print_json({"rows": each.to_dict("records"), "summary": means.to_dict("records")})
        return
    _print(frame, summary)
    for source in dict.fromkeys(frame["source"]):
        remark(f"measured by others: {source}")
    if markdown is not None:
        print_line(f"wrote {markdown}")


def _number(value: float, digits: int = 4) -> str:
    return f"{value:.{digits}g}" if isfinite(value) else ""


def _percent(value: float) -> str:
    return f"{value:+.1f}" if isfinite(value) else ""


def _step_title(row: "pd.Series") -> str:
    title, detail = _TITLES[str(row["program"])], str(row["detail"])
    return f"{title}: {detail}" if detail else title


def _cells(row: "pd.Series[float]") -> list[str]:
    return [
        *(str(row["model"]), _step_title(row), str(row["chip"]), f"{row['batch']:,}"),
        *(_number(1e3 * row["measured_s"]), _number(1e3 * row["predicted_s"])),
        *(_percent(row["time_error_percent"]), _number(1e3 * row["residual_s"], 3)),
        *(_number(1e3 * row["measured_mean_s"]), _number(1e3 * row["predicted_mean_s"])),
        _percent(row["mean_error_percent"]),
        *(_number(row["measured_j"]), _number(row["predicted_j"]), _percent(row["joules_error_percent"])),
        *(_number(row["measured_w"], 3), _number(row["predicted_w"], 3), _percent(row["power_error_percent"])),
    ]


def _summary_cells(row: "pd.Series[float]") -> list[str]:
    def tenths(name: str, sign: str = "") -> str:
        return f"{row[name]:{sign}.1f}" if isfinite(row[name]) else ""

    return [
        str(row["model"]),
        _TITLES[str(row["program"])].partition(",")[0] + (f": {row['task']}" if row["task"] else ""),
        *(str(row["chip"]), str(row["rows"])),
        *(tenths("time_mape_percent"), _number(row["time_target_percent"], 3), tenths("time_bias_percent", "+")),
        *(tenths("joules_mape_percent"), _number(row["joules_target_percent"], 3), tenths("power_mape_percent")),
    ]


def _print(frame: "pd.DataFrame", summary: "pd.DataFrame") -> None:
    from reports.console import print_table

    title = "whole models: measured by others and predicted"
    print_table(title, HEADINGS, [_cells(row) for _, row in frame.iterrows()], left=3)
    print_table(
        "mean absolute error in percent",
        SUMMARY_HEADINGS,
        [_summary_cells(row) for _, row in summary.iterrows()],
        left=3,
    )
