import pytest
import torch

from workloads.errors import WorkloadError
from workloads.kv_cache import KVCache
from workloads.markers import Marker, current_marker
from workloads.oracle import MarkovOracle
from workloads.programs import resolve_program
from workloads.samplers import autoregressive
from workloads.samplers.drafting import Drafted, early_exit
from workloads.samplers.speculative import Options, SpeculativeGeneration, prepare, sample
from workloads.transformer import Transformer

TARGET = torch.tensor([[0.6, 0.3, 0.1], [0.1, 0.2, 0.7], [0.3, 0.5, 0.2]])
DRAFT = torch.tensor([[0.2, 0.3, 0.5], [0.5, 0.3, 0.2], [0.3, 0.4, 0.3]])


class FixedDenoiser:
    """Answers the same distribution to everything, and notes the phase of each call."""

    mask_id = None

    def __init__(self, *probabilities: float) -> None:
        self.logits = torch.tensor(probabilities).log()
        self.markers: list[Marker] = []

    def new_cache(self, batch: int, capacity: int) -> KVCache | None:
        return None

    def __call__(
        self, tokens_BS: torch.Tensor, *, cache: KVCache | None = None, position: int = 0, last_only: bool = False
    ) -> torch.Tensor:
        self.markers.append(current_marker())
        return self.logits.expand(tokens_BS.shape[0], 1 if last_only else tokens_BS.shape[1], -1).clone()


def prompts(batch: int, length: int) -> torch.Tensor:
    return torch.randint(0, 50, (batch, length), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("layers", [1, 2])
def test_greedy_tokens_are_those_of_the_large_network(ar_model: Transformer, layers: int, batch: int) -> None:
    options = Options(gen_length=20, draft_length=3, drafter_layers=layers)
    generation = sample(prepare(ar_model, options), prompts(batch, 5), options)
    greedy = autoregressive.sample(ar_model, prompts(batch, 5), autoregressive.Options(gen_length=20))
    assert torch.equal(generation.tokens, greedy.tokens)
    assert sum(generation.committed_per_forward) == 20 * batch
    if layers == 2:  # the drafter is the network itself: all drafts are accepted, 1 + 4 + 4 + 4 + 4 + 3
        assert generation.committed_per_forward == tuple(batch * n for n in (1, 4, 4, 4, 4, 3))
        assert generation.rows_per_forward == tuple(batch * n for n in (5, 4, 4, 4, 4, 3))
        # prompt, then 1 row for each draft, and 2 for the first behind a full round (the last draft and its bonus)
        assert generation.draft_rows_per_forward == tuple(batch * n for n in (5, *(1, 1, 1), *(2, 1, 1) * 3, *(2, 1)))


def test_rejected_drafts_leave_the_caches(ar_model: Transformer) -> None:
    # Sampling with caches equals sampling without, draw by draft: what was rejected must not be attended to.
    class Uncached:
        mask_id = None

        def __init__(self, model: Transformer) -> None:
            self.model = model

        def new_cache(self, batch: int, capacity: int) -> KVCache | None:
            return None

        def __call__(
            self, tokens: torch.Tensor, *, cache: KVCache | None = None, position: int = 0, last_only: bool = False
        ) -> torch.Tensor:
            return self.model(tokens, last_only=last_only)

    options = Options(gen_length=24, temperature=1.0, seed=5, draft_length=3)
    drafter = early_exit(ar_model, 1)
    cached = sample(Drafted(ar_model, drafter), prompts(2, 5), options)
    uncached = sample(Drafted(Uncached(ar_model), Uncached(drafter)), prompts(2, 5), options)
    assert torch.equal(cached.tokens, uncached.tokens)
    assert len(set(cached.committed_per_forward)) > 1


@pytest.mark.parametrize("draft_length", [1, 3])
def test_sampled_text_has_the_large_networks_distribution(draft_length: int) -> None:
    target, drafter = MarkovOracle(TARGET, is_causal=True), MarkovOracle(DRAFT, is_causal=True)
    drawn = []
    # Batches of few sequences, so that rounds end at different lengths.
    for seed in range(100):
        options = Options(gen_length=3, temperature=1.0, seed=seed, draft_length=draft_length)
        drawn.append(sample(Drafted(target, drafter), torch.ones((40, 1), dtype=torch.long), options).generated)
    for seed in range(100, 300):
        options = Options(gen_length=3, temperature=1.0, seed=seed, draft_length=draft_length)
        drawn.append(sample(Drafted(target, drafter), torch.ones((2, 1), dtype=torch.long), options).generated)
    statistic, degrees = target.chi_square(1, torch.cat(drawn))
    assert degrees == 26
    assert statistic < 45.6  # 99th percentile of chi-square with 26 degrees of freedom; the seeds are fixed
    assert drafter.chi_square(1, torch.cat(drawn))[0] > 1000


@pytest.mark.parametrize("draft_length", [2, 5])
def test_tokens_per_round_are_the_closed_form_of_the_acceptance(draft_length: int) -> None:
    # acceptance = sum of min(p, q) = 0.2 + 0.3 + 0.2 = 0.7
    model = Drafted(FixedDenoiser(0.5, 0.3, 0.2), FixedDenoiser(0.2, 0.3, 0.5))
    options = Options(gen_length=2_500, temperature=1.0, draft_length=draft_length)
    generation = sample(model, torch.zeros((1, 1), dtype=torch.long), options)
    rounds = generation.committed_per_forward[1:-3]  # the last rounds are cut short by the end
    expected = (1 - 0.7 ** (draft_length + 1)) / (1 - 0.7)
    assert sum(rounds) / len(rounds) == pytest.approx(expected, rel=0.05)  # over 800 rounds, spread 2: three sigma


def test_phases_and_rounds_are_marked() -> None:
    target, drafter = FixedDenoiser(0.9, 0.1), FixedDenoiser(0.9, 0.1)
    generation = sample(Drafted(target, drafter), torch.zeros((1, 2), dtype=torch.long), Options(gen_length=8))
    assert isinstance(generation, SpeculativeGeneration)
    assert target.markers == [Marker("prefill", None), Marker("verify", 0), Marker("verify", 1)]
    assert drafter.markers == [
        Marker("prefill", None),
        *[Marker("draft", 0)] * 4,
        Marker("draft", 1),
    ]
    assert generation.committed_per_forward == (1, 5, 2)


def test_early_exit_is_a_network_of_the_first_layers(ar_model: Transformer) -> None:
    drafter = early_exit(ar_model, 1)
    tokens = prompts(2, 7)
    blocks, ar_model.blocks = ar_model.blocks, ar_model.blocks[:1]
    with torch.no_grad():
        by_hand = ar_model(tokens)
        ar_model.blocks = blocks
        assert torch.equal(drafter(tokens), by_hand)
        assert not torch.equal(drafter(tokens), ar_model(tokens))
    assert all(weight.device.type == "cpu" for weight in drafter.parameters())
    with pytest.raises(WorkloadError, match=r"drafter_layers must lie in 1\.\.2, got 3"):
        early_exit(ar_model, 3)


def test_runs_on_meta_with_assumed_commits() -> None:
    runs = {}
    for device in ("cpu", "meta"):
        program = resolve_program(
            "ar-100m@speculative",
            device=device,
            prompt_length=4,
            gen_length=11,
            sampler_options={"assumed_commits": 3, "temperature": 1.0, "drafter_layers": 1},
        )
        runs[device] = program.run()
    assert runs["meta"].committed_per_forward == runs["cpu"].committed_per_forward == (1, 3, 3, 3, 1)
    assert runs["meta"].rows_per_forward == runs["cpu"].rows_per_forward == (4, 5, 5, 4, 1)
    assert runs["meta"].draft_rows_per_forward == runs["cpu"].draft_rows_per_forward


def test_another_preset_may_draft_if_it_knows_the_vocabulary() -> None:
    program = resolve_program(
        "ar-100m@speculative",
        device="meta",
        prompt_length=4,
        gen_length=7,
        sampler_options={"drafter": "ar-100m"},
    )
    assert program.run().committed_per_forward == (1, 3, 3)
    with pytest.raises(WorkloadError, match=r"drafter 'llama-3\.1-8b' must have the vocabulary of 'ar-100m', 32768"):
        resolve_program("ar-100m@speculative", device="meta", sampler_options={"drafter": "llama-3.1-8b"})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"draft_length": 0}, "speculative: draft_length must be > 0, got 0"),
        ({"drafter": "ar-100m", "drafter_layers": 2}, "leave it out with drafter=ar-100m"),
        ({"assumed_commits": 6}, r"assumed_commits must lie in 1\.\.5, got 6"),
        ({"top_p": 0.0}, "speculative: top_p must lie above 0"),
    ],
)
def test_impossible_options_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(WorkloadError, match=message):
        Options(**{"gen_length": 4, **changes})


def test_a_network_without_a_drafter_is_refused(ar_model: Transformer) -> None:
    with pytest.raises(WorkloadError, match="has no drafter; wrap it as Drafted"):
        sample(ar_model, prompts(1, 2), Options(gen_length=2))
    with pytest.raises(WorkloadError, match="at least one token"):
        sample(prepare(ar_model, Options(gen_length=2)), prompts(1, 0), Options(gen_length=2))
