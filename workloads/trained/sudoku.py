"""The task of the shipped models: fill a 4x4 Sudoku, where any completion that keeps the rules and the clues is right.

A problem is 16 cells in reading order, `BLANK` where nothing is given; the answer is all 16 cells again. With 2 to 6
clues most problems have several answers, so cells that are filled at the same time from their marginals alone clash:
parallelism has a price that can be counted exactly. There are 288 full grids (4! x 12; checked by a test).

A tenth of all problems, chosen by their cells alone, never occurs in training; accuracy is measured on that tenth.

Shape suffixes: B problems, P cells of the prompt, G cells of the answer, L prompt and answer, N full grids.
"""

from functools import cache
from itertools import permutations

import torch

SIDE = 4
CELLS = SIDE * SIDE
BLANK = 0
MASK_ID = SIDE + 1
FEWEST_CLUES, MOST_CLUES = 2, 6
_HELD_OUT_SHARE = 10
_HASH_PRIME = 1_000_003


@cache
def full_grids() -> torch.Tensor:
    """Every full grid, `[N, G]` with digits 1 to 4."""
    rows = list(permutations(range(1, SIDE + 1)))
    grids: list[tuple[int, ...]] = [()]
    for _ in range(SIDE):
        grids = [grid + row for grid in grids for row in rows if _is_consistent(grid + row)]
    return torch.tensor(grids)


def draw_problems(count: int, generator: torch.Generator, *, held_out: bool) -> torch.Tensor:
    """Problems with one right answer each, drawn evenly over grids, clue counts and clue places.

    Args:
        count: number of problems.
        generator: source of randomness, on the CPU.
        held_out: True for problems that training never shows, False for the others.

    Returns:
        Token ids `[B, L]`: 16 cells of the problem, then 16 of the grid that it was made from.
    """
    kept: list[torch.Tensor] = []
    missing = count
    while missing > 0:
        tokens_BL = _draw(count, generator)
        tokens_BL = tokens_BL[is_held_out(tokens_BL[:, :CELLS]) == held_out][:missing]
        kept.append(tokens_BL)
        missing -= len(tokens_BL)
    return torch.cat(kept)


def is_held_out(prompt_BP: torch.Tensor) -> torch.Tensor:
    """Which problems are kept from training: by a polynomial hash of their cells, one of ten; bool `[B]`."""
    code_B = torch.zeros(len(prompt_BP), dtype=torch.int64)
    for cell in range(CELLS):
        code_B = (code_B * 31 + prompt_BP[:, cell] + 1) % _HASH_PRIME
    held_out_B: torch.Tensor = code_B % _HELD_OUT_SHARE == 0
    return held_out_B


def is_solved(prompt_BP: torch.Tensor, answer_BG: torch.Tensor) -> torch.Tensor:
    """Which answers are full grids that keep every clue; bool `[B]`."""
    keeps_clues_B = ((prompt_BP == BLANK) | (prompt_BP == answer_BG)).all(dim=-1)
    is_grid_B = (answer_BG[:, None, :] == full_grids()[None]).all(dim=-1).any(dim=-1)
    return keeps_clues_B & is_grid_B


def _draw(count: int, generator: torch.Generator) -> torch.Tensor:
    grids_NG = full_grids()
    answer_BG = grids_NG[torch.randint(len(grids_NG), (count,), generator=generator)]
    clues_B1 = torch.randint(FEWEST_CLUES, MOST_CLUES + 1, (count, 1), generator=generator)
    rank_BG = torch.rand(count, CELLS, generator=generator).argsort(dim=-1).argsort(dim=-1)
    prompt_BP = torch.where(rank_BG < clues_B1, answer_BG, BLANK)
    return torch.cat((prompt_BP, answer_BG), dim=-1)


def _is_consistent(cells: tuple[int, ...]) -> bool:
    """Whether rows filled so far repeat no digit in a column or a 2x2 box."""
    units: dict[tuple[str, int], list[int]] = {}
    for index, digit in enumerate(cells):
        row, column = divmod(index, SIDE)
        units.setdefault(("column", column), []).append(digit)
        units.setdefault(("box", 2 * (row // 2) + column // 2), []).append(digit)
    return all(len(digits) == len(set(digits)) for digits in units.values())
