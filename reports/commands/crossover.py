"""`roofscape crossover`: where diffusion overtakes autoregression, as a map with real chips on it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reports.commands.options import AsJson

if TYPE_CHECKING:
    from explorer.workload import Workload

_AUTOREGRESSION = "llama-3.1-8b"
_DIFFUSION = ("llada-8b", "llada-8b@fast_dllm", "sdar-8b")
_PROGRAMS = "Programs"


def crossover(
    chip: Annotated[
        list[str] | None, typer.Option("--chip", "-c", help="Chips or chip files [default: all that ship].")
    ] = None,
    autoregression: Annotated[
        str, typer.Option(help="Program that decodes token by token.", rich_help_panel=_PROGRAMS)
    ] = _AUTOREGRESSION,
    diffusion: Annotated[
        list[str] | None,
        typer.Option(
            help="Programs that denoise; may be repeated [default: LLaDA without a cache, Fast-dLLM, SDAR].",
            rich_help_panel=_PROGRAMS,
        ),
    ] = None,
    batch: Annotated[
        list[int] | None, typer.Option(help="Sequences at a time; may be repeated [default: 1, 8, 64].")
    ] = None,
    prompt_length: Annotated[int, typer.Option(rich_help_panel=_PROGRAMS, help="Tokens of the prompt.")] = 1024,
    gen_length: Annotated[int, typer.Option(rich_help_panel=_PROGRAMS, help="Tokens to generate.")] = 256,
    output: Annotated[Path, typer.Option("--output", "-o", help="The HTML page to write.")] = Path(
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
    from roofline.chipfile import list_chips, load_chip

    chips = [load_chip(name) for name in chip or list_chips()]
    found = []
    for size in batch or [1, 8, 64]:
        options = {"batch": size, "prompt_length": prompt_length, "gen_length": gen_length}
        decoded = _workload(autoregression, options, output.parent / "traces")
        others = [_workload(name, options, output.parent / "traces") for name in diffusion or _DIFFUSION]
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


def _workload(program: str, options: dict[str, int], folder: Path) -> "Workload":
    """A program on meta, condensed; its options of sampling are the usual ones of 8B models."""
    from explorer.jobs import point_trace
    from explorer.space_file import PointRequest
    from explorer.workload import workload_from_trace
    from reports.console import progress

    own: dict[str, object] = dict(options)
    if "fast_dllm" in program:
        own |= {"block_length": 32, "sampler_options": {"cache": "dual", "threshold": 0.9}}
    point = PointRequest(
        label="default",
        program=program,
        trace=None,
        options=tuple(own.items()),
        units=None,
        unit="token",
        quality=float("nan"),
        quality_source="",
    )
    with progress(f"capturing {program}, batch {options['batch']}"):
        trace = point_trace(point, folder)
        units = float(options["batch"] * options["gen_length"])
        return workload_from_trace(trace, name=program, units=units)
