"""`roofscape worth`: what one more stack, 20 % more matrix units or a sampling unit buys each workload."""

from pathlib import Path
from typing import Annotated

import typer

from reports.commands.options import AsJson, writable


def worth(
    space: Annotated[Path, typer.Argument(help="Space file: its template, what it fixes, its workloads (TOML).")],
    around: Annotated[str, typer.Option(help="The design: cores=132,stacks=5; the rest as the space fixes it.")] = "",
    change: Annotated[
        list[str] | None,
        typer.Option(help="stacks+1, matrix_macs*1.2, dram=hbm4; may be repeated (default: the usual ones)."),
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", callback=writable, help="The HTML page to write.")] = Path(
        "out/worth.html"
    ),
    as_json: AsJson = False,
) -> None:
    """Say what changes of a design buy each workload: seconds, joules and US$, and what they cost in area and power.

    The usual changes are one more stack, 20 % more matrix units, clock and cores, a step more cache, a sampling unit,
    and one step of whatever else the space varies.

      roofscape worth space.toml

      roofscape worth space.toml --around cores=132,stacks=6 --change stacks+2 --change clock_ghz*1.1
    """
    from explorer.designs import read_design
    from explorer.errors import ExplorationError
    from explorer.space_file import load_space
    from explorer.worth import read_change, usual_changes, weigh
    from reports import worth_page as page
    from reports.console import print_json, print_line, print_table
    from reports.html import write_report
    from reports.prepared import bare_evaluator, with_workloads

    asked = load_space(space)
    bare = bare_evaluator(asked)
    design = read_design(around, bare)
    if design.knobs is None:
        raise ExplorationError(f"{design.label} is a known chip, whose knobs cannot be turned; give knobs instead")
    knobs = design.knobs
    changes = [read_change(text, knobs, asked.template) for text in change or ()]
    changes = changes or usual_changes(knobs, asked.template, asked.space)
    found = weigh(design, changes, with_workloads(bare, asked, output.parent / "traces"))
    write_report((page.build_worth_page(found),), output, title="What a change is worth")
    if as_json:
        print_json(page.as_json(found))
        return
    for table, left in (
        (page.base_table(found), 2),
        (page.price_table(found), 1),
        (page.worth_table(page.worth_frame(found)), 2),
    ):
        print_table(table.title, [column.header for column in table.columns], table.texts(), left=left)
    for sentence in page.sentences(found):
        print_line(sentence)
    print_line(f"wrote {output}")
