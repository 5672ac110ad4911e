"""`roofscape pareto`: quality beside cost, over the knobs of samplers, on trained models that ship with Roofscape."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reports.commands.options import AsJson, writable

if TYPE_CHECKING:
    import pandas as pd

    from reports.pareto import OperatingPoint, Setting
    from roofline.chip import Chip

_SWEEP = "Sweep"


def pareto(
    chip: Annotated[
        list[str] | None,
        typer.Option("--chip", "-c", help="A chip's name or TOML file; may be repeated (default: h100-sxm)."),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option("--model", "-m", help="Only these trained models (default: all).", rich_help_panel=_SWEEP),
    ] = None,
    sampler: Annotated[
        list[str] | None,
        typer.Option(
            help="A sampler of yours beside the usual ones: (MODEL@)FILE.py, or a name, with values of its knobs: "
            "my_sampler.py:steps=2/4/8,temperature=0.5.",
            rich_help_panel=_SWEEP,
        ),
    ] = None,
    problems: Annotated[int, typer.Option(help="Held-out problems per setting.", rich_help_panel=_SWEEP)] = 500,
    batch: Annotated[int, typer.Option(help="Problems at a time.", rich_help_panel=_SWEEP)] = 20,
    seed: Annotated[int, typer.Option(help="Seed of the samplers.", rich_help_panel=_SWEEP)] = 0,
    published: Annotated[
        str,
        typer.Option(
            help="Published points to show beside ours: shipped (GSM8K of 8B models), none, or a CSV of yours with "
            "source, model, method, task, tpf, quality, quality_unit."
        ),
    ] = "shipped",
    output: Annotated[Path, typer.Option("--output", "-o", callback=writable, help="The HTML page to write.")] = Path(
        "out/pareto.html"
    ),
    csv: Annotated[Path | None, typer.Option(callback=writable, help="Also write all points as CSV.")] = None,
    picture: Annotated[
        Path | None, typer.Option(callback=writable, help="Also draw accuracy against measured time, .svg or .png.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Sweep samplers over trained models: exact accuracy against forwards, FLOPs, bytes, time and energy.

    The models fill 4x4 Sudokus, whose answers are checked exactly; autoregression stands in the same picture.

      roofscape pareto

      roofscape pareto --chip h100-sxm --chip b200-sxm --csv points.csv

      roofscape pareto --sampler my_sampler.py:steps=2/4/8
    """
    from reports.console import print_json, print_line
    from reports.html import write_report
    from reports.pareto_page import build_pareto_page
    from reports.pareto_settings import default_settings, own_settings
    from reports.pareto_tables import costs_table, points_table, read_published, shipped_published, verdicts
    from roofline.chipfile import load_chip

    chips = [load_chip(name) for name in chip or ["h100-sxm"]]
    published_points = (
        None
        if published == "none"
        else (shipped_published() if published == "shipped" else read_published(Path(published)))
    )
    settings = [*default_settings(model), *(setting for text in sampler or [] for setting in own_settings(text))]
    points = points_table(_measure(settings, chips, problems=problems, batch=batch, seed=seed))
    costs = costs_table(points)
    write_report((build_pareto_page(points, published_points),), output, title="Quality beside cost")
    if csv is not None:
        _write_csv(points, csv)
    if picture is not None:
        from reports.charts.drawing import save_chart
        from reports.charts.quality import quality_chart

        save_chart(quality_chart(costs, "measured_s"), picture)
    if as_json:
        print_json({"points": points.to_dict("records"), "verdicts": verdicts(costs).to_dict("records")})
        return
    _print(points, costs)
    print_line(f"wrote {output}")


def _measure(
    settings: "list[Setting]", chips: "list[Chip]", *, problems: int, batch: int, seed: int
) -> "tuple[OperatingPoint, ...]":
    """Run the sweep with a progress bar that moves with every batch."""
    from rich.progress import Progress

    from reports.console import ERR
    from reports.pareto import check_distinct, measure_points

    check_distinct(settings)
    with Progress(console=ERR, transient=True) as bar:
        task = bar.add_task("starting", total=len(dict.fromkeys(settings)) * max(1, problems // max(1, batch)))

        def on_batch(setting: "Setting") -> None:
            bar.update(task, advance=1, description=f"{setting.model}: {Path(setting.sampler).stem} {setting.knobs}")

        return measure_points(settings, chips, problems=problems, batch=batch, seed=seed, on_batch=on_batch)


def _write_csv(points: "pd.DataFrame", path: Path) -> None:
    from profiler.files import write_atomically
    from reports.errors import ReportError

    try:
        write_atomically(path, lambda temporary: points.to_csv(temporary, index=False))
    except OSError as error:
        raise ReportError(f"cannot write {path}: {error.strerror or error}") from None


def _print(points: "pd.DataFrame", costs: "pd.DataFrame") -> None:
    from reports.console import print_line, print_table
    from reports.pareto_page import all_points
    from reports.pareto_tables import verdict_sentences, verdicts

    for chip, rows in points.groupby("chip", sort=False):
        view = all_points(rows, brief=True)
        print_table(
            f"per problem; FLOPs and bytes counted, CPU time measured here, time and energy simulated on {chip}",
            [column.header for column in view.columns],
            view.texts(),
            left=2,
        )
    for sentence in verdict_sentences(verdicts(costs)):
        print_line(sentence)
