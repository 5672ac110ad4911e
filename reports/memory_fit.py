"""Says what would not fit into the main memory of a chip."""

from profiler.errors import TraceError
from profiler.memory import MemoryUse, memory_use
from profiler.op import DTYPE_BITS
from profiler.traces import Trace
from reports.formatting import format_bytes
from roofline.chip import Chip


def does_not_fit(name: str, what: str, needed_bytes: float, chip: Chip) -> str:
    """One sentence where bytes exceed a chip's main memory, else an empty text.

    Args:
        name: of the program.
        what: that takes the bytes, for example `weights`.
        needed_bytes: of it.
        chip: that is to hold it.
    """
    memory = chip.main_memory
    if needed_bytes <= memory.capacity_bytes:
        return ""
    return (
        f"{name}: {what} of {format_bytes(needed_bytes)} do not fit {chip.name}'s "
        f"{format_bytes(memory.capacity_bytes)} of {memory.name}; "
        f"it takes {-(-needed_bytes // memory.capacity_bytes):.0f} of them or a narrower type"
    )


def weights_do_not_fit(name: str, parameters_count: int | None, dtype: str | None, chip: Chip) -> str:
    """The same of weights that are all of one type, before anything ran; empty where their number is unknown."""
    bits = DTYPE_BITS.get(dtype or "")
    if parameters_count is None or bits is None:
        return ""
    return does_not_fit(name, "weights", parameters_count * bits / 8, chip)


def use_does_not_fit(memory: MemoryUse, chip: Chip) -> str:
    """The same of everything that a trace holds at its peak, weights alone if they already are too much."""
    weights_bytes = memory.most_of("weights")
    return does_not_fit(memory.trace, "weights", weights_bytes, chip) or does_not_fit(
        memory.trace, "live data at the peak", memory.peak_bytes, chip
    )


def trace_does_not_fit(trace: Trace, chip: Chip) -> str:
    """The same of a trace; empty where its memory is unknown, as that of imported traces is."""
    try:
        return use_does_not_fit(memory_use(trace), chip)
    except TraceError:
        return ""
