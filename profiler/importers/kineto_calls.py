"""Groups kernels into calls, one per op that launched any, and explains by repetition those launched unseen."""

from collections import defaultdict
from collections.abc import Hashable
from dataclasses import dataclass

from profiler.importers.kineto_file import DeviceSpan, KinetoFile, get_arg
from profiler.importers.kineto_links import Link, link_kernels
from profiler.importers.kineto_marks import BEFORE_WINDOW, LAUNCH_NOT_RECORDED, Mark, MarkFinder
from profiler.importers.kineto_nesting import NONE, Nesting
from profiler.importers.kineto_ops import OpBuilder
from profiler.importers.repeats import match_run
from profiler.op import Op

# A shorter run repeats by chance: one fill kernel looks like any other.
SHORTEST_REPEAT_COUNT = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchedCall:
    """One call: its op, the indices of its kernels, how they were attributed, and where in the program it stood."""

    op: Op
    kernels: tuple[int, ...]
    attribution: str
    mark: Mark


def build_calls(file: KinetoFile, *, strict: bool = False) -> list[LaunchedCall]:
    """All calls of a file, in the order of their first kernels; every kernel belongs to exactly one."""
    ops = Nesting(file.ops)
    links = link_kernels(file, ops)
    builder = OpBuilder(ops, strict=strict)
    marks = MarkFinder(file)
    before_ps = min((file.launches[link.launch].start_ps for link in links if link.launch != NONE), default=None)
    explained: list[LaunchedCall] = []
    orphans: list[LaunchedCall] = []
    for group in _group(links):
        first = group[0]
        link = links[first]
        if link.launch != NONE:
            mark = marks.find(file.launches[link.launch])
        elif link.anchor != NONE:
            mark = marks.find(file.ops[link.anchor])
        else:
            is_early = before_ps is not None and file.kernels[first].start_ps < before_ps
            mark = Mark(phase=BEFORE_WINDOW if is_early else LAUNCH_NOT_RECORDED)
        op = builder.build(link.anchor, [file.kernels[index] for index in group])
        call = LaunchedCall(op=op, kernels=group, attribution=link.attribution, mark=mark)
        (orphans if link.anchor == NONE and link.launch == NONE else explained).append(call)
    calls = explained + _explain_by_repetition(file.kernels, links, explained, orphans)
    return sorted(calls, key=lambda call: call.kernels[0])


def _group(links: list[Link]) -> list[tuple[int, ...]]:
    """Kernels of one op together, each other kernel alone."""
    groups: dict[tuple[str, int], list[int]] = defaultdict(list)
    for index, link in enumerate(links):
        groups[("op", link.anchor) if link.anchor != NONE else ("kernel", index)].append(index)
    return [tuple(group) for group in groups.values()]


def _explain_by_repetition(
    kernels: tuple[DeviceSpan, ...], links: list[Link], explained: list[LaunchedCall], orphans: list[LaunchedCall]
) -> list[LaunchedCall]:
    """The orphans, with the ops of an equal run of kernels on their stream where one was recorded.

    A run counts as equal where names, grids, blocks, registers, shared memory and bytes all agree, kernel by kernel,
    and where all places at which it occurs mean the same ops. Calls that the run's ends cut stay unexplained.
    """
    by_kernel = {call.kernels[0]: call for call in orphans}
    home = {index: call for call in explained if call.attribution != "unexplained" for index in call.kernels}
    streams: dict[tuple[int, int], list[int]] = defaultdict(list)
    for index, kernel in enumerate(kernels):
        streams[(kernel.device, kernel.stream)].append(index)
    repeated: list[LaunchedCall] = []
    for order in streams.values():
        sequence: list[Hashable] = [_signature(kernels[index]) if index in home else None for index in order]
        for start, end in _runs([index in by_kernel for index in order]):
            if end - start >= SHORTEST_REPEAT_COUNT:
                repeated += _repeat(kernels, order, sequence, (start, end), home, by_kernel)
    done = {index for call in repeated for index in call.kernels}
    return repeated + [call for call in orphans if call.kernels[0] not in done]


def _repeat(
    kernels: tuple[DeviceSpan, ...],
    order: list[int],
    sequence: list[Hashable],
    run: tuple[int, int],
    home: dict[int, LaunchedCall],
    by_kernel: dict[int, LaunchedCall],
) -> list[LaunchedCall]:
    """Calls for the kernels at positions `run` of a stream, as far as an equal run explains them."""
    members = order[run[0] : run[1]]
    wanted = [_signature(kernels[index]) for index in members]
    meanings = [_meaning(index, home) for index in order]
    at = match_run(wanted, sequence, meanings)
    if at is None:
        return []
    with_modules = [
        (meaning, home[i].mark.module if i in home else "") for i, meaning in zip(order, meanings, strict=True)
    ]
    has_module = match_run(wanted, sequence, with_modules) is not None
    groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for offset, index in enumerate(members):
        groups[home[order[at + offset]].kernels].append(index)
    calls = []
    for original, group in groups.items():
        if len(group) != len(original):
            continue
        source = home[original[0]]
        mark = by_kernel[group[0]].mark._replace(module=source.mark.module if has_module else "")
        calls.append(LaunchedCall(op=source.op, kernels=tuple(group), attribution="repeat", mark=mark))
    return calls


def _meaning(index: int, home: dict[int, LaunchedCall]) -> Hashable:
    """What a kernel stands for: the op of its call and which of the call's kernels it is."""
    if index not in home:
        return None
    call = home[index]
    return call.op, call.kernels.index(index), len(call.kernels)


def _signature(kernel: DeviceSpan) -> Hashable:
    shape = (get_arg(kernel.args, name) for name in ("grid", "block", "registers per thread", "shared memory", "bytes"))
    return (kernel.name, *map(repr, shape))


def _runs(flags: list[bool]) -> list[tuple[int, int]]:
    """First and one past the last position of each run of true flags."""
    runs: list[tuple[int, int]] = []
    for position, flag in enumerate(flags):
        if flag and runs and runs[-1][1] == position:
            runs[-1] = (runs[-1][0], position + 1)
        elif flag:
            runs.append((position, position + 1))
    return runs
