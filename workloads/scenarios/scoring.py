"""Log-probabilities of sampled answers, as policy-gradient training asks for them after each rollout.

Causal networks: one forward over prompt and answer gives all of them. Masked diffusion has no such forward:

    diffu_grpo      one forward with the whole answer masked and each prompt token masked with some probability
                    (Zhao et al., "d1", arXiv:2504.12216)
    coupled_grpo    two forwards with complementary halves of the answer masked; each token is read where it is masked
                    (Gong et al., "DiffuCoder", arXiv:2506.20639)

Shape suffixes: B sequences, P prompt positions, G generated positions, L prompt and generated positions, V vocabulary.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from workloads.errors import WorkloadError
from workloads.markers import phase
from workloads.samplers.masked import require_mask_id
from workloads.transformer import Transformer

ESTIMATORS = ("diffu_grpo", "coupled_grpo")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scoring:
    """How answers are scored.

    Attributes:
        estimator: one of `ESTIMATORS`, for networks with a mask token; causal ones have only one way.
        passes: networks that score every answer, for example 2 for the policy and a reference of the same size.
        micro_batch: sequences at a time; logits of more would not fit.
        p_mask_prompt: chance that `diffu_grpo` masks a prompt token.
    """

    estimator: str = "diffu_grpo"
    passes: int = 1
    micro_batch: int = 8
    p_mask_prompt: float = 0.15

    def __post_init__(self) -> None:
        if self.estimator not in ESTIMATORS:
            raise WorkloadError(f"log_prob must be one of {', '.join(ESTIMATORS)}, got {self.estimator!r}")
        for name in ("passes", "micro_batch"):
            if getattr(self, name) <= 0:
                raise WorkloadError(f"log_prob: {name} must be > 0, got {getattr(self, name)}")
        if not 0 <= self.p_mask_prompt <= 1:
            raise WorkloadError(f"log_prob: p_mask_prompt must lie in 0..1, got {self.p_mask_prompt}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """Log-probabilities `[B, G]` of the answers' tokens, and the rows of each forward that gave them."""

    log_prob_BG: torch.Tensor  # noqa: N815 - a shape suffix
    rows_per_forward: tuple[int, ...]


@torch.inference_mode()
def score(
    model: Transformer, text_BL: torch.Tensor, prompt_length: int, scoring: Scoring, generator: torch.Generator | None
) -> Scores:
    """Log-probabilities of what stands behind the prompts, under the network; computed again for each pass."""
    estimate = _estimator(model, scoring)
    rows: list[int] = []
    for number in range(scoring.passes):
        with phase("log_prob", step=number):
            parts = [
                estimate(part_BL, prompt_length, generator, rows)
                for part_BL in torch.split(text_BL, scoring.micro_batch)
            ]
    return Scores(log_prob_BG=torch.cat(parts), rows_per_forward=tuple(rows))


Estimate = Callable[[torch.Tensor, int, torch.Generator | None, list[int]], torch.Tensor]


def _estimator(model: Transformer, scoring: Scoring) -> Estimate:
    def forward(
        tokens_BL: torch.Tensor, text_BL: torch.Tensor, first: int, shift: int, rows: list[int]
    ) -> torch.Tensor:
        """Log-probabilities of the text from `first` on, read `shift` rows before."""
        rows.append(tokens_BL.numel())
        logits_BGV = model(tokens_BL)[:, first - shift : text_BL.shape[1] - shift]
        log_prob_BGV = torch.log_softmax(logits_BGV.float(), dim=-1)
        return log_prob_BGV.gather(-1, text_BL[:, first:, None])[..., 0]

    def causal(text_BL: torch.Tensor, first: int, generator: torch.Generator | None, rows: list[int]) -> torch.Tensor:
        return forward(text_BL[:, :-1], text_BL, first, 1, rows)

    def fully_masked(
        text_BL: torch.Tensor, first: int, generator: torch.Generator | None, rows: list[int]
    ) -> torch.Tensor:
        tokens_BL = text_BL.clone()
        tokens_BL[:, first:].fill_(mask_id)
        is_hidden_BP = _chance(tokens_BL[:, :first], scoring.p_mask_prompt, generator)
        tokens_BL[:, :first].masked_fill_(is_hidden_BP, mask_id)
        return forward(tokens_BL, text_BL, first, 0, rows)

    def complementary(
        text_BL: torch.Tensor, first: int, generator: torch.Generator | None, rows: list[int]
    ) -> torch.Tensor:
        is_hidden_BG = _chance(text_BL[:, first:], 0.5, generator)
        scores = []
        for hidden_BG in (is_hidden_BG, ~is_hidden_BG):
            tokens_BL = text_BL.clone()
            tokens_BL[:, first:].masked_fill_(hidden_BG, mask_id)
            scores.append(forward(tokens_BL, text_BL, first, 0, rows))
        return torch.where(is_hidden_BG, scores[0], scores[1])

    if model.preset.is_causal:
        return causal
    mask_id = require_mask_id(model, "log_prob")
    return fully_masked if scoring.estimator == "diffu_grpo" else complementary


def _chance(tokens: torch.Tensor, probability: float, generator: torch.Generator | None) -> torch.Tensor:
    return torch.rand(tokens.shape, device=tokens.device, generator=generator) < probability
