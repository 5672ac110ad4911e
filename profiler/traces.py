"""`Trace`: the distinct ops of a program and the sequence of its calls, as columns."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from profiler.energy import EnergyReadings
from profiler.errors import TraceError
from profiler.op import Op
from profiler.provenance import Provenance
from workloads.roles import ROLES

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]


def _empty_int() -> IntArray:
    return np.empty(0, dtype=np.int64)


def _empty_float() -> FloatArray:
    return np.empty(0, dtype=np.float64)


class _Columns:
    """Equality and indexing for records of equally long NumPy columns."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(
            np.array_equal(getattr(self, column.name), getattr(other, column.name), equal_nan=True)
            for column in fields(self)  # type: ignore[arg-type]  # every subclass is a dataclass
        )

    __hash__ = None  # type: ignore[assignment]  # arrays do not hash


@dataclass(frozen=True, kw_only=True, eq=False)
class Calls(_Columns):
    """The sequence of calls, one entry per call in every column.

    Attributes:
        op: index into `Trace.ops`.
        phase: index into `Trace.phases`.
        step: step number, -1 where none was open.
        module: index into `Trace.modules`.
        stream: device stream, 0 where there is only one.
        start_s: measured start on the device's clock counted from the first call, NaN where not measured.
        duration_s: measured busy time of the call, NaN where not measured.
        energy_j: measured energy as `profiler.energy_calls` says, NaN where not measured.
        reads: ids of the tensor versions read, `inputs` of the call's op in order, all calls behind one another.
        writes: ids of the tensor versions written, likewise for `outputs`.
        replaces: for each of `writes`, the version that stood in the same storage before, 0 where the storage is new;
            empty where unrecorded.
    """

    op: IntArray
    phase: IntArray
    step: IntArray
    module: IntArray
    stream: IntArray
    start_s: FloatArray
    duration_s: FloatArray
    energy_j: FloatArray
    reads: IntArray = field(default_factory=_empty_int)
    writes: IntArray = field(default_factory=_empty_int)
    replaces: IntArray = field(default_factory=_empty_int)

    def __len__(self) -> int:
        return len(self.op)


@dataclass(frozen=True, kw_only=True, eq=False)
class Allocations(_Columns):
    """Storages that no recorded call made: parameters, inputs, and bare allocations such as `torch.empty`.

    Attributes:
        version: id of the first version met in the storage.
        size_bytes: of the whole storage, whichever part a view shows.
        is_outside: 1 where it was there before it was first used, 0 where the program allocated it while recorded.
    """

    version: IntArray = field(default_factory=_empty_int)
    size_bytes: IntArray = field(default_factory=_empty_int)
    is_outside: IntArray = field(default_factory=_empty_int)

    def __len__(self) -> int:
        return len(self.version)


KERNEL_CATEGORIES = ("kernel", "memcpy", "memset", "collective")
ATTRIBUTIONS = ("external_id", "correlation", "time", "repeat", "unexplained")
# What hardware counters tell of a kernel: optional columns of `Kernels`.
COUNTERS = ("dram_bytes", "l2_bytes", "l1_bytes", "spill_bytes", "vector_flops", "tensor_instructions")


@dataclass(frozen=True, kw_only=True, eq=False)
class Kernels(_Columns):
    """Device kernels of an imported trace, each attached to the call that launched it.

    Attributes:
        call: index into the trace's calls.
        name: index into `Trace.kernel_names`.
        category: index into `KERNEL_CATEGORIES`.
        attribution: how the call was found, index into `ATTRIBUTIONS`.
        stream: device stream.
        start_s: start on the same clock as the calls, NaN where not recorded (counters are read one kernel at a time).
        duration_s: time on the device, NaN where not recorded.
        dram_bytes: bytes that hardware counters saw between the last cache and main memory, NaN where not counted; so
            for all below.
        l2_bytes: bytes that crossed the second-level cache.
        l1_bytes: bytes that crossed the first-level caches.
        spill_bytes: bytes of threads' own memory, where registers are spilled, through the first-level caches.
        vector_flops: FLOPs of the scalar units' add, multiply and fused multiply-add instructions.
        tensor_instructions: matrix instructions, one per warp or wavefront.
    """

    call: IntArray = field(default_factory=_empty_int)
    name: IntArray = field(default_factory=_empty_int)
    category: IntArray = field(default_factory=_empty_int)
    attribution: IntArray = field(default_factory=_empty_int)
    stream: IntArray = field(default_factory=_empty_int)
    start_s: FloatArray = field(default_factory=_empty_float)
    duration_s: FloatArray = field(default_factory=_empty_float)
    dram_bytes: FloatArray = field(default_factory=_empty_float)
    l2_bytes: FloatArray = field(default_factory=_empty_float)
    l1_bytes: FloatArray = field(default_factory=_empty_float)
    spill_bytes: FloatArray = field(default_factory=_empty_float)
    vector_flops: FloatArray = field(default_factory=_empty_float)
    tensor_instructions: FloatArray = field(default_factory=_empty_float)

    def __post_init__(self) -> None:
        for counter in COUNTERS:
            if not len(getattr(self, counter)) and len(self.call):
                object.__setattr__(self, counter, np.full(len(self.call), np.nan))

    def __len__(self) -> int:
        return len(self.call)


@dataclass(frozen=True, kw_only=True)
class Trace:
    """What ran: distinct ops, the calls that used them, kernels where a device trace was imported.

    Equal after save and load. `ops` are costed once and joined to the calls by index.
    """

    name: str
    ops: tuple[Op, ...]
    calls: Calls
    phases: tuple[str, ...]
    modules: tuple[str, ...]
    provenance: Provenance
    kernels: Kernels = field(default_factory=Kernels)
    kernel_names: tuple[str, ...] = ()
    allocations: Allocations = field(default_factory=Allocations)
    energy: EnergyReadings | None = None
    view: str = "eager"

    def __post_init__(self) -> None:
        if self.view not in ("eager", "fused"):
            raise TraceError(f"trace {self.name!r}: view must be eager or fused, got {self.view!r}")
        for column, table in (("op", self.ops), ("phase", self.phases), ("module", self.modules)):
            index = getattr(self.calls, column)
            if len(index) and not (index.min() >= 0 and index.max() < len(table)):
                raise TraceError(
                    f"trace {self.name!r}: calls.{column} must lie in 0..{len(table) - 1}, "
                    f"got {index.min()}..{index.max()}"
                )
        lengths = {len(getattr(self.calls, c)) for c in ("op", "phase", "step", "module", "stream", "start_s")}
        if len(lengths) > 1:
            raise TraceError(f"trace {self.name!r}: call columns differ in length: {sorted(lengths)}")

    @cached_property
    def call_counts(self) -> IntArray:
        """How often each op was called, [ops]."""
        return np.bincount(self.calls.op, minlength=len(self.ops)).astype(np.int64)

    @property
    def is_measured(self) -> bool:
        """Whether any call carries a measured duration."""
        return bool(np.isfinite(self.calls.duration_s).any())

    @property
    def is_counted(self) -> bool:
        """Whether hardware counters were read for any kernel."""
        return any(bool(np.isfinite(getattr(self.kernels, counter)).any()) for counter in COUNTERS)

    def counted(self, counter: str) -> FloatArray:
        """What a hardware counter saw of each call, [calls]; NaN where any of its kernels was not counted.

        Args:
            counter: one of `COUNTERS`.
        """
        values = getattr(self.kernels, counter)
        sums = np.bincount(self.kernels.call, weights=values, minlength=len(self.calls)).astype(np.float64)
        launched = np.bincount(self.kernels.call, minlength=len(self.calls))
        return np.where(launched > 0, sums, np.nan)

    @property
    def unknown_ops(self) -> tuple[Op, ...]:
        """Ops whose FLOPs or bytes nobody knows; every summary and report names them."""
        return tuple(op for op in self.ops if op.flops is None or op.read_bytes() is None or op.write_bytes() is None)

    def select(self, mask: NDArray[np.bool_]) -> "Trace":
        """The calls where `mask` [calls] is true, with their own ops; kernels and dataflow ids are kept with them."""
        reads_of, writes_of = operand_offsets(self.ops, self.calls.op)
        by_output = np.repeat(mask, np.diff(writes_of))
        calls = Calls(
            **{
                column: getattr(self.calls, column)[mask]
                for column in ("op", "phase", "step", "module", "stream", "start_s", "duration_s", "energy_j")
            },
            reads=self.calls.reads[np.repeat(mask, np.diff(reads_of))] if len(self.calls.reads) else _empty_int(),
            writes=self.calls.writes[by_output] if len(self.calls.writes) else _empty_int(),
            replaces=self.calls.replaces[by_output] if len(self.calls.replaces) else _empty_int(),
        )
        used, new_op = np.unique(calls.op, return_inverse=True)
        kept = mask[self.kernels.call] if len(self.kernels) else np.empty(0, dtype=bool)
        kernels = Kernels(**{column.name: getattr(self.kernels, column.name)[kept] for column in fields(Kernels)})
        kernels = replace(kernels, call=(np.cumsum(mask) - 1)[kernels.call])
        return replace(
            self,
            ops=tuple(self.ops[i] for i in used),
            calls=replace(calls, op=new_op.astype(np.int64)),
            kernels=kernels,
        )

    def to_frame(self) -> pd.DataFrame:
        """One row per call; bytes also split by role as `read_weights_bytes`, `write_kv_cache_bytes`, ...

        `counted_dram_bytes` and the like are what hardware counters saw, where they were read. Unknown FLOPs and bytes
        are NaN, never zero.
        """
        frame = pd.DataFrame(ops_columns(self.ops)).iloc[self.calls.op].reset_index(drop=True)
        frame.insert(2, "phase", _categories(self.calls.phase, self.phases))
        frame.insert(3, "step", self.calls.step)
        frame.insert(4, "module", _categories(self.calls.module, self.modules))
        frame.insert(5, "op", self.calls.op)
        frame["stream"] = self.calls.stream
        frame["start_s"] = self.calls.start_s
        frame["duration_s"] = self.calls.duration_s
        frame["energy_j"] = self.calls.energy_j
        for counter in COUNTERS:
            frame[f"counted_{counter}"] = self.counted(counter)
        return frame


def _categories(index: IntArray, names: tuple[str, ...]) -> "pd.Series[str]":
    return pd.Series(pd.Categorical.from_codes(index.tolist(), categories=pd.Index(names, dtype="str")))


def ops_columns(ops: Sequence[Op]) -> dict[str, list[object] | FloatArray]:
    """Ops as named columns: kind, name, dtype, FLOPs, and bytes in all and by role (NaN where unknown)."""

    def number(values: list[int | None]) -> FloatArray:
        return np.array([np.nan if value is None else value for value in values], dtype=np.float64)

    columns: dict[str, list[object] | FloatArray] = {
        "kind": [op.kind for op in ops],
        "name": [op.name for op in ops],
        "dtype": [op.dtype for op in ops],
        "flops": number([op.flops for op in ops]),
        "matrix_flops": number([op.matrix_flops for op in ops]),
        "vector_flops": number([op.vector_flops for op in ops]),
        "required_flops": number([op.required_flops for op in ops]),
        "read_bytes": number([op.read_bytes() for op in ops]),
        "write_bytes": number([op.write_bytes() for op in ops]),
    }
    for role in ROLES:
        columns[f"read_{role}_bytes"] = number([op.read_bytes(role) for op in ops])
        columns[f"write_{role}_bytes"] = number([op.write_bytes(role) for op in ops])
    return columns


def operand_offsets(ops: Sequence[Op], call_op: IntArray) -> tuple[IntArray, IntArray]:
    """Where each call's ids begin in `Calls.reads` and in `Calls.writes`, [calls + 1] each."""

    def offsets(counts: list[int]) -> IntArray:
        per_call = np.array(counts, dtype=np.int64)[call_op] if len(call_op) else _empty_int()
        return np.concatenate([[0], np.cumsum(per_call)]).astype(np.int64)

    return offsets([len(op.inputs) for op in ops]), offsets([len(op.outputs) for op in ops])
