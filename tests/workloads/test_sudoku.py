import torch

from workloads.trained import sudoku

GRID = torch.tensor([1, 2, 3, 4, 3, 4, 1, 2, 2, 1, 4, 3, 4, 3, 2, 1])


def generator():
    return torch.Generator().manual_seed(1)


def test_there_are_288_full_grids_and_each_keeps_the_rules():
    grids = sudoku.full_grids()
    assert grids.shape == (288, 16)
    assert len({tuple(grid.tolist()) for grid in grids}) == 288
    cells = grids.view(-1, 4, 4)
    boxes = cells.view(-1, 2, 2, 2, 2).transpose(2, 3).reshape(-1, 4, 4)
    for unit in (cells, cells.transpose(1, 2), boxes):
        assert (unit.sort(dim=-1).values == torch.tensor([1, 2, 3, 4])).all()


def test_problems_have_two_to_six_clues_taken_from_their_answer():
    tokens = sudoku.draw_problems(400, generator(), held_out=False)
    prompt, answer = tokens[:, :16], tokens[:, 16:]
    assert sudoku.is_solved(prompt, answer).all()
    assert set((prompt != sudoku.BLANK).sum(dim=-1).tolist()) == {2, 3, 4, 5, 6}


def test_held_out_problems_never_occur_in_training():
    trained = sudoku.draw_problems(3000, generator(), held_out=False)[:, :16]
    held_out = sudoku.draw_problems(300, generator(), held_out=True)[:, :16]
    assert not {tuple(row) for row in trained.tolist()} & {tuple(row) for row in held_out.tolist()}


def test_any_completion_counts_but_no_other_answer():
    few_clues = torch.zeros(16, dtype=torch.int64)
    few_clues[0] = 1
    other = GRID.clone()
    other[GRID == 2] = 3  # renaming digits keeps the rules
    other[GRID == 3] = 2
    broken = GRID.clone()
    broken[14:] = torch.tensor([1, 2])
    wrong_clue = few_clues * 2
    prompts = torch.stack([few_clues, few_clues, few_clues, wrong_clue])
    answers = torch.stack([GRID, other, broken, GRID])
    assert sudoku.is_solved(prompts, answers).tolist() == [True, True, False, False]


def test_same_seed_gives_the_same_problems():
    draws = [sudoku.draw_problems(50, generator(), held_out=True) for _ in range(2)]
    assert torch.equal(*draws)
