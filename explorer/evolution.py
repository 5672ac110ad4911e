"""NSGA-II over designs as whole numbers, started from Sobol points and helped by guesses and steps from its front.

The algorithm is pymoo's (Deb and others 2002, IEEE TEC 6(2)): tournament, crossover, mutation, survival by rank and
crowding. Ours are the coding of designs, that nothing is proposed twice, and that half of each generation are designs
that a quadratic surface over those known guesses to beat them (`explorer.surrogate`). Of the rest, half are one step
from the front so far, where crossover and mutation leave gaps on lists of few values: half of these neighbor most of
the front, half are anywhere around it; of the mixes of steps tried on six made-up spaces, this one had the best worst
case.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from explorer.archive import Archive
from explorer.errors import ExplorationError
from explorer.parameters import FULL_GRID_LIMIT, ParameterSpace
from explorer.result import FloatArray, IntArray, Result, join
from explorer.search import Proposals
from explorer.surrogate import promising

_SMALLEST_POPULATION = 20
_LARGEST_POPULATION = 200
_GENERATIONS = 20  # as many as the budget allows with populations between these two
_GUESSED_RATIO = 0.5  # of a generation, guessed to beat what is known
_STEPS_RATIO = 0.5  # of the rest, found by single steps
_SMALL_SPACE = 20_000  # designs that are all candidates of a guess; so many at random of a larger space
_WORST = 1e9


def nsga2(space: ParameterSpace, *, designs: int, seed: int, population: int | None = None) -> Proposals:
    """Propose generations until `designs` are evaluated; the same seed and results propose the same.

    Args:
        space: what may vary.
        designs: how many to evaluate, at most all there are.
        seed: of the first generation, and of crossing and mutating.
        population: designs of a generation; None takes a part of `designs`, within limits.

    Raises:
        ExplorationError: pymoo is missing, or the population is below four.
    """
    population = population or min(max(designs // _GENERATIONS, _SMALLEST_POPULATION), _LARGEST_POPULATION)
    if population < 4:
        raise ExplorationError(f"the population must be at least 4, got {population}")
    try:
        import pymoo  # noqa: F401, PLC0415 - optional
    except ImportError:
        raise ExplorationError(
            "NSGA-II needs pymoo: pip install 'roofscape[explore]', or use --sampling sobol"
        ) from None
    return _generations(space, min(designs, space.size), seed, population)


def _generations(space: ParameterSpace, designs: int, seed: int, population: int) -> Proposals:
    random = np.random.default_rng(seed)
    archive = Archive()
    index = space.sobol(min(population, designs), seed)
    seen = _Seen(space, index)
    result = yield index
    archive.add(index, result)
    known, results = index, [result]
    algorithm = _algorithm(space, result.costs.shape[1], population, seed, seen)
    algorithm.ask()
    algorithm.tell(infills=_individuals(space, index, result))
    while len(seen) < designs:
        wanted = min(population, designs - len(seen))
        pool = seen.candidates(archive.index, random)
        guessed = promising(space, known, join(results), pool, round(wanted * _GUESSED_RATIO), random)
        seen.add(guessed)
        steps = _steps(space, archive.index, seen, round((wanted - len(guessed)) * _STEPS_RATIO), random)
        seen.add(steps)
        algorithm.n_offsprings = wanted - len(guessed) - len(steps)
        children = algorithm.ask() if algorithm.n_offsprings else None
        born = space.encode(_digits(children)) if children is not None else steps[:0]
        seen.add(born)
        index = np.concatenate([guessed, steps, born])
        index = np.concatenate([index, seen.draw_unseen(wanted - len(index), random)])
        if not len(index):
            return
        result = yield index
        archive.add(index, result)
        known, results = np.concatenate([known, index]), [*results, result]
        algorithm.tell(infills=_individuals(space, index, result))


class _Seen:
    """The designs proposed so far."""

    def __init__(self, space: ParameterSpace, index: IntArray) -> None:
        self._space = space
        self._index = np.unique(index)

    def __len__(self) -> int:
        return len(self._index)

    def add(self, index: IntArray) -> None:
        self._index = np.union1d(self._index, index)

    def has(self, index: IntArray) -> NDArray[np.bool_]:
        return np.isin(index, self._index)

    def candidates(self, best: IntArray, random: np.random.Generator) -> IntArray:
        """Designs that may be proposed: all that are new in a small space, else some at random and around `best`."""
        if self._space.size <= _SMALL_SPACE:
            return np.setdiff1d(np.arange(self._space.size, dtype=np.int64), self._index)
        near = self._space.neighbors(best) if len(best) else best
        pool = np.unique(np.concatenate([random.integers(0, self._space.size, _SMALL_SPACE), near]))
        return pool[~self.has(pool)]

    def draw_unseen(self, count: int, random: np.random.Generator) -> IntArray:
        """`count` further designs at random, for where mating finds nothing new, and mark them as proposed."""
        if count <= 0:
            return self._index[:0]
        if self._space.size <= FULL_GRID_LIMIT:
            pool = np.setdiff1d(np.arange(self._space.size, dtype=np.int64), self._index)
        else:
            pool = np.unique(random.integers(0, self._space.size, 4 * count))
            pool = pool[~self.has(pool)]
        drawn = random.permutation(pool)[:count]
        self.add(drawn)
        return drawn


def _steps(space: ParameterSpace, best: IntArray, seen: _Seen, count: int, random: np.random.Generator) -> IntArray:
    """At most `count` new designs one step from the front `best`: half those with most neighbors in it, half any."""
    if not len(best) or count < 1:
        return best[:0]
    candidates, neighbors = np.unique(space.neighbors(best), return_counts=True)
    new = ~seen.has(candidates)
    candidates, neighbors = candidates[new], neighbors[new]
    candidates = candidates[np.lexsort((random.random(len(candidates)), -neighbors))]
    dense, others = candidates[: count // 2], candidates[count // 2 :]
    return np.concatenate([dense, random.permutation(others)[: count - len(dense)]])


def _algorithm(space: ParameterSpace, objectives: int, population: int, seed: int, seen: _Seen) -> Any:
    """pymoo's algorithm; duplicates are what `seen` knows."""
    from pymoo.algorithms.moo.nsga2 import NSGA2  # noqa: PLC0415 - optional
    from pymoo.core.duplicate import DuplicateElimination  # noqa: PLC0415
    from pymoo.core.problem import Problem  # noqa: PLC0415
    from pymoo.operators.crossover.ux import UX  # noqa: PLC0415
    from pymoo.operators.mutation.pm import PM  # noqa: PLC0415
    from pymoo.operators.repair.rounding import RoundingRepair  # noqa: PLC0415
    from pymoo.operators.sampling.rnd import IntegerRandomSampling  # noqa: PLC0415

    class Unseen(DuplicateElimination):  # type: ignore[misc]  # pymoo has no types
        def _do(self, pop: Any, other: Any, is_duplicate: NDArray[np.bool_]) -> NDArray[np.bool_]:
            index = space.encode(_digits(pop))
            if other is not None:
                return np.isin(index, space.encode(_digits(other)))
            _, first = np.unique(index, return_index=True)
            repeated = np.ones_like(is_duplicate)
            repeated[first] = False
            return repeated | seen.has(index)

    algorithm = NSGA2(
        pop_size=population,
        sampling=IntegerRandomSampling(),  # asked for by its interface; the first generation is told instead
        crossover=UX(prob=0.9),
        mutation=PM(prob=0.9, eta=5, vtype=float, repair=RoundingRepair()),
        eliminate_duplicates=Unseen(),
        seed=seed,
    )
    problem = Problem(
        n_var=len(space.parameters), n_obj=objectives, n_ieq_constr=1, xl=0, xu=space.lengths - 1, vtype=int
    )
    return algorithm.setup(problem, termination=("n_gen", np.inf))


def _digits(individuals: Any) -> IntArray:
    return np.asarray(individuals.get("X"), dtype=np.int64)


def _individuals(space: ParameterSpace, index: IntArray, result: Result) -> Any:
    """Designs with their results as pymoo's population."""
    from pymoo.core.population import Population  # noqa: PLC0415 - optional

    individuals = Population.new(X=space.digits(index))
    individuals.set("F", _finite(result.costs), "G", _violation(result)[:, None])
    for individual in individuals:
        individual.evaluated.update(("F", "G", "H"))
    return individuals


def _finite(costs: FloatArray) -> FloatArray:
    """Costs that pymoo can sort; rows that are not finite are infeasible anyway."""
    return np.where(np.isfinite(costs), costs, 0.0)


def _violation(result: Result) -> FloatArray:
    """Above zero exactly where a design does not count, [D]."""
    distance = np.nan_to_num(result.violation, nan=_WORST, posinf=_WORST)
    distance = np.where(np.isfinite(result.costs).all(axis=1), distance, _WORST)
    return np.where(result.feasible, 0.0, np.clip(distance, 1e-9, _WORST))
