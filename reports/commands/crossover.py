"""`roofscape crossover`: where diffusion overtakes autoregression, as a map with real chips on it."""

from pathlib import Path
from typing import Annotated

import typer

from reports.commands.options import AsJson, writable

AUTOREGRESSION = "llama-3.1-8b"
DIFFUSION = ("llada-8b", "llada-8b@fast_dllm", "sdar-8b")
BATCHES = (1, 8, 64)
_PROGRAMS = "Programs"


def crossover(
    chip: Annotated[
        list[str] | None, typer.Option("--chip", "-c", help="Chips or chip files (default: all that ship).")
    ] = None,
    autoregression: Annotated[
        str, typer.Option(help="Program that decodes token by token.", rich_help_panel=_PROGRAMS)
    ] = AUTOREGRESSION,
    diffusion: Annotated[
        list[str] | None,
        typer.Option(
            help="Programs that denoise; may be repeated (default: LLaDA without a cache, Fast-dLLM, SDAR).",
            rich_help_panel=_PROGRAMS,
        ),
    ] = None,
    batch: Annotated[
        list[int] | None, typer.Option(help="Sequences at a time; may be repeated (default: 1, 8, 64).")
    ] = None,
    prompt_length: Annotated[int, typer.Option(rich_help_panel=_PROGRAMS, help="Tokens of the prompt.")] = 1024,
    gen_length: Annotated[int, typer.Option(rich_help_panel=_PROGRAMS, help="Tokens to generate.")] = 256,
    output: Annotated[Path, typer.Option("--output", "-o", callback=writable, help="The HTML page to write.")] = Path(
        "out/crossover.html"
    ),
    as_json: AsJson = False,
) -> None:
    """Map where diffusion overtakes autoregression: FLOPs per byte of a chip against rows visited for each token.

    The map is a closed form; every chip is placed on it with real programs, simulated, and the difference is printed.

      roofscape crossover

      roofscape crossover --chip my-chip.toml --diffusion dream-7b --batch 1 --batch 16
    """
    import pandas as pd

    from explorer.crossover import place
    from reports.console import print_json, print_line, print_table
    from reports.crossover_page import build_crossover_page, placed_frame, placed_table, sentences
    from reports.html import write_report
    from reports.prepared import prepare_workload
    from roofline.chipfile import list_chips, load_chip

    chips = [load_chip(name) for name in chip or list_chips()]
    found = []
    for size in batch or BATCHES:
        options = {"batch": size, "prompt_length": prompt_length, "gen_length": gen_length}
        decoded = prepare_workload(autoregression, options, output.parent / "traces")
        others = [prepare_workload(name, options, output.parent / "traces") for name in diffusion or DIFFUSION]
        found.append(placed_frame(place([(decoded, other) for other in others], chips), batch=size))
    placed = pd.concat(found, ignore_index=True)
    write_report((build_crossover_page(placed),), output, title="Crossover")
    if as_json:
        print_json(placed.to_dict("records"))
        return
    table = placed_table(placed)
    print_table("autoregression / diffusion", [column.header for column in table.columns], table.texts(), left=2)
    for sentence in sentences(placed):
        print_line(sentence)
    print_line(f"wrote {output}")
