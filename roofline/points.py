"""`RooflinePoint`: an operation or a group of calls under the roofline of a chip, and points as a frame."""

from dataclasses import dataclass, fields

import pandas as pd

from profiler.op import Op

_NESTED = {
    "level_bytes": "{}_bytes",
    "memory_s": "{}_s",
    "read_bytes": "read_{}_bytes",
    "write_bytes": "write_{}_bytes",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RooflinePoint:
    """One op or group of calls under the roofline of one chip.

    Attributes:
        label: what the group is: op and shapes, kind, phase, `phase[step]`, module, or trace name.
        phase: phase of all its calls, empty where they differ.
        step: step of all its calls, None where they differ or have none.
        kind: kind of all its calls, empty where they differ.
        calls: number of calls.
        flops: dense FLOPs of the calls that have them known; None where no call has.
        required_flops: the same without what a causal mask lets a kernel skip.
        bytes: bytes moved, as far as known; None where no call's are.
        level_bytes: (memory, bytes that cross it), nearest first.
        read_bytes: (role, bytes read).
        write_bytes: (role, bytes written).
        intensity: required FLOPs per byte moved (main memory's traffic with cold caches), over the calls that have
            both known; None where no call has, or where none moves a byte.
        bound_s: sum of the calls' bounds; None where no call has one.
        bound_by: the resource whose calls have the largest share of `bound_s`: `compute` (matrix units), `vector`,
            or a memory; `none` where nothing takes time, `unknown` where no call has a bound.
        compute_s: sum of the calls' times on matrix or vector units, the longer of the two for each call.
        memory_s: (memory, sum of the calls' times on it).
        measured_s: sum of measured durations; None where no call was measured.
        measured_calls: calls with a measured duration.
        efficiency: bound over measured time, of the calls that have both; above 1 the caches were warm or the chip
            ran faster than its file says.
        gap_s: measured time less bound, of the same calls.
        unknown_calls: calls of which FLOPs or bytes are unknown; their bound comes from what is known.
        unbounded_calls: calls of which nothing is known, so that they add no bound.
        unknown_names: names of the ops behind the unknown calls, at most eight.
    """

    label: str
    phase: str
    step: int | None
    kind: str
    calls: int
    flops: float | None
    required_flops: float | None
    bytes: float | None
    level_bytes: tuple[tuple[str, float], ...]
    read_bytes: tuple[tuple[str, float], ...]
    write_bytes: tuple[tuple[str, float], ...]
    intensity: float | None
    bound_s: float | None
    bound_by: str
    compute_s: float
    memory_s: tuple[tuple[str, float], ...]
    measured_s: float | None
    measured_calls: int
    efficiency: float | None
    gap_s: float | None
    unknown_calls: int
    unbounded_calls: int
    unknown_names: tuple[str, ...]


def points_frame(points: tuple[RooflinePoint, ...]) -> pd.DataFrame:
    """Roofline points as a frame, one row each; what is unknown is NaN or None, never zero.

    Nested figures become columns: `hbm_bytes`, `hbm_s`, `read_weights_bytes`, `write_kv_cache_bytes`, ...
    """
    rows: list[dict[str, object]] = []
    for point in points:
        row: dict[str, object] = {
            field.name: getattr(point, field.name) for field in fields(point) if field.name not in _NESTED
        }
        row["unknown_names"] = ", ".join(point.unknown_names)
        for name, pattern in _NESTED.items():
            row.update({pattern.format(key): value for key, value in getattr(point, name)})
        rows.append(row)
    return pd.DataFrame(rows)


def op_label(op: Op) -> str:
    """Name and sizes of an op.

    >>> op_label(Op(kind="gemm", name="aten::mm", dtype="bfloat16", sizes=(("batch", 1), ("m", 2), ("n", 3), ("k", 4))))
    'mm bfloat16 m=2 n=3 k=4'
    """
    sizes = " ".join(f"{name}={value}" for name, value in op.sizes if not (name == "batch" and value == 1))
    dtype = "" if op.dtype == "unknown" else f" {op.dtype}"
    return f"{op.name.removeprefix('aten::')}{dtype} {sizes}".rstrip()
