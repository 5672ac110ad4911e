"""`roofscape compare`: samplers side by side on the same model and task, your own among them."""

from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reports.commands.options import AsJson, ChipName, writable

if TYPE_CHECKING:
    import pandas as pd


def compare(
    samplers: Annotated[
        list[str],
        typer.Argument(
            help="Each is (MODEL@)SAMPLER or a Python file, with options behind a colon: llada:steps=64, "
            "fast_dllm:cache=dual,threshold=0.9, llama-3.1-8b@autoregressive, my_sampler.py."
        ),
    ],
    model: Annotated[str, typer.Option("--model", "-m", help="The model of those that name none.")] = "diffusion-100m",
    chip: ChipName = "h100-sxm",
    device: Annotated[str, typer.Option(help="cpu, cuda, or meta: full size, shapes only.")] = "cpu",
    dtype: Annotated[str | None, typer.Option(help="float32, bfloat16, ...")] = None,
    batch: Annotated[int, typer.Option(help="Sequences at a time.")] = 1,
    prompt_length: Annotated[int, typer.Option(help="Tokens of each prompt.")] = 64,
    gen_length: Annotated[int, typer.Option(help="Tokens to generate.")] = 64,
    seed: Annotated[int, typer.Option(help="Seed of weights, prompt and sampling.")] = 0,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", callback=writable, help="Also write an HTML report.")
    ] = None,
    markdown: Annotated[
        Path | None, typer.Option("--markdown", callback=writable, help="Also write the table as Markdown.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Profile samplers on the same model and task: forwards, work, intensity, predicted time and energy.

    A sampler of your own is one Python file (see docs/workloads.md); it joins like any other:

      roofscape compare my_sampler.py llada autoregressive -o out/mine.html

      roofscape compare llada fast_dllm:cache=dual --model llada-8b --device meta --prompt-length 1024 --gen-length 256
    """
    from reports.comparison import Task, comparison_table, parse_contender, run_contender
    from reports.console import print_json, print_line, progress
    from roofline.chipfile import load_chip

    loaded_chip = load_chip(chip)
    task = Task(device=device, dtype=dtype, batch=batch, prompt_length=prompt_length, gen_length=gen_length, seed=seed)
    contenders = [parse_contender(text, model) for text in samplers]
    results = []
    for contender in contenders:
        with progress(f"running {contender.label}"):
            results.append(run_contender(contender, task, loaded_chip))
    subjects, generations = zip(*results, strict=True)
    table = comparison_table(subjects, generations)
    if markdown is not None:
        from reports.markdown import write_markdown

        write_markdown(_HEADINGS, [_cells(row) for _, row in table.iterrows()], markdown)
    if output is not None:
        from reports.html import write_report
        from reports.pages.registry import build_reports
        from reports.tables import build_tables

        with progress("drawing the report"):
            write_report(build_reports(build_tables(subjects)), output, title=f"Samplers on {loaded_chip.title}")
    if as_json:
        print_json({"model": model, "chip": loaded_chip.name, "samplers": table.to_dict("records")})
        return
    _print(
        table,
        f"{model}: {prompt_length} prompt and {gen_length} generated tokens, batch {batch}, on {loaded_chip.title} "
        "(bound, simulated, tokens/s and J/token are predicted)",
    )
    for written in filter(None, (markdown, output)):
        print_line(f"wrote {written}")


_HEADINGS = (
    "sampler", "forwards", "per forward", "rows", "FLOPs", "bytes", "weights", "FLOP/byte", "bound by", "bound",
    "simulated", "tokens/s", "J/token", "measured",
)  # fmt: skip


def _cells(row: "pd.Series[Any]") -> list[str]:
    from reports import formatting

    figures: dict[str, Any] = dict(row)

    def number(name: str) -> float | None:
        value = figures[name]
        return None if value is None or isnan(value) else float(value)

    return [
        str(figures["sampler"]),
        formatting.format_count(number("forwards")),
        f"{number('tokens_per_forward'):.3g}",
        formatting.format_count(number("backbone_rows")),
        formatting.format_flops(number("flops")),
        formatting.format_bytes(number("bytes")),
        formatting.format_ratio(number("weights_share")),
        formatting.format_number(number("intensity")),
        str(figures["bound_by"]),
        formatting.format_seconds(number("bound_s")),
        formatting.format_seconds(number("simulated_s")),
        formatting.format_number(number("simulated_tokens_per_s")),
        formatting.format_number(number("j_per_token")),
        formatting.format_seconds(number("measured_s")) if number("measured_s") is not None else "-",
    ]


def _print(table: "pd.DataFrame", title: str) -> None:
    from reports.console import print_table

    print_table(title, _HEADINGS, [_cells(row) for _, row in table.iterrows()])
