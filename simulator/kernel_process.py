"""A `KernelPlan` played wave by wave on a device's shared resources."""

from collections.abc import Generator
from dataclasses import dataclass
from math import ceil

import simpy

from roofline.chip import Chip
from simulator.plans import KernelPlan
from simulator.shared_rate import SharedRate

PS_PER_S = 1_000_000_000_000
_LARGEST_GROUPS = 16  # waves of a large grid are played in at most this many groups


def to_ps(seconds: float) -> int:
    """Whole picoseconds, rounded up so that nothing takes less than it must.

    Rounding starts from the nearest thousandth, so that float noise does not add a picosecond.

    >>> to_ps(1e-12), to_ps(0.3e-12), to_ps(0.0)
    (1, 1, 0)
    """
    return ceil(round(seconds * PS_PER_S, 3))


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelWork:
    """A plan in whole picoseconds, cut into groups of waves.

    Attributes:
        launch_ps: before anything runs.
        fill_ps: filling and draining of the pipeline, what the overlap of core and memory misses.
        groups: groups of waves.
        prologue_ps: first operands of a group.
        jobs: (resource, picoseconds alone, part of the resource used) of a group's main loop, all side by side.
        epilogue_ps: write-back of a group.
        reduction_ps: second pass at the end.
    """

    launch_ps: int
    fill_ps: int
    groups: int
    prologue_ps: int
    jobs: tuple[tuple[str, int, float], ...]
    epilogue_ps: int
    reduction_ps: int


def kernel_work(plan: KernelPlan, chip: Chip) -> KernelWork:
    """Cut a plan into groups of waves.

    Memory levels and the link are asked for as fast as they go. The cores are used by as many as have tiles; matrix,
    vector and special-function units only by the part of that time in which they work.
    """
    groups = max(1, min(plan.waves, _LARGEST_GROUPS))
    cores = min(1.0, plan.cores_used / chip.cores)
    jobs = [("cores", plan.core_s, cores)]
    for unit, unit_s in (("matrix", plan.matrix_s), ("vector", plan.vector_s), ("special", plan.special_s)):
        if unit_s > 0:
            jobs.append((unit, plan.core_s, cores * min(1.0, unit_s / plan.core_s)))
    jobs += [(name, level_s, 1.0) for name, level_s in plan.level_s]
    jobs.append(("link", plan.link_s, 1.0))
    return KernelWork(
        launch_ps=to_ps(plan.launch_s),
        fill_ps=to_ps(plan.exposed_s),
        groups=groups,
        prologue_ps=to_ps(plan.prologue_s / groups),
        jobs=tuple((name, to_ps(seconds / groups), demand) for name, seconds, demand in jobs if seconds > 0),
        epilogue_ps=to_ps(plan.epilogue_s / groups),
        reduction_ps=to_ps(plan.reduction_s),
    )


class Device:
    """The shared resources of a chip: cores, their units, each memory level, the link."""

    def __init__(self, env: simpy.Environment, chip: Chip) -> None:
        self.env = env
        names = ("cores", "matrix", "vector", "special", *(memory.name for memory in chip.memories), "link")
        self.resources = {name: SharedRate(env) for name in names}


def play_kernel(device: Device, work: KernelWork) -> Generator[simpy.Event, object, None]:
    """Play one kernel, sharing the device with whatever else runs.

    Within a group, loads stream while the cores compute (double-buffered stages), so its main loop ends with the slower
    side. The next group's tiles take the cores when this group has written back.
    """
    env = device.env
    yield env.timeout(work.launch_ps + work.fill_ps)
    for _ in range(work.groups):
        if work.prologue_ps:
            yield env.timeout(work.prologue_ps)
        if work.jobs:
            yield env.all_of(
                [device.resources[name].run(duration_ps, demand) for name, duration_ps, demand in work.jobs]
            )
        if work.epilogue_ps:
            yield env.timeout(work.epilogue_ps)
    if work.reduction_ps:
        yield env.timeout(work.reduction_ps)
