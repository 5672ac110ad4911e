"""What AMD's hardware counters (rocprof, rocprofv3) mean for a kernel: measured bytes by level, FLOPs."""

import re
from collections.abc import Mapping

_INSTANCE = re.compile(r"(\w+)\[(\d{1,5})\]")
_KIBIBYTE = 1024  # rocprof's FETCH_SIZE and WRITE_SIZE are in kilobytes of 1,024 bytes
# Instructions of a wavefront of 64 lanes (ROCm Compute Profiler, "FLOP counting conventions"); lanes that are masked
# off are counted too.
_LANES = 64
_FLOPS_PER_LANE = {"ADD": 1, "MUL": 1, "FMA": 2, "TRANS": 1}
_PRECISIONS = ("F16", "F32", "F64")


def total_instances(counters: Mapping[str, float]) -> dict[str, float]:
    """Counters by name, with the instances of `NAME[i]` (one per channel of each die) summed as `NAME_sum`.

    A sum that the file itself holds stays as it is.

    >>> total_instances({"TCC_HIT[0]": 2.0, "TCC_HIT[1]": 3.0, "SQ_WAVES": 7.0})
    {'SQ_WAVES': 7.0, 'TCC_HIT_sum': 5.0}
    """
    totals = {name: value for name, value in counters.items() if "[" not in name}
    sums: dict[str, float] = {}
    for name, value in counters.items():
        match = _INSTANCE.fullmatch(name)
        if match:
            sums[f"{match[1]}_sum"] = sums.get(f"{match[1]}_sum", 0.0) + value
    return totals | {name: value for name, value in sums.items() if name not in totals}


def kernel_counters(counters: Mapping[str, float]) -> dict[str, float]:
    """Counters of a kernel by names of `profiler.traces.COUNTERS`, as far as they tell.

    `dram_bytes` is what left the second-level cache for the fabric; on MI300 the Infinity Cache may serve part of it.
    `l2_bytes` and `l1_bytes` count whole cache lines looked up, so they are upper limits.

    Args:
        counters: name to value, instances summed.
    """
    found: dict[str, float] = {}
    dram = _fabric_bytes(counters)
    if dram is not None:
        found["dram_bytes"] = dram
    if "TCC_REQ_sum" in counters:
        found["l2_bytes"] = 128 * counters["TCC_REQ_sum"]  # bytes of a line of the second-level cache
    if "TCP_TOTAL_CACHE_ACCESSES_sum" in counters:
        found["l1_bytes"] = (
            64 * counters["TCP_TOTAL_CACHE_ACCESSES_sum"]
        )  # bytes of one access to the first-level cache
    flops = _vector_flops(counters)
    if flops is not None:
        found["vector_flops"] = flops
    for name in ("SQ_INSTS_MFMA", "SQ_INSTS_VALU_MFMA"):
        if name in counters:
            found.setdefault("tensor_instructions", counters[name])
    return found


def _fabric_bytes(counters: Mapping[str, float]) -> float | None:
    """Bytes read and written beyond the second-level cache; None where a part of them was not counted.

    Reads are of 32, 64 or (MI300: TCC_BUBBLE) 128 bytes, writes of 32 or 64 (ROCm Compute Profiler, L2-Fabric metrics).
    """
    for fetched, stored in (("FETCH_SIZE", "WRITE_SIZE"), ("FetchSize", "WriteSize")):
        if fetched in counters and stored in counters:
            return (counters[fetched] + counters[stored]) * _KIBIBYTE
    for unit in ("TCC_EA0", "TCC_EA"):  # MI300, and before
        names = [f"{unit}_{name}_sum" for name in ("RDREQ", "RDREQ_32B", "WRREQ", "WRREQ_64B")]
        if unit == "TCC_EA0":
            names.append("TCC_BUBBLE_sum")
        if all(name in counters for name in names):
            reads, small_reads, writes, large_writes = (counters[name] for name in names[:4])
            wide_reads = counters["TCC_BUBBLE_sum"] if unit == "TCC_EA0" else 0.0
            read_bytes = 128 * wide_reads + 32 * small_reads + 64 * max(0.0, reads - wide_reads - small_reads)
            return read_bytes + 64 * large_writes + 32 * max(0.0, writes - large_writes)
    return None


def _vector_flops(counters: Mapping[str, float]) -> float | None:
    """FLOPs of the vector units; None unless every kind of instruction was counted."""
    total = 0.0
    for precision in _PRECISIONS:
        for operation, flops in _FLOPS_PER_LANE.items():
            name = f"SQ_INSTS_VALU_{operation}_{precision}"
            if name not in counters:
                return None
            total += _LANES * flops * counters[name]
    return total
