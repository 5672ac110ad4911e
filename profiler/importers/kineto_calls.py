"""Groups kernels into calls, one per op that launched any, and explains by repetition those launched unseen."""

from collections import defaultdict
from collections.abc import Hashable
from dataclasses import dataclass

from profiler.importers.assembly import LaunchedCall, Mark
from profiler.importers.kineto_file import DeviceSpan, KinetoFile, get_arg
from profiler.importers.kineto_links import Link, link_kernels
from profiler.importers.kineto_marks import BEFORE_WINDOW, LAUNCH_NOT_RECORDED, MarkFinder
from profiler.importers.kineto_nesting import NONE, Nesting
from profiler.importers.kineto_ops import OpBuilder
from profiler.importers.repeats import match_run

# A shorter run repeats by chance: one fill kernel looks like any other.
SHORTEST_REPEAT_COUNT = 4


# The call of each kernel, and which of the call's kernels it is.
_Home = dict[int, tuple[LaunchedCall, int]]


def build_calls(file: KinetoFile) -> list[LaunchedCall]:
    """All calls of a file, in the order of their first kernels; every kernel belongs to exactly one."""
    ops = Nesting(file.ops)
    links = link_kernels(file, ops)
    builder = OpBuilder(ops)
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
    calls = explained + _explain_by_repetition(file.kernels, explained, orphans)
    return sorted(calls, key=lambda call: call.kernels[0])


def _group(links: list[Link]) -> list[tuple[int, ...]]:
    """Kernels of one op together, each other kernel alone."""
    groups: dict[tuple[str, int], list[int]] = defaultdict(list)
    for index, link in enumerate(links):
        groups[("op", link.anchor) if link.anchor != NONE else ("kernel", index)].append(index)
    return [tuple(group) for group in groups.values()]


def _explain_by_repetition(
    kernels: tuple[DeviceSpan, ...], explained: list[LaunchedCall], orphans: list[LaunchedCall]
) -> list[LaunchedCall]:
    """The orphans, with the ops of an equal run of kernels on their stream where one was recorded.

    A run counts as equal where names, grids, blocks, registers, shared memory and bytes all agree, kernel by kernel,
    and where all places at which it occurs mean the same ops. Calls that the run's ends cut stay unexplained.
    """
    by_kernel = {call.kernels[0]: call for call in orphans}
    known = [call for call in explained if call.attribution != "unexplained"]
    home = {index: (call, place) for call in known for place, index in enumerate(call.kernels)}
    orders: dict[tuple[int, int], list[int]] = defaultdict(list)
    for index, kernel in enumerate(kernels):
        orders[(kernel.device, kernel.stream)].append(index)
    repeated: list[LaunchedCall] = []
    for order in orders.values():
        runs = [run for run in _runs([index in by_kernel for index in order]) if len(run) >= SHORTEST_REPEAT_COUNT]
        if runs and any(index in home for index in order):
            stream = _Stream.build(order, kernels, home)
            for run in runs:
                repeated += _repeat(run, stream, home, by_kernel)
    done = {index for call in repeated for index in call.kernels}
    return repeated + [call for call in orphans if call.kernels[0] not in done]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stream:
    """Kernels of one stream in order: indices, what each looks like, and what each stands for where that is known."""

    order: tuple[int, ...]
    looks: tuple[int, ...]
    known_looks: tuple[int | None, ...]
    meanings: tuple[Hashable, ...]
    modules: tuple[str, ...]

    @classmethod
    def build(cls, order: list[int], kernels: tuple[DeviceSpan, ...], home: _Home) -> "_Stream":
        codes: dict[Hashable, int] = {}
        looks = tuple(codes.setdefault(_signature(kernels[index]), len(codes)) for index in order)
        places = [home.get(index) for index in order]
        return cls(
            order=tuple(order),
            looks=looks,
            known_looks=tuple(look if place else None for look, place in zip(looks, places, strict=True)),
            meanings=tuple((place[0].op, place[1], len(place[0].kernels)) if place else None for place in places),
            modules=tuple(place[0].mark.module if place else "" for place in places),
        )


def _repeat(run: range, stream: _Stream, home: _Home, by_kernel: dict[int, LaunchedCall]) -> list[LaunchedCall]:
    """Calls for the kernels at the positions `run` of a stream, as far as an equal run explains them."""
    looks = stream.looks[run.start : run.stop]
    at = match_run(looks, stream.known_looks, stream.meanings)
    if at is None:
        return []
    has_module = match_run(looks, stream.known_looks, stream.modules) is not None
    groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for offset, position in enumerate(run):
        groups[home[stream.order[at + offset]][0].kernels].append(stream.order[position])
    calls = []
    for original, group in groups.items():
        if len(group) != len(original):
            continue
        source = home[original[0]][0]
        mark = by_kernel[group[0]].mark._replace(module=source.mark.module if has_module else "")
        calls.append(LaunchedCall(op=source.op, kernels=tuple(group), attribution="repeat", mark=mark))
    return calls


def _signature(kernel: DeviceSpan) -> Hashable:
    shape = (get_arg(kernel.args, name) for name in ("grid", "block", "registers per thread", "shared memory", "bytes"))
    return (kernel.name, *map(repr, shape))


def _runs(flags: list[bool]) -> list[range]:
    """Positions of each unbroken run of true flags."""
    runs: list[range] = []
    for position, flag in enumerate(flags):
        if flag and runs and runs[-1].stop == position:
            runs[-1] = range(runs[-1].start, position + 1)
        elif flag:
            runs.append(range(position, position + 1))
    return runs
