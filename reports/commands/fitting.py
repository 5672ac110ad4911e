"""`roofscape fit`: constants of a kernel model, or of energy, from measured kernels, into a chip file."""

from pathlib import Path
from typing import Annotated

import typer

from reports.commands.options import AsJson, ChipName, OwnTable, writable


def fit(
    output: Annotated[Path, typer.Option("--output", "-o", callback=writable, help="Chip file to write.")],
    chip: ChipName = "h100-sxm",
    op: Annotated[str, typer.Option(help="Family of kernels: gemm, attention_prefill, attention_decode, ...")] = "gemm",
    dtype: Annotated[str, typer.Option(help="Type of the measured rows.")] = "bfloat16",
    backend: Annotated[str, typer.Option(help="Library of the measured table; default: the one for this family.")] = "",
    table: OwnTable = None,
    rows: Annotated[int, typer.Option(min=50, help="Rows that the fit looks at.")] = 2000,
    constants_of: Annotated[
        str, typer.Option(help="Start from the constants of this chip, and keep near them what the rows do not tell.")
    ] = "",
    seed: Annotated[int, typer.Option(help="Of the draw of those rows.")] = 0,
    power: Annotated[
        bool, typer.Option("--power", help="Fit energy constants: to --table with power_w, else at the power limit.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Fit the constants of a kernel model to measured kernels, and write them into a chip file.

    Half of the rows are held out (odd CRC-32 of their sizes) and score the fit. Without --table the rows come from the
    package aiconfigurator-core (the extra `silicon`).

    --op attention fits all regimes of attention at once, with one value for what is one thing of the chip, and takes
    the package's tables and the chip's own constants alone.

    With --power and --table: static power, power of a busy core and joules per matrix FLOP from measured board power.
    With --power alone: joules per matrix FLOP from the rates at which long products of the package's tables (random
    data, by --dtype) keep the power limit. Other options do not matter.

      roofscape fit --power --table kernel_power.parquet --chip h200-sxm -o my-h200.toml
      roofscape fit --power --chip h100-sxm -o my-h100.toml
    """
    if power:
        if table is None:
            _fit_at_limit(chip, dtype, output, as_json=as_json)
        else:
            _fit_power(table, chip, output, as_json=as_json)
        return
    if op == "attention":
        _refuse_other_sources(table, constants_of)
        _fit_attention(chip, dtype, backend, rows, seed, output, as_json=as_json)
        return
    from dataclasses import asdict

    from reports.console import print_json, print_line, print_table, progress
    from roofline.chip_families import with_constants_of
    from roofline.chipfile import load_chip, save_chip
    from simulator.validation import fitting
    from simulator.validation.families import family
    from simulator.validation.runs import chosen_table

    loaded = load_chip(chip)
    if constants_of:
        loaded = with_constants_of(loaded, load_chip(constants_of))
    measured = chosen_table(loaded, op, dtype, backend, table)
    chosen = family(op, dtype)
    with progress(f"fitting {len(chosen.constants)} constants of {chosen.scope} to {measured.backend}"):
        found = fitting.fit(
            measured, loaded, chosen.constants, scope=chosen.scope, rows=rows, seed=seed, stay_near=bool(constants_of)
        )
    save_chip(found.chip, output)
    if as_json:
        print_json({"file": str(output), **asdict(found) | {"chip": found.chip.name}})
        return
    units = {constant.name: (constant.unit, constant.meaning) for constant in chosen.constants}
    print_table(
        f"{found.scope} of {found.chip.name}, fitted to {found.rows} rows of {measured.source}",
        ("constant", "value", "unit", "meaning"),
        [(name, f"{value:.4g}", *units[name]) for name, value in found.constants],
    )
    print_line(
        f"mean absolute error on {found.after.rows} rows held out: {found.before.mape_percent:.1f} % before, "
        f"{found.after.mape_percent:.1f} % after (bias {found.after.bias_percent:+.1f} %)"
    )
    print_line(f"wrote {output}")


def _refuse_other_sources(table: Path | None, constants_of: str) -> None:
    from reports.errors import ReportError

    for option, value in (("--table", table), ("--constants-of", constants_of)):
        if value:
            raise ReportError(
                f"--op attention takes no {option}: fit one regime, attention_prefill, attention_bidirectional or "
                "attention_decode"
            )


def _fit_attention(chip: str, dtype: str, backend: str, rows: int, seed: int, output: Path, *, as_json: bool) -> None:
    from dataclasses import asdict

    from reports.console import print_json, print_line, print_table, progress
    from roofline.chipfile import load_chip, save_chip
    from simulator.validation.joint_fit import REGIMES, fit_together, free_constants
    from simulator.validation.runs import chosen_table
    from simulator.validation.silicon import silicon_backends

    loaded = load_chip(chip)
    tables = [chosen_table(loaded, op, dtype, backend, None) for op in REGIMES if silicon_backends(loaded.name, op)]
    with progress(f"fitting {len(tables)} regimes of attention together"):
        found = fit_together(tables, loaded, rows=rows, seed=seed)
    save_chip(found.chip, output)
    if as_json:
        print_json({"file": str(output), **asdict(found) | {"chip": found.chip.name}})
        return
    meanings = dict(free_constants([table.op for table in tables]))
    print_table(
        f"attention of {found.chip.name}, fitted to {found.rows} rows of {len(tables)} tables",
        ("constant", "value", "unit", "meaning"),
        [(name, f"{value:.4g}", meanings[name].unit, meanings[name].meaning) for name, value in found.constants],
    )
    for before, after in zip(found.before, found.after, strict=True):
        print_line(
            f"{after.op}: mean absolute error on {after.rows} rows held out: {before.mape_percent:.1f} % before, "
            f"{after.mape_percent:.1f} % after (bias {after.bias_percent:+.1f} %)"
        )
    print_line(f"wrote {output}")


def _fit_at_limit(chip: str, dtype: str, output: Path, *, as_json: bool) -> None:
    from dataclasses import asdict

    from reports.console import print_json, print_line, print_table
    from reports.errors import ReportError
    from roofline.chipfile import load_chip, save_chip
    from simulator.validation.power_at_limit import RANDOM_DATA, fit_at_limit
    from simulator.validation.silicon import silicon_backends, silicon_table

    loaded = load_chip(chip)
    backends = [name for name in RANDOM_DATA if name in silicon_backends(loaded.name, "gemm")]
    if not backends:
        raise ReportError(
            f"no measured products of {' or '.join(RANDOM_DATA)} on {loaded.name}; give --table with power_w"
        )
    found = fit_at_limit([silicon_table(loaded, "gemm", dtype, name) for name in backends], loaded)
    save_chip(found.chip, output)
    if as_json:
        print_json({"file": str(output), **asdict(found) | {"chip": found.chip.name, "found": dict(found.found)}})
        return
    print_table(
        f"energy of {found.chip.name} at its power limit, fitted to {found.rows} products of {found.dtype}",
        ("library", "J/FLOP"),
        [(name, f"{value:.3g}") for name, value in found.found],
    )
    print_line(
        f"matrix_j_per_flop.{found.dtype} = {found.joules:.3g}: mean absolute error of time on {found.held_out} "
        f"products held out: {found.before_percent:.1f} % before, {found.after_percent:.1f} % after"
    )
    print_line(f"wrote {output}")


def _fit_power(table: Path, chip: str, output: Path, *, as_json: bool) -> None:
    from reports.console import print_json, print_line, print_table
    from roofline.chipfile import load_chip, save_chip
    from simulator.validation.power_fit import fit_power
    from simulator.validation.power_tables import read_power_table

    found = fit_power(read_power_table(table), load_chip(chip))
    save_chip(found.chip, output)
    if as_json:
        print_json(
            {
                "file": str(output),
                "chip": found.chip.name,
                "constants": dict(found.constants),
                "halves": [{"matrix_j_per_flop": joules, "core_w": watts} for joules, watts in found.halves],
                "rows": found.rows,
                "left_out": found.left_out,
                "median_error_w": found.median_error_w,
                "mean_error_percent": found.mean_error_percent,
            }
        )
        return
    print_table(
        f"energy of {found.chip.name}, fitted to {found.rows} kernels of {table.name} ({found.left_out} left out)",
        ("constant", "value"),
        [(name, f"{value:.3g}") for name, value in found.constants],
    )
    first, second = (f"{joules:.3g} J/FLOP and {watts:.3g} W a core" for joules, watts in found.halves)
    print_line(f"halves of the rows find {first}, and {second}")
    print_line(
        f"each with the constants of the other: {found.median_error_w:.0f} W median and "
        f"{found.mean_error_percent:.0f} % mean error"
    )
    print_line(f"wrote {output}")
