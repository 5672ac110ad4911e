"""`roofscape demo`: the whole way from running programs to a report, in a few minutes."""

from pathlib import Path
from typing import Annotated

import typer

from reports.commands.options import AsJson


def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the report, traces and chip file.")] = Path(
        "out/demo"
    ),
    kineto: Annotated[
        Path | None, typer.Option(help="A PyTorch profiler trace of an H100 to show as well (default: if found).")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """See what Roofscape does: autoregression against diffusion, measured here and predicted on an H100.

    Measures this CPU briefly, runs an autoregressive and a diffusion model of the same size on it, captures
    Llama-3.1-8B and LLaDA-8B at full size without computing them, imports a measured H100 trace where there is one, and
    writes OUTPUT/report.html and the picture OUTPUT/roofline.svg.
    """
    from reports.charts.drawing import draw_phases
    from reports.commands.demo_table import print_demo_tables
    from reports.commands.measuring import measure_machine
    from reports.console import print_json, print_line, progress, remark
    from reports.demonstration import (
        EXHIBITS,
        TARGET_CHIP,
        find_kineto_trace,
        kineto_subject,
        run_exhibit,
        subject_of,
    )
    from reports.html import write_report
    from reports.pages.registry import build_reports
    from reports.tables import build_tables
    from roofline.chipfile import load_chip, save_chip

    calibration = measure_machine(brief=True, name="this-machine")
    save_chip(calibration.chip, output / "this-machine.toml")
    for note in calibration.notes:
        remark(f"calibration: {note}")
    target = load_chip(TARGET_CHIP)
    subjects = []
    for exhibit in EXHIBITS:
        doing = "running" if exhibit.device == "cpu" else "capturing at full size, without computing,"
        with progress(f"{doing} {exhibit.label}"):
            trace, generation = run_exhibit(exhibit, output)
            chip = calibration.chip if exhibit.device == "cpu" else target
            subjects.append(subject_of(exhibit, trace, generation, chip))
    profile = kineto or find_kineto_trace()
    if profile is None:
        remark("no measured H100 trace found; give one with --kineto FILE")
    else:
        with progress(f"importing {profile.name}"):
            subjects.append(kineto_subject(profile, target, output))
    with progress("drawing the report"):
        tables = build_tables(subjects)
        draw_phases(tables, target.name, output / "roofline.svg")
        write_report(
            build_reports(tables), output / "report.html", title="Autoregression and diffusion under the roofline"
        )
    if as_json:
        print_json({"summary": tables.summary.to_dict("records"), "phases": tables.phases.to_dict("records")})
        return
    print_demo_tables(tables.phases.to_dict("records"), tables.summary.to_dict("records"))
    print_line(f"report: {output / 'report.html'}")
