"""`roofscape calibrate`: measure this machine and write its chip file."""

from pathlib import Path
from typing import Annotated

import typer

from reports.commands.options import AsJson, writable


def calibrate(
    output: Annotated[Path, typer.Option("--output", "-o", callback=writable, help="The chip file to write.")] = Path(
        "out/this-machine.toml"
    ),
    brief: Annotated[bool, typer.Option("--brief", help="About 20 seconds instead of a minute.")] = False,
    device: Annotated[str, typer.Option(help="cpu, or cuda for the current GPU.")] = "cpu",
    as_json: AsJson = False,
) -> None:
    """Measure this machine's ceilings and write them as a chip file, to be used wherever a chip is asked for.

    Matrix peak per type and shape, bandwidth and latency against working-set size, elementary functions, reduction,
    gather, sort, top-k, launch overhead in a stream and in a graph, all-reduce where there are several GPUs.
    """
    from dataclasses import asdict

    from reports import formatting
    from reports.commands.catalog import ceiling_rows, print_throughput
    from reports.commands.measuring import measure_machine
    from reports.console import print_json, print_line, print_table, remark
    from roofline.chipfile import save_chip

    calibration = measure_machine(brief=brief, name=output.stem, device=device)
    chip = calibration.chip
    save_chip(chip, output)
    if as_json:
        print_json({**asdict(chip), "notes": list(calibration.notes), "file": str(output)})
        return
    print_table(f"{chip.title}: measured ceilings", ("ceiling", "rate"), ceiling_rows(chip))
    print_throughput(chip)
    print_line(f"launch overhead {formatting.format_seconds(chip.launch_s)} per operation")
    for note in calibration.notes:
        remark(f"note: {note}")
    print_line(f"wrote {output}")
    remark(f"next: roofscape capture ar-100m -o out/ar.parquet && roofscape roofline out/ar.parquet --chip {output}")
