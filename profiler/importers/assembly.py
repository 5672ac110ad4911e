"""Puts the kernels and calls that an importer found together into a `Trace`."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np

from profiler.op import Op
from profiler.provenance import Provenance
from profiler.traces import (
    ATTRIBUTIONS,
    COUNTERS,
    KERNEL_CATEGORIES,
    Calls,
    FloatArray,
    IntArray,
    Kernels,
    Trace,
)

_SECONDS_PER_PICOSECOND = 1e-12
# Stream numbers of several devices in one file are kept apart by this much.
STREAMS_PER_DEVICE = 100_000


class Mark(NamedTuple):
    """The part of the program that a call belongs to; step -1 and empty text where nothing says."""

    phase: str = ""
    step: int = -1
    module: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchedCall:
    """One call: its op, the indices of its kernels, how they were attributed, and where in the program it stood."""

    op: Op
    kernels: tuple[int, ...]
    attribution: str
    mark: Mark = field(default_factory=Mark)


class Kernel(Protocol):
    """Something that a device did; None for a time that was not recorded.

    `category` is one of `KERNEL_CATEGORIES`; `counters` hold what hardware counters saw, by names of `COUNTERS`.
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def category(self) -> str: ...  # noqa: D102
    @property
    def device(self) -> int: ...  # noqa: D102
    @property
    def stream(self) -> int: ...  # noqa: D102
    @property
    def start_ps(self) -> int | None: ...  # noqa: D102
    @property
    def duration_ps(self) -> int | None: ...  # noqa: D102
    @property
    def counters(self) -> Mapping[str, float]: ...  # noqa: D102


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignKernel:
    """A `Kernel` of a format that holds nothing else of interest."""

    name: str
    category: str = "kernel"
    device: int = 0
    stream: int = 0
    start_ps: int | None = None
    duration_ps: int | None = None
    counters: Mapping[str, float] = field(default_factory=dict)


def assemble(name: str, kernels: Sequence[Kernel], calls: Sequence[LaunchedCall], provenance: Provenance) -> Trace:
    """A trace of these calls; times count from the first start, and every kernel belongs to exactly one call."""
    base_ps = min((kernel.start_ps for kernel in kernels if kernel.start_ps is not None), default=0)
    ops: dict[Op, int] = {}
    phases: dict[str, int] = {}
    modules: dict[str, int] = {}
    streams = device_streams(kernels)
    first = [call.kernels[0] for call in calls]
    columns = Calls(
        op=_int(ops.setdefault(call.op, len(ops)) for call in calls),
        phase=_int(phases.setdefault(call.mark.phase, len(phases)) for call in calls),
        step=_int(call.mark.step for call in calls),
        module=_int(modules.setdefault(call.mark.module, len(modules)) for call in calls),
        stream=_int(streams[index] for index in first),
        start_s=_seconds(_since(base_ps, kernels[index].start_ps) for index in first),
        duration_s=_seconds(_total(kernels[index].duration_ps for index in call.kernels) for call in calls),
        energy_j=np.full(len(calls), np.nan),
    )
    table, names = kernel_columns(kernels, calls, streams, base_ps)
    return Trace(
        name=name,
        ops=tuple(ops),
        calls=columns,
        phases=tuple(phases),
        modules=tuple(modules),
        provenance=provenance,
        kernels=table,
        kernel_names=names,
    )


def device_streams(kernels: Sequence[Kernel]) -> list[int]:
    """Stream of each kernel; where several devices took part, `STREAMS_PER_DEVICE` x device + stream."""
    several = len({kernel.device for kernel in kernels}) > 1
    return [kernel.stream + (STREAMS_PER_DEVICE * kernel.device if several else 0) for kernel in kernels]


def kernel_columns(
    kernels: Sequence[Kernel], calls: Sequence[LaunchedCall], streams: Sequence[int], base_ps: int
) -> tuple[Kernels, tuple[str, ...]]:
    """The table of kernels, each of which belongs to one of the calls, and their names; times count from `base_ps`."""
    call_of = {index: position for position, call in enumerate(calls) for index in call.kernels}
    attribution = [ATTRIBUTIONS.index(call.attribution) for call in calls]
    names: dict[str, int] = {}
    table = Kernels(
        call=_int(call_of[index] for index in range(len(kernels))),
        name=_int(names.setdefault(kernel.name, len(names)) for kernel in kernels),
        category=_int(KERNEL_CATEGORIES.index(kernel.category) for kernel in kernels),
        attribution=_int(attribution[call_of[index]] for index in range(len(kernels))),
        stream=_int(streams),
        start_s=_seconds(_since(base_ps, kernel.start_ps) for kernel in kernels),
        duration_s=_seconds(kernel.duration_ps for kernel in kernels),
        **{
            counter: np.fromiter((kernel.counters.get(counter, np.nan) for kernel in kernels), dtype=np.float64)
            for counter in COUNTERS
        },
    )
    return table, tuple(names)


def _since(base_ps: int, start_ps: int | None) -> int | None:
    return None if start_ps is None else start_ps - base_ps


def _total(values: Iterable[int | None]) -> int | None:
    total = 0
    for value in values:
        if value is None:
            return None
        total += value
    return total


def _int(values: Iterable[int]) -> IntArray:
    return np.fromiter(values, dtype=np.int64)


def _seconds(picoseconds: Iterable[int | None]) -> FloatArray:
    values = (np.nan if value is None else value for value in picoseconds)
    return np.fromiter(values, dtype=np.float64) * _SECONDS_PER_PICOSECOND
