import itertools
import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from workloads.errors import WorkloadError
from workloads.markers import Marker
from workloads.oracle import FunctionDenoiser, MarkovOracle
from workloads.presets import ModelPreset
from workloads.samplers.dream import Options, reveal_counts, reveal_ratios, sample
from workloads.transformer import Transformer

MASK = 3
MOVE = torch.tensor([[0.6, 0.2, 0.2], [0.15, 0.25, 0.6], [0.3, 0.5, 0.2]])


def shifted(rows: list[list[float]]) -> FunctionDenoiser:
    """Probabilities of tokens 0-2 at each generated position behind one prompt token, told one row before."""
    logits = torch.tensor([[*row, 99.0] for row in rows] + [[1.0, 1.0, 1.0, 99.0]]).log()
    return FunctionDenoiser(lambda tokens: logits.expand(tokens.shape[0], -1, -1).clone(), mask_id=MASK)


def order_of(denoiser: FunctionDenoiser, final: torch.Tensor) -> list[list[int]]:
    states = [*denoiser.shown, final]
    return [((a != b)[0].nonzero()[:, 0] - 1).tolist() for a, b in itertools.pairwise(states)]


@pytest.mark.parametrize(
    ("alg", "rows", "order"),
    [
        ("maskgit_plus", [[0.55, 0.45, 1e-9], [0.6, 0.2, 0.2], [0.58, 0.4, 0.02]], [[], [1], [2, 0]]),
        ("topk_margin", [[0.55, 0.45, 1e-9], [0.45, 0.28, 0.27], [0.58, 0.4, 0.02]], [[], [2], [1, 0]]),
        ("entropy", [[0.55, 0.45, 1e-9], [0.6, 0.2, 0.2], [0.58, 0.4, 0.02]], [[], [0], [2, 1]]),
    ],
)
def test_orders_are_those_worked_out_by_hand(alg: str, rows: list[list[float]], order: list[list[int]]) -> None:
    # Three steps of 0.333 each: int(3 * 0.333) = 0, int(3 * 0.4993) = 1, then the two that are left.
    denoiser = shifted(rows)
    generation = sample(denoiser, torch.zeros((1, 1), dtype=torch.long), Options(gen_length=3, steps=3, alg=alg))
    assert [sorted(step) for step in order_of(denoiser, generation.tokens)] == [sorted(step) for step in order]
    assert generation.tokens.tolist() == [[0, 0, 0, 0]]
    assert generation.committed_per_forward == (0, 1, 2)
    assert generation.rows_per_forward == (4, 4, 4)
    assert denoiser.markers == [Marker("denoise", step) for step in range(3)]


def test_counts_follow_the_authors_formula_in_their_precision() -> None:
    for masked, steps in [(256, 64), (512, 512), (768, 100), (7, 20)]:
        times = torch.linspace(1, 1e-3, steps + 1)
        left, expected = masked, []
        for i in range(steps):
            share = float(1 - times[i + 1] / times[i]) if i < steps - 1 else 1.0
            expected.append(int(left * share))
            left -= expected[-1]
        counts = reveal_counts(masked, steps)
        assert counts == tuple(expected)
        assert sum(counts) == masked
        assert counts[-1] >= 2  # 1 - s / t stays below one half before the last step


def test_what_stands_at_a_position_is_read_from_the_row_before() -> None:
    denoiser = shifted([[0.1, 0.8, 0.1], [0.1, 0.1, 0.8], [0.8, 0.1, 0.1]])
    generation = sample(denoiser, torch.zeros((1, 1), dtype=torch.long), Options(gen_length=3, steps=1))
    assert generation.generated.tolist() == [[1, 2, 0]]


def test_random_reveals_follow_the_schedule_and_the_seed() -> None:
    prompt = torch.zeros((50, 1), dtype=torch.long)
    runs = []
    for seed in (1, 1, 2):
        denoiser = FunctionDenoiser(lambda tokens: torch.zeros(*tokens.shape, 4), mask_id=MASK)
        generation = sample(denoiser, prompt, Options(gen_length=40, steps=4, alg="origin", seed=seed))
        states = [*denoiser.shown, generation.tokens]
        changed = tuple(int((a != b).sum()) for a, b in itertools.pairwise(states))
        assert changed == generation.committed_per_forward
        assert sum(changed) == 2000
        for count in changed:  # binomial with 2000 draws at about 1/4: five standard deviations
            assert abs(count - 500) < 5 * math.sqrt(2000 * 0.25 * 0.75)
        runs.append(changed)
    assert runs[0] == runs[1] != runs[2]


def test_many_random_steps_with_the_exact_posterior_reproduce_the_chain() -> None:
    # Of 60 steps, hardly one reveals two positions of a sequence together; with a single step all are.
    oracle = MarkovOracle(MOVE)
    rolled = FunctionDenoiser(lambda tokens: oracle(tokens).roll(-1, dims=1), mask_id=MASK)
    statistics = {}
    for steps in (60, 1):
        options = Options(gen_length=2, temperature=1.0, seed=3, steps=steps, alg="origin")
        drawn = sample(rolled, torch.ones((2_000, 1), dtype=torch.long), options).generated
        statistics[steps], degrees = oracle.chi_square(1, drawn)
        assert degrees == 8
    assert statistics[60] < 20.1  # 99th percentile of chi-square with 8 degrees of freedom; the seed is fixed
    assert statistics[1] > 100


def test_alg_temp_draws_the_order() -> None:
    prompt = torch.zeros((1000, 1), dtype=torch.long)
    firsts = {}
    for alg_temp in (0.0, 0.05):
        denoiser = shifted([[0.6, 0.2, 0.2], [0.55, 0.25, 0.2], [0.5, 0.3, 0.2]])
        options = Options(gen_length=3, steps=3, alg="maskgit_plus", alg_temp=alg_temp)
        sample(denoiser, prompt, options)
        filled = denoiser.shown[2][:, 1:] != MASK
        assert filled.sum(-1).unique().tolist() == [1]
        firsts[alg_temp] = filled.double().mean(0)
    assert firsts[0.0].tolist() == [1.0, 0.0, 0.0]
    expected = torch.softmax(torch.tensor([0.6, 0.55, 0.5]).double() / 0.05, -1)
    assert torch.allclose(firsts[0.05], expected, atol=0.04)  # three standard deviations of 1000 draws are 0.047


@pytest.mark.parametrize("alg", ["origin", "entropy", "topk_margin", "maskgit_plus"])
def test_runs_the_same_operations_on_meta(alg: str, tiny_diffusion: ModelPreset) -> None:
    class Names(TorchDispatchMode):
        def __init__(self) -> None:
            super().__init__()
            self.seen: list[str] = []

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            self.seen.append(f"{func} {[tuple(a.shape) for a in args if isinstance(a, torch.Tensor)]}")
            return func(*args, **(kwargs or {}))

    options = Options(gen_length=8, steps=4, alg=alg, alg_temp=0.1, temperature=1.0, top_p=0.9, top_k=20)
    seen = []
    for device in ("cpu", "meta"):
        model = Transformer(tiny_diffusion, device=device)
        prompt = torch.zeros((2, 3), dtype=torch.long, device=device)
        with Names() as names:
            generation = sample(model, prompt, options)
        work = [name for name in names.seen if not name.startswith("aten.lift_fresh")]  # a list that becomes a tensor
        seen.append((work, generation.committed_per_forward))
    assert seen[0] == seen[1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "dream: steps must be > 0, got 0"),
        ({"alg": "best"}, "alg must be one of entropy, maskgit_plus, topk_margin, origin, got 'best'"),
        ({"alg_temp": -1.0}, "alg_temp must be finite and >= 0, got -1.0"),
        ({"top_p": 2.0}, "dream: top_p must lie above 0 and at most at 1, got 2.0"),
    ],
)
def test_impossible_options_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(WorkloadError, match=message):
        Options(**{"gen_length": 4, **changes})


def test_ratios_end_with_everything() -> None:
    assert reveal_ratios(1) == (1.0,)
    assert reveal_ratios(3)[0] == pytest.approx(0.333)
