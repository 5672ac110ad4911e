"""What NVIDIA's metric names (Nsight Compute, CUPTI) mean for a kernel: measured bytes by level, FLOPs and time."""

import math
from collections.abc import Mapping

# Exact metrics of a whole kernel. The `.sum` over all units, not their average, is the kernel's.
_BYTES: dict[str, tuple[tuple[str, ...], ...]] = {
    "dram_bytes": (("dram__bytes.sum",), ("dram__bytes_read.sum", "dram__bytes_write.sum")),
    "l2_bytes": (("lts__t_bytes.sum",),),
    "l1_bytes": (("l1tex__t_bytes.sum",),),
    "spill_bytes": (tuple(f"l1tex__t_bytes_pipe_lsu_mem_local_op_{way}.sum" for way in ("ld", "st")),),
}
# Sectors are 32 bytes in every GPU since Maxwell (Nsight Compute, Kernel Profiling Guide, "Memory Tables").
_SECTORS: dict[str, str] = {
    "dram_bytes": "dram__sectors.sum",
    "l2_bytes": "lts__t_sectors.sum",
    "l1_bytes": "l1tex__t_sectors.sum",
}
_SECTOR_BYTES = 32
# Thread-level instructions of the scalar units; a fused multiply-add is 2 FLOPs. Half-precision instructions that
# compute two values at once count once in this metric, so half-precision FLOPs may be twice as many.
_FLOPS_PER_INSTRUCTION = {
    operation: 2 if operation.endswith("fma") else 1
    for operation in ("dadd", "dfma", "dmul", "fadd", "ffma", "fmul", "hadd", "hfma", "hmul")
}
_INSTRUCTION_UNITS = ("sm", "smsp")
_TENSOR = ("sm__inst_executed_pipe_tensor.sum", "smsp__inst_executed_pipe_tensor.sum")
_DURATIONS = ("gpu__time_duration.sum", "gpu__time_duration_measured_wallclock")
_CYCLES = "sm__cycles_elapsed.avg"
_RATES = ("sm__cycles_elapsed.avg.per_second", "smsp__cycles_elapsed.avg.per_second")
_PICOSECONDS_PER_SECOND = 10**12
_LONGEST_S = 10**6

# The least that `roofscape capture --counters` has to ask for.
WANTED_METRICS: tuple[str, ...] = (
    "gpu__time_duration.sum",
    "dram__bytes_read.sum",
    "dram__bytes_write.sum",
    "lts__t_bytes.sum",
    "l1tex__t_bytes.sum",
    "l1tex__t_bytes_pipe_lsu_mem_local_op_ld.sum",
    "l1tex__t_bytes_pipe_lsu_mem_local_op_st.sum",
    *(f"smsp__sass_thread_inst_executed_op_{operation}_pred_on.sum" for operation in _FLOPS_PER_INSTRUCTION),
    "sm__inst_executed_pipe_tensor.sum",
)


def kernel_counters(metrics: Mapping[str, float]) -> dict[str, float]:
    """Counters of a kernel by names of `profiler.traces.COUNTERS`, as far as its metrics tell.

    Args:
        metrics: metric to value in base units (bytes, seconds, hertz, instructions).

    >>> kernel_counters({"dram__bytes_read.sum": 64.0, "dram__bytes_write.sum": 32.0, "lts__t_sectors.sum": 4.0})
    {'dram_bytes': 96.0, 'l2_bytes': 128.0}
    >>> kernel_counters({"smsp__sass_thread_inst_executed_op_ffma_pred_on.sum": 10.0})
    {}
    """
    found: dict[str, float] = {}
    for level, choices in _BYTES.items():
        whole = next((choice for choice in choices if all(name in metrics for name in choice)), None)
        if whole is not None:
            found[level] = sum(metrics[name] for name in whole)
        elif _SECTORS.get(level) in metrics:
            found[level] = metrics[_SECTORS[level]] * _SECTOR_BYTES
    flops = _vector_flops(metrics)
    if flops is not None:
        found["vector_flops"] = flops
    tensor = next((metrics[name] for name in _TENSOR if name in metrics), None)
    if tensor is not None:
        found["tensor_instructions"] = tensor
    return found


def kernel_duration_ps(metrics: Mapping[str, float]) -> int | None:
    """A kernel's time: its own metric, else its cycles over their rate; None where neither was recorded.

    >>> kernel_duration_ps({"sm__cycles_elapsed.avg": 2000.0, "sm__cycles_elapsed.avg.per_second": 1e9})
    2000000
    """
    seconds = next((metrics[name] for name in _DURATIONS if name in metrics), None)
    if seconds is None:
        rate = next((metrics[name] for name in _RATES if metrics.get(name, 0.0) > 0), None)
        if rate is None or _CYCLES not in metrics:
            return None
        seconds = metrics[_CYCLES] / rate
    return round(seconds * _PICOSECONDS_PER_SECOND) if math.isfinite(seconds) and 0 <= seconds < _LONGEST_S else None


def needs_unit(name: str) -> bool:
    """Whether a value of this metric says nothing without its unit, as times and rates are told in several.

    >>> needs_unit("gpu__time_duration.sum"), needs_unit("dram__bytes.sum.per_second"), needs_unit("dram__bytes.sum")
    (True, True, False)
    """
    return name in _DURATIONS or name.endswith(".per_second")


def clock_hz(metrics: Mapping[str, float]) -> float | None:
    """Clock of the multiprocessors while the kernel ran, None where not recorded."""
    return next((metrics[name] for name in _RATES if metrics.get(name, 0.0) > 0), None)


def _vector_flops(metrics: Mapping[str, float]) -> float | None:
    """FLOPs of the scalar units; None unless every one of add, multiply and fused multiply-add was counted.

    A kernel of which only some instructions were counted would look as if it computed less.
    """
    for unit in _INSTRUCTION_UNITS:
        names = {
            f"{unit}__sass_thread_inst_executed_op_{operation}_pred_on.sum": flops
            for operation, flops in _FLOPS_PER_INSTRUCTION.items()
        }
        if all(name in metrics for name in names):
            return sum(metrics[name] * flops for name, flops in names.items())
    return None
