"""The command `roofscape`: every command lives in its own file under `reports/commands/`."""

import errno
import os
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from explorer.errors import ExplorationError
from profiler.errors import TraceError
from reports.commands.calibrate import calibrate
from reports.commands.capture import capture
from reports.commands.catalog import chips, models, samplers
from reports.commands.compare import compare
from reports.commands.crossover import crossover
from reports.commands.demo import demo
from reports.commands.design import design
from reports.commands.diff import diff
from reports.commands.exactness import exactness
from reports.commands.explore import explore
from reports.commands.exporting import export_trace
from reports.commands.fitting import fit
from reports.commands.importing import import_trace
from reports.commands.iso import iso
from reports.commands.known_chips import known_chips
from reports.commands.load import load
from reports.commands.memory import memory
from reports.commands.mix import mix
from reports.commands.pareto import pareto
from reports.commands.predict import predict
from reports.commands.recovery import recovery
from reports.commands.report import report
from reports.commands.roofline import roofline
from reports.commands.scenario import scenario
from reports.commands.simulate import simulate
from reports.commands.validate import validate
from reports.commands.validate_models import validate_models
from reports.commands.worth import worth
from reports.console import ERR, printable
from reports.errors import ReportError
from roofline.errors import ChipError
from simulator.errors import SimulationError
from workloads.errors import WorkloadError

app = typer.Typer(
    name="roofscape",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help=(
        "Profile generative models and simulate them on real and imagined chips.\n\n"
        "Start with `roofscape demo`. Then capture a program of yours, and look at it under a chip's roofline:\n\n"
        "  roofscape capture llada-8b --device meta -o llada.parquet\n\n"
        "  roofscape roofline llada.parquet --chip h100-sxm\n\n"
        "  roofscape simulate llada.parquet --chip h100-sxm\n\n"
        "  roofscape report llada.parquet --chip h100-sxm -o llada.html"
    ),
)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"roofscape {version('roofscape')}")
        raise typer.Exit


@app.callback()
def options(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Options of the program itself; the help of `app` is what users read."""


for command in (
    *(capture, calibrate, chips, models, samplers, roofline, simulate, compare, diff, report, pareto, demo),
    *(predict, validate, fit, memory, exactness),
):
    app.command()(command)
app.command()(scenario)
app.command()(recovery)
app.command()(design)
app.command()(explore)
app.command()(crossover)
app.command()(iso)
app.command()(worth)
app.command()(load)
app.command()(mix)
app.command("validate-models")(validate_models)
app.command("known-chips")(known_chips)
app.command("import")(import_trace)
app.command("export")(export_trace)


def main() -> None:
    """Run the command line; an error of ours is one line on standard error and exit code 2."""
    try:
        app()
    except (WorkloadError, TraceError, ChipError, SimulationError, ExplorationError, ReportError) as error:
        _fail(str(error))
    except OSError as error:
        if error.filename is not None or not _is_output(error):
            raise
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 - what is buffered cannot be written either
        _fail(f"cannot write the output: {error.strerror or error}")


def _is_output(error: OSError) -> bool:
    """Whether writing to standard output failed: no room on the disk, or nobody behind it."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


def _fail(message: str) -> None:
    ERR.print(f"[bold red]error:[/] {printable(' '.join(message.split()))}", highlight=False, soft_wrap=True)
    sys.exit(2)


if __name__ == "__main__":
    main()
