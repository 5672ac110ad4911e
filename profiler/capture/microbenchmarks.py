"""Micro-benchmarks of the machine at hand: what its compute units, caches and memory reach under torch."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from math import ceil
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from profiler.capture.devices import describe_device
from profiler.capture.machine import cpu_caches, cuda_caches, free_memory_bytes, host_memory_bytes, processor_use
from profiler.capture.timers import Timer, follow_chain, time_behind_long_kernel, time_on_cuda, time_on_host
from profiler.errors import TraceError
from profiler.measurements import BandwidthPoint, MachineMeasurements, Measurement, measurement_from_times
from profiler.provenance import record_provenance

Mode = Literal["brief", "full"]
KIB, MIB, GIB = 2**10, 2**20, 2**30

_DTYPES = {
    "float32": torch.float32,
    "tfloat32": torch.float32,
    "float64": torch.float64,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "int8": torch.int8,
    "float8_e4m3fn": torch.float8_e4m3fn,
}
_CUDA_ONLY = ("tfloat32", "float8_e4m3fn")
_MATMUL_SIZES = {"cpu": (512, 1024, 2048, 4096), "cuda": (2048, 4096, 8192, 16384)}
_RUNS = {"brief": (5, 15), "full": (9, 40)}  # least and most timed runs of one measurement
_MATMUL_BUDGET_S = {"brief": 0.9, "full": 5.0}  # per dtype
_BANDWIDTH_BUDGET_S = {"brief": 0.06, "full": 0.4}  # per working set, reading and writing each
_TRAFFIC_BYTES = {"cpu": 64 * MIB, "cuda": 2 * GIB}  # least that one reading call goes through
_LATENCY_SETS = (16 * KIB, 512 * KIB, 8 * MIB, 32 * MIB, 256 * MIB)
_LEAST_RUN_S = 1e-3  # a timed run repeats its operation until it lasts this long
_DISTURBED_SHARE = 0.1  # others' share of one processor above which a step runs again at the end
_REPEAT_UNTIL_S = {"brief": 12.0, "full": 75.0}  # no repeat starts after this long
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

    `brief` takes about 10 s on a small CPU, `full` about a minute.
    """

    def __init__(self, *, mode: Mode = "brief", device: str = "cpu") -> None:
        """Check the arguments; nothing runs yet.

        Args:
            mode: how many sizes and repeats.
            device: `cpu`, or `cuda` for the current GPU.
        """
        if mode not in get_args(Mode):
            raise TraceError(f"mode must be one of {', '.join(get_args(Mode))}, got {mode!r}")
        if device not in _MATMUL_SIZES:
            raise TraceError(f"device must be one of {', '.join(_MATMUL_SIZES)}, got {device!r}")
        if device == "cuda" and not torch.cuda.is_available():
            raise TraceError("device 'cuda': torch sees no CUDA device here; use device 'cpu'")
        self.device = device
        self._bench = _Bench(mode, device)
        self._result: MachineMeasurements | None = None

    def __iter__(self) -> Iterator[Progress]:
        """Run step by step; each step is named before it runs."""
        bench = self._bench = _Bench(self._bench.mode, self.device)
        start = time.monotonic()
        before = describe_device({self.device})
        steps = dict(_steps(bench))
        shares: dict[str, float] = {}
        for index, (name, step) in enumerate(steps.items()):
            yield Progress(name=name, index=index, count=len(steps))
            shares[name] = _run_step(step)
        disturbed = [name for name, share in shares.items() if share > _DISTURBED_SHARE]
        for index, name in enumerate(disturbed):
            if time.monotonic() > start + _REPEAT_UNTIL_S[bench.mode]:
                break
            yield Progress(name=f"{name}, again", index=len(steps) + index, count=len(steps) + len(disturbed))
            shares[name] = _run_step(steps[name])
        bench.notes += _disturbance_notes(shares)
        after = describe_device({self.device})
        if before.clock_hz and after.clock_hz and abs(after.clock_hz / before.clock_hz - 1) > 0.05:
            bench.notes.append(f"the clock moved from {before.clock_hz:.4g} Hz to {after.clock_hz:.4g} Hz")
        self._result = _assemble(bench, after.name, after.clock_hz)

    @property
    def result(self) -> MachineMeasurements:
        """What was measured; only after the iteration has ended."""
        if self._result is None:
            raise TraceError("micro-benchmarks have not run to their end; iterate over the run first")
        return self._result


class _Bench:
    """Budgets, the shared buffer, and what was measured so far; a step that runs again replaces what it found."""

    def __init__(self, mode: Mode, device: str) -> None:
        self.mode = mode
        self.device = device
        self.notes: list[str] = []
        self.missing: dict[str, str] = {}  # dtype to why its product could not be measured
        self.matmul: dict[tuple[str, int], Measurement] = {}  # by dtype and size
        self.bandwidth: dict[int, BandwidthPoint] = {}  # by working set, as is latency
        self.latency: dict[int, Measurement] = {}
        self.single: dict[str, Measurement] = {}
        self.working_sets = _working_sets(mode, device)
        self._buffer: torch.Tensor | None = None

    def buffer(self) -> torch.Tensor:
        """Ones, as large as the largest working set."""
        if self._buffer is None:
            self._buffer = torch.ones(self.working_sets[-1] // 4, device=self.device)
        return self._buffer

    def times_s(self, run: Callable[[], object], budget_s: float, timer: Timer | None = None) -> NDArray[np.float64]:
        """Seconds per call of every timed run, [runs], after a warm-up."""
        clock = timer or (time_on_cuda if self.device == "cuda" else time_on_host)
        clock(run, 2)
        once_s = max(clock(run, 1), 1e-9)
        calls = ceil(_LEAST_RUN_S / once_s)
        least, most = _RUNS[self.mode]
        runs = int(min(most, max(least, budget_s / (calls * once_s))))
        clock(run, calls)
        return np.array([clock(run, calls) / calls for _ in range(runs)])


def _run_step(step: Callable[[], None]) -> float:
    """Run a step; returns the share of one processor that other programs used meanwhile, 0 where nobody tells."""
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


def _steps(bench: _Bench) -> tuple[tuple[str, Callable[[], None]], ...]:
    """(name, what to run), in order; `dispatch` comes first, for bandwidth is held against it."""
    on_cpu = bench.device == "cpu"
    steps: list[tuple[str, Callable[[], None]]] = [
        ("dispatch", partial(_measure_dispatch, bench)),
        ("exponential", partial(_measure_exponential, bench)),
    ]
    for dtype in _DTYPES:
        if not (on_cpu and dtype in _CUDA_ONLY):
            steps.append((f"matmul {dtype}", partial(_measure_matmul, bench, dtype)))
    for size in bench.working_sets:
        steps.append((f"bandwidth {format_bytes(size)}", partial(_measure_bandwidth, bench, size)))
    for size in _LATENCY_SETS if on_cpu else ():
        if size <= bench.working_sets[-1]:
            steps.append((f"latency {format_bytes(size)}", partial(_measure_latency, bench, size)))
    return tuple(steps)


def _working_sets(mode: Mode, device: str) -> tuple[int, ...]:
    """Powers of two from 16 KiB to 1 GiB (4 GiB on a GPU), at most a quarter of the free memory; `full`: halves too."""
    most = min(GIB if device == "cpu" else 4 * GIB, max(16 * KIB, free_memory_bytes(device) // 4))
    powers = [16 * KIB * 2**i for i in range(30) if 16 * KIB * 2**i <= most]
    between = [size * 3 // 2 for size in powers[:-1]] if mode == "full" else []
    return tuple(sorted(powers + between))


def _measure_dispatch(bench: _Bench) -> None:
    """A tiny operation, again and again: on a CPU what every operation costs, on a GPU the host's part."""
    ones = torch.ones(2, 1, device=bench.device)
    run = partial(torch.add, ones[0], ones[1], out=torch.empty(1, device=bench.device))
    what = "torch.add of one element"
    times = bench.times_s(run, 0.1, time_on_host)
    bench.single["dispatch"] = measurement_from_times("dispatch", times, conditions=what)
    if bench.device == "cuda":
        times = bench.times_s(run, 0.1, time_behind_long_kernel)
        bench.single["launch"] = measurement_from_times("launch", times, conditions=what)


def _measure_exponential(bench: _Bench) -> None:
    """Elementary functions on values that stay in the caches."""
    elements = 2**17 if bench.device == "cpu" else 2**22
    values = torch.rand(elements, device=bench.device)
    times = bench.times_s(partial(torch.exp, values, out=torch.empty_like(values)), 0.2)
    bench.single["exponential"] = measurement_from_times(
        "exponential", times, amount=elements, unit="flops_per_s", conditions=f"torch.exp of {elements} float32"
    )


def _measure_matmul(bench: _Bench, dtype: str) -> None:
    """Square products of growing size until the time is spent."""
    budget_s = _MATMUL_BUDGET_S[bench.mode]
    for size in _MATMUL_SIZES[bench.device]:
        start = time.perf_counter()
        try:
            times = _matmul_times_s(bench, dtype, size, budget_s / 2)
        except (RuntimeError, NotImplementedError) as error:
            bench.missing[dtype] = f"matmul {dtype} of {size}: not measured: {str(error).splitlines()[0]}"
            return
        bench.matmul[dtype, size] = measurement_from_times(
            f"matmul {dtype}", times, amount=2.0 * size**3, unit="flops_per_s", conditions=f"{size}^3, x W^T"
        )
        budget_s -= time.perf_counter() - start
        if 8 * float(np.median(times)) * (_RUNS[bench.mode][0] + 4) > max(budget_s, 0.0):
            return


def _matmul_times_s(bench: _Bench, dtype: str, size: int, budget_s: float) -> NDArray[np.float64]:
    left, right = (_matmul_operand(bench, dtype, size) for _ in range(2))
    run: Callable[[], object]
    if dtype == "int8":
        run = partial(torch._int_mm, left, right.t())
    elif dtype == "float8_e4m3fn":
        one = torch.ones((), device=bench.device)
        run = partial(torch._scaled_mm, left, right.t(), one, one, out_dtype=torch.bfloat16)
    else:
        run = partial(torch.mm, left, right.t(), out=torch.empty_like(left))
    with _tfloat32(dtype == "tfloat32"):
        return bench.times_s(run, budget_s)


def _matmul_operand(bench: _Bench, dtype: str, size: int) -> torch.Tensor:
    """Random values: what is multiplied changes the power drawn, and with it the clock."""
    if dtype == "int8":
        return torch.randint(-8, 8, (size, size), dtype=torch.int8, device=bench.device)
    return torch.randn(size, size, device=bench.device).to(_DTYPES[dtype])


@contextmanager
def _tfloat32(allowed: bool) -> Iterator[None]:
    """Let float32 products use TF32 inside the block, or forbid it."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def _measure_bandwidth(bench: _Bench, working_set_bytes: int) -> None:
    """Each core sums its own part of the set over and over; reading and writing goes through the set once a call.

    The repeats are rows of an expanded view, so that one call reads the set many times: one call per pass would show
    the dispatch instead of a small cache.
    """
    parts = torch.get_num_threads() if bench.device == "cpu" else 1
    columns = working_set_bytes // 4 // parts
    rows = max(1, _TRAFFIC_BYTES[bench.device] // (columns * 4 * parts))
    view = bench.buffer()[: parts * columns].view(parts, 1, columns).expand(parts, rows, columns)
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
    left, right, out = (bench.buffer()[i * third : (i + 1) * third] for i in range(3))
    times = bench.times_s(partial(torch.add, left, right, out=out), budget_s)
    read_write = None
    if float(np.median(times)) > _HIDDEN_BY_DISPATCH * bench.single["dispatch"].value:
        what = f"add of {third} float32"
        read_write = measurement_from_times(
            f"read and write {label}", times, amount=12.0 * third, unit="bytes_per_s", conditions=what
        )
    bench.bandwidth[working_set_bytes] = BandwidthPoint(
        working_set_bytes=working_set_bytes, read=read, read_write=read_write
    )


def _measure_latency(bench: _Bench, working_set_bytes: int) -> None:
    """A chain of dependent reads by one core, one per cache line of 64 bytes, in random order."""
    lines = working_set_bytes // 64
    order = np.random.default_rng(lines).permutation(lines) * 8
    chain = np.zeros(lines * 8, dtype=np.int64)
    chain[order] = np.roll(order, -1)
    cells = chain.data
    hops = 50_000 if bench.mode == "brief" else 200_000
    position = follow_chain(cells, 0, hops)
    times = []
    for _ in range(_RUNS[bench.mode][0]):
        start = time.perf_counter()
        position = follow_chain(cells, position, hops)
        times.append((time.perf_counter() - start) / hops)
    name = f"latency {format_bytes(working_set_bytes)}"
    bench.latency[working_set_bytes] = measurement_from_times(
        name, np.array(times), conditions=f"{hops} dependent reads by one core"
    )


def _assemble(bench: _Bench, device_name: str, clock_hz: float | None) -> MachineMeasurements:
    notes = (*bench.notes, *bench.missing.values())
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
        matmul=tuple((dtype, found) for (dtype, _), found in bench.matmul.items()),
        exponential=bench.single["exponential"],
        bandwidth=tuple(bench.bandwidth.values()),
        latency=tuple(bench.latency.items()),
        dispatch=bench.single["dispatch"],
        launch=bench.single.get("launch"),
        caches=caches,
        notes=notes,
        provenance=record_provenance("calibrate", device=device_name, clock_hz=clock_hz, notes=notes),
    )
