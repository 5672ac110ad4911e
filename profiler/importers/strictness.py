"""Strict mode of the importers: nothing may be unknown."""

from pathlib import Path

from profiler.errors import UnknownOperationError
from profiler.traces import Trace


def refuse_unknown(path: Path, trace: Trace) -> None:
    """Refuse a trace of which the FLOPs or bytes of any op are unknown.

    Raises:
        UnknownOperationError: naming the first of them.
    """
    unknown = trace.unknown_ops
    if unknown:
        raise UnknownOperationError(
            f"{path}: {len(unknown)} of {len(trace.ops)} ops have unknown FLOPs or bytes, and strict mode is on; "
            f"first: {unknown[0].name[:80]!r}"
        )
