"""How a kernel takes over from the one before it on its stream: without a launch, or with weights that are there."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil

from profiler.op import Op
from roofline.chip import Chip
from simulator.chip_columns import ChipColumns
from simulator.kernel_process import KernelWork, to_ps
from simulator.policy import Policy

_ROUTED = frozenset({"moe", "gather", "scatter"})  # which of their weights are read is known when they begin


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ahead:
    """What prefetching must know of an op: bytes through main memory, weights among them, room that it leaves."""

    main_bytes: float
    weight_bytes: float
    free_bytes: float


class Handover:
    """The works of a trace's ops under a policy; a pure function of ops, chip and policy."""

    def __init__(
        self,
        ops: Sequence[Op],
        works: list[KernelWork],
        main_bytes: Sequence[float],
        chip: Chip,
        policy: Policy,
        *,
        streams: int,
    ) -> None:
        self.main_memory = chip.main_memory.name
        self._works = works
        self._joined = _without_launches(works, chip) if policy.persistent else works
        self._alone_ps = [alone_ps(work) for work in works], [alone_ps(work) for work in self._joined]
        room = chip.memories[-2].capacity_bytes / streams if len(chip.memories) > 1 else 0.0
        self._ahead = [_ahead(op, each, room) for op, each in zip(ops, main_bytes, strict=True)]
        self._prefetches = policy.prefetch

    def work(self, op: int, *, joins: bool, done_ps: int) -> tuple[KernelWork, int]:
        """(what a call plays, its picoseconds alone).

        Args:
            op: index of its op.
            joins: whether it goes on in the persistent kernel of the call before it.
            done_ps: main memory's time that was spent on its weights ahead.
        """
        work = (self._joined if joins else self._works)[op]
        if not done_ps:
            return work, self._alone_ps[joins][op]
        work = _with_prefetched(work, self.main_memory, done_ps)
        return work, alone_ps(work)

    def launch_ps(self, op: int, *, joins: bool) -> int:
        """Fixed cost of a call, or the barrier in its place."""
        return (self._joined if joins else self._works)[op].launch_ps

    def wanted_ps(self, op: int, following: int) -> int:
        """Main memory's time for weights of the next op that have room while this one runs."""
        if not self._prefetches:
            return 0
        ahead = self._ahead[following]
        wanted = min(ahead.weight_bytes, self._ahead[op].free_bytes)
        if wanted <= 0 or ahead.main_bytes <= 0:
            return 0
        return int(busy_ps(self._works[following], self.main_memory) * min(1.0, wanted / ahead.main_bytes))


def alone_ps(work: KernelWork) -> int:
    """Picoseconds of a kernel that has the device to itself; what playing it alone comes to."""
    main_ps = max((duration_ps for _, duration_ps, _ in work.jobs), default=0)
    return (
        work.launch_ps
        + work.fill_ps
        + work.groups * (work.prologue_ps + main_ps + work.epilogue_ps)
        + work.reduction_ps
    )


def busy_ps(work: KernelWork, resource: str) -> int:
    """Picoseconds that a kernel alone keeps a resource busy."""
    return work.groups * sum(duration_ps for name, duration_ps, _ in work.jobs if name == resource)


def _ahead(op: Op, main_bytes: float, room_bytes: float) -> _Ahead:
    moved = [operand.moved_bytes or 0 for operand in (*op.inputs, *op.outputs)]
    weights = sum(operand.moved_bytes or 0 for operand in op.inputs if operand.role == "weights")
    return _Ahead(
        main_bytes=main_bytes,
        weight_bytes=0.0 if op.kind in _ROUTED else float(weights),
        free_bytes=max(0.0, room_bytes - sum(moved)),
    )


def _barrier_ps(chip: Chip) -> int:
    """A flag is written to the last shared memory and read by all cores."""
    shared = [memory for memory in chip.memories[:-1] if not memory.per_core] or [chip.main_memory]
    return to_ps(2.0 * shared[-1].latency_s)


def _smallest_ps(chip: Chip) -> int:
    """What the smallest kernel takes: launch and first latencies, whoever's constants hold them."""
    columns = ChipColumns.from_chips([chip])
    return to_ps(float((columns.launch_s + columns.first_access_s + columns.wave_s)[0]))


def _without_launches(works: list[KernelWork], chip: Chip) -> list[KernelWork]:
    barrier_ps, smallest_ps = _barrier_ps(chip), _smallest_ps(chip)
    return [_without_launch(work, smallest_ps, barrier_ps) for work in works]


def _without_launch(work: KernelWork, smallest_ps: int, barrier_ps: int) -> KernelWork:
    """A kernel inside a persistent one: a barrier for the launch and first latencies of a smallest kernel.

    What a kernel's fixed cost holds beyond that is work, such as routing, and stays.
    """
    first_ps = work.prologue_ps * work.groups
    saved_ps = min(work.launch_ps + first_ps, smallest_ps)
    if saved_ps <= barrier_ps:
        return work
    rest_ps = max(0, first_ps - max(0, saved_ps - work.launch_ps))
    launch_ps = max(0, work.launch_ps - saved_ps) + barrier_ps
    return replace(work, launch_ps=launch_ps, prologue_ps=ceil(rest_ps / work.groups))


def _with_prefetched(work: KernelWork, memory: str, done_ps: int) -> KernelWork:
    """The kernel with that much less to wait for from main memory, in all groups alike."""
    jobs = []
    for name, duration_ps, demand in work.jobs:
        done_each_ps = done_ps / work.groups if name == memory else 0.0
        rest_ps = max(0, ceil(duration_ps - done_each_ps))
        if rest_ps:
            jobs.append((name, rest_ps, demand))
    return replace(work, jobs=tuple(jobs))
