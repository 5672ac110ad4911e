"""From a space file to what evaluates its designs: workloads are captured behind a spinner and kept beside a report."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from explorer.evaluator import Evaluator, Job
    from explorer.space_file import SpaceFile


def prepare_evaluator(asked: "SpaceFile", folder: Path) -> "Evaluator":
    """What evaluates the designs of a space.

    Args:
        asked: the space file.
        folder: where captured traces are kept.
    """
    return with_workloads(bare_evaluator(asked), asked, folder)


def bare_evaluator(asked: "SpaceFile") -> "Evaluator":
    """The same without workloads, at once: enough to read designs and say what is wrong with them."""
    from explorer.evaluator import Evaluator, constants_of  # noqa: PLC0415 - seconds of imports
    from explorer.technology import load_technology  # noqa: PLC0415

    return Evaluator(
        template=asked.template,
        technology=load_technology(asked.technology),
        jobs=(),
        goals=asked.goals,
        fixed=asked.fixed,
        mode=asked.mode,
        calibration=constants_of(asked.template),
    )


def with_workloads(bare: "Evaluator", asked: "SpaceFile", folder: Path) -> "Evaluator":
    """The evaluator with the workloads of the space, captured or read."""
    from explorer.jobs import build_jobs  # noqa: PLC0415
    from reports.console import progress  # noqa: PLC0415

    jobs: list[Job] = []
    steps = build_jobs(asked.workloads, folder)
    while True:
        with progress("capturing and condensing workloads"):
            step = next(steps, None)
        if step is None:
            return replace(bare, jobs=tuple(jobs))
        if step[1] is not None:
            jobs.append(step[1])
