"""Memory levels from a bandwidth ladder: which caches can be told apart, how large and how fast they are."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from profiler.measurements import BandwidthPoint, CacheSize, Measurement

# A level's plateau ends where bandwidth falls below this part of it; a cache is told apart from main memory where it is
# this much faster.
_PLATEAU_RATIO = 0.75
_APART_RATIO = 1.2
# Near its capacity a cache already misses; a cache twice as large as the nearer ones no longer profits from them.
_FILLED_RATIO = 0.8
_CLEAR_RATIO = 2.0
# A set this many times the largest cache's size streams from main memory, but for a part that is lost in the noise.
_BEYOND_RATIO = 8.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """One memory level that was seen.

    Attributes:
        name: `l1`, `l2`, ..., `dram`.
        capacity_bytes: of all cores together.
        per_core: whether each core has its own part.
        bandwidth: the fastest of the working sets that stay in this level.
    """

    name: str
    capacity_bytes: float
    per_core: bool
    bandwidth: Measurement


def find_levels(
    ladder: Sequence[BandwidthPoint], caches: Sequence[CacheSize], *, cores: int, main_memory_bytes: float
) -> tuple[tuple[Level, ...], tuple[str, ...]]:
    """Levels that a bandwidth ladder shows, nearest first, main memory last.

    The system's cache sizes say only where to look: a plateau that ends early sets a smaller capacity, and a cache
    without a plateau of its own, or as slow as main memory, is dropped. Of all sets that show a level the fastest
    counts, for a neighbor can only slow them down.

    Args:
        ladder: bandwidth against working-set size, smallest set first; at least one point.
        caches: as the system describes them, nearest first.
        cores: that took part.
        main_memory_bytes: capacity of main memory.

    Returns:
        The levels, and notes on what was dropped or corrected.
    """
    notes: list[str] = []
    levels: list[Level] = []
    nearer_bytes = 0.0
    for cache in caches:
        told_bytes = float(cache.capacity_bytes * (cores if cache.per_core else 1))
        inside = [
            point
            for point in ladder
            if _CLEAR_RATIO * nearer_bytes <= point.working_set_bytes <= _FILLED_RATIO * told_bytes
        ]
        if not inside:
            notes.append(f"{cache.name}: dropped, no working set lies clearly inside its {_mib(told_bytes)}")
            continue
        held = _plateau(inside)
        capacity_bytes = told_bytes
        if len(held) < len(inside):
            capacity_bytes = float(held[-1].working_set_bytes)
            notes.append(
                f"{cache.name}: the system tells of {_mib(told_bytes)}, but bandwidth falls beyond "
                f"{_mib(capacity_bytes)}: taken as this machine's share"
            )
        bandwidth = max((point.best for point in held), key=lambda measurement: measurement.value)
        levels.append(
            Level(name=cache.name, capacity_bytes=capacity_bytes, per_core=cache.per_core, bandwidth=bandwidth)
        )
        nearer_bytes = capacity_bytes
    largest = ladder[-1]
    if levels and largest.working_set_bytes < _CLEAR_RATIO * nearer_bytes:
        notes.append(
            f"{levels[-1].name}: dropped, the largest working set of {_mib(largest.working_set_bytes)} is not clearly "
            "beyond it, so main memory's bandwidth may be this cache's"
        )
        levels.pop()
    least_bytes = _BEYOND_RATIO * nearer_bytes if nearer_bytes else largest.working_set_bytes
    beyond = [point for point in ladder if point.working_set_bytes >= least_bytes] or [largest]
    streamed = max((point.best for point in beyond), key=lambda measurement: measurement.value)
    levels.append(Level(name="dram", capacity_bytes=main_memory_bytes, per_core=False, bandwidth=streamed))
    return _told_apart(levels, notes)


def _plateau(points: list[BandwidthPoint]) -> list[BandwidthPoint]:
    """The points from the first one up to where bandwidth falls for good below its plateau."""
    top = max(point.best.value for point in points)
    holding = [index for index, point in enumerate(points) if point.best.value >= _PLATEAU_RATIO * top]
    return points[: holding[-1] + 1]


def _told_apart(levels: list[Level], notes: list[str]) -> tuple[tuple[Level, ...], tuple[str, ...]]:
    """Drop the caches that are not clearly faster than main memory; the others become as fast as the next one at least.

    Two caches of nearly the same bandwidth both stay: which of them a program fits in still decides its traffic, and a
    limit between them would make a level come and go from one calibration to the next.
    """
    kept = [levels[-1]]
    for level in reversed(levels[:-1]):
        if len(kept) == 1 and level.bandwidth.value < _APART_RATIO * kept[0].bandwidth.value:
            notes.append(f"{level.name}: dropped, not told apart from {kept[0].name} by its bandwidth")
        elif level.bandwidth.value < kept[0].bandwidth.value:
            notes.append(f"{level.name}: not faster than {kept[0].name}, which gives its bandwidth")
            kept.insert(0, replace(level, bandwidth=kept[0].bandwidth))
        else:
            kept.insert(0, level)
    return tuple(kept), tuple(notes)


def _mib(size_bytes: float) -> str:
    return f"{size_bytes / 2**20:.4g} MiB"
