"""Evaluation on a Ray cluster; `ray` comes with `roofscape[cluster]`."""

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from explorer.errors import ExplorationError
from explorer.parameters import Columns
from explorer.result import Evaluate, Result

_RETRIES = -1  # a chunk whose node dies is given to another, however often


@contextmanager
def ray_map(evaluate: Evaluate) -> Iterator[tuple[Callable[[Sequence[Columns]], list[Result]], int]]:
    """A function that evaluates chunks on the cluster, in order, and how many cores the cluster has.

    A cluster that `ray start` started here, or that RAY_ADDRESS names, is joined; without one, Ray is started on this
    machine and stopped at the end. Each node needs this program installed.

    Raises:
        ExplorationError: Ray is not installed.
    """
    try:
        import ray  # noqa: PLC0415 - optional
    except ImportError:
        raise ExplorationError("--engine ray needs ray: pip install 'roofscape[cluster]'") from None
    ours = not ray.is_initialized()
    if ours:
        try:
            ray.init(address="auto", log_to_driver=False, logging_level=logging.WARNING)
        except ConnectionError:
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nobody asked for reports to Ray's makers
            ray.init(log_to_driver=False, include_dashboard=False, logging_level=logging.WARNING)
    try:
        function = ray.put(evaluate)
        remote = ray.remote(max_retries=_RETRIES)(_run)

        def run(chunks: Sequence[Columns]) -> list[Result]:
            try:
                results: list[Result] = ray.get([remote.remote(function, chunk) for chunk in chunks])
            except ray.exceptions.RayTaskError as error:
                if isinstance(error.cause, ExplorationError):
                    raise error.cause from None  # its one line, without the trace of the other machine
                raise
            return results

        resources: Callable[[], dict[str, float]] = ray.cluster_resources
        yield run, max(int(resources().get("CPU", 1)), 1)
    finally:
        if ours:
            ray.shutdown()


def _run(evaluate: Evaluate, designs: Columns) -> Result:
    return evaluate(designs)
