"""`roofscape chips`, `models` and `samplers`: what is there to choose from."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reports.commands.options import AsJson, writable

if TYPE_CHECKING:
    from roofline.chip import Chip


def chips(
    name: Annotated[str | None, typer.Argument(help="A chip's name or TOML file, for its figures and sources.")] = None,
    constants: Annotated[
        Path | None,
        typer.Option(
            callback=writable, help="Also write the calibration constants, with meaning and source, as Markdown."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the chips, or show one chip's figures and where each comes from.

    A chip is one TOML file: copy one, change it, and give its path wherever a chip is asked for.
    """
    from reports import formatting
    from reports.chip_figures import figure_rows, source_lines
    from reports.console import print_json, print_line, print_table
    from roofline.chipfile import list_chips, load_chip

    loaded = [load_chip(each) for each in (list_chips() if name is None else [name])]
    if constants is not None:
        from reports.constants_table import write_constants

        write_constants(loaded, constants)
    if name is None:
        if as_json:
            print_json([asdict(chip) for chip in loaded])
            return
        rows = [
            (
                chip.name,
                chip.title,
                str(chip.cores),
                formatting.format_flops_per_s(chip.matrix_flops_per_s("bfloat16")),
                formatting.format_bytes(chip.main_memory.capacity_bytes),
                formatting.format_bytes_per_s(chip.main_memory.bandwidth_bytes_per_s),
                formatting.format_intensity(chip.ridge_flops_per_byte("bfloat16")),
                formatting.format_watts(chip.tdp_w),
            )
            for chip in loaded
        ]
        columns = ("name", "chip", "cores", "bf16 peak", "memory", "bandwidth", "ridge point", "TDP")
        print_table("Published peaks, dense", columns, rows, left=2)
        return
    chip = loaded[0]
    if as_json:
        print_json(asdict(chip))
        return
    label = "measured" if chip.is_measured else "derived from published figures"
    print_table(f"{chip.title}: ceilings, {label}", ("ceiling", "rate"), ceiling_rows(chip))
    print_table("Figures", ("figure", "value"), figure_rows(chip), left=2)
    print_throughput(chip)
    for line in source_lines(chip):
        print_line(line)


def ceiling_rows(chip: "Chip") -> list[tuple[str, str]]:
    """Label and rate of each of a chip's ceilings, written for people."""
    from reports import formatting
    from roofline.ceilings import ceilings

    return [
        (
            ceiling.label,
            formatting.format_flops_per_s(ceiling.flops_per_s)
            if ceiling.flops_per_s is not None
            else formatting.format_bytes_per_s(ceiling.bytes_per_s),
        )
        for ceiling in ceilings(chip)
    ]


def print_throughput(chip: "Chip") -> None:
    """Print what single kinds of kernels were measured to reach, where the chip file holds that."""
    from reports import formatting
    from reports.console import print_table

    if not chip.throughput:
        return
    writers: list[tuple[str, formatting.Formatter]] = [
        ("_flops_per_s", formatting.format_flops_per_s),
        ("_bytes_per_s", formatting.format_bytes_per_s),
        ("_per_s", lambda rate: f"{formatting.format_number(rate)} elements/s"),
        ("_s", formatting.format_seconds),
    ]
    rows = []
    for name, value in chip.throughput:
        suffix, write = next((each for each in writers if name.endswith(each[0])), ("", formatting.format_number))
        rows.append((name.removesuffix(suffix).replace("_", " "), write(value)))
    print_table("Kernels as measured here (no ceilings)", ("kernel", "rate"), rows)


def models(
    name: Annotated[str | None, typer.Argument(help="A model's name, for its dimensions and their source.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the models that can be run or captured by name, or show one model's dimensions."""
    from reports import formatting
    from reports.console import print_json, print_line, print_table
    from workloads.presets import list_presets, load_preset, parameter_count

    if name is not None:
        preset = load_preset(name)
        values = {**asdict(preset), "parameters": parameter_count(preset)}
        if as_json:
            print_json(values)
            return
        for key, value in values.items():
            print_line(f"{key}: {value}")
        return
    loaded = [load_preset(each) for each in list_presets()]
    if as_json:
        print_json([{**asdict(preset), "parameters": parameter_count(preset)} for preset in loaded])
        return
    rows = [
        (
            preset.name,
            preset.kind,
            formatting.format_count(parameter_count(preset)),
            str(preset.layers),
            str(preset.d_model),
            f"{preset.heads}/{preset.kv_heads} x {preset.head_dim}",
            str(preset.ffn),
            str(preset.vocab),
        )
        for preset in loaded
    ]
    columns = ("name", "kind", "parameters", "layers", "width", "heads/kv x dim", "ffn", "vocabulary")
    print_table("Models", columns, rows, left=2)


def samplers(
    name: Annotated[str | None, typer.Argument(help="A sampler's name or Python file, for its options.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the samplers, or show one sampler's options; one of your own is a Python file, given as MODEL@file.py."""
    from reports.console import print_json, print_line, print_table
    from workloads.samplers.registry import list_samplers, load_sampler

    if name is not None:
        from workloads.samplers.options_table import describe_options

        options = describe_options(load_sampler(name))
        if as_json:
            print_json([asdict(option) for option in options])
            return
        print_table(
            f"Options of {name}: --option NAME=VALUE, or {name}:NAME=VALUE in `compare`",
            ("option", "type", "default", "meaning"),
            [(each.name, each.type, each.default or "(needed)", each.meaning) for each in options],
            left=4,
        )
        print_line("gen_length, steps, block_length and seed have options of their own: --gen-length, --steps, ...")
        return
    found = list_samplers()
    if as_json:
        print_json([asdict(listing) for listing in found])
        return
    print_table("Samplers", ("name", "what it does"), [(each.name, each.summary) for each in found], left=2)
