"""Choices that samplers share: tokens from logits, confidences of positions, and which positions to commit.

Nothing here reads a value back, so all of it runs on `meta`; counts are plain integers.

Shape suffixes: `...` any leading shape, V vocabulary, B batch, L positions, N commits of one step.
"""

from dataclasses import dataclass

import torch

from workloads.errors import WorkloadError
from workloads.samplers.protocol import SamplerOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterOptions(SamplerOptions):
    """Options of samplers that draw from a filtered distribution.

    Attributes:
        top_k: draw among the most probable tokens only; None for all.
        top_p: draw from the smallest set of tokens with this probability only; None for all.
    """

    top_k: int | None = None
    top_p: float | None = None

    def __post_init__(self) -> None:
        SamplerOptions.__post_init__(self)
        where = type(self).__module__.rpartition(".")[2]
        if self.top_k is not None and self.top_k <= 0:
            raise WorkloadError(f"{where}: top_k must be > 0, got {self.top_k}")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise WorkloadError(f"{where}: top_p must lie above 0 and at most at 1, got {self.top_p}")

    def distribution(self, logits_V: torch.Tensor) -> torch.Tensor:
        """Probabilities `[..., V]` in float32 after temperature (0 changes nothing), top-k, then top-p."""
        logits_V = logits_V.float()
        if self.temperature > 0:
            logits_V = logits_V / self.temperature
        return torch.softmax(keep_top_p(keep_top_k(logits_V, self.top_k), self.top_p), dim=-1)


def choose_tokens(logits_V: torch.Tensor, temperature: float, generator: torch.Generator | None) -> torch.Tensor:
    """The most probable token, or by temperature a sample from `softmax(logits / temperature)`; `[..., V]` to `[...]`.

    The sample is `argmax exp(logits) / (-log u)^temperature` in float64: lower precision of the Gumbel noise lowers
    the quality of text (Zheng et al., arXiv:2409.02908).
    """
    if temperature == 0:
        return logits_V.argmax(dim=-1)
    logits_V = logits_V.double()
    uniform_V = torch.rand(logits_V.shape, dtype=torch.float64, device=logits_V.device, generator=generator)
    return (logits_V.exp() / (-uniform_V.log()) ** temperature).argmax(dim=-1)


def draw_tokens(probability_V: torch.Tensor, generator: torch.Generator | None) -> torch.Tensor:
    """One token from each distribution (need not sum to 1): `[..., V]` to `[...]`."""
    rows_RV = probability_V.reshape(-1, probability_V.shape[-1])
    return torch.multinomial(rows_RV, 1, generator=generator).reshape(probability_V.shape[:-1])


def keep_top_k(logits_V: torch.Tensor, count: int | None) -> torch.Tensor:
    """Logits with all but the `count` largest at minus infinity (ties stay); None keeps all."""
    if count is None or count >= logits_V.shape[-1]:
        return logits_V
    least_1 = logits_V.topk(count, dim=-1).values[..., -1:]
    return logits_V.masked_fill(logits_V < least_1, -torch.inf)


def keep_top_p(logits_V: torch.Tensor, mass: float | None) -> torch.Tensor:
    """Logits with all but the nucleus at minus infinity (Holtzman et al., arXiv:1904.09751); None and 1 keep all.

    The nucleus is the smallest set of most probable tokens whose probability reaches `mass`; it takes a sort over V.
    """
    if mass is None or mass >= 1:
        return logits_V
    sorted_V, order_V = logits_V.sort(dim=-1, descending=True)
    probability_V = torch.softmax(sorted_V, dim=-1)
    before_V = probability_V.cumsum(dim=-1) - probability_V
    sorted_V = sorted_V.masked_fill(before_V >= mass, -torch.inf)
    return torch.empty_like(sorted_V).scatter_(-1, order_V, sorted_V)


def probability_of(probability_V: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """The probability of each given token: `[..., V]` and `[...]` to `[...]`."""
    return probability_V.gather(-1, tokens[..., None])[..., 0]


def margin(probability_V: torch.Tensor) -> torch.Tensor:
    """Lead of the largest probability over the second, `[...]`, by a full sort over V, as Dream's code has it."""
    sorted_V = probability_V.sort(dim=-1, descending=True).values
    return sorted_V[..., 0] - sorted_V[..., 1]


def negative_entropy(probability_V: torch.Tensor) -> torch.Tensor:
    """Sum of `p log p` in nats, `[...]`, 0 for a certain token; `1e-10` inside the logarithm, as in Dream's code."""
    return (probability_V * (probability_V + 1e-10).log()).sum(dim=-1)


def commit_best(tokens_BL: torch.Tensor, proposal_BL: torch.Tensor, confidence_BL: torch.Tensor, count: int) -> None:
    """Write the proposals at the `count` most confident positions of each sequence.

    Args:
        tokens_BL: changed in place.
        proposal_BL: a token for every position.
        confidence_BL: minus infinity where nothing may be written.
        count: positions to write in each sequence; at least so many must be allowed.
    """
    chosen_BN = confidence_BL.topk(count, dim=-1).indices
    tokens_BL.scatter_(1, chosen_BN, proposal_BL.gather(1, chosen_BN))


def commit_where(tokens_BL: torch.Tensor, proposal_BL: torch.Tensor, selected_BL: torch.Tensor) -> None:
    """Write the proposals at the selected positions, in place; sequences may have different numbers of them."""
    tokens_BL.copy_(torch.where(selected_BL, proposal_BL, tokens_BL))


def select_best(confidence_BL: torch.Tensor, count: int) -> torch.Tensor:
    """Mask `[B, L]` of the `count` most confident positions of each sequence; one at minus infinity never is."""
    count = min(count, confidence_BL.shape[-1])
    best_BN = confidence_BL.topk(count, dim=-1).indices
    selected_BL = torch.zeros_like(confidence_BL, dtype=torch.bool).scatter_(-1, best_BN, True)
    return selected_BL.logical_and_(confidence_BL > -torch.inf)


def select_confident(confidence_BL: torch.Tensor, threshold: float) -> torch.Tensor:
    """Positions above a confidence, and always the best of each sequence (Fast-dLLM, arXiv:2505.22618, section 3.3)."""
    return select_best(confidence_BL, 1).logical_or_(confidence_BL > threshold)


def select_by_factor(confidence_BL: torch.Tensor, factor: float) -> torch.Tensor:
    """Mask `[B, L]` of the best n positions of each sequence (arXiv:2505.22618).

    n is the largest with `(n + 1)(1 - c_n) < factor`, and at least one; `c_n` is the n-th largest confidence of the
    sequence, so the left side grows with n.
    """
    sorted_BL, order_BL = confidence_BL.sort(dim=-1, descending=True)
    rank_L = torch.arange(1, confidence_BL.shape[-1] + 1, device=confidence_BL.device)
    passed_BL = (rank_L + 1) * (1 - sorted_BL) < factor
    passed_BL[..., 0].fill_(True)
    passed_BL.logical_and_(sorted_BL > -torch.inf)
    return torch.empty_like(passed_BL).scatter_(-1, order_BL, passed_BL)


def select_low_entropy(entropy_BL: torch.Tensor, bound: float, *, counts_itself: bool) -> torch.Tensor:
    """Positions by rising entropy while the sum so far stays in bound, and at least one; those at infinity never.

    Args:
        entropy_BL: nats, infinity where nothing may be written.
        bound: of the sum of entropies.
        counts_itself: whether a position's own entropy belongs to the sum, which then must lie below the bound (SDAR's
            code); else the sum of those before it may reach the bound (DiffusionGemma's code).
    """
    sorted_BL, order_BL = entropy_BL.sort(dim=-1)
    sum_BL = sorted_BL.cumsum(dim=-1)
    passed_BL = sum_BL < bound if counts_itself else sum_BL - sorted_BL <= bound
    passed_BL[..., 0].fill_(True)
    passed_BL.logical_and_(sorted_BL < torch.inf)
    return torch.empty_like(passed_BL).scatter_(-1, order_BL, passed_BL)
