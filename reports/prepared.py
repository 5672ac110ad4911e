"""From a space file or a program to what is simulated: captured behind a spinner, and kept beside a report."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from explorer.evaluator import Evaluator, Job
    from explorer.space_file import SpaceFile
    from explorer.workload import Workload


def prepare_evaluator(asked: "SpaceFile", folder: Path) -> "Evaluator":
    """What evaluates the designs of a space.

    Args:
        asked: the space file.
        folder: where captured traces are kept.
    """
    return with_workloads(bare_evaluator(asked), asked, folder)


def bare_evaluator(asked: "SpaceFile") -> "Evaluator":
    """The same without workloads, at once: enough to read designs and say what is wrong with them."""
    import numpy as np  # noqa: PLC0415 - seconds of imports, as all of these

    from explorer.evaluator import Evaluator, constants_of  # noqa: PLC0415
    from explorer.technology import load_technology  # noqa: PLC0415

    technology = load_technology(asked.technology)
    for knob, rows in (("node", technology.node_rows), ("dram", technology.dram_rows)):
        rows(np.array(_given(asked, knob), dtype=np.str_))  # refuses unknown names before anything is captured
    return Evaluator(
        template=asked.template,
        technology=technology,
        jobs=(),
        goals=asked.goals,
        fixed=asked.fixed,
        mode=asked.mode,
        calibration=constants_of(asked.template),
    )


def _given(asked: "SpaceFile", knob: str) -> list[str]:
    """Values of a knob that the space fixes or varies."""
    fixed = [asked.fixed[knob]] if knob in asked.fixed else []
    varied = [value for parameter in asked.space.parameters if parameter.name == knob for value in parameter.values]
    return [str(value) for value in (*fixed, *varied)]


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


def prepare_workload(program: str, options: dict[str, int], folder: Path) -> "Workload":
    """A program on meta, condensed; its options of sampling are the usual ones of 8B models.

    Args:
        program: whatever `capture` takes.
        options: `batch`, `prompt_length` and `gen_length`.
        folder: where captured traces are kept.
    """
    from explorer.jobs import point_trace  # noqa: PLC0415
    from explorer.space_file import PointRequest  # noqa: PLC0415
    from explorer.workload import workload_from_trace  # noqa: PLC0415
    from reports.console import progress  # noqa: PLC0415

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
