"""Evaluates batches on all cores of this machine, or of a Ray cluster, with the results of one core."""

import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager

from explorer.errors import ExplorationError
from explorer.parameters import Columns
from explorer.result import Evaluate, Result, check_rows, join

ENGINES = ("local", "ray")
_CHUNKS_PER_PROCESS = 2
_SMALLEST_CHUNK = 16
# A worker is one core: no threads below it. And it keeps its arrays' memory: giving it back and asking again after
# every operation takes the system a fifth of the time (glibc's mallopt; other C libraries ignore the names).
_WORKER_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MALLOC_MMAP_THRESHOLD_": str(2**30),
    "MALLOC_TRIM_THRESHOLD_": str(2**30),
}

_log = logging.getLogger(__name__)
_evaluate: Evaluate | None = None  # in worker processes: what they were started with


@contextmanager
def evaluator(
    evaluate: Evaluate, *, engine: str = "local", processes: int | None = None, retries: int = 3
) -> Iterator[Evaluate]:
    """The same function, run by many workers: designs are split in order, and the rows come back in order.

    Args:
        evaluate: a function that can be pickled, whose rows depend on their own design only.
        engine: `local` for processes of this machine, `ray` for a Ray cluster.
        processes: how many workers; all cores (of the cluster) without it. One local process is this one.
        retries: how often in a row local workers may die before it is an error.

    Raises:
        ExplorationError: an unknown engine, no processes, Ray is missing, or workers that die again and again.
    """
    if engine not in ENGINES:
        raise ExplorationError(f"unknown engine {engine!r}; known: {', '.join(ENGINES)}")
    if processes is not None and processes < 1:
        raise ExplorationError(f"the number of processes must be at least 1, got {processes}")
    if engine == "ray":
        from explorer.ray_engine import ray_map  # noqa: PLC0415 - ray is optional

        with ray_map(evaluate) as (mapped, workers):
            yield _split(mapped, processes or workers)
        return
    processes = processes or count_cores()
    if processes == 1:
        yield evaluate
        return
    with _environment(_WORKER_ENVIRONMENT):
        pool = _Pool(evaluate, processes, retries)
        try:
            yield _split(pool.map, processes)
        finally:
            pool.close()


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """These variables for processes started meanwhile, unless the user has set them."""
    added = {name: value for name, value in variables.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


def count_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _split(mapped: Callable[[Sequence[Columns]], list[Result]], workers: int) -> Evaluate:
    def run(designs: Columns) -> Result:
        count = len(next(iter(designs.values())))
        size = max(-(-count // (workers * _CHUNKS_PER_PROCESS)), _SMALLEST_CHUNK)
        starts = range(0, count, size) if count else (0,)
        chunks = [{name: column[start : start + size] for name, column in designs.items()} for start in starts]
        return check_rows(join(mapped(chunks)), count)

    return run


class _Pool:
    """Processes of this machine; where one dies, they are started again and unfinished chunks are given out anew."""

    def __init__(self, evaluate: Evaluate, processes: int, retries: int) -> None:
        self._retries = retries
        self._start: Callable[[], ProcessPoolExecutor] = lambda: ProcessPoolExecutor(
            max_workers=processes,
            mp_context=multiprocessing.get_context("spawn"),  # forking a process with threads may hang
            initializer=_remember,
            initargs=(evaluate,),
        )
        self._pool = self._start()

    def map(self, chunks: Sequence[Columns]) -> list[Result]:
        results: dict[int, Result] = {}
        deaths = 0
        while len(results) < len(chunks):
            open_chunks = [c for c in range(len(chunks)) if c not in results]
            before = len(results)
            try:
                futures = {c: self._pool.submit(_run, chunks[c]) for c in open_chunks}
                for c, future in futures.items():
                    results[c] = future.result()
            except BrokenProcessPool:
                deaths = 1 if len(results) > before else deaths + 1
                if deaths > self._retries:
                    raise ExplorationError(
                        f"worker processes died {deaths} times over the same designs (out of memory?); "
                        "use fewer with --processes N"
                    ) from None
                _log.warning("a worker process died; its designs are evaluated again")
                self._pool.shutdown(wait=True, cancel_futures=True)
                self._pool = self._start()
        return [results[c] for c in range(len(chunks))]

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)


def _end_with_parent() -> None:
    """Wait for the process that gives out the work; where it was killed, nobody else would end this one."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _remember(evaluate: Evaluate) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that gives out the work
    global _evaluate  # noqa: PLW0603 - the one way to keep what a worker is started with
    _evaluate = evaluate


def _run(designs: Columns) -> Result:
    if _evaluate is None:
        raise RuntimeError("worker started without a function")
    return _evaluate(designs)
