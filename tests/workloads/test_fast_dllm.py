import math

import pytest
import torch

from workloads.errors import WorkloadError
from workloads.kv_cache import KVCache
from workloads.markers import Marker
from workloads.oracle import FunctionDenoiser
from workloads.samplers import autoregressive, llada
from workloads.samplers.fast_dllm import Options, sample
from workloads.transformer import Transformer

MASK = 3


class PositionDenoiser:
    """Logits that depend on a position alone, so that no cache can be stale; keeps what it was shown."""

    mask_id = MASK

    def __init__(self, logits_LV: torch.Tensor) -> None:
        self.logits_LV = logits_LV
        self.shown: list[tuple[int, int]] = []

    def new_cache(self, batch: int, capacity: int) -> KVCache | None:
        return KVCache(
            layers=0, batch=batch, kv_heads=1, capacity=capacity, head_dim=1, dtype=torch.float32, device="cpu"
        )

    def __call__(
        self, tokens_BS: torch.Tensor, *, cache: KVCache | None = None, position: int = 0, last_only: bool = False
    ) -> torch.Tensor:
        end = position + tokens_BS.shape[1]
        self.shown.append((position, end))
        return self.logits_LV[position:end].expand(tokens_BS.shape[0], -1, -1).clone()


def with_confidences(*probabilities: float, prompt_length: int = 1) -> PositionDenoiser:
    """Predicts token `i % 3` at generated position i with the given probability, the rest spread over the others."""
    logits = torch.zeros(prompt_length + len(probabilities), MASK + 1)
    for i, probability in enumerate(probabilities):
        logits[prompt_length + i] = math.log((1 - probability) / 2)
        logits[prompt_length + i, i % 3] = math.log(probability)
        logits[prompt_length + i, MASK] = 50.0  # must be ignored: the mask token is never predicted
    return PositionDenoiser(logits)


PROMPT = torch.tensor([[0], [1]])


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_without_cache_and_with_fixed_steps_it_is_llada(diffusion_model: Transformer, temperature: float) -> None:
    prompt = torch.randint(0, 49, (3, 5), generator=torch.Generator().manual_seed(4))
    knobs = {"gen_length": 12, "block_length": 6, "steps": 8, "temperature": temperature, "seed": 9}
    fast = sample(diffusion_model, prompt, Options(cache="none", **knobs))
    slow = llada.sample(diffusion_model, prompt, llada.Options(**knobs))
    assert torch.equal(fast.tokens, slow.tokens)
    assert fast.committed_per_forward == slow.committed_per_forward
    assert fast.rows_per_forward == slow.rows_per_forward
    assert len(fast.generated.unique()) > 3


def test_a_block_of_one_step_needs_no_cache(diffusion_model: Transformer) -> None:
    # Each block's only step is the full forward: caches change nothing.
    prompt = torch.randint(0, 49, (2, 5), generator=torch.Generator().manual_seed(4))
    runs = [
        sample(diffusion_model, prompt, Options(gen_length=12, block_length=4, steps=3, cache=cache))
        for cache in ("none", "prefix", "dual")
    ]
    assert torch.equal(runs[0].tokens, runs[1].tokens)
    assert torch.equal(runs[0].tokens, runs[2].tokens)
    assert runs[0].rows_per_forward == runs[1].rows_per_forward == runs[2].rows_per_forward == (34,) * 3


def test_prefix_cache_is_exact_where_the_prefix_does_not_see_the_block(diffusion_model: Transformer) -> None:
    # Under a causal network the prefix does not depend on the block, so the prefix cache is exact; the dual cache is
    # too, since the suffix that it keeps stale is never seen.
    class Causal:
        mask_id = 49
        new_cache = diffusion_model.new_cache

        def __call__(
            self, tokens: torch.Tensor, *, cache: KVCache | None = None, position: int = 0, last_only: bool = False
        ) -> torch.Tensor:
            return diffusion_model(tokens, cache=cache, position=position, last_only=last_only, causal=True)

    prompt = torch.randint(0, 49, (2, 5), generator=torch.Generator().manual_seed(6))
    runs = [
        sample(Causal(), prompt, Options(gen_length=12, block_length=6, steps=6, cache=cache))
        for cache in ("none", "prefix", "dual")
    ]
    assert torch.equal(runs[0].tokens, runs[1].tokens)
    assert torch.equal(runs[0].tokens, runs[2].tokens)
    assert len(runs[0].generated.unique()) > 3


def test_dual_cache_attends_to_what_stood_around_the_block(diffusion_model: Transformer) -> None:
    # By hand: after the full forward and one commit, the block's rows against the old keys of all the rest.
    prompt = torch.randint(0, 49, (1, 4), generator=torch.Generator().manual_seed(6))
    generation = sample(diffusion_model, prompt, Options(gen_length=4, block_length=2, cache="dual"))
    tokens = torch.cat((prompt, torch.full((1, 4), 49)), dim=1)
    for start in (4, 6):
        cache = diffusion_model.new_cache(1, 8)
        for first, last in ((0, 8), (start, start + 2)):
            with torch.no_grad():
                logits = diffusion_model(tokens[:, first:last], cache=cache, position=first)
            logits[..., 49] = -torch.inf
            best, token = logits[:, start - first : start - first + 2].softmax(-1).max(-1)
            best[tokens[:, start : start + 2] != 49] = -1
            chosen = int(best[0].argmax())
            tokens[0, start + chosen] = token[0, chosen]
    assert torch.equal(generation.tokens, tokens)


@pytest.mark.parametrize(
    ("cache", "shown"),
    [
        ("none", [(0, 9)] * 4),
        ("prefix", [(0, 9), (1, 9), (0, 9), (5, 9)]),
        ("dual", [(0, 9), (1, 5), (0, 9), (5, 9)]),
    ],
)
def test_rows_shown_are_those_of_the_algorithm(cache: str, shown: list[tuple[int, int]]) -> None:
    denoiser = with_confidences(0.5, 0.9, 0.6, 0.8, 0.7, 0.4, 0.99, 0.6)
    generation = sample(denoiser, PROMPT, Options(gen_length=8, block_length=4, steps=4, cache=cache))
    assert denoiser.shown == shown
    assert generation.rows_per_forward == tuple(2 * (last - first) for first, last in shown)
    assert generation.committed_per_forward == (4,) * 4
    assert generation.generated.tolist() == [[0, 1, 2, 0, 1, 2, 0, 1]] * 2


def test_dual_cache_saves_the_rows_that_its_formula_says() -> None:
    # G / B full forwards of P + G rows, and G - G / B forwards of B rows (one token per step).
    denoiser = with_confidences(*[0.5] * 32, prompt_length=16)
    prompt = torch.zeros((1, 16), dtype=torch.long)
    for cache, rows in [
        ("dual", 4 * 48 + 28 * 8),
        ("prefix", sum(48 + 7 * (32 - 8 * block) for block in range(4))),
        ("none", 32 * 48),
    ]:
        generation = sample(denoiser, prompt, Options(gen_length=32, block_length=8, cache=cache))
        assert sum(generation.rows_per_forward) == rows
        assert generation.nfe == 32


@pytest.mark.parametrize("cache", ["none", "prefix", "dual"])
def test_threshold_commits_all_above_it_and_else_the_best(cache: str) -> None:
    # Block 1: 0.95 and 0.92 pass together; then 0.6, then 0.5, each the best. Block 2: all pass at once.
    denoiser = with_confidences(0.5, 0.95, 0.6, 0.92, 0.91, 0.99, 0.93, 0.97)
    options = Options(gen_length=8, block_length=4, threshold=0.9, cache=cache)
    generation = sample(denoiser, PROMPT, options)
    assert generation.committed_per_forward == (4, 2, 2, 8)
    assert generation.tokens_per_forward == 2.0
    assert generation.generated.tolist() == [[0, 1, 2, 0, 1, 2, 0, 1]] * 2


@pytest.mark.parametrize(
    ("cache", "committed", "shown"),
    [
        ("none", (4, 2, 2, 8), [(0, 9)] * 4),
        ("prefix", (2, 4, 2, 2, 6), [(0, 9), (1, 9), (1, 9), (0, 9), (5, 9)]),
        ("dual", (2, 4, 2, 2, 6), [(0, 9), (1, 5), (1, 5), (0, 9), (5, 9)]),
    ],
)
def test_token_shift_reads_the_row_before_and_a_cached_block_begins_with_its_first_token(
    cache: str, committed: tuple[int, ...], shown: list[tuple[int, int]]
) -> None:
    denoiser = with_confidences(0.5, 0.95, 0.6, 0.92, 0.91, 0.99, 0.93, 0.97)
    denoiser.logits_LV = denoiser.logits_LV.roll(-1, dims=0)
    options = Options(gen_length=8, block_length=4, threshold=0.9, cache=cache, token_shift=True)
    generation = sample(denoiser, PROMPT, options)
    assert generation.generated.tolist() == [[0, 1, 2, 0, 1, 2, 0, 1]] * 2
    assert generation.committed_per_forward == committed
    assert denoiser.shown == shown
    fixed = sample(denoiser, PROMPT, Options(gen_length=8, block_length=4, steps=4, cache=cache, token_shift=True))
    assert fixed.committed_per_forward == ((4, 4, 4, 4) if cache == "none" else (2, 6, 2, 6))


def test_shifted_blocks_of_one_token_under_a_causal_network_are_greedy_autoregression(ar_model: Transformer) -> None:
    class Masked:
        mask_id = 49
        new_cache = ar_model.new_cache

        def __call__(
            self, tokens: torch.Tensor, *, cache: KVCache | None = None, position: int = 0, last_only: bool = False
        ) -> torch.Tensor:
            logits = ar_model(tokens, cache=cache, position=position, last_only=last_only)
            logits[..., 49] = -torch.inf
            return logits

    prompt = torch.randint(0, 49, (2, 5), generator=torch.Generator().manual_seed(6))
    greedy = autoregressive.sample(Masked(), prompt, autoregressive.Options(gen_length=8))
    shifted = sample(Masked(), prompt, Options(gen_length=8, block_length=1, token_shift=True))
    assert torch.equal(shifted.tokens, greedy.tokens)
    assert len(greedy.generated.unique()) > 3


def test_threshold_near_one_is_one_token_per_forward(diffusion_model: Transformer) -> None:
    prompt = torch.randint(0, 49, (1, 5), generator=torch.Generator().manual_seed(4))
    options = Options(gen_length=12, block_length=6, threshold=1 - 1e-12, cache="none")
    generation = sample(diffusion_model, prompt, options)
    one_by_one = llada.sample(diffusion_model, prompt, llada.Options(gen_length=12, block_length=6))
    assert generation.committed_per_forward == (1,) * 12
    assert torch.equal(generation.tokens, one_by_one.tokens)


def test_factor_commits_the_longest_prefix_that_its_bound_allows() -> None:
    # (n + 1)(1 - c_n) < 1: 0.9 > 1/2, 0.76 > 2/3, 0.7 < 3/4: two. Then 0.7 > 1/2 but 0.6 < 2/3: one. Then the last.
    denoiser = with_confidences(0.7, 0.76, 0.9, 0.6)
    generation = sample(denoiser, PROMPT, Options(gen_length=4, factor=1.0))
    assert generation.committed_per_forward == (4, 2, 2)


def test_confident_parallel_decoding_equals_sequential_decoding() -> None:
    # Theorem 1 of the paper: n tokens with confidence above 1 - eps decode alike if (n + 1) eps <= 1. Row i is told by
    # the token before it, with probability 0.9, and by a mask nothing but the same best guess.
    def logits(tokens: torch.Tensor) -> torch.Tensor:
        before = tokens.roll(1, dims=1).clamp(max=2)
        best = torch.nn.functional.one_hot((before + 1) % 3, 4).double()
        return (best * 0.9 + (1 - best) * 0.05).log()

    guess = torch.tensor([[2, 0, 1, 2, 0]])
    filled = FunctionDenoiser(lambda tokens: logits(torch.where(tokens == MASK, guess, tokens)), mask_id=MASK)
    prompt = torch.tensor([[2]])
    parallel = sample(filled, prompt, Options(gen_length=4, threshold=0.85, cache="none"))
    sequential = sample(filled, prompt, Options(gen_length=4, threshold=1.0, cache="none"))
    assert parallel.nfe == 1
    assert sequential.nfe == 4
    assert torch.equal(parallel.tokens, sequential.tokens)


def test_sequences_of_a_batch_commit_different_counts() -> None:
    # Sequence 0 is certain everywhere, sequence 1 nowhere: 4 + 1 tokens, then one each of sequence 1.
    def logits(tokens: torch.Tensor) -> torch.Tensor:
        sure = torch.tensor([0.99, 0.005, 0.005, 1e-9]).log()
        unsure = torch.tensor([0.4, 0.3, 0.3, 1e-9]).log()
        return torch.where((tokens[:, :1] == 0)[..., None], sure, unsure).expand(-1, tokens.shape[1], -1).clone()

    denoiser = FunctionDenoiser(logits, mask_id=MASK)
    generation = sample(denoiser, PROMPT, Options(gen_length=4, threshold=0.9, cache="none"))
    assert generation.committed_per_forward == (5, 1, 1, 1)
    assert generation.generated.tolist() == [[0] * 4] * 2
    assert denoiser.markers == [Marker("denoise", step) for step in range(4)]


@pytest.mark.parametrize("cache", ["none", "prefix", "dual"])
def test_runs_on_meta_with_assumed_commits(diffusion_model: Transformer, cache: str) -> None:
    prompt = torch.zeros((2, 5), dtype=torch.long)
    options = Options(gen_length=16, block_length=8, threshold=0.9, assumed_commits=3, cache=cache, temperature=1.0)
    real = sample(diffusion_model, prompt, options)
    pretended = sample(Transformer(diffusion_model.preset, device="meta"), prompt.to("meta"), options)
    assert not (real.tokens == 49).any()
    assert real.committed_per_forward == (6, 6, 4) * 2
    assert pretended.committed_per_forward == real.committed_per_forward
    assert pretended.rows_per_forward == real.rows_per_forward
    unsaid = Options(gen_length=16, block_length=8, factor=1.0, cache=cache)
    default = sample(Transformer(diffusion_model.preset, device="meta"), prompt.to("meta"), unsaid)
    assert default.committed_per_forward == (6, 6, 4) * 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cache": "suffix"}, "fast_dllm: cache must be one of none, prefix, dual, got 'suffix'"),
        ({"threshold": 1.5}, "threshold must lie in 0..1, got 1.5"),
        ({"factor": 0.0}, "factor must be finite and > 0, got 0.0"),
        ({"factor": 1.0, "threshold": 0.9}, "give one of steps, threshold and factor, got threshold and factor"),
        ({"steps": 4, "threshold": 0.9}, "got steps and threshold"),
        ({"steps": 3, "block_length": 4, "token_shift": True}, "steps must be at least 6 with token_shift and a cache"),
        ({"assumed_commits": 0}, "assumed_commits must be > 0, got 0"),
        ({"block_length": 5}, r"fast_dllm: block_length must divide gen_length = 12 \(1, 2, 3, 4, 6, 12\), got 5"),
    ],
)
def test_impossible_options_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(WorkloadError, match=message):
        Options(**{"gen_length": 12, **changes})


def test_a_network_without_a_cache_is_refused_where_one_is_needed() -> None:
    denoiser = FunctionDenoiser(lambda tokens: torch.zeros(*tokens.shape, 4), mask_id=MASK)
    with pytest.raises(WorkloadError, match="cache=dual needs a network that keeps a KV cache; give cache=none"):
        sample(denoiser, PROMPT, Options(gen_length=4))
