"""`SharedRate`: a SimPy resource whose rate is shared fairly among the jobs on it, such as a memory's bandwidth."""

from dataclasses import dataclass
from math import ceil

import simpy

# A job whose rest is below this part of a picosecond is done: what float rounding leaves over.
_REST_PS = 1e-3


@dataclass(slots=True)
class _Job:
    """One job: picoseconds of the whole resource that remain, and the part of it that the job can use at most."""

    remaining_ps: float
    demand: float
    done: simpy.Event
    rate: float = 0.0


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
        self._advance()
        self._jobs.append(_Job(remaining_ps=duration_ps * demand, demand=demand, done=done))
        self._reschedule()
        return done

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
        free, waiting = 1.0, len(self._jobs)
        for job in sorted(self._jobs, key=lambda waiting_job: waiting_job.demand):
            job.rate = min(job.demand, free / waiting)
            free -= job.rate
            waiting -= 1
        next_ps = min(ceil((job.remaining_ps - _REST_PS * job.demand) / job.rate) for job in self._jobs)
        wake = self._env.timeout(max(1, next_ps), value=self._schedule)
        wake.callbacks.append(self._wake)

    def _wake(self, event: simpy.Event) -> None:
        if event.value != self._schedule:
            return  # the rates changed since; a later wake-up is under way
        self._advance()
        self._reschedule()
