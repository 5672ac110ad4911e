"""Micro-benchmarks of what is no product: elementary functions, reduction, gather, sort, top-k, launch, all-reduce."""

import time
from collections.abc import Callable
from functools import partial

import torch

from profiler.capture.bench import Bench
from profiler.capture.timers import Timer, time_behind_long_kernel, time_on_host
from profiler.measurements import Unit, measurement_from_times

FUNCTIONS = ("exponential", "logarithm", "tanh", "sine")
KERNELS = ("reduction", "gather", "sort", "topk")
_BUDGET_S = {"brief": 0.04, "full": 0.12}  # of one window
# Elements of a function, rows and columns of a reduction and of sorting, rows of a gather's table and those gathered.
_FUNCTION_ELEMENTS = {"cpu": 2**17, "cuda": 2**22}
_REDUCED = (1024, 4096)
_SORTED = (4, 2**15)
_GATHERED = (2**18, 2**15)
_CUDA_SCALE = 16  # times as many rows on a GPU
_ROW_ELEMENTS = 64  # of a gathered row
_TOPK = 50
_GRAPH_NODES = 100
_ALL_REDUCE_BYTES = 2**28


def measure_dispatch(bench: Bench) -> None:
    """A tiny operation, again and again: on a CPU what every operation costs, on a GPU the host's part."""
    ones = torch.ones(2, 1, device=bench.device)
    run = partial(torch.add, ones[0], ones[1], out=torch.empty(1, device=bench.device))
    _keep(bench, "dispatch", run, time_on_host, conditions="torch.add of one element")
    if bench.device == "cuda":
        _keep(bench, "launch", run, time_behind_long_kernel, conditions="torch.add of one element")
        _measure_graph_launch(bench, run)


def measure_function(bench: Bench, name: str) -> None:
    """An elementary function of values that stay in the caches."""
    function = {"exponential": torch.exp, "logarithm": torch.log, "tanh": torch.tanh, "sine": torch.sin}[name]
    elements = _FUNCTION_ELEMENTS[bench.device]
    values = torch.rand(elements, device=bench.device)
    run = partial(function, values, out=torch.empty_like(values))
    unit: Unit = "flops_per_s"
    _keep(bench, name, run, amount=elements, unit=unit, conditions=f"torch.{function.__name__} of {elements} float32")


def measure_kernel(bench: Bench, name: str) -> None:
    """One of `KERNELS`, on data larger than the nearer caches."""
    scale = 1 if bench.device == "cpu" else _CUDA_SCALE
    generator = torch.Generator(device=bench.device).manual_seed(0)

    def random(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=generator, device=bench.device)

    run: Callable[[], object]
    unit: Unit = "bytes_per_s"
    if name == "reduction":
        values = random(_REDUCED[0] * scale, _REDUCED[1])
        run, amount = partial(torch.sum, values, dim=-1), 4.0 * values.numel()
        conditions = f"sum over rows of {len(values)} x {values.shape[1]} float32"
    elif name == "gather":
        table = random(_GATHERED[0] * scale, _ROW_ELEMENTS)
        rows = torch.randint(len(table), (_GATHERED[1] * scale,), generator=generator, device=bench.device)
        out = torch.empty(len(rows), _ROW_ELEMENTS, device=bench.device)
        run, amount = partial(torch.index_select, table, 0, rows, out=out), 8.0 * out.numel()
        conditions = f"{len(rows)} rows of {4 * _ROW_ELEMENTS} bytes out of {len(table)}, read and written"
    else:
        unit = "elements_per_s"
        values = random(_SORTED[0] * scale, _SORTED[1])
        run = partial(torch.sort, values) if name == "sort" else partial(torch.topk, values, _TOPK)
        amount = float(values.numel())
        conditions = f"{'sort' if name == 'sort' else f'top {_TOPK}'} of {len(values)} rows of {_SORTED[1]} float32"
    _keep(bench, name, run, amount=amount, unit=unit, conditions=conditions)


def measure_all_reduce(bench: Bench) -> None:
    """All-reduce over all GPUs of this machine by NCCL: one element for latency, 256 MiB for bandwidth.

    A ring makes 2 (n - 1) steps and moves 2 (n - 1) / n of the payload over each link and direction.
    """
    count = torch.cuda.device_count()
    for name, elements in (("all_reduce latency", 1), ("all_reduce bandwidth", _ALL_REDUCE_BYTES // 4)):
        parts = [torch.ones(elements, device=f"cuda:{i}") for i in range(count)]
        run = partial(torch.cuda.nccl.all_reduce, parts)
        what = f"{4 * elements} bytes over {count} GPUs"
        if elements == 1:
            times = bench.times_s(run, _BUDGET_S[bench.mode], _time_on_all_devices) / (2 * (count - 1))
            found = measurement_from_times(name, times, conditions=f"{what}, per step of a ring")
        else:
            moved = 4.0 * elements * 2 * (count - 1) / count
            times = bench.times_s(run, _BUDGET_S[bench.mode], _time_on_all_devices)
            found = measurement_from_times(
                name, times, amount=moved, unit="bytes_per_s", conditions=f"{what}, per link"
            )
        bench.keep(bench.single, name, found)


def _measure_graph_launch(bench: Bench, run: Callable[[], object]) -> None:
    """Device time from one tiny kernel to the next where a CUDA graph issues them."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(_GRAPH_NODES):
            run()
    times = bench.times_s(graph.replay, _BUDGET_S[bench.mode], time_behind_long_kernel) / _GRAPH_NODES
    found = measurement_from_times("graph_launch", times, conditions=f"a graph of {_GRAPH_NODES} tiny kernels")
    bench.keep(bench.single, "graph_launch", found)


def _time_on_all_devices(run: Callable[[], object], calls: int) -> float:
    for device in range(torch.cuda.device_count()):
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    for _ in range(calls):
        run()
    for device in range(torch.cuda.device_count()):
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def _keep(
    bench: Bench,
    name: str,
    run: Callable[[], object],
    timer: Timer | None = None,
    *,
    amount: float | None = None,
    unit: Unit = "s",
    conditions: str,
) -> None:
    times = bench.times_s(run, _BUDGET_S[bench.mode], timer)
    found = measurement_from_times(name, times, amount=amount, unit=unit, conditions=conditions)
    bench.keep(bench.single, name, found)
