"""`roofscape iso`: two designs of equal area, power or bill, against every workload of a space."""

from pathlib import Path
from typing import Annotated

import typer

from reports.commands.options import AsJson, writable


def iso(
    space: Annotated[Path, typer.Argument(help="Space file: its template, what it fixes, its workloads (TOML).")],
    a: Annotated[str, typer.Option("--a", help="A design, cores=132,stacks=5, or a known chip, h100-sxm.")],
    b: Annotated[str, typer.Option("--b", help="The design that is scaled until it equals A.")],
    equal: Annotated[str, typer.Option(help="What is made equal: area, power, bill, or none.")] = "area",
    scale: Annotated[str, typer.Option(help="Knob of B that is scaled.")] = "cores",
    output: Annotated[Path, typer.Option("--output", "-o", callback=writable, help="The HTML page to write.")] = Path(
        "out/iso.html"
    ),
    as_json: AsJson = False,
) -> None:
    """Compare two designs of equal area, power or bill: time, energy, US$ and what binds, on every workload.

    Knobs that are not given are as the space fixes them, else the template's defaults.

      roofscape iso space.toml --a cores=132,stacks=5 --b stacks=8

      roofscape iso space.toml --a h100-sxm --b matrix_macs=4096,stacks=6 --equal power
    """
    from explorer.designs import read_design
    from explorer.equal_designs import compare, match
    from explorer.space_file import load_space
    from reports import equal_designs_page as page
    from reports.console import print_json, print_line, print_table
    from reports.html import write_report
    from reports.prepared import bare_evaluator, with_workloads

    asked = load_space(space)
    bare = bare_evaluator(asked)
    first, second, scaled = match(read_design(a, bare), read_design(b, bare), bare, equal=equal, knob=scale)
    found = compare(first, second, scaled, with_workloads(bare, asked, output.parent / "traces"))
    write_report((page.build_equal_page(found),), output, title="Two designs")
    if as_json:
        print_json(page.as_json(found))
        return
    frame = page.equal_frame(found)
    for table, left in (
        (page.designs_table(found), 2),
        (page.workloads_table(frame), 2),
        (page.bound_table(frame), 3),
    ):
        print_table(table.title, [column.header for column in table.columns], table.texts(), left=left)
    for sentence in page.sentences(found):
        print_line(sentence)
    print_line(f"wrote {output}")
