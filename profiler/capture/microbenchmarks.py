"""Micro-benchmarks of the machine at hand: what its compute units, caches and memory reach under torch."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import get_args

import numpy as np
import torch

from profiler.capture.bench import Bench, Mode
from profiler.capture.devices import describe_device
from profiler.capture.eager_benchmarks import eager_reaches, eager_steps
from profiler.capture.kernel_benchmarks import (
    FUNCTIONS,
    KERNELS,
    measure_all_reduce,
    measure_dispatch,
    measure_function,
    measure_kernel,
)
from profiler.capture.machine import cpu_caches, cuda_caches, free_memory_bytes, host_memory_bytes, processor_use
from profiler.capture.product_benchmarks import CUDA_ONLY, DTYPES, SQUARE_SIZES, measure_square, measure_thin
from profiler.capture.timers import follow_chain
from profiler.errors import TraceError
from profiler.measurements import EAGER_PREFIX, MachineMeasurements, measurement_from_times
from profiler.provenance import record_provenance

KIB, MIB, GIB = 2**10, 2**20, 2**30

# Steps are visited in turn, so that the windows of each figure spread over the whole calibration: a neighbor that is
# busy for a while disturbs some of them. What is no ceiling and takes long to prepare has fewer.
_PASSES = 4
_FEWER_IN = (0, 3)  # of these passes
_BANDWIDTH_BUDGET_S = {"brief": 0.015, "full": 0.07}  # per window of a working set, reading and writing each
_TRAFFIC_BYTES = {"cpu": 64 * MIB, "cuda": 2 * GIB}  # least that one reading call goes through
_LATENCY_SETS = (16 * KIB, 512 * KIB, 8 * MIB, 32 * MIB, 256 * MIB)
_DISTURBED_SHARE = 0.1  # others' share of one processor above which a step runs again at the end
_REPEAT_UNTIL_S = {"brief": 20.0, "full": 60.0}  # a third visit of a step starts no later than this
_NAMED = ("exponential", "dispatch", "launch")  # figures with fields of their own
_HIDDEN_BY_DISPATCH = 20  # a call this many times longer than a bare dispatch shows the memory


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """The step that is about to run, counted from 0."""

    name: str
    index: int
    count: int


def format_bytes(size: int) -> str:
    """A binary size as people write it.

    >>> format_bytes(24576), format_bytes(2**30)
    ('24 KiB', '1 GiB')
    """
    for unit, name in ((GIB, "GiB"), (MIB, "MiB")):
        if size % unit == 0:
            return f"{size // unit} {name}"
    return f"{size / KIB:g} KiB"


class MicrobenchmarkRun:
    """All micro-benchmarks of one device: iterate over it, showing each step's name, then read `result`.

    `brief` takes up to 20 s on a small CPU, `full` a minute, less where all figures settle before.
    """

    def __init__(self, *, mode: Mode = "brief", device: str = "cpu") -> None:
        """Check the arguments; nothing runs yet.

        Args:
            mode: how many sizes and repeats.
            device: `cpu`, or `cuda` for the current GPU.
        """
        if mode not in get_args(Mode):
            raise TraceError(f"mode must be one of {', '.join(get_args(Mode))}, got {mode!r}")
        if device not in SQUARE_SIZES:
            raise TraceError(f"device must be one of {', '.join(SQUARE_SIZES)}, got {device!r}")
        if device == "cuda" and not torch.cuda.is_available():
            raise TraceError("device 'cuda': torch sees no CUDA device here; use device 'cpu'")
        self.device = device
        self._bench = Bench(mode, device)
        self._result: MachineMeasurements | None = None

    def __iter__(self) -> Iterator[Progress]:
        """Run step by step; each step is named before it runs."""
        bench = self._bench = Bench(self._bench.mode, self.device)
        deadline_s = time.monotonic() + _REPEAT_UNTIL_S[bench.mode]
        before = describe_device({self.device})
        steps = dict(_steps(bench))
        shares: dict[str, float] = {}
        plan = [(name, number) for number in range(_PASSES) for name in steps if number in _passes_of(name)]
        index = 0
        for name, number in plan:
            if number > 1 and time.monotonic() > deadline_s:  # two windows at least
                break
            yield Progress(name=f"{name}{', again' if number else ''}", index=index, count=len(plan))
            shares[name] = min(_run_step(bench, name, steps[name]), shares.get(name, float("inf")))
            index += 1
        disturbed = {name for name, share in shares.items() if share > _DISTURBED_SHARE}
        waiting = [name for name in steps if name in disturbed or not bench.has_settled(name)]
        while waiting and time.monotonic() < deadline_s:
            name = waiting.pop(0)
            yield Progress(name=f"{name}, once more", index=index, count=index + 1 + len(waiting))
            shares[name] = min(_run_step(bench, name, steps[name]), shares[name])
            index += 1
            if not bench.has_settled(name):
                waiting.append(name)
        bench.notes += _disturbance_notes(shares)
        after = describe_device({self.device})
        if before.clock_hz and after.clock_hz and abs(after.clock_hz / before.clock_hz - 1) > 0.05:
            bench.notes.append(f"the clock moved from {before.clock_hz:.4g} Hz to {after.clock_hz:.4g} Hz")
        self._result = _assemble(bench, after.name, after.clock_hz)

    @property
    def result(self) -> MachineMeasurements:
        """What was measured; only after the iteration has ended.

        Raises:
            TraceError: the iteration has not ended.
        """
        if self._result is None:
            raise TraceError("micro-benchmarks have not run to their end; iterate over the run first")
        return self._result


def _passes_of(step: str) -> Sequence[int]:
    """The passes in which a step is visited."""
    return _FEWER_IN if step in KERNELS or step.startswith(("latency ", EAGER_PREFIX)) else range(_PASSES)


def _run_step(bench: Bench, name: str, step: Callable[[], None]) -> float:
    """Visit a step; returns the share of one processor that other programs used meanwhile, 0 where nobody tells."""
    bench.visit(name)
    before = processor_use()
    with torch.inference_mode():
        step()
    return before.others_share(processor_use()) or 0.0


def _disturbance_notes(shares: dict[str, float]) -> list[str]:
    disturbed = {name: share for name, share in shares.items() if share > _DISTURBED_SHARE}
    if not disturbed:
        return []
    return [
        f"other programs used up to {100 * max(disturbed.values()):.0f} % of one processor meanwhile, "
        f"so these may be too slow: {', '.join(list(disturbed)[:4])}{' and more' if len(disturbed) > 4 else ''}"
    ]


def _steps(bench: Bench) -> tuple[tuple[str, Callable[[], None]], ...]:
    """(name, what to run), in order; `dispatch` comes first, for bandwidth is held against it."""
    on_cpu = bench.device == "cpu"
    sets = _working_sets(bench.mode, bench.device)
    steps: list[tuple[str, Callable[[], None]]] = [("dispatch", partial(measure_dispatch, bench))]
    steps += [(name, partial(measure_function, bench, name)) for name in FUNCTIONS]
    for dtype in DTYPES:
        if not (on_cpu and dtype in CUDA_ONLY):
            steps.append((f"matmul {dtype}", partial(measure_square, bench, dtype)))
            steps.append((f"thin products {dtype}", partial(measure_thin, bench, dtype)))
    steps += [(name, partial(measure_kernel, bench, name)) for name in KERNELS]
    steps += eager_steps(bench) if on_cpu else []
    for size in sets:
        steps.append((f"bandwidth {format_bytes(size)}", partial(_measure_bandwidth, bench, size)))
    for size in _LATENCY_SETS if on_cpu else ():
        if size <= sets[-1]:
            steps.append((f"latency {format_bytes(size)}", partial(_measure_latency, bench, size)))
    if not on_cpu and torch.cuda.device_count() > 1:
        steps.append(("all-reduce", partial(measure_all_reduce, bench)))
    return tuple(steps)


def _working_sets(mode: Mode, device: str) -> tuple[int, ...]:
    """Powers of two from 16 KiB to 1 GiB (4 GiB on a GPU), at most a quarter of the free memory; `full`: halves too."""
    most = min(GIB if device == "cpu" else 4 * GIB, max(16 * KIB, free_memory_bytes(device) // 4))
    powers = [16 * KIB * 2**i for i in range(30) if 16 * KIB * 2**i <= most]
    between = [size * 3 // 2 for size in powers[:-1]] if mode == "full" else []
    return tuple(sorted(powers + between))


def _measure_bandwidth(bench: Bench, working_set_bytes: int) -> None:
    """Each core sums its own part of the set over and over; reading and writing goes through the set once a call.

    The repeats are rows of an expanded view, so that one call reads the set many times: one call per pass would show
    the dispatch instead of a small cache.
    """
    parts = torch.get_num_threads() if bench.device == "cpu" else 1
    columns = working_set_bytes // 4 // parts
    rows = max(1, _TRAFFIC_BYTES[bench.device] // (columns * 4 * parts))
    buffer = bench.buffer(working_set_bytes)
    view = buffer[: parts * columns].view(parts, 1, columns).expand(parts, rows, columns)
    budget_s = _BANDWIDTH_BUDGET_S[bench.mode]
    label = format_bytes(working_set_bytes)
    read = measurement_from_times(
        f"read {label}",
        bench.times_s(partial(torch.sum, view, dim=-1), budget_s),
        amount=4.0 * parts * rows * columns,
        unit="bytes_per_s",
        conditions=f"sum of {parts} x {columns} float32, {rows} times",
    )
    third = working_set_bytes // 12
    left, right, out = (buffer[i * third : (i + 1) * third] for i in range(3))
    times = bench.times_s(partial(torch.add, left, right, out=out), budget_s)
    bench.keep(bench.reads, working_set_bytes, read)
    if float(np.median(times)) > _HIDDEN_BY_DISPATCH * bench.single["dispatch"].value:
        what = f"add of {third} float32"
        found = measurement_from_times(
            f"read and write {label}", times, amount=12.0 * third, unit="bytes_per_s", conditions=what
        )
        bench.keep(bench.read_writes, working_set_bytes, found)


def _measure_latency(bench: Bench, working_set_bytes: int) -> None:
    """A chain of dependent reads by one core, one per cache line of 64 bytes, in random order."""
    lines = working_set_bytes // 64
    order = np.random.default_rng(lines).permutation(lines) * 8
    chain = np.zeros(lines * 8, dtype=np.int64)
    chain[order] = np.roll(order, -1)
    cells = chain.data
    hops = 50_000 if bench.mode == "brief" else 200_000
    position = follow_chain(cells, 0, hops)

    def follow() -> float:
        nonlocal position
        start = time.perf_counter()
        position = follow_chain(cells, position, hops)
        return time.perf_counter() - start

    name = f"latency {format_bytes(working_set_bytes)}"
    times = bench.sample(follow, 0.0) / hops
    found = measurement_from_times(name, times, conditions=f"{hops} dependent reads by one core")
    bench.keep(bench.latency, working_set_bytes, found)


def _assemble(bench: Bench, device_name: str, clock_hz: float | None) -> MachineMeasurements:
    notes = (*bench.notes, *bench.missing.values())
    single = {name: bench.told(found) for name, found in bench.single.items()}
    if bench.device == "cuda":
        properties = torch.cuda.get_device_properties(torch.cuda.current_device())
        cores, memory_bytes = int(properties.multi_processor_count), int(properties.total_memory)
        caches = cuda_caches(properties)
        notes = (*notes, "latency: not measured: torch has no dependent loads on a GPU")
    else:
        cores, memory_bytes, caches = torch.get_num_threads(), host_memory_bytes(), cpu_caches()
    return MachineMeasurements(
        device_type=bench.device,
        device_name=device_name,
        cores=cores,
        clock_hz=clock_hz,
        main_memory_bytes=memory_bytes,
        matmul=tuple((dtype, bench.told(found)) for (dtype, _), found in bench.square.items()),
        exponential=single["exponential"],
        bandwidth=bench.bandwidth(),
        latency=tuple((size, bench.told(found)) for size, found in sorted(bench.latency.items())),
        dispatch=single["dispatch"],
        launch=single.get("launch"),
        kernels=tuple(
            found for name, found in single.items() if name not in _NAMED and not name.startswith(EAGER_PREFIX)
        ),
        eager=tuple(found for name, found in single.items() if name.startswith(EAGER_PREFIX)),
        eager_reaches=eager_reaches(),
        caches=caches,
        notes=notes,
        provenance=record_provenance("calibrate", device=device_name, clock_hz=clock_hz, notes=notes),
    )
