"""`roofscape load`: chips over batches and contexts, one step of each program."""

from pathlib import Path
from typing import Annotated

import typer

from reports.commands.options import AsJson, writable

_CHIPS = ("h100-sxm", "h200-sxm")
_PROGRAMS = ("llama-3.1-8b", "llada-8b", "sdar-8b")
_LOAD = "Load"


def load(
    chip: Annotated[
        list[str] | None, typer.Option("--chip", "-c", help="Chips or chip files (default: h100-sxm, h200-sxm).")
    ] = None,
    program: Annotated[
        list[str] | None,
        typer.Option(help="Model presets; may be repeated (default: Llama-3.1-8B, LLaDA-8B, SDAR-8B)."),
    ] = None,
    batch: Annotated[
        list[int] | None,
        typer.Option(help="Sequences at a time; may be repeated (default: 1, 2, 4 ... 512).", rich_help_panel=_LOAD),
    ] = None,
    context: Annotated[
        list[int] | None,
        typer.Option(help="Tokens of each; may be repeated (default: 1024, 2048 ... 131072).", rich_help_panel=_LOAD),
    ] = None,
    block_length: Annotated[int, typer.Option(help="Tokens of the block denoised.", rich_help_panel=_LOAD)] = 32,
    tokens_per_step: Annotated[
        float, typer.Option(help="Tokens of a sequence that a step of denoising commits.", rich_help_panel=_LOAD)
    ] = 1.0,
    output: Annotated[Path, typer.Option("--output", "-o", callback=writable, help="The HTML page to write.")] = Path(
        "out/load.html"
    ),
    as_json: AsJson = False,
) -> None:
    """Sweep batch and context: tokens/s, J/token, what binds, and where memory ends, for one step of each program.

    A step is one token decoded, a whole context denoised once, or a block denoised once against the cache, as the
    model's kind says.

      roofscape load

      roofscape load --chip my-chip.toml --program llama-3.1-8b --batch 1 --batch 64 --context 8192
    """
    from explorer.load import LoadPoint, sweep
    from reports import load_page as page
    from reports.console import print_json, print_line, print_table, track
    from reports.html import write_report
    from roofline.chipfile import load_chip

    chips = [load_chip(name) for name in chip or _CHIPS]
    programs = tuple(program or _PROGRAMS)
    batches = sorted(set(batch or (2**i for i in range(10))))
    contexts = sorted(set(context or (1024 * 2**i for i in range(8))))
    found: list[LoadPoint] = []
    steps = sweep(
        programs,
        chips,
        batches=batches,
        contexts=contexts,
        block_length=block_length,
        tokens_per_step=tokens_per_step,
    )
    for points in track(steps, "steps", total=len(programs) * len(batches) * len(contexts)):
        found += points
    frame = page.load_frame(found)
    write_report((page.build_load_page(frame, tokens_per_step=tokens_per_step),), output, title="Chips under load")
    if as_json:
        print_json(frame.to_dict("records"))
        return
    table = page.load_table(frame)
    print_table(table.title, [column.header for column in table.columns], table.texts(), left=2)
    for sentence in page.sentences(frame):
        print_line(sentence)
    print_line(f"wrote {output}")
