"""Runs the micro-benchmarks of this machine with a progress bar."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from roofline.calibration import Calibration


def measure_machine(*, brief: bool, name: str, device: str = "cpu") -> "Calibration":
    """Measure this machine and give its chip with whatever makes it doubtful."""
    from rich.progress import Progress

    from profiler.capture.microbenchmarks import MicrobenchmarkRun
    from reports.console import ERR
    from roofline.calibration import chip_from_measurements

    run = MicrobenchmarkRun(mode="brief" if brief else "full", device=device)
    with Progress(console=ERR, transient=True) as bar:
        task = bar.add_task("measuring this machine")
        for step in run:
            bar.update(task, total=step.count, completed=step.index, description=f"measuring {step.name}")
    return chip_from_measurements(run.result, name=name)
