"""Eager programs on a chip that is its own host, a CPU: nothing of a call is hidden behind the call before.

A call's time is the Python before it, its dispatch, and its kernels, one after another; loads hide little behind
arithmetic, since libraries pack a matrix before they multiply. Rates are those that `roofscape calibrate` measured.
"""

from collections.abc import Sequence
from dataclasses import replace
from math import prod

import numpy as np

from profiler.costs.call import base_name
from profiler.measurements import GRAIN_ELEMENTS
from profiler.op import MATRIX_KINDS, Op
from profiler.traces import Trace, operand_offsets
from roofline.chip import Chip
from simulator.errors import SimulationError
from simulator.op_columns import FloatArray, IntArray, special_flops
from simulator.plans import PlanTable

# What the error band of such a prediction rests on: no table holds kernels of CPUs.
UNTABLED = "kernels of a CPU by its own micro-benchmarks: as far off as those of GPUs with another family's constants"
_PREFIX = "host."
_LASTING_ROLES = ("weights", "kv_cache")  # read once a step, with all others between
_LARGEST_KEPT_BYTES = 32 * 2**20  # of a tensor whose pages glibc keeps for the next (DEFAULT_MMAP_THRESHOLD_MAX)
# Calls with more inside than one dispatch, by name or else by kind.
_CALLS = {
    **dict.fromkeys(("linear", "addmm", "mm", "bmm", "matmul", "gemm"), "linear"),
    "conv": "convolution",
    "gelu": "gelu",
    "rms_norm": "norm",
    **dict.fromkeys(("layer_norm", "native_layer_norm", "group_norm", "native_group_norm"), "layer_norm"),
    "attention": "attention",
}
_LARGEST = ("argmax", "argmin")  # these find a position, element by element
_FUNCTIONS_OF_SILU = 2.0  # an exponential and a division, see `SPECIAL_PER_ELEMENT`


class HostRates:
    """Constants of a chip that is its own host, and its cores; empty where eager programs were not measured."""

    def __init__(self, chip: Chip) -> None:
        """Take the constants under `host` of a chip's calibration."""
        known = [(key, value) for key, value in chip.calibration if key.startswith(_PREFIX)]
        self._values = {key.removeprefix(_PREFIX): value for key, value in known}
        self.chip = chip

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._values)

    def of(self, name: str, *scopes: str) -> float:
        """A constant of the first scope that has it, else of all ops.

        Raises:
            SimulationError: none has it.
        """
        keys = (*(f"{scope}.{name}" for scope in scopes), name)
        for key in keys:
            if key in self._values:
                return self._values[key]
        raise SimulationError(
            f"chip {self.chip.name!r}: calibration.eager.host lacks {name}; measure it with calibrate"
        )

    def knows(self, name: str) -> bool:
        """Whether a constant was measured."""
        return name in self._values


def on_own_host(table: PlanTable, trace: Trace, rates: HostRates) -> PlanTable:
    """Plans of a trace's ops in an eager program on a chip that is its own host.

    Args:
        table: plans of the ops on this chip, from which tiles and traffic are kept.
        trace: what runs; how far apart the calls of an op are tells whether its code and weights are still in a cache.
        rates: of the chip.
    """
    is_held = _weight_bytes(trace) <= _last_cache_bytes(rates) / 2.0
    launch_s = mean_launch_s(trace, rates)
    kernel_s = np.array([_kernel_s(op, rates, is_held=is_held) for op in trace.ops]).reshape(-1, 1)
    none = np.zeros_like(kernel_s)
    columns = replace(
        table.columns,
        **dict.fromkeys(("prologue_s", "epilogue_s", "reduction_s", "link_s"), none),
        core_s=kernel_s,
        **{name: np.minimum(getattr(table.columns, name), kernel_s) for name in ("matrix_s", "vector_s", "special_s")},
    )
    level_s = np.minimum(table.level_s, kernel_s)
    return replace(
        table,
        columns=columns,
        level_s=level_s,
        launch_s=launch_s.reshape(-1, 1),
        memory_s=level_s.max(axis=0),
        exposed_s=none,
        duration_s=launch_s.reshape(-1, 1) + kernel_s,
    )


def mean_launch_s(trace: Trace, rates: HostRates) -> FloatArray:
    """Python and dispatch of a call, the mean over an op's calls, [ops].

    Code that other data have driven out of the caches comes back from the last one, or from main memory: what calls
    since the last one of that name have moved tells. Between the measured reaches time grows in a straight line.
    """
    calls = trace.calls.op
    moved = np.array([(op.read_bytes() or 0) + (op.write_bytes() or 0) for op in trace.ops], dtype=np.float64)
    since = _streamed_since(calls, _codes([op.name for op in trace.ops])[calls], moved)
    reaches = [0.0, rates.of("near_bytes") / 4.0, rates.of("near_bytes"), rates.of("far_bytes")]
    hot = min(1.0, rates.chip.launch_s / rates.of("near_s"))
    far = max(1.0, rates.of("far_s") / rates.of("near_s"))
    seconds = np.zeros(len(calls))
    names = [_CALLS.get(base_name(op.name), _CALLS.get(op.kind, "call")) for op in trace.ops]
    for name in sorted(set(names)):
        near_s = rates.of("near_s", name)
        chosen = np.array([each == name for each in names])[calls]
        seconds[chosen] = np.interp(since[chosen], reaches, [near_s * hot, near_s, near_s, near_s * far])
    sums = np.bincount(calls, weights=seconds, minlength=len(trace.ops))
    means: FloatArray = sums / np.maximum(trace.call_counts, 1) + rates.of("python_s")
    return means


def _codes(names: Sequence[str]) -> IntArray:
    """Equal names as equal numbers, [ops]."""
    return np.unique(np.array(names, dtype=str), return_inverse=True)[1].astype(np.int64)


def _streamed_since(calls: IntArray, code: IntArray, moved_bytes: FloatArray) -> FloatArray:
    """Bytes that calls have moved between each call and the last one of its name, infinite for the first, [calls].

    >>> _streamed_since(np.array([0, 1, 1, 0]), np.array([7, 8, 8, 7]), np.array([10.0, 3.0])).tolist()
    [inf, inf, 0.0, 6.0]
    """
    moved = moved_bytes[calls]
    after = np.cumsum(moved)
    order = np.argsort(code, kind="stable")
    since = np.full(len(calls), np.inf)
    follows = code[order][1:] == code[order][:-1]
    since[order[1:][follows]] = ((after - moved)[order[1:]] - after[order[:-1]])[follows]
    return since


def _weight_bytes(trace: Trace) -> float:
    """Bytes of all weights that a trace reads, each once; infinite where it does not tell which are the same."""
    if not len(trace.calls.reads):
        return float("inf")
    calls, starts = trace.calls, np.cumsum([0, *(len(op.inputs) for op in trace.ops)])
    offsets = operand_offsets(trace.ops, calls.op)[0]
    # Of each operand that a call reads: its place among all ops' inputs, which tells its size.
    place = np.arange(offsets[-1]) + np.repeat(starts[calls.op] - offsets[:-1], np.diff(offsets))
    weights = [(each.moved_bytes or 0) if each.role == "weights" else 0 for op in trace.ops for each in op.inputs]
    size_bytes = np.array(weights, dtype=np.float64)[place]
    which = np.unique(calls.reads, return_inverse=True)[1]
    largest_bytes = np.zeros(which.max() + 1)
    np.maximum.at(largest_bytes, which, size_bytes)
    return float(largest_bytes.sum())


def _last_cache_bytes(rates: HostRates) -> float:
    return rates.of("far_bytes") / 2.0


def _kernel_s(op: Op, rates: HostRates, *, is_held: bool) -> float:
    """Time of an op's kernels alone: weights and caches of keys far away, unless a cache holds all, others near."""
    lasting = float(sum(each.moved_bytes or 0 for each in op.inputs if each.role in _LASTING_ROLES))
    passing = float((op.read_bytes() or 0) + (op.write_bytes() or 0)) - lasting
    elements = max([1, *(prod(each.shape) for each in (*op.inputs, *op.outputs) if each.moved_bytes)])
    threads = min(rates.chip.cores, -(-elements // GRAIN_ELEMENTS))
    part = threads / rates.chip.cores
    is_near = passing <= _last_cache_bytes(rates)
    seconds = passing / (part * rates.of("near_bytes_per_s" if is_near else "far_bytes_per_s"))
    seconds += _lasting_s(op, lasting, rates, is_held=is_held)
    seconds += _compute_s(op, rates) / (1.0 if op.kind in MATRIX_KINDS else part)
    largest = max((each.moved_bytes or 0 for each in op.outputs), default=0)
    if largest > _LARGEST_KEPT_BYTES and not op.name.endswith("_"):
        seconds += largest / rates.of("fresh_bytes_per_s")
    return seconds + (rates.of("fork_s") if threads > 1 else 0.0)


def _lasting_s(op: Op, lasting_bytes: float, rates: HostRates, *, is_held: bool) -> float:
    """Time of operands that last from step to step."""
    if op.kind in ("gemm", "conv"):
        name = f"{'held_' if is_held else ''}{'row' if op.size('m') == 1 else 'weight'}_bytes_per_s"
        return lasting_bytes / rates.of(name, f"gemm.{op.dtype}", "gemm.float32")
    if is_held:
        return lasting_bytes / rates.of("near_bytes_per_s")
    return lasting_bytes / rates.of("bytes_per_s" if op.kind == "attention" else "far_bytes_per_s", op.kind)


def _compute_s(op: Op, rates: HostRates) -> float:
    """Time of arithmetic by all cores."""
    if op.kind in MATRIX_KINDS:
        return (op.matrix_flops or 0) / _matrix_flops_per_s(op, rates)
    sizes = dict(op.sizes)
    elements = float(sizes.get("elements", sizes.get("rows", 0) * sizes.get("columns", 0)))
    if op.kind == "norm":
        return elements / rates.of("elements_per_s", "norm")
    if op.kind in ("sort", "topk"):
        return elements / rates.of("elements_per_s", op.kind)
    if base_name(op.name) in _LARGEST:
        return elements / rates.of("elements_per_s", "argmax")
    functions = special_flops(op) / (_FUNCTIONS_OF_SILU * rates.of("elements_per_s", "function"))
    return max(functions, (op.vector_flops or 0) / rates.chip.vector_flops_per_s(op.dtype))


def _matrix_flops_per_s(op: Op, rates: HostRates) -> float:
    """Rate of products of an op's kind and type; a type that was not measured loses as much of its peak as float32."""
    chip = rates.chip
    kind = op.kind if op.kind in ("attention", "conv") else "gemm"
    if kind == "gemm" and rates.knows(f"gemm.{op.dtype}.flops_per_s"):
        return rates.of("flops_per_s", f"gemm.{op.dtype}")
    reached = rates.of("flops_per_s", kind, f"{kind}.float32") / chip.matrix_flops_per_s("float32")
    return min(1.0, reached) * chip.matrix_flops_per_s(op.dtype)
