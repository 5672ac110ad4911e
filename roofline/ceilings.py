"""Ceilings of a chip: the lines of its roofline chart."""

from dataclasses import dataclass

from roofline.chip import Chip


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceiling:
    """One line of a roofline.

    Attributes:
        label: for example `bfloat16 matrix` or `hbm`.
        resource: `compute` (matrix units), `vector`, or the name of a memory, as in `RooflinePoint.bound_by`.
        dtype: type computed in, empty for a memory.
        flops_per_s: height of a flat line, None for a memory.
        bytes_per_s: slope of a slanted line, None for compute.
    """

    label: str
    resource: str
    dtype: str = ""
    flops_per_s: float | None = None
    bytes_per_s: float | None = None


def ceilings(chip: Chip) -> tuple[Ceiling, ...]:
    """Matrix peak and vector peak of every type that the chip lists, then bandwidths from the nearest memory out."""
    matrix = [
        Ceiling(label=f"{dtype} matrix", resource="compute", dtype=dtype, flops_per_s=chip.matrix_flops_per_s(dtype))
        for dtype, _ in chip.matrix_macs
    ]
    vector = [
        Ceiling(label=f"{dtype} vector", resource="vector", dtype=dtype, flops_per_s=chip.vector_flops_per_s(dtype))
        for dtype, _ in chip.vector_flops
    ]
    memories = [
        Ceiling(label=memory.name, resource=memory.name, bytes_per_s=memory.bandwidth_bytes_per_s)
        for memory in chip.memories
    ]
    return (*matrix, *vector, *memories)
