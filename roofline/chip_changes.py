"""Changes of a chip's figures by name, such as twice the bandwidth: what an architect asks of an imagined chip."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from math import isfinite

from roofline.chip import Chip, Memory
from roofline.errors import ChipError
from workloads.hints import known_names

_SET: Mapping[str, Callable[[Chip, float], Chip]] = {
    "launch_s": lambda chip, value: replace(chip, launch_s=value),
    "special_flops": lambda chip, value: replace(chip, special_flops=value),
    "tdp_w": lambda chip, value: replace(chip, tdp_w=value),
}
_SET_MEMORY: Mapping[str, Callable[[Memory, float], Memory]] = {
    "bandwidth_bytes_per_s": lambda memory, value: replace(memory, bandwidth_bytes_per_s=value),
    "capacity_bytes": lambda memory, value: replace(memory, capacity_bytes=value),
    "latency_s": lambda memory, value: replace(memory, latency_s=value),
}
_OTHERS = ("clock_hz", "cores", "matrix", "vector")


def change_chip(chip: Chip, text: str) -> Chip:
    """A chip with some figures changed; all others, energy and kernel constants included, stay as they are.

    Args:
        chip: as its file says.
        text: changes with commas between, each a figure and `=value` or `*factor`: `cores*2,hbm.latency_s=3e-7`.
            Figures are `clock_hz`, `cores`, `launch_s`, `special_flops`, `tdp_w`, `matrix` and `vector` (the units'
            rates of all types, by a factor), and of a memory `NAME.bandwidth_bytes_per_s`, `NAME.capacity_bytes` and
            `NAME.latency_s`. More cores bring the parts of memory that are theirs, and these follow the clock.

    Raises:
        ChipError: a change names no figure of the chip, or leads to none that can be.
    """
    changed = chip
    for part in filter(None, (part.strip() for part in text.split(","))):
        changed = _with(changed, *_read(part), part)
    if changed is chip:
        raise ChipError("change: nothing given; say for example hbm.bandwidth_bytes_per_s*2")
    return changed


def _read(part: str) -> tuple[str, Callable[[float], float]]:
    """The figure's name, and what becomes of its value."""
    way = "*" if "*" in part else "="
    name, found, number = (piece.strip() for piece in part.partition(way))
    try:
        value = float(number)
    except ValueError:
        value = float("nan")
    if not found or not isfinite(value) or value < 0:
        raise ChipError(
            f"change: {part!r} must be a figure with =value or *factor, such as cores*2 or hbm.latency_s=3e-7"
        )
    return name, (lambda old: old * value) if way == "*" else (lambda _: value)


def _with(chip: Chip, name: str, new: Callable[[float], float], part: str) -> Chip:
    memory, dot, figure = name.rpartition(".")
    memories = {each.name: each for each in chip.memories}
    if dot and memory in memories and figure in _SET_MEMORY:
        changed = _SET_MEMORY[figure](memories[memory], new(getattr(memories[memory], figure)))
        return replace(chip, memories=tuple(changed if each.name == memory else each for each in chip.memories))
    if name in ("matrix", "vector") and "*" not in part:
        raise ChipError(f"change: {name} stands for the rates of all types and takes a factor, such as {name}*2")
    if name == "matrix":
        return replace(chip, matrix_macs=tuple((dtype, new(rate)) for dtype, rate in chip.matrix_macs))
    if name == "vector":
        return replace(chip, vector_flops=tuple((dtype, new(rate)) for dtype, rate in chip.vector_flops))
    if name == "cores":
        cores = new(chip.cores)
        if cores < 1 or cores != round(cores):
            raise ChipError(f"change: {part!r} must give a whole number of cores, got {cores:g}")
        return replace(_with_own_memories(chip, cores / chip.cores, cores / chip.cores), cores=int(cores))
    if name == "clock_hz":
        clock_hz = new(chip.clock_hz)
        return _with_own_memories(replace(chip, clock_hz=clock_hz), 1.0, clock_hz / chip.clock_hz)
    if name in _SET:
        old = getattr(chip, name)
        if old is None and "*" in part:
            raise ChipError(f"change: chip {chip.name!r} has no {name} to multiply")
        return _SET[name](chip, new(old or 0.0))
    known = [*_SET, *_OTHERS, *(f"{each}.{figure}" for each in memories for figure in _SET_MEMORY)]
    raise ChipError(f"change: chip {chip.name!r} has no figure {name!r}; {known_names(name, known)}")


def _with_own_memories(chip: Chip, size: float, rate: float) -> Chip:
    """The chip with its cores' own memories so many times as large and as fast."""

    def grown(memory: Memory) -> Memory:
        if not memory.per_core:
            return memory
        return replace(
            memory,
            capacity_bytes=memory.capacity_bytes * size,
            bandwidth_bytes_per_s=memory.bandwidth_bytes_per_s * rate,
        )

    return replace(chip, memories=tuple(map(grown, chip.memories)))
