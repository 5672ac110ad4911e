import math

import pytest
import torch

from workloads.errors import WorkloadError
from workloads.markers import Marker
from workloads.oracle import FunctionDenoiser
from workloads.samplers.llada_edit import Options, sample
from workloads.transformer import Transformer

MASK = 3
PROMPT = torch.tensor([[0]])


def rows(*answers: tuple[int, float]) -> torch.Tensor:
    """Logits `[S, 4]` that predict each token with its probability, the rest spread over the two others."""
    logits = torch.stack([torch.full((4,), math.log((1 - p) / 2)) for _, p in answers])
    for row, (token, probability) in zip(logits, answers, strict=True):
        row[token] = math.log(probability)
        row[MASK] = 60.0  # must be ignored: the mask token is never predicted
    return logits


def script(*answers: tuple[tuple[int, float], ...]) -> FunctionDenoiser:
    """A network that gives one answer after the other, whatever it is shown; the prompt's row comes first."""
    queue = list(answers)
    return FunctionDenoiser(lambda tokens: rows((0, 0.5), *queue.pop(0)).expand(len(tokens), -1, -1), mask_id=MASK)


def test_masks_fill_and_tokens_are_edited_by_their_own_thresholds() -> None:
    denoiser = script(
        ((1, 0.9), (2, 0.6), (0, 0.8)),  # positions 0 and 2 pass 0.7
        ((2, 0.65), (2, 0.5), (1, 0.55)),  # 0 is edited (0.65 > 0.6), 2 is not (0.55); 1 fills as the best of the masks
        ((2, 0.9), (1, 0.95), (0, 0.9)),  # no masks: 1 is edited
        ((1, 0.5), (1, 0.9), (2, 0.6)),  # nothing passes: done
    )
    generation = sample(denoiser, PROMPT, Options(gen_length=3, threshold=0.7, edit_threshold=0.6))
    assert [tokens.tolist()[0][1:] for tokens in denoiser.shown] == [[3, 3, 3], [1, 3, 0], [2, 2, 0], [2, 1, 0]]
    assert generation.generated.tolist() == [[2, 1, 0]]
    assert generation.committed_per_forward == (2, 1, 0, 0)
    assert generation.rows_per_forward == (4, 4, 4, 4)
    assert denoiser.markers == [Marker("denoise", 0), Marker("denoise", 1), Marker("edit", 2), Marker("edit", 3)]


@pytest.mark.parametrize("max_edits", [0, 1, 5])
def test_edits_end_when_their_steps_are_used_up(max_edits: int) -> None:
    # Each answer contradicts the one before: without a limit this goes on forever.
    answers = [((i % 3, 0.9),) for i in range(20)]
    generation = sample(script(*answers), PROMPT, Options(gen_length=1, max_edits=max_edits))
    assert generation.nfe == 1 + max_edits + 1  # fill, edits, and the forward that stores what is final
    assert generation.generated.tolist() == [[max_edits % 3]]


def test_a_stable_answer_takes_one_forward_more_than_its_fills() -> None:
    denoiser = FunctionDenoiser(lambda tokens: rows(*[(1, 0.9)] * tokens.shape[1])[None], mask_id=MASK)
    generation = sample(denoiser, PROMPT, Options(gen_length=8, block_length=4))
    assert generation.committed_per_forward == (4, 0, 4, 0)
    slow = sample(denoiser, PROMPT, Options(gen_length=8, block_length=4, threshold=0.95))
    assert slow.committed_per_forward == (1, 1, 1, 1, 0) * 2


def test_sequences_of_a_batch_finish_on_their_own() -> None:
    # Sequence 0 is stable at once; sequence 1 is edited once more, and sequence 0 must not change with it.
    def logits(tokens: torch.Tensor) -> torch.Tensor:
        call = len(denoiser.shown)
        first = rows((0, 0.5), (1, 0.9))
        second = rows((0, 0.5), ((1, 0.9), (2, 0.9), (2, 0.9), (2, 0.9))[call - 1])
        if call == 3:
            first = rows((0, 0.5), (0, 0.9))  # too late: sequence 0 is done
        return torch.stack((first, second))

    denoiser = FunctionDenoiser(logits, mask_id=MASK)
    generation = sample(denoiser, torch.tensor([[0], [0]]), Options(gen_length=1))
    assert generation.generated.tolist() == [[1], [2]]
    assert generation.nfe == 3


def test_the_cache_holds_what_a_recomputation_of_the_blocks_would(diffusion_model: Transformer) -> None:
    # By hand, one block after the other over a cache; thresholds of 1 fill one mask a step and edit nothing.
    prompt = torch.randint(0, 49, (2, 5), generator=torch.Generator().manual_seed(4))
    generation = sample(
        diffusion_model, prompt, Options(gen_length=6, block_length=3, threshold=1.0, edit_threshold=1.0)
    )
    tokens = torch.cat((prompt, torch.full((2, 6), 49)), dim=1)
    cache = diffusion_model.new_cache(2, 11)
    with torch.no_grad():
        diffusion_model(prompt, cache=cache)
        for start in (5, 8):
            for _ in range(4):
                logits = diffusion_model(tokens[:, start : start + 3], cache=cache, position=start)
                logits[..., 49] = -torch.inf
                best, token = logits.softmax(-1).max(-1)
                best[tokens[:, start : start + 3] != 49] = -1
                for row in range(2):
                    if best[row].max() > 0:
                        tokens[row, start + best[row].argmax()] = token[row, best[row].argmax()]
    assert torch.equal(generation.tokens, tokens)
    assert generation.rows_per_forward == (10, *[6] * 8)
    assert generation.committed_per_forward == (0, *(2, 2, 2, 0) * 2)


def test_runs_on_meta_with_assumed_commits_and_edits(diffusion_model: Transformer) -> None:
    prompt = torch.zeros((2, 5), dtype=torch.long)
    options = Options(gen_length=16, block_length=8, assumed_commits=3, assumed_edits=1, temperature=1.0)
    real = sample(diffusion_model, prompt, options)
    pretended = sample(Transformer(diffusion_model.preset, device="meta"), prompt.to("meta"), options)
    assert not (real.tokens == 49).any()
    assert real.committed_per_forward == (0, *(6, 6, 4, 0, 0) * 2)
    assert pretended.committed_per_forward == real.committed_per_forward
    assert pretended.rows_per_forward == real.rows_per_forward == (10, *[16] * 10)
    unsaid = sample(
        Transformer(diffusion_model.preset, device="meta"), prompt.to("meta"), Options(gen_length=32, block_length=32)
    )
    assert sum(unsaid.committed_per_forward) / 2 / (unsaid.nfe - 1) == pytest.approx(32 / 9)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 4}, "llada_edit: steps follow from the thresholds; leave steps out, got 4"),
        ({"threshold": 1.1}, "llada_edit: threshold must lie in 0..1, got 1.1"),
        ({"edit_threshold": -0.1}, "edit_threshold must lie in 0..1, got -0.1"),
        ({"max_edits": -1}, "max_edits must be >= 0, got -1"),
        ({"assumed_commits": 0}, "assumed_commits must be > 0, got 0"),
        ({"assumed_edits": 17}, r"assumed_edits must lie in 0\.\.16, got 17"),
    ],
)
def test_impossible_options_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(WorkloadError, match=message):
        Options(**{"gen_length": 12, **changes})
