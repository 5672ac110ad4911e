"""`SharedRate`: a SimPy resource whose rate is shared fairly among the jobs on it, such as a memory's bandwidth."""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil

import simpy

# A job whose rest is below this part of a picosecond is done: what float rounding leaves over.
_REST_PS = 1e-3
_REST_RATE = 1e-9  # and a rate below this is none


@dataclass(slots=True)
class _Job:
    """One job: picoseconds of the whole resource that remain, and the part of it that the job can use at most."""

    remaining_ps: float
    demand: float
    done: simpy.Event
    rate: float = 0.0
    waits: bool = False  # takes only what all others leave


class SharedRate:
    """Processor sharing with a limit per job (max-min fairness), on an integer clock of picoseconds.

    Alone, a job takes exactly its duration. Together, each gets an equal part of the rate, and what a job cannot use
    goes to the others.
    """

    def __init__(self, env: simpy.Environment) -> None:
        self._env = env
        self._jobs: list[_Job] = []
        self._last_ps = 0
        self._schedule = 0

    def run(self, duration_ps: int, demand: float = 1.0) -> simpy.Event:
        """Start a job.

        Args:
            duration_ps: how long it takes alone.
            demand: part of the resource that it uses then, in (0, 1].

        Returns:
            An event that fires when the job is done.
        """
        done = self._env.event()
        if duration_ps <= 0:
            return done.succeed()
        self._start(_Job(remaining_ps=duration_ps * demand, demand=demand, done=done))
        return done

    def run_behind(self, duration_ps: int) -> Callable[[], int]:
        """Start a job that takes only what all others leave of the rate.

        Args:
            duration_ps: how long it takes where nothing else runs.

        Returns:
            A function that ends the job and says how much of it was done, in whole picoseconds.
        """
        job = _Job(remaining_ps=duration_ps, demand=1.0, done=self._env.event(), waits=True)
        self._start(job)

        def stop() -> int:
            self._advance()
            self._jobs = [other for other in self._jobs if other is not job]
            self._reschedule()
            return min(duration_ps, int(duration_ps - max(0.0, job.remaining_ps)))

        return stop

    def _start(self, job: _Job) -> None:
        self._advance()
        self._jobs.append(job)
        self._reschedule()

    def _advance(self) -> None:
        """Account for what was done since the rates last changed, and let finished jobs go."""
        now_ps = int(self._env.now)
        elapsed_ps, self._last_ps = now_ps - self._last_ps, now_ps
        if not elapsed_ps:
            return
        for job in self._jobs:
            job.remaining_ps -= job.rate * elapsed_ps
        for job in self._jobs:
            if job.remaining_ps <= _REST_PS * job.demand:
                job.done.succeed()
        self._jobs = [job for job in self._jobs if not job.done.triggered]

    def _reschedule(self) -> None:
        """Give out the rate anew and wake up when the first job will be done."""
        self._schedule += 1
        if not self._jobs:
            return
        free = 1.0
        for is_last in (False, True):
            alike = [job for job in self._jobs if job.waits is is_last]
            waiting = len(alike)
            for job in sorted(alike, key=lambda waiting_job: waiting_job.demand):
                job.rate = min(job.demand, free / waiting) if free > _REST_RATE else 0.0
                free -= job.rate
                waiting -= 1
        running = [job for job in self._jobs if job.rate > 0]
        if not running:
            return
        next_ps = min(ceil((job.remaining_ps - _REST_PS * job.demand) / job.rate) for job in running)
        wake = self._env.timeout(max(1, next_ps), value=self._schedule)
        wake.callbacks.append(self._wake)

    def _wake(self, event: simpy.Event) -> None:
        if event.value != self._schedule:
            return  # the rates changed since; a later wake-up is under way
        self._advance()
        self._reschedule()
