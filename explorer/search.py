"""Which designs to evaluate next (full grid, Sobol points, NSGA-II), and the loop that evaluates and keeps them."""

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from explorer.errors import ExplorationError
from explorer.parameters import BLOCK_DESIGNS, ParameterSpace
from explorer.result import Evaluate, IntArray, Result, check_rows

Proposals = Generator[IntArray, Result, None]
"""Yields the designs of the next batch and is sent their results."""

STRATEGIES = ("grid", "sobol", "nsga2")


class Memory(Protocol):
    """What keeps results beyond the run, such as `explorer.store.StoredRun`."""

    def complete(self, index: IntArray, compute: Callable[[IntArray], Result]) -> tuple[Result, NDArray[np.bool_]]:
        """Results of `index` [D]: those known, and those computed now, which the mask [D] tells."""
        ...  # pragma: no cover - a protocol


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Batch:
    """Designs that are done.

    Attributes:
        index: their numbers in the space, [D].
        result: one row each.
        computed: which were evaluated now; the others were known from before, [D].
        evaluations: designs of the search so far, this batch included.
    """

    index: IntArray
    result: Result
    computed: NDArray[np.bool_]
    evaluations: int


def propose(
    strategy: str, space: ParameterSpace, *, designs: int | None = None, seed: int = 0, block: int = BLOCK_DESIGNS
) -> Proposals:
    """The strategy by its name.

    Args:
        strategy: `grid`, `sobol` or `nsga2`.
        space: what may vary.
        designs: how many to evaluate at most; a grid takes all.
        seed: of what is random.
        block: designs in a batch of the grid and of Sobol points.

    Raises:
        ExplorationError: an unknown name, a number of designs that is missing or below one, a grid that is too large.
    """
    if strategy not in STRATEGIES:
        raise ExplorationError(f"unknown sampling {strategy!r}; known: {', '.join(STRATEGIES)}")
    if designs is not None and designs < 1:
        raise ExplorationError(f"the number of designs must be at least 1, got {designs}")
    if strategy == "grid":
        blocks = space.grid(block=block)
        if designs is not None and designs < space.size:
            raise ExplorationError(
                f"a grid is all {space.size:,} designs, its first {designs:,} would be one corner of the space; "
                f"use --sampling sobol or nsga2 with --designs {designs}"
            )
        return _blocks(blocks)
    if designs is None:
        raise ExplorationError(f"--sampling {strategy} needs the number of designs: --designs N")
    if strategy == "sobol":
        index = space.sobol(designs, seed)
        return _blocks(index[at : at + block] for at in range(0, len(index), block))
    from explorer.evolution import nsga2  # noqa: PLC0415 - pymoo is optional

    return nsga2(space, designs=designs, seed=seed)


def _blocks(blocks: Iterator[IntArray]) -> Proposals:
    for index in blocks:  # noqa: UP028 - `yield from` would send the results into the iterator
        yield index


def explore(
    space: ParameterSpace, evaluate: Evaluate, proposals: Proposals, *, memory: Memory | None = None
) -> Iterator[Batch]:
    """Evaluate what a strategy proposes, batch by batch.

    A search that is repeated with the same seed over the same memory gets what is known without evaluating it, so it
    goes on where it was stopped, and ends with the same front.

    Args:
        space: what varies.
        evaluate: gives one row of results for each design of a batch.
        proposals: from `propose`.
        memory: what keeps results beyond the run; None keeps nothing.

    >>> from explorer.parameters import Parameter
    >>> space = ParameterSpace(parameters=(Parameter(name="x", values=(0.0, 1.0, 2.0)),))
    >>> def square(designs):
    ...     return Result(costs=(designs["x"] ** 2)[:, None], violation=np.zeros(len(designs["x"])))
    >>> [batch.result.costs.ravel().tolist() for batch in explore(space, square, propose("grid", space, block=2))]
    [[0.0, 1.0], [4.0]]
    """

    def compute(index: IntArray) -> Result:
        return check_rows(evaluate(space.decode(index)), len(index))

    evaluations = 0
    try:
        index = next(proposals)
        while True:
            if memory is None:
                result, computed = compute(index), np.ones(len(index), dtype=bool)
            else:
                result, computed = memory.complete(index, compute)
            evaluations += len(index)
            yield Batch(index=index, result=result, computed=computed, evaluations=evaluations)
            index = proposals.send(result)
    except StopIteration:
        return
