"""The study's answers as figures: who is bound by what, the best chip of each kind of work, and what it loses."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import cast

import numpy as np
import pandas as pd
from evidence import BOUND, roofline_memory_part
from numpy.typing import NDArray

from explorer.evaluate import run_costs
from explorer.evaluator import Evaluator
from explorer.hardware import Hardware
from explorer.known import known_chips
from explorer.mixes import OBJECTIVES, DesignTable, best_row, mix_row, work_of
from explorer.power import chip_power
from explorer.workload import Workload

FloatArray = NDArray[np.float64]
KINDS = ("autoregression", "denoising")
SAME_QUALITY = 0.02  # scores that are no further apart count as the same
MIXES = tuple(round(0.1 * i, 1) for i in range(11))
_GPUS = ("v100-sxm2", "a100-sxm-80gb", "h100-sxm", "h200-sxm", "b200-sxm")
_RANKED = _GPUS[1:]  # each was measured to be faster than the one before


@dataclass(frozen=True, kw_only=True)
class Answers:
    """Everything that the report says; every sentence is written from these figures."""

    designs: int
    feasible: int
    limits: dict[str, float]
    bound: list[dict[str, object]]
    best: list[dict[str, object]]
    regrets: list[dict[str, object]]
    mixes: list[dict[str, object]]
    gpus: list[dict[str, object]]
    units: list[dict[str, object]] = field(default_factory=list)
    quality: list[dict[str, object]] = field(default_factory=list)
    too_large: list[dict[str, object]] = field(default_factory=list)
    gpu_gains: dict[str, float] = field(default_factory=dict)
    ranking: dict[str, object] = field(default_factory=dict)
    steps: list[dict[str, object]] = field(default_factory=list)
    played: list[dict[str, object]] = field(default_factory=list)
    trust: dict[str, float] = field(default_factory=dict)

    def as_json(self) -> dict[str, object]:
        return asdict(self)


def answer(table: DesignTable, evaluate: Evaluator, *, designs: int) -> Answers:
    """Work out all answers."""
    autoregressive, denoising = table.group("autoregressive"), table.group("diffusion")
    best = best_designs(table, autoregressive, denoising)
    work = work_of(table, autoregressive, denoising)
    gpus = real_gpus(table, evaluate, autoregressive, denoising)
    return Answers(
        designs=designs,
        feasible=len(table.index),
        limits=dict(evaluate.goals.limits),
        bound=[bound_row(table, job.name, job.points[0][1]) for job in evaluate.jobs],
        best=best,
        regrets=regrets(table, autoregressive, denoising),
        mixes=[mix_row(table, work, part) for part in MIXES],
        gpus=gpus,
        units=unit_worth(table, autoregressive, denoising),
        quality=quality_rows(table, evaluate, denoising),
        too_large=too_large(table, evaluate),
        gpu_gains={
            "autoregression": gpu_gain(gpus, autoregressive),
            "denoising": gpu_gain(gpus, denoising),
        },
        ranking=ranking(gpus),
    )


def too_large(table: DesignTable, evaluate: Evaluator) -> list[dict[str, object]]:
    """Workloads that no design's memory holds: what they need, and what the largest memory has."""
    most = float(table.figures["dram_bytes"].max())
    needed = {job.name: job.points[0][1].needed_bytes for job in evaluate.jobs}
    return [
        {
            "workload": job,
            "needed_bytes": needed[job],
            "most_bytes": most,
            "needed_gb": needed[job] / 1e9,
            "gb": most / 1e9,
        }
        for job in table.jobs
        if not np.isfinite(table.column(job, OBJECTIVES[0])).any()
    ]


def gpu_gain(gpus: Sequence[dict[str, object]], jobs: Sequence[str]) -> float:
    """How many times as fast the last GPU is as the first: geometric mean over the workloads that both hold."""
    first, last = (cast("dict[str, float]", gpus[end]["seconds"]) for end in (0, -1))
    ratios = [first[job] / last[job] for job in jobs if job in first and job in last]
    return float(np.exp(np.mean(np.log(ratios)))) if ratios else float("nan")


def ranking(gpus: Sequence[dict[str, object]]) -> dict[str, object]:
    """On how many of the workloads that all of them hold GPUs come in the order in which they were measured."""
    seconds = [cast("dict[str, float]", row["seconds"]) for row in gpus if row["chip"] in _RANKED]
    shared = [job for job in seconds[0] if all(job in each for each in seconds)]
    ordered = [job for job in shared if all(a[job] > b[job] for a, b in pairwise(seconds))]
    return {"chips": list(_RANKED), "workloads": len(shared), "ordered": len(ordered)}


def trust(played: Sequence[dict[str, object]]) -> dict[str, float]:
    """How far both engines differ at most, and how far the error bands of the finalists reach, medians."""
    with_band = [row for row in played if row["low_s"] is not None]
    low, high = (
        [cast("float", row[end]) / cast("float", row["event_s"]) for row in with_band] for end in ("low_s", "high_s")
    )
    return {
        "coverage": cast("float", played[0]["coverage"]),
        "difference": max(abs(cast("float", row["difference"])) for row in played),
        "below": 1.0 - float(np.median(low)),
        "above": float(np.median(high)) - 1.0,
    }


def bound_row(table: DesignTable, job: str, workload: Workload) -> dict[str, object]:
    """How much of a workload's time memory binds, over the whole space, and on how many designs at the roofline."""
    part = table.column(job, "memory_part")
    known = part[np.isfinite(part)]
    if not len(known):
        return {"workload": job, "paradigm": table.paradigms[job], "designs": 0}
    return {
        "workload": job,
        "paradigm": table.paradigms[job],
        "designs": len(known),
        "least": float(known.min()),
        "median": float(np.median(known)),
        "most": float(known.max()),
        "bound_designs": float((known > BOUND).mean()),
        "roofline_designs": float((roofline_memory_part(workload, table)[np.isfinite(part)] > BOUND).mean()),
        "compute_designs": float((table.column(job, "compute_part")[np.isfinite(part)] > BOUND).mean()),
        "compute_median": float(np.nanmedian(table.column(job, "compute_part"))),
        "sampling": float(np.nanmedian(table.column(job, "sampling_part"))),
    }


def best_designs(
    table: DesignTable, autoregressive: Sequence[str], denoising: Sequence[str]
) -> list[dict[str, object]]:
    """The best design of each kind of work, by each objective."""
    rows = []
    for objective in OBJECTIVES:
        for kind, jobs in (("autoregression", autoregressive), ("denoising", denoising)):
            row = best_row(table.mean(jobs, objective))
            figures = {name: float(table.figures[name][row]) for name in ("area_mm2", "tdp_w", "bill_usd")}
            ridge = float(table.figures["peak_flops_per_s"][row] / table.figures["dram_bytes_per_s"][row])
            rows.append({"for": kind, "objective": objective, "ridge": ridge, **table.design(row), **figures})
    return rows


def finalists(found: Answers) -> dict[str, int]:
    """Numbers of the fastest design for each kind of work."""
    return {str(row["for"]): cast("int", row["design"]) for row in found.best if row["objective"] == OBJECTIVES[0]}


def regrets(table: DesignTable, autoregressive: Sequence[str], denoising: Sequence[str]) -> list[dict[str, object]]:
    """What the best design of one kind of work loses on the other's, against the other's best."""
    rows = []
    for objective in OBJECTIVES:
        means = {"autoregression": table.mean(autoregressive, objective), "denoising": table.mean(denoising, objective)}
        chosen = {kind: best_row(values) for kind, values in means.items()}
        for chip, row in chosen.items():
            for work, values in means.items():
                loss = float(values[row] / values[chosen[work]] - 1.0)
                rows.append({"objective": objective, "chip for": chip, "runs": work, "loss": loss})
    return rows


def real_gpus(
    table: DesignTable, evaluate: Evaluator, autoregressive: Sequence[str], denoising: Sequence[str]
) -> list[dict[str, object]]:
    """Real chips, simulated with the same constants: their ridge, and their time over the space's best design."""
    known = known_chips()
    names = known.name.tolist()
    hardware = known.take(np.array([names.index(name) for name in _GPUS]))
    costs, _ = _per_unit(evaluate, hardware)
    ridge = hardware.peak_flops_per_s / hardware.dram_bytes_per_s
    rows = []
    for column, name in enumerate(_GPUS):
        each = {job: float(seconds[column]) for job, seconds in costs.items() if np.isfinite(seconds[column])}
        row: dict[str, object] = {"chip": name, "ridge": float(ridge[column]), "seconds": each}
        for kind, jobs in (("autoregression", autoregressive), ("denoising", denoising)):
            shared = [job for job in jobs if np.isfinite(costs[job][column])]
            shared = [job for job in shared if np.isfinite(table.column(job, OBJECTIVES[0])).any()]
            best = np.array([np.nanmin(table.column(job, OBJECTIVES[0])) for job in shared])
            own = np.array([costs[job][column] for job in shared])
            row[kind] = float(np.exp(np.mean(np.log(own / best)))) if shared else float("nan")
            row[f"{kind} workloads"] = len(shared)
        rows.append(row)
    return rows


def quality_rows(table: DesignTable, evaluate: Evaluator, denoising: Sequence[str]) -> list[dict[str, object]]:
    """Operating points with a published score, and what a token costs there on an H100 and on the best design."""
    known = known_chips()
    h100 = known.take(np.array([known.name.tolist().index("h100-sxm")]))
    seconds, joules = _per_unit(evaluate, h100)
    best = best_row(table.mean(denoising, OBJECTIVES[0]))
    first = next((job.name for job in evaluate.jobs if np.isfinite(job.points[0][1].quality)), "")
    return [
        {
            "workload": job.name,
            "quality": workload.quality,
            "source": workload.quality_source,
            "h100_s": float(seconds[job.name][0]),
            "h100_part": float(seconds[job.name][0] / seconds[first][0]),
            "h100_j": float(joules[job.name][0]),
            "best_s": float(table.column(job.name, OBJECTIVES[0])[best]),
            "best_j": float(table.column(job.name, OBJECTIVES[1])[best]),
        }
        for job in evaluate.jobs
        for workload in [job.points[0][1]]
        if np.isfinite(workload.quality)
    ]


def _per_unit(evaluate: Evaluator, hardware: Hardware) -> tuple[dict[str, FloatArray], dict[str, FloatArray]]:
    """(seconds, joules) per token or image of every workload on given hardware, [D] each."""
    workloads = [job.points[0][1] for job in evaluate.jobs]
    power = chip_power(hardware, evaluate.technology)
    costs = run_costs(workloads, hardware, power, calibration=evaluate.calibration, mode=evaluate.mode)
    units = {job.name: workload.units for job, workload in zip(evaluate.jobs, workloads, strict=True)}
    seconds = {name: costs.run_s[number] / units[name] for number, name in enumerate(units)}
    return seconds, {name: costs.run_j[number] / units[name] for number, name in enumerate(units)}


def unit_worth(table: DesignTable, autoregressive: Sequence[str], denoising: Sequence[str]) -> list[dict[str, object]]:
    """Elasticity of time to each number in a design: log time against log of all parameters, by least squares.

    -0.4 says that 10 % more of it make the work 4 % faster, all else equal, over the designs of the space.
    """
    values = pd.DataFrame(table.space.decode(table.index))
    names = [name for name in values if values[name].dtype.kind in "if" and (values[name] > 0).all()]
    bandwidth = table.figures["dram_bytes_per_s"]
    columns = {name: np.log(values[name].to_numpy(dtype=np.float64)) for name in names if name != "stacks"}
    columns["memory bandwidth"] = np.log(bandwidth)
    rows = []
    for kind, jobs in (("autoregression", autoregressive), ("denoising", denoising)):
        time = np.log(table.mean(jobs, OBJECTIVES[0]))
        known = np.isfinite(time)
        design = np.column_stack([np.ones(known.sum()), *(column[known] for column in columns.values())])
        found, *_ = np.linalg.lstsq(design, time[known], rcond=None)
        rows += [
            {"work": kind, "parameter": name, "elasticity": float(value)}
            for name, value in zip(columns, found[1:], strict=True)
        ]
    return rows
