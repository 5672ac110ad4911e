"""`op_bounds`: for every distinct operation, the least time that each resource of a chip needs for it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from profiler.op import Op, Operand
from roofline.chip import Chip
from roofline.errors import ChipError

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

Caches = Literal["cold", "warm"]
CACHES: tuple[Caches, ...] = get_args(Caches)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OpBounds:
    """One row per op; resources are `compute` (matrix units), `vector`, and each memory level, nearest first.

    Attributes:
        resources: names of the resources, [R].
        seconds: least time of each op on each resource, [ops, R]; what is unknown adds nothing here.
        level_bytes: bytes that must cross each memory level, [ops, R - 2].
        moved_bytes: bytes read and written, as far as known, [ops].
        bound_s: the greatest of an op's times, [ops]; NaN where what is known needs no time and something is unknown.
        bound_by: index into `resources` of the one that takes longest, [ops]; -1 where `bound_s` is 0 or NaN.
        flops_known: whether all of an op's FLOPs are known, [ops].
        bytes_known: whether all of an op's bytes are known, [ops].
    """

    resources: tuple[str, ...]
    seconds: FloatArray
    level_bytes: FloatArray
    moved_bytes: FloatArray
    bound_s: FloatArray
    bound_by: NDArray[np.int64]
    flops_known: BoolArray
    bytes_known: BoolArray

    @property
    def has_unknown(self) -> BoolArray:
        """Whether any of an op's FLOPs or bytes are unknown, [ops]."""
        return ~(self.flops_known & self.bytes_known)

    @property
    def compute_s(self) -> FloatArray:
        """Time of the matrix units or, where it is longer, of the vector units, [ops]."""
        return np.asarray(self.seconds[:, :2].max(axis=1))


def op_bounds(ops: Sequence[Op], chip: Chip, *, caches: Caches = "cold") -> OpBounds:
    """Least time of each op on each resource of a chip.

    Matrix and vector units work side by side, and so do the memory levels: an op's bound is the greatest time of any
    of them. A type that the matrix units do not take runs on the vector units, one after the other with the op's
    other FLOPs. Launch latency is no part of the bound. FLOPs that a causal mask lets a kernel skip are left out.

    Args:
        ops: distinct operations.
        chip: the device.
        caches: `cold`: nothing is on the chip when an op starts, and its results leave the chip, so each byte it
            moves crosses every level once. `warm`: whatever may fit in the nearer levels may already be there and may
            stay there, so only what exceeds them must cross a level; this one no schedule can beat.

    Raises:
        ChipError: where `caches` is neither.
    """
    if caches not in CACHES:
        raise ChipError(f"caches must be one of {', '.join(CACHES)}, got {caches!r}")
    matrix_flops, matrix_known = _numbers([op.matrix_flops for op in ops])
    vector_flops, vector_known = _numbers([op.vector_flops for op in ops])
    matrix_flops = np.maximum(matrix_flops - np.array([op.skippable_flops for op in ops], dtype=np.float64), 0.0)
    read_bytes, read_known = _moved([op.inputs for op in ops])
    write_bytes, write_known = _moved([op.outputs for op in ops])

    matrix_dtypes = dict(chip.matrix_macs)
    on_matrix = np.array([op.dtype in matrix_dtypes for op in ops], dtype=bool)
    matrix_rate = _rates(ops, chip.matrix_flops_per_s)
    vector_rate = _rates(ops, chip.vector_flops_per_s)
    matrix_s = np.where(on_matrix, matrix_flops, 0.0) / matrix_rate
    vector_s = (vector_flops + np.where(on_matrix, 0.0, matrix_flops)) / vector_rate

    level_bytes = np.empty((len(ops), len(chip.memories)))
    nearer_bytes = 0.0
    for level, memory in enumerate(chip.memories):
        kept = nearer_bytes if caches == "warm" else 0.0
        level_bytes[:, level] = np.maximum(read_bytes - kept, 0.0) + np.maximum(write_bytes - kept, 0.0)
        nearer_bytes += memory.capacity_bytes
    bandwidths = np.array([memory.bandwidth_bytes_per_s for memory in chip.memories])
    seconds = np.column_stack([matrix_s, vector_s, level_bytes / bandwidths])

    flops_known = matrix_known & vector_known
    bytes_known = read_known & write_known
    greatest = seconds.max(axis=1)
    return OpBounds(
        resources=("compute", "vector", *(memory.name for memory in chip.memories)),
        seconds=seconds,
        level_bytes=level_bytes,
        moved_bytes=read_bytes + write_bytes,
        bound_s=np.where((greatest == 0) & ~(flops_known & bytes_known), np.nan, greatest),
        bound_by=np.where(greatest > 0, seconds.argmax(axis=1), -1).astype(np.int64),
        flops_known=flops_known,
        bytes_known=bytes_known,
    )


def _numbers(values: list[int | None]) -> tuple[FloatArray, BoolArray]:
    known = np.array([value is not None for value in values], dtype=bool)
    return np.array([value or 0 for value in values], dtype=np.float64), known


def _moved(operands: list[tuple[Operand, ...]]) -> tuple[FloatArray, BoolArray]:
    """Known bytes per op, and whether every operand's are known; an op without operands moves nothing, knowingly."""
    totals = [sum(operand.moved_bytes or 0 for operand in each) for each in operands]
    known = [all(operand.moved_bytes is not None for operand in each) for each in operands]
    return np.array(totals, dtype=np.float64), np.array(known, dtype=bool)


def _rates(ops: Sequence[Op], rate_of: Callable[[str], float]) -> FloatArray:
    rates = {dtype: rate_of(dtype) for dtype in {op.dtype for op in ops}}
    return np.array([rates[op.dtype] for op in ops], dtype=np.float64)
