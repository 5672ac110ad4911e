"""The page that `roofscape exactness` writes: error against steps and against network evaluations, and all points."""

import pandas as pd

from reports.charts.exactness import exactness_chart
from reports.exactness_tables import exactness_sentences
from reports.formatting import format_count, format_number
from reports.report import Figure, Report, Section, TableView, numbers, texts

_COLUMNS = (
    *texts(series="sampler", basis="basis", knobs="options", noise="noise"),
    *numbers(format_count, steps="steps", nfe="evaluations", draws="draws"),
    *numbers(format_number, total_variation="total variation", noise_floor="by chance", chi_square="chi-square"),
    *numbers(format_count, degrees="degrees"),
)


def build_exactness_page(table: pd.DataFrame) -> Report:
    """The page from `exactness_tables.exactness_table`."""
    text = (
        "Samplers ask the exact denoiser of a small Markov chain, so that what their sequences lack of the chain's "
        "distribution is their own doing. Drawn here; the closed form is computed."
    )
    return Report(
        title="How exact each sampler is",
        findings=exactness_sentences(table),
        sections=(
            Section(title="Error against steps", text=text, figures=(Figure(chart=exactness_chart(table)),)),
            Section(title="Error against evaluations", figures=(Figure(chart=exactness_chart(table, "nfe")),)),
            Section(title="All points", tables=(all_exactness_points(table),)),
        ),
    )


def error_rows(table: pd.DataFrame) -> tuple[list[str], list[tuple[str, ...]]]:
    """Headers and rows of a brief table: a sampler's total variation at each number of steps, and the closed form."""
    wide = table.pivot(index="series", columns="steps", values="total_variation")
    headers = ["sampler", *(f"{count:.0f} steps" for count in wide.columns)]
    rows = [(name, *map(format_number, wide.loc[name])) for name in dict.fromkeys(table["series"])]
    return headers, rows


def all_exactness_points(table: pd.DataFrame) -> TableView:
    """Every point as a table."""
    return TableView(title="", frame=table, columns=_COLUMNS, note="By chance: about what perfect draws would show.")
