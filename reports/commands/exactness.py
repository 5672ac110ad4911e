"""`roofscape exactness`: how far each sampler's sequences lie from the truth, against steps."""

from pathlib import Path
from typing import Annotated

import typer

from reports.commands.options import AsJson, writable


def exactness(
    draws: Annotated[int, typer.Option(help="Sequences that each point draws.")] = 5_000,
    steps: Annotated[str, typer.Option(help="Numbers of steps, with commas between.")] = "1,2,4,8,16,32",
    seed: Annotated[int, typer.Option(help="Seed of the samplers.")] = 0,
    sampler: Annotated[
        list[str] | None,
        typer.Option(
            help="A sampler of yours beside the usual ones: FILE.py or a name, with options: "
            "my_sampler.py:block_length=3; may be repeated."
        ),
    ] = None,
    noise: Annotated[
        str,
        typer.Option(
            help="What yours is fed: absorbing (masks); uniform: each position given the others; uniform_posterior: "
            "given the noisy token there as well."
        ),
    ] = "absorbing",
    steps_option: Annotated[
        str | None,
        typer.Option(help="Option of yours that takes a number of steps (default: steps, else steps_per_block)."),
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", callback=writable, help="The HTML page to write.")] = Path(
        "out/exactness.html"
    ),
    picture: Annotated[
        Path | None, typer.Option(callback=writable, help="Also draw the error against steps, .svg or .png.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Hold samplers against the exact distribution of a Markov chain, and draw their error against steps.

    roofscape exactness

    roofscape exactness --draws 5000 --steps 1,4,16 --picture error.svg

    roofscape exactness --sampler my_sampler.py:block_length=3
    """
    from rich.progress import Progress

    from reports.charts.drawing import save_chart
    from reports.charts.exactness import exactness_chart
    from reports.console import ERR, print_json, print_line, print_table
    from reports.exactness_page import build_exactness_page, error_rows
    from reports.exactness_tables import exactness_sentences, exactness_table
    from reports.html import write_report
    from workloads.exactness_study import CASES, own_case, study

    counts = _read_steps(steps)
    cases = (*(own_case(text, noise, steps_option) for text in sampler or ()), *CASES)
    with Progress(console=ERR, transient=True) as bar:
        task = bar.add_task("drawing", total=len(cases) * len(counts))
        points = study(
            cases=cases,
            steps=counts,
            draws=draws,
            seed=seed,
            on_point=lambda case: bar.update(task, advance=1, description=case.label),
        )
    table = exactness_table(points)
    write_report((build_exactness_page(table),), output, title="How exact each sampler is")
    if picture is not None:
        save_chart(exactness_chart(table), picture)
    if as_json:
        print_json(table.to_dict("records"))
        return
    headers, rows = error_rows(table)
    print_table(f"total variation from the exact chain, {draws:,} draws", headers, rows)
    for sentence in exactness_sentences(table):
        print_line(sentence)
    print_line(f"wrote {output}")


def _read_steps(text: str) -> tuple[int, ...]:
    from reports.errors import ReportError

    try:
        counts = tuple(int(part) for part in text.split(","))
    except ValueError:
        counts = ()
    if not counts or min(counts) <= 0:
        raise ReportError(f"--steps must be whole numbers > 0 with commas between, got {text!r}")
    return tuple(sorted(set(counts)))
