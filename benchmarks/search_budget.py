"""What a twentieth of the evaluations finds, on spaces that can be enumerated; prints a table, asserts nothing.

PYTHONPATH=.:tests/samples python benchmarks/search_budget.py                             # made-up spaces
PYTHONPATH=.:tests/samples python benchmarks/search_budget.py benchmarks/chip_grid.toml   # a space of chips
"""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from explorer_samples import CHIPS, SPHERE, chips, sphere

from explorer.archive import Archive
from explorer.parallel import evaluator as workers
from explorer.parameters import ParameterSpace
from explorer.pareto import find_bounds
from explorer.result import Evaluate, IntArray, Result, join
from explorer.search import explore, propose
from explorer.space_file import load_space
from reports.prepared import prepare_evaluator

SEEDS = 6


def main(files: list[str]) -> None:
    print("| space | designs | in the front | evaluated | Sobol points | NSGA-II |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for file in files:
        asked = load_space(file)
        with workers(prepare_evaluator(asked, Path("out/traces"))) as evaluate:
            print(row(f"`{file}`: {len(asked.goals.objectives)} objectives", asked.space, evaluate))
    if files:
        return
    for name, space, evaluate in (
        ("`SPHERE`: three objectives, few good choices", SPHERE, sphere),
        ("`CHIPS`: time, energy, price; die up to 814 mm2", CHIPS, chips),
        ("`CHIPS`, die up to 120 mm2: nearly all infeasible", CHIPS, with_small_die),
        ("`CHIPS`, time and energy only", CHIPS, without_price),
        ("`CHIPS`, area as a fourth objective", CHIPS, with_area),
    ):
        print(row(name, space, evaluate))


def row(name: str, space: ParameterSpace, evaluate: Evaluate) -> str:
    found = list(explore(space, evaluate, propose("grid", space)))
    known = Grid(join([batch.result for batch in found]))
    whole = search(space, evaluate, "grid", None, 0, known)
    bounds = find_bounds(whole.costs)
    best = bounds.normalized_hypervolume(whole.costs)
    budget = space.size // 20
    cells = []
    for strategy in ("sobol", "nsga2"):
        found = [
            search(space, evaluate, strategy, budget, seed, known).hypervolume_curve(bounds)[-1, 1]
            for seed in range(SEEDS)
        ]
        cells.append(f"{100 * min(found) / best:.1f}-{100 * max(found) / best:.1f} %")
    return f"| {name} | {space.size:,} | {len(whole.index)} | {budget:,} | {' | '.join(cells)} |"


class Grid:
    """All designs of a space, evaluated once: searches look up what they ask for."""

    def __init__(self, result: Result) -> None:
        self.result = result

    def complete(self, index: IntArray, compute: Callable[[IntArray], Result]) -> tuple[Result, np.ndarray]:
        return self.result.take(index), np.zeros(len(index), dtype=np.bool_)


def search(
    space: ParameterSpace, evaluate: Evaluate, strategy: str, designs: int | None, seed: int, known: Grid
) -> Archive:
    archive = Archive()
    for batch in explore(space, evaluate, propose(strategy, space, designs=designs, seed=seed), memory=known):
        archive.add(batch.index, batch.result)
    return archive


def with_small_die(designs: dict[str, np.ndarray]) -> Result:
    result = chips(designs)
    return Result(costs=result.costs, violation=np.maximum(result.metrics["area_mm2"] - 120, 0))


def without_price(designs: dict[str, np.ndarray]) -> Result:
    result = chips(designs)
    return Result(costs=result.costs[:, :2], violation=result.violation)


def with_area(designs: dict[str, np.ndarray]) -> Result:
    result = chips(designs)
    costs = np.column_stack([result.costs, result.metrics["area_mm2"]])
    return Result(costs=costs, violation=result.violation)


if __name__ == "__main__":
    main(sys.argv[1:])
