"""`roofscape mix`: the chip for a mix of autoregression and denoising."""

from pathlib import Path
from typing import Annotated

import typer

from reports.commands.options import AsJson, writable

_DESIGNS = 5_000
_BLOCK = 512


def mix(
    space: Annotated[Path, typer.Argument(help="Space file whose workloads say their paradigm (TOML).")],
    objective: Annotated[
        str, typer.Option(help="seconds_per_unit, joules_per_unit or usd_per_million_units.")
    ] = "seconds_per_unit",
    parts: Annotated[int, typer.Option(help="Shares from 0 to 100 % in so many equal parts.")] = 20,
    designs: Annotated[
        int, typer.Option(help="How many designs to evaluate, spread evenly over a space that has more.")
    ] = _DESIGNS,
    seed: Annotated[int, typer.Option(help="Of the sampling.")] = 0,
    processes: Annotated[int | None, typer.Option(help="Workers (default: all cores).")] = None,
    output: Annotated[Path, typer.Option("--output", "-o", callback=writable, help="The HTML page to write.")] = Path(
        "out/mix.html"
    ),
    as_json: AsJson = False,
) -> None:
    """Find the chip for p % autoregression and the rest denoising, for p from 0 to 100, and what it loses on either.

    Workloads with paradigm = "autoregressive" are the one kind, all others the other.

      roofscape mix studies/denoising-chip/space.toml --designs 2000

      roofscape mix space.toml --objective usd_per_million_units --parts 10 --json
    """
    import numpy as np

    from explorer.mixes import check_both, check_mix, design_table, mix_rows
    from explorer.parallel import evaluator as workers
    from explorer.result import join
    from explorer.search import explore, propose
    from explorer.space_file import load_space
    from reports import mix_page as page
    from reports.console import print_json, print_line, print_table, track
    from reports.html import write_report
    from reports.prepared import prepare_evaluator

    check_mix(objective, parts)
    asked = load_space(space)
    paradigms = {request.name: request.paradigm for request in asked.workloads}
    check_both(paradigms)
    proposals = propose("sobol", asked.space, designs=designs, seed=seed, block=_BLOCK)
    evaluate = prepare_evaluator(asked, output.parent / "traces")
    blocks = -(-min(designs, asked.space.size) // _BLOCK)
    with workers(evaluate, processes=processes) as shared:
        batches = list(track(explore(asked.space, shared, proposals), "designs by 512", total=blocks))
    table = design_table(
        asked.space,
        np.concatenate([batch.index for batch in batches]),
        join([batch.result for batch in batches]),
        paradigms,
    )
    rows = page.mix_frame(mix_rows(table, objective=objective, parts=parts))
    write_report((page.build_mix_page(rows, table, objective=objective, title=asked.title),), output, title=asked.title)
    if as_json:
        print_json(rows.to_dict("records"))
        return
    shown = page.mix_table(rows, table, objective=objective)
    print_table(shown.title, [column.header for column in shown.columns], shown.texts())
    for sentence in page.sentences(rows, table, objective=objective):
        print_line(sentence)
    print_line(f"wrote {output}")
