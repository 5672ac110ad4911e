"""Several ranks of a distributed run: one Kineto file each, on one clock and in one trace."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from profiler.errors import TraceError
from profiler.importers.assembly import LaunchedCall
from profiler.importers.kineto_file import KinetoFile, as_integer, read_kineto

_PICOSECONDS_PER_NANOSECOND = 1000
_MOST_RANKS = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class RankFile:
    """The file of one rank, and what its times count from."""

    rank: int
    file: KinetoFile
    base_ps: int


def read_ranks(folder: Path) -> tuple[RankFile, ...]:
    """The files of a folder, by rank.

    Raises:
        TraceError: where there is none, one names no rank, or two name the same.
    """
    paths = sorted(path for path in folder.iterdir() if path.name.endswith((".json", ".json.gz")))
    if not paths:
        raise TraceError(f"{folder}: cannot be read: a folder without .json or .json.gz files")
    found: dict[int, tuple[Path, KinetoFile]] = {}
    for path in paths:
        file = read_kineto(path)
        rank = recorded_rank(file)
        if rank is None or not 0 <= rank < _MOST_RANKS:
            raise TraceError(f"{path}: names no rank (distributedInfo.rank); import the files one by one")
        if rank in found:
            raise TraceError(f"{path}: is of rank {rank}, as is {found[rank][0].name}; keep one file per rank")
        found[rank] = (path, file)
    return tuple(RankFile(rank=rank, file=file, base_ps=base_ps(file)) for rank, (_, file) in sorted(found.items()))


def recorded_rank(file: KinetoFile) -> int | None:
    """Rank of the process that wrote a file, None where it does not say."""
    info = file.header.get("distributedInfo")
    return as_integer(info.get("rank")) if isinstance(info, dict) else None


def base_ps(file: KinetoFile) -> int:
    """What the times of a file count from: `baseTimeNanoseconds`, or 1970 itself where an older file has none."""
    nanoseconds = as_integer(file.header.get("baseTimeNanoseconds"))
    return (nanoseconds or 0) * _PICOSECONDS_PER_NANOSECOND


def join_ranks(calls: Sequence[LaunchedCall], rank: int, first_kernel: int) -> list[LaunchedCall]:
    """The calls of one rank, with their kernels counted from `first_kernel` and the rank as outermost phase."""
    return [
        replace(
            call,
            kernels=tuple(index + first_kernel for index in call.kernels),
            mark=call.mark._replace(phase=f"rank {rank}/{call.mark.phase}".rstrip("/")),
        )
        for call in calls
    ]
