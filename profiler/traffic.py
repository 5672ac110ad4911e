"""Measured bytes beside modeled bytes, op by op, and a sentence that says why they differ."""

from dataclasses import dataclass

import numpy as np

from profiler.op import Op
from profiler.traces import Trace

# Counters and models agree within this share on streaming kernels; what differs less is not explained.
_SAME = 0.10
_SPILLED = 0.01  # share of the first-level cache's bytes from which spills are worth a word
_REUSE = 1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class OpTraffic:
    """Traffic of the counted calls of one distinct op.

    Attributes:
        op: index into `Trace.ops`.
        calls: calls whose kernels were all counted.
        modeled_bytes: what these calls asked for: each tensor read or written once; None where unknown.
        dram_bytes: what counters saw between the last cache and main memory; None where not counted, as all below.
        l2_bytes: what crossed the second-level cache.
        l1_bytes: what crossed the first-level caches.
        spill_bytes: what of it was spilled registers.
        explanation: why measured and modeled bytes differ, one sentence.
    """

    op: int
    calls: int
    modeled_bytes: float | None
    dram_bytes: float | None
    l2_bytes: float | None
    l1_bytes: float | None
    spill_bytes: float | None
    explanation: str


def op_traffic(trace: Trace) -> tuple[OpTraffic, ...]:
    """Modeled and measured bytes of every op of which any call was counted, most measured bytes first."""
    columns = {name: trace.counted(name) for name in ("dram_bytes", "l2_bytes", "l1_bytes", "spill_bytes")}
    counted = np.zeros(len(trace.calls), dtype=bool)
    for values in columns.values():
        counted |= np.isfinite(values)
    rows = []
    for index in np.unique(trace.calls.op[counted]):
        mine = counted & (trace.calls.op == index)
        calls = int(mine.sum())
        levels = {name: _sum(values[mine]) for name, values in columns.items()}
        modeled = _modeled_bytes(trace.ops[int(index)])
        asked = None if modeled is None else modeled * calls
        explanation = explain_spills(levels["l1_bytes"], levels["spill_bytes"]) or explain_traffic(
            asked, levels["dram_bytes"], levels["l2_bytes"]
        )
        rows.append(OpTraffic(op=int(index), calls=calls, modeled_bytes=asked, explanation=explanation, **levels))
    return tuple(sorted(rows, key=lambda row: -max(row.dram_bytes or 0.0, row.l2_bytes or 0.0)))


def explain_spills(l1_bytes: float | None, spill_bytes: float | None) -> str:
    """One sentence where spilled registers are a share of the traffic worth a word, else empty.

    >>> explain_spills(1000.0, 250.0), explain_spills(1000.0, 0.0)
    ("Spills: 25 % of the first-level caches' bytes were registers that did not fit.", '')
    """
    if not spill_bytes or not l1_bytes or spill_bytes <= _SPILLED * l1_bytes:
        return ""
    share = 100 * spill_bytes / l1_bytes
    return f"Spills: {share:.0f} % of the first-level caches' bytes were registers that did not fit."


def explain_traffic(modeled_bytes: float | None, dram_bytes: float | None, l2_bytes: float | None = None) -> str:
    """One sentence on why the bytes that counters saw differ from those that were asked for.

    >>> explain_traffic(100.0, 40.0)
    'Cache hits: 60 % of the bytes asked for never reached main memory.'
    >>> explain_traffic(100.0, 250.0)
    'Re-reads: main memory moved 2.5 times the bytes asked for, as data fell out of the caches before their next use.'
    >>> explain_traffic(100.0, 105.0)
    'As modeled: each byte crossed main memory about once.'
    """
    if modeled_bytes is None or not modeled_bytes:
        return (
            f"Not compared: {'the bytes asked for are unknown' if modeled_bytes is None else 'no bytes are asked for'}."
        )
    if dram_bytes is None:
        return "Not compared: the bytes at main memory were not counted."
    ratio = dram_bytes / modeled_bytes
    if ratio < 1 - _SAME:
        return f"Cache hits: {100 * (1 - ratio):.0f} % of the bytes asked for never reached main memory."
    if ratio > 1 + _SAME:
        return (
            f"Re-reads: main memory moved {ratio:.1f} times the bytes asked for, as data fell out of the caches before "
            "their next use."
        )
    if l2_bytes is not None and l2_bytes > _REUSE * modeled_bytes:
        return (
            f"Reuse: each byte crossed main memory about once, and the second-level cache served it "
            f"{l2_bytes / modeled_bytes:.1f} times."
        )
    return "As modeled: each byte crossed main memory about once."


def _modeled_bytes(op: Op) -> float | None:
    read, written = op.read_bytes(), op.write_bytes()
    return None if read is None or written is None else float(read + written)


def _sum(values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> float | None:
    """Sum of a level over the calls; None unless it was counted for every one of them."""
    return float(values.sum()) if np.isfinite(values).all() else None
