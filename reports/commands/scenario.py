"""`roofscape scenario`: several ways of generating do the same job, side by side."""

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reports.commands.options import AsJson, writable

if TYPE_CHECKING:
    import pandas as pd

    from reports.report import TableView
    from workloads.scenarios.scenario import Scenario


def scenario(
    name: Annotated[
        str | None, typer.Argument(help="A scenario's name, or its TOML file; left out: lists those that ship.")
    ] = None,
    chip: Annotated[
        list[str] | None,
        typer.Option("--chip", "-c", help="Simulate on this chip instead (name or TOML file); may be repeated."),
    ] = None,
    contender: Annotated[
        list[str] | None,
        typer.Option(
            help="One more contender: MODEL@SAMPLER(:key=value,...), the sampler by name or as your own file."
        ),
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", help="Change a key: batch=8, 'gen_length=[64, 256]', budgets_s=[0.5]; may be repeated."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", callback=writable, help="Also write an HTML report.")
    ] = None,
    markdown: Annotated[
        Path | None, typer.Option("--markdown", callback=writable, help="Also write the tables as Markdown.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run a scenario: a request, a batch, a latency budget, RL rollouts, infilling or editing, for several samplers.

    Every contender does the same job, at full size on shapes alone, and is simulated on a chip; trained models do it
    for real and their answers are checked.

      roofscape scenario infill

      roofscape scenario budget --chip b200-sxm --set budgets_s=[0.2]

      roofscape scenario single --contender llada-8b@my_sampler.py:steps=64 -o out/single.html
    """
    from reports.console import print_json, print_line, progress
    from roofline.chipfile import load_chip
    from workloads.scenarios.parser import list_scenarios, load_scenario

    if name is None:
        _print_list(list_scenarios(), as_json)
        return
    asked = load_scenario(name, _read_changes(changes or []))
    for text in contender or []:
        asked = _with_contender(asked, text)
    chips = [load_chip(chip_name) for chip_name in chip or asked.chips]
    with progress(f"scenario {asked.name}"):
        rows, budgets = _run(asked, chips)
    if output is not None:
        from reports.html import write_report
        from reports.scenario_page import build_scenario_page

        write_report((build_scenario_page(asked, rows, budgets),), output, title=f"Scenario {asked.name}")
    if markdown is not None:
        _write_markdown(_views(asked, rows, budgets), markdown)
    if as_json:
        budget_records = None if budgets is None else budgets.to_dict("records")
        print_json({"scenario": asked.name, "rows": rows.to_dict("records"), "budgets": budget_records})
        return
    _print(_views(asked, rows, budgets, brief=True), rows, budgets)
    for written in filter(None, (markdown, output)):
        print_line(f"wrote {written}")


def _read_changes(texts: list[str]) -> dict[str, Any]:
    """`KEY=VALUE` with the value as TOML has it; a bare word is a text."""
    from reports.errors import ReportError

    changes = {}
    for text in texts:
        key, separator, value = text.partition("=")
        if not (key.strip() and separator and value.strip()):
            raise ReportError(f"--set must be KEY=VALUE, got {text!r}")
        try:
            changes[key.strip()] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            changes[key.strip()] = value.strip()
    return changes


def _with_contender(asked: "Scenario", text: str) -> "Scenario":
    from reports.comparison import parse_contender
    from workloads.scenarios.parser import add_contender
    from workloads.scenarios.scenario import Contender

    parsed = parse_contender(text, asked.contenders[0].model)
    model, _, sampler = parsed.program.partition("@")
    return add_contender(asked, Contender(label=text, model=model, sampler=sampler, options=parsed.options))


def _run(asked: "Scenario", chips: list[Any]) -> "tuple[pd.DataFrame, pd.DataFrame | None]":
    from reports.scenario_budget import budget_table
    from reports.scenarios import run_scenario

    rows = run_scenario(asked, chips)
    return rows, budget_table(asked, chips, rows) if asked.kind == "budget" else None


def _views(
    asked: "Scenario", rows: "pd.DataFrame", budgets: "pd.DataFrame | None", *, brief: bool = False
) -> "list[tuple[str, TableView]]":
    from reports.scenario_page import budgets_view, rows_view

    views = []
    for chip in dict.fromkeys(rows["chip"]):
        views.append((f"{asked.title}; on {chip}", rows_view(rows, chip, brief=brief)))
        if budgets is not None:
            views.append((f"what fits into a time, simulated on {chip}", budgets_view(budgets, chip)))
    return views


def _print(
    views: "list[tuple[str, TableView]]",
    rows: "pd.DataFrame",
    budgets: "pd.DataFrame | None",
) -> None:
    from reports.console import print_line, print_table
    from reports.scenario_page import findings

    for title, view in views:
        left = next(i for i, column in enumerate(view.columns) if column.is_number)
        print_table(title, [column.header for column in view.columns], view.texts(), left=left)
    for sentence in findings(rows, budgets):
        print_line(sentence)


def _print_list(scenarios: "tuple[Scenario, ...]", as_json: bool) -> None:
    from reports.console import print_json, print_table

    if as_json:
        print_json([{"name": each.name, "kind": each.kind, "title": each.title} for each in scenarios])
        return
    rows = [(each.name, each.kind, f"{len(each.jobs)} x {len(each.contenders)}", each.title) for each in scenarios]
    print_table("scenarios", ("scenario", "kind", "sizes x contenders", "what it asks"), rows, left=4)


def _write_markdown(views: "list[tuple[str, TableView]]", path: Path) -> None:
    from reports.markdown import markdown_table, write_text

    parts = []
    for title, view in views:
        headings = [column.header for column in view.columns]
        table = markdown_table(headings, view.texts(), [column.is_number for column in view.columns])
        parts.append(f"{title}\n\n{table}")
    write_text("\n".join(parts), path)
