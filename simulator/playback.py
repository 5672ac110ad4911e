"""`Playback`: host, launch queues and streams as SimPy processes that play a trace's calls."""

from collections.abc import Generator
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Literal

import simpy

from roofline.chip import Chip
from simulator.handover import Handover, busy_ps
from simulator.host import HostIssue
from simulator.kernel_process import Device, KernelWork, play_kernel, to_ps

_Events = Generator[simpy.Event, object, None]
_State = Literal["ready", "running", "starved", "blocked", "finished"]


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedCall:
    """What the host does for a call, in whole picoseconds.

    Attributes:
        first_ps: until its first kernel is issued.
        rest_ps: from there to its last one.
        kernels: kernels of the call, alike in length.
    """

    first_ps: int
    rest_ps: int
    kernels: int


def issue_in_ps(issue: HostIssue) -> list[IssuedCall]:
    """The columns as a row a call."""
    columns = (issue.first_s.tolist(), issue.rest_s.tolist(), issue.kernels.tolist())
    return [
        IssuedCall(first_ps=to_ps(first_s), rest_ps=to_ps(rest_s), kernels=round(kernels))
        for first_s, rest_s, kernels in zip(*columns, strict=True)
    ]


class Playback:
    """One run of a sequence of calls.

    The host issues calls in order, each after its dispatch time, into the queue of the call's stream, and stops while
    that queue is full. A call of several kernels may begin with the first, and ends no sooner than one of them behind
    the issue of the last. A stream runs its calls in order, each as soon as it is issued and the calls on other streams
    that it depends on are done. A kernel that nothing can meet takes its known time alone; otherwise it is played wave
    by wave against the others. What a kernel finds done when it begins (its launch, its weights) is the `Handover`'s
    part. Stream states: `starved` waits for the host, `blocked` for another stream.
    """

    def __init__(
        self,
        *,
        chip: Chip,
        handover: Handover,
        joins: list[bool],
        op: list[int],
        stream: list[int],
        dependencies: dict[int, tuple[int, ...]],
        issue: list[IssuedCall],
        queue_depth: int,
    ) -> None:
        self._env = simpy.Environment()
        self._device = Device(self._env, chip)
        self._handover, self._joins = handover, joins
        self._op, self._stream = op, stream
        self._dependencies = dependencies
        self._issue, self._queue_depth = issue, queue_depth
        self._has_host = any(call.first_ps or call.rest_ps for call in issue)
        self._issued = 0 if self._has_host else len(op)
        # When each call's first kernel is issued if no queue is full.
        done_ps = accumulate((call.first_ps + call.rest_ps for call in issue), initial=0)
        self._issue_ps = [before_ps + call.first_ps for before_ps, call in zip(done_ps, issue, strict=False)]
        self._last_issued_ps: dict[int, int] = {}
        self._wake_last: dict[int, simpy.Event] = {}
        self._queued = dict.fromkeys(stream, 0)
        self._state: dict[int, _State] = dict.fromkeys(self._queued, "ready")
        self._wake_stream: dict[int, simpy.Event] = {}
        self._wake_host: tuple[int, simpy.Event] | None = None
        self._finished = [False] * len(op)
        self._waiters: dict[int, list[tuple[int, simpy.Event]]] = {}
        self._next_other = _next_on_other_stream(stream) if len(self._queued) > 1 else []
        self.start_ps = [0] * len(op)
        self.end_ps = [0] * len(op)

    def run(self) -> None:
        """Play all calls; `start_ps` and `end_ps` then hold their times."""
        calls_of: dict[int, list[int]] = {stream: [] for stream in self._queued}
        for call, stream in enumerate(self._stream):
            calls_of[stream].append(call)
        if self._has_host:
            self._env.process(self._host())
        for stream, calls in calls_of.items():
            self._env.process(self._run_stream(stream, calls))
        self._env.run()

    def _host(self) -> _Events:
        env = self._env
        for call, stream in enumerate(self._stream):
            issue = self._issue[call]
            if issue.first_ps:
                yield env.timeout(issue.first_ps)
            while self._queued[stream] >= self._queue_depth:
                slot = env.event()
                self._wake_host = (stream, slot)
                yield slot
            self._queued[stream] += 1
            self._issued = call + 1
            if self._state[stream] == "starved":
                self._state[stream] = "ready"
                self._wake_stream.pop(stream).succeed()
            if issue.rest_ps:
                yield env.timeout(issue.rest_ps)
                self._last_issued_ps[call] = int(env.now)
                if call in self._wake_last:
                    self._wake_last.pop(call).succeed()

    def _run_stream(self, stream: int, calls: list[int]) -> _Events:
        env, ops, done_ps = self._env, self._op, 0
        for call, following in zip(calls, [*calls[1:], -1], strict=True):
            if call >= self._issued:
                self._state[stream] = "starved"
                self._wake_stream[stream] = env.event()
                yield self._wake_stream[stream]
            for source in self._dependencies.get(call, ()):
                if not self._finished[source]:
                    self._state[stream] = "blocked"
                    done = env.event()
                    self._waiters.setdefault(source, []).append((stream, done))
                    yield done
            if self._has_host:
                self._take(stream)
            self._state[stream] = "running"
            self.start_ps[call] = int(env.now)
            op = ops[call]
            work, alone_ps = self._handover.work(op, joins=self._joins[call], done_ps=done_ps)
            wanted_ps = self._handover.wanted_ps(op, ops[following]) if following >= 0 else 0
            if self._is_alone(stream, alone_ps):
                yield env.timeout(alone_ps)
                idle_ps = alone_ps - work.launch_ps - busy_ps(work, self._handover.main_memory)
                done_ps = min(wanted_ps, max(0, idle_ps))
            elif wanted_ps:
                done_ps = yield from self._play_and_load(work, wanted_ps)
            else:
                yield from play_kernel(self._device, work)
                done_ps = 0
            if self._issue[call].rest_ps:
                yield from self._until_last_kernel(call, alone_ps)
            self._finish(call, stream)
        self._state[stream] = "finished"

    def _play_and_load(self, work: KernelWork, wanted_ps: int) -> Generator[simpy.Event, object, int]:
        """Play a kernel, and load for the next one in what it and all others leave of main memory's time."""
        yield self._env.timeout(work.launch_ps)
        stop = self._device.resources[self._handover.main_memory].run_behind(wanted_ps)
        yield from play_kernel(self._device, replace(work, launch_ps=0))
        return stop()

    def _until_last_kernel(self, call: int, alone_ps: int) -> _Events:
        """Wait for the call's last kernel, as long as all of them alone over their number, behind its issue."""
        if call not in self._last_issued_ps:
            self._wake_last[call] = self._env.event()
            yield self._wake_last[call]
        late_ps = self._last_issued_ps.pop(call) + alone_ps // self._issue[call].kernels - int(self._env.now)
        if late_ps > 0:
            yield self._env.timeout(late_ps)

    def _take(self, stream: int) -> None:
        """Take a call from a stream's queue, and let the host go on if it waits for that."""
        self._queued[stream] -= 1
        if self._wake_host is not None and self._wake_host[0] == stream:
            _, slot = self._wake_host
            self._wake_host = None
            slot.succeed()

    def _finish(self, call: int, stream: int) -> None:
        self.end_ps[call] = int(self._env.now)
        self._finished[call] = True
        self._state[stream] = "ready"
        for waiting, done in self._waiters.pop(call, ()):
            self._state[waiting] = "ready"
            done.succeed()

    def _is_alone(self, stream: int, duration_ps: int) -> bool:
        """Whether no kernel of another stream can start or run before a kernel of this duration ends.

        Another stream that is blocked stays so, since nothing else runs that it could wait for; one that is starved
        stays so until the host has dispatched everything before its next call.
        """
        if len(self._state) == 1:
            return True
        if any(state in ("ready", "running") for other, state in self._state.items() if other != stream):
            return False
        if self._issued >= len(self._op):
            return True
        following = self._issued
        if self._stream[following] == stream:
            following = self._next_other[following]
        if following >= len(self._op):
            return True
        return self._issue_ps[following] - self._issue_ps[self._issued] >= duration_ps


def _next_on_other_stream(stream: list[int]) -> list[int]:
    """For each call the next one on a different stream, or the number of calls where there is none."""
    following = [len(stream)] * len(stream)
    for call in range(len(stream) - 2, -1, -1):
        following[call] = call + 1 if stream[call + 1] != stream[call] else following[call + 1]
    return following
