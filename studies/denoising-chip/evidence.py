"""What tests the claims beyond the space's workloads: single steps over batch and context, and the event engine."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from explorer.evaluator import Evaluator, Job
from explorer.finalists import replay
from explorer.hardware import FloatArray
from explorer.jobs import point_trace
from explorer.mixes import DesignTable
from explorer.result import Evaluate, join
from explorer.space_file import SpaceFile
from explorer.step_traces import capture_step
from explorer.workload import Workload, workload_from_trace
from simulator.bands import COVERAGE

BOUND = 0.5  # of the kernels' time: more than that, and it binds a workload
_BLOCK = 4  # tokens of a block, as in the space's workloads
_DESIGNS = 1_024  # evaluated at once
BATCH, CONTEXT = "batch", "context"


@dataclass(frozen=True, kw_only=True)
class Series:
    """One step of a program at several batches or contexts.

    Attributes:
        name: what it stands for.
        program: model preset.
        batches: sequences at a time.
        contexts: tokens of each.
    """

    name: str
    program: str
    batches: tuple[int, ...]
    contexts: tuple[int, ...]

    @property
    def axis(self) -> str:
        """Which of the two varies."""
        return BATCH if len(self.batches) > 1 else CONTEXT


DENSE_AR, DENSE_BLOCK = "autoregression, dense 8B", "blocks of 4, dense 8B"
EXPERTS_AR, EXPERTS_BLOCK = "autoregression, 30B with 3B active", "blocks of 4, 30B with 3B active"
_POWERS = tuple(2**power for power in range(10))
SERIES = (
    Series(name=DENSE_AR, program="llama-3.1-8b", batches=_POWERS, contexts=(1024,)),
    Series(name=DENSE_BLOCK, program="sdar-8b", batches=_POWERS[:8], contexts=(1024,)),
    Series(name=EXPERTS_AR, program="qwen3-30b-a3b", batches=_POWERS[:8], contexts=(1024,)),
    Series(name=EXPERTS_BLOCK, program="sdar-30b-a3b", batches=_POWERS[:8], contexts=(1024,)),
    Series(name=DENSE_AR, program="llama-3.1-8b", batches=(32,), contexts=tuple(1024 * power for power in _POWERS[:6])),
    Series(name=DENSE_BLOCK, program="sdar-8b", batches=(32,), contexts=tuple(1024 * power for power in _POWERS[:6])),
)


def step_rows(
    table: DesignTable, evaluator: Evaluator, run: Callable[[Evaluator], Evaluate], series: Sequence[Series] = SERIES
) -> list[dict[str, object]]:
    """What binds each step, over all designs of the table that hold it.

    Args:
        table: designs that hold the constraints.
        evaluator: of the study; its workloads are replaced by the steps.
        run: gives the function that evaluates designs, such as one that uses all cores.
        series: the steps.
    """
    asked = [(each, batch, context) for each in series for batch in each.batches for context in each.contexts]
    jobs = tuple(_step_job(each.program, batch, context) for each, batch, context in asked)
    evaluate = run(replace(evaluator, jobs=jobs))
    longest = {each.name: (each.batches[-1], each.contexts[-1]) for each in series if each.axis == CONTEXT}
    blocks = [table.index[start : start + _DESIGNS] for start in range(0, len(table.index), _DESIGNS)]
    found = join([evaluate(table.space.decode(block)) for block in blocks]).metrics
    rows = []
    for (each, batch, context), job in zip(asked, jobs, strict=True):
        memory, compute = (found[f"{job.name}.{part}"] for part in ("memory_part", "compute_part"))
        held = np.isfinite(memory)
        if each.axis == CONTEXT:  # the same designs at every context: those that hold the longest
            batch_of, context_of = longest[each.name]
            held &= np.isfinite(found[f"{each.program}-b{batch_of}-c{context_of}.memory_part"])
        ideal = roofline_memory_part(job.points[0][1], table)
        row = {"series": each.name, "axis": each.axis, "program": each.program, "batch": batch, "context": context}
        parts = {"designs": int(held.sum())}
        if held.any():
            parts |= {
                "memory_designs": float((memory[held] > BOUND).mean()),
                "compute_designs": float((compute[held] > BOUND).mean()),
                "roofline_designs": float((ideal[held] > BOUND).mean()),
                "memory_median": float(np.median(memory[held])),
            }
        rows.append(row | parts)
    return rows


def roofline_memory_part(workload: Workload, table: DesignTable) -> FloatArray:
    """Part of the time in which memory binds where kernels reach the peaks of every design, [D]."""
    loads = workload.ops.moved_bytes / table.figures["dram_bytes_per_s"]
    computes = workload.ops.required_matrix_flops / table.figures["peak_flops_per_s"]
    seconds = workload.counts[:, None] * np.maximum(loads, computes)
    part: FloatArray = (seconds * (loads >= computes)).sum(axis=0) / seconds.sum(axis=0)
    return part


def _step_job(program: str, batch: int, context: int) -> Job:
    step = capture_step(program, batch=batch, context=context, block_length=_BLOCK)
    name = f"{program}-b{batch}-c{context}"
    workload = workload_from_trace(step.trace, name=name, units=batch, needed_bytes=float(step.needed_bytes))
    return Job(name=name, points=(("default", workload),))


def played_rows(
    asked: SpaceFile, table: DesignTable, evaluator: Evaluator, chips: dict[str, int], folder: Path
) -> Iterator[dict[str, object]]:
    """Every workload that they hold on some designs, played by the event engine, with its error band.

    Args:
        asked: the space file.
        table: designs and their figures.
        evaluator: of the study.
        chips: number of each design by what it is best for.
        folder: where the workloads' traces are kept.
    """
    requests = {request.name: request for request in asked.workloads}
    for what, number in chips.items():
        row = int(np.flatnonzero(table.index == number)[0])
        seconds = {job.name: float(table.column(job.name, "seconds_per_unit")[row]) for job in evaluator.jobs}
        held = tuple(job for job in evaluator.jobs if np.isfinite(seconds[job.name]))
        for job in held:
            trace = point_trace(requests[job.name].points[0], folder)
            run_s = seconds[job.name] * job.points[0][1].units
            one = replace(evaluator, jobs=(job,))
            for played in replay(
                one, table.space.decode(np.array([number])), number, {job.name: run_s}, {job.name: trace}
            ):
                yield asdict(played) | {"chip for": what, "difference": played.difference, "coverage": COVERAGE}
