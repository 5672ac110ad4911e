"""Tracks of a trace's calls: phases, steps and modules around them, the calls by stream, and counters below them."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from profiler.op import Op
from profiler.traces import FloatArray, IntArray, Trace, ops_columns
from reports.exporters.rates import binned_amounts
from reports.exporters.trace_events import (
    counter_events,
    json_text,
    process_name,
    run_events,
    slice_events,
    thread_name,
)
from reports.exporters.tracks import Run, Spans, lanes, overlap, path_codes, runs, spans_of
from roofline.points import op_label

BINS = 2_000  # of a counter: more than a screen has columns
_MODULE_TIDS = 100  # first track of the modules, one for each depth where one track cannot hold them
_CALL_TIDS = 1_000  # first track of the calls
_LANES = 100  # most lanes of one stream; a lane is a track


@dataclass(frozen=True, kw_only=True, eq=False)
class HostTracks:
    """One group of tracks: the calls of a trace at measured or at simulated times.

    Attributes:
        pid: number of the group.
        title: its name; says whether times were measured or are predicted.
        category: of the calls' slices.
        trace: what ran.
        spans: when each call ran, of those that have a time.
        energy_j: of each call of the trace, NaN where unknown, [calls].
        power_name: of the power counter.
    """

    pid: int
    title: str
    category: str
    trace: Trace
    spans: Spans
    energy_j: FloatArray
    power_name: str = "power"

    def events(self) -> Iterator[str]:
        """JSON text of all events of the group."""
        yield from process_name(self.pid, self.title, self.pid)
        yield from self._phase_events()
        yield from self._module_events()
        yield from self._call_events()
        yield from self._counter_events()

    @cached_property
    def call_tids(self) -> IntArray:
        """Track of each span's call, [spans]: lanes of the first stream, then of the next."""
        stream = self.trace.calls.stream[self.spans.index]
        tids = np.zeros(len(self.spans), dtype=np.int64)
        for number, one in enumerate(self._streams):
            mask = stream == one
            lane = np.minimum(lanes(self.spans.start_ns[mask], self.spans.end_ns[mask]), _LANES - 1)
            tids[mask] = _CALL_TIDS + number * _LANES + lane
        return tids

    @cached_property
    def _streams(self) -> list[int]:
        return [int(stream) for stream in np.unique(self.trace.calls.stream[self.spans.index])]

    def _phase_events(self) -> Iterator[str]:
        calls, index = self.trace.calls, self.spans.index
        phases, names = path_codes(calls.phase[index], self.trace.phases, "/")
        yield from self._run_events(1, "phases", "phase", list(runs(self.spans, phases, names)))
        steps = np.unique(calls.step[index])
        code = np.searchsorted(steps, calls.step[index])
        code = np.where(calls.step[index] < 0, -1, code)
        shown = [f"step {step}" for step in steps.tolist()]
        inside = list(runs(self.spans, [calls.phase[index], code], [self.trace.phases, shown]))
        yield from self._run_events(50, "steps", "step", [run for run in inside if run.depth == 1])

    def _module_events(self) -> Iterator[str]:
        calls, index = self.trace.calls, self.spans.index
        separator = "/" if any("/" in path for path in self.trace.modules) else "."
        codes, names = path_codes(calls.module[index], self.trace.modules, separator)
        # A step ends every module that runs in it, so the first depth is the step and is not drawn.
        step = calls.phase[index] * (int(calls.step.max(initial=-1)) + 2) + calls.step[index] + 1
        nameless = ("",) * (int(step.max(initial=0)) + 1)
        found = runs(self.spans, [step, *codes], [nameless, *names])
        yield from self._run_events(_MODULE_TIDS, "modules", "module", [run for run in found if run.depth > 0])

    def _run_events(self, tid: int, name: str, category: str, found: list[Run]) -> Iterator[str]:
        """One track of nested runs; a track for each depth and lane where runs overlap."""
        if not found:
            return
        deepest = max(run.depth for run in found)
        if not overlap(found):
            yield from thread_name(self.pid, tid, name)
            yield from run_events(self.pid, [tid] * (deepest + 1), category, found)
            return
        for depth in sorted({run.depth for run in found}):
            same = [run for run in found if run.depth == depth]
            lane = lanes(np.array([run.start_ns for run in same]), np.array([run.end_ns for run in same]))
            for number in range(int(lane.max()) + 1):
                yield from thread_name(self.pid, tid, f"{name}, depth {depth + 1}, lane {number + 1}")
                held = [run for run, where in zip(same, lane.tolist(), strict=True) if where == number]
                yield from run_events(self.pid, [tid] * (deepest + 1), category, held)
                tid += 1

    def _call_events(self) -> Iterator[str]:
        calls, index = self.trace.calls, self.spans.index
        for tid in np.unique(self.call_tids).tolist():
            stream, lane = divmod(tid - _CALL_TIDS, _LANES)
            name = f"operations of stream {self._streams[stream]}"
            yield from thread_name(self.pid, tid, f"{name}, lane {lane + 1}" if lane else name)
        ops = [_op_text(op, self.category) for op in self.trace.ops]
        phases = [f'"phase":{json_text(phase)}' for phase in self.trace.phases]
        modules = [f'"module":{json_text(module)}' for module in self.trace.modules]
        columns = (calls.op, calls.phase, calls.module, calls.step)
        op, phase, module, step = (column[index].tolist() for column in columns)
        tails = (
            f'{ops[o][1]},{phases[p]},{modules[m]},"step":{s},"External id":{i + 1}'
            for o, p, m, s, i in zip(op, phase, module, step, index.tolist(), strict=True)
        )
        heads = [ops[o][0] for o in op]
        yield from slice_events(self.pid, self.call_tids, self.spans.start_ns, self.spans.end_ns, heads, tails)

    def _counter_events(self) -> Iterator[str]:
        if not len(self.spans):
            return
        start_ns, end_ns, call, share = self._work()
        edges = np.linspace(float(start_ns.min()), max(float(end_ns.max()), float(start_ns.min()) + 1.0), BINS + 1)
        widths_s = np.diff(edges) * 1e-9
        columns = ops_columns(self.trace.ops)
        moved = np.asarray(columns["read_bytes"]) + np.asarray(columns["write_bytes"])
        for name, series, per_op in (
            ("achieved FLOP/s", "flops_per_s", np.asarray(columns["required_flops"])),
            ("achieved bytes/s", "bytes_per_s", moved),
        ):
            amount = np.asarray(per_op, dtype=np.float64)[self.trace.calls.op[call]] * share
            known = np.isfinite(amount)
            if known.any():
                rates = binned_amounts(start_ns[known], end_ns[known], amount[known], edges) / widths_s
                at = np.rint(edges).astype(np.int64)
                yield from counter_events(self.pid, name, series, at, np.append(rates, 0.0))
        yield from self._power_events(start_ns, end_ns, self.energy_j[call] * share, edges)

    def _power_events(
        self, start_ns: IntArray, end_ns: IntArray, energy_j: FloatArray, edges: FloatArray
    ) -> Iterator[str]:
        """Mean power while calls of known energy ran; where none ran it is unknown, and nothing is written."""
        known = np.isfinite(energy_j) & (end_ns > start_ns)
        if not known.any():
            return
        start_ns, end_ns = start_ns[known], end_ns[known]
        joules = binned_amounts(start_ns, end_ns, energy_j[known], edges)
        seconds = binned_amounts(start_ns, end_ns, np.asarray((end_ns - start_ns) * 1e-9, dtype=np.float64), edges)
        covered = seconds > 1e-6 * np.diff(edges) * 1e-9
        at = np.rint(edges[:-1][covered]).astype(np.int64)
        yield from counter_events(self.pid, self.power_name, "power_w", at, joules[covered] / seconds[covered])

    def _work(self) -> tuple[IntArray, IntArray, IntArray, FloatArray]:
        """When the calls' work was done: start and end of its pieces, the call of each, and its share of the call.

        A call that launched kernels worked while they ran; others worked from their start to their end.
        """
        spans, kernels = self.spans, self.trace.kernels
        ones = np.ones(len(spans))
        if self.category == "simulated" or not len(kernels):
            return spans.start_ns, spans.end_ns, spans.index, ones
        device = spans_of(kernels.start_s, kernels.duration_s)
        call, lasted_s = kernels.call[device.index], kernels.duration_s[device.index]
        launched_s = np.bincount(call, weights=lasted_s, minlength=len(self.trace.calls))
        alone = launched_s[spans.index] <= 0
        worked = launched_s[call] > 0
        return (
            np.concatenate([spans.start_ns[alone], device.start_ns[worked]]),
            np.concatenate([spans.end_ns[alone], device.end_ns[worked]]),
            np.concatenate([spans.index[alone], call[worked]]),
            np.concatenate([ones[alone], lasted_s[worked] / launched_s[call[worked]]]),
        )


def _op_text(op: Op, category: str) -> tuple[str, str]:
    """JSON text of a slice's name and category, and of its arguments; what is unknown is null."""
    moved = None if None in (op.read_bytes(), op.write_bytes()) else (op.read_bytes() or 0) + (op.write_bytes() or 0)
    arguments = {
        "kind": op.kind,
        "op": op_label(op),
        "flops": op.flops,
        "required_flops": op.required_flops,
        "bytes": moved,
    }
    return f'"name":{json_text(op.name)},"cat":"{category}"', json_text(arguments)[1:-1]
