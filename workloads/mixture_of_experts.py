"""Mixture of experts: a router, experts run as products over gathered rows, and the routing to assume on `meta`.

Shape suffixes: N token rows, D model width, E experts, F hidden width of an expert, K experts per token, G groups of
experts, R rows sent to experts (N x K), X experts that run in one product.
"""

from dataclasses import dataclass
from functools import cache
from itertools import groupby

import torch
from torch import nn
from torch.nn import functional

from workloads.architecture import GATED, Mixture
from workloads.errors import WorkloadError
from workloads.feed_forward import build_feed_forward
from workloads.presets import ModelPreset


@dataclass(frozen=True, slots=True, kw_only=True)
class AssumedRouting:
    """How tokens spread over experts where no values exist, so that no router can say.

    Attributes:
        exponent: expert e gets tokens in proportion to `(e + 1) ** -exponent`, each token at most once. At 0 all get
            the same, so `min(N * K, E)` experts run, the most that can; larger values crowd fewer experts.
        independent: each token chooses its experts by chance and none knows of the others, so that
            `E * (1 - (1 - K / E) ** N)` experts run on average; these get the same, all others nothing.
    """

    exponent: float = 0.0
    independent: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.exponent < float("inf"):
            raise WorkloadError(f"assumed routing: exponent must be finite and >= 0, got {self.exponent}")
        if self.independent and self.exponent:
            raise WorkloadError(f"assumed routing: independent choices take exponent 0, got {self.exponent}")

    def counts(self, *, rows: int, experts: int, top_k: int) -> tuple[int, ...]:
        """Tokens of each expert, which add up to `rows * top_k`.

        >>> AssumedRouting().counts(rows=3, experts=4, top_k=2), AssumedRouting(exponent=2).counts(
        ...     rows=4, experts=4, top_k=2)
        ((2, 2, 1, 1), (4, 2, 1, 1))
        >>> AssumedRouting(independent=True).counts(rows=2, experts=4, top_k=1)  # 4 (1 - 9 / 16) = 1.75 experts
        (1, 1, 0, 0)
        """
        if not self.independent or not rows:
            return _assumed_counts(rows, experts, top_k, self.exponent)
        running = max(top_k, round(experts * (1.0 - (1.0 - top_k / experts) ** rows)))
        return _assumed_counts(rows, running, top_k, 0.0) + (0,) * (experts - running)


@cache
def _assumed_counts(rows: int, experts: int, top_k: int, exponent: float) -> tuple[int, ...]:
    """Shares in proportion, cut at `rows` each, made whole by largest remainders (ties to the lower expert)."""
    weight = [(expert + 1.0) ** -exponent for expert in range(experts)]
    full = 0  # weights fall, so the experts that take every token come first
    while True:
        factor = rows * (top_k - full) / sum(weight[full:])
        if weight[full] * factor <= rows:
            break
        full += 1
    share = [float(rows)] * full + [each * factor for each in weight[full:]]
    whole = [int(each) for each in share]
    rest = sorted(range(full, experts), key=lambda expert: whole[expert] - share[expert])
    for expert in rest[: rows * top_k - sum(whole)]:
        whole[expert] += 1
    return tuple(whole)


class Router(nn.Module):
    """Scores every expert for every token and chooses `top_k` of them."""

    def __init__(self, preset: ModelPreset, mixture: Mixture, dtype: torch.dtype) -> None:
        super().__init__()
        self.mixture = mixture
        self.score = nn.Linear(preset.d_model, mixture.experts, bias=False, dtype=dtype)
        self.choice_bias = nn.Parameter(torch.empty(mixture.experts)) if mixture.router == "sigmoid" else None
        self.input_norm: nn.RMSNorm | None = None
        self.expert_scale: nn.Parameter | None = None
        if mixture.beside_dense:
            self.input_norm = nn.RMSNorm(preset.d_model, eps=preset.norm_eps, dtype=dtype)
            self.expert_scale = nn.Parameter(torch.empty(mixture.experts, dtype=dtype))

    def forward(self, x_ND: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Weights and experts of each token, both `[N, K]`."""
        mixture = self.mixture
        if self.input_norm is not None:
            x_ND = self.input_norm(x_ND).mul_(x_ND.shape[-1] ** -0.5)
        logits_NE = self.score(x_ND)
        if self.choice_bias is None:
            score_NE = functional.softmax(logits_NE, dim=-1, dtype=torch.float32)
            weight_NK, expert_NK = self._within_groups(score_NE).topk(mixture.top_k, dim=-1)
        else:
            score_NE = logits_NE.float().sigmoid_()
            expert_NK = self._within_groups(score_NE + self.choice_bias).topk(mixture.top_k, dim=-1).indices
            weight_NK = score_NE.gather(-1, expert_NK)
        if mixture.normalized:
            weight_NK = weight_NK / weight_NK.sum(dim=-1, keepdim=True)
        if mixture.scale != 1:
            weight_NK = weight_NK * mixture.scale
        if self.expert_scale is not None:
            weight_NK = weight_NK * self.expert_scale[expert_NK]
        return weight_NK.to(x_ND.dtype), expert_NK

    def _within_groups(self, choice_NE: torch.Tensor) -> torch.Tensor:
        """The scores without the groups that are not kept (DeepSeek-V3, arXiv:2412.19437, section 2.1.2)."""
        mixture = self.mixture
        if mixture.groups == 1:
            return choice_NE
        choice_NGE = choice_NE.view(-1, mixture.groups, mixture.experts // mixture.groups)
        group_NG = choice_NGE.topk(2, dim=-1).values.sum(dim=-1)
        kept = group_NG.topk(mixture.kept_groups, dim=-1).indices
        dropped_NG = torch.ones_like(group_NG, dtype=torch.bool).scatter_(-1, kept, value=False)
        return choice_NGE.masked_fill(dropped_NG[..., None], -torch.inf).flatten(1)


class Experts(nn.Module):
    """The routed experts' weights, `[E, F, D]` and `[E, D, F]`, read only where an expert has tokens."""

    def __init__(self, preset: ModelPreset, mixture: Mixture, dtype: torch.dtype) -> None:
        super().__init__()
        shape = (mixture.experts, mixture.expert_ffn, preset.d_model)
        self.ffn_type = preset.ffn_type
        self.gate = nn.Parameter(torch.empty(shape, dtype=dtype)) if preset.ffn_type in GATED else None
        self.up = nn.Parameter(torch.empty(shape, dtype=dtype))
        self.down = nn.Parameter(torch.empty(shape[0], shape[2], shape[1], dtype=dtype))

    def forward(self, x_RD: torch.Tensor, counts: tuple[int, ...]) -> torch.Tensor:
        """Outputs `[R, D]` of rows that are sorted by expert.

        Neighboring experts with equally many tokens run as one batched product, the others each in its own; an
        expert without tokens runs not at all.
        """
        parts, row, expert = [], 0, 0
        for count, group in groupby(counts):
            experts = len(tuple(group))
            if count:
                end = row + experts * count
                x_XRD = x_RD[row:end].view(experts, count, -1)
                parts.append(self._run(x_XRD, slice(expert, expert + experts)).flatten(0, 1))
                row = end
            expert += experts
        return torch.cat(parts) if len(parts) > 1 else parts[0]

    def _run(self, x_XRD: torch.Tensor, which: slice) -> torch.Tensor:
        up_XRF = torch.bmm(x_XRD, self.up[which].transpose(1, 2))
        if self.gate is not None:
            gate_XRF = torch.bmm(x_XRD, self.gate[which].transpose(1, 2))
            is_gelu = self.ffn_type == "geglu"
            active_XRF = functional.gelu(gate_XRF, approximate="tanh") if is_gelu else functional.silu(gate_XRF)
            hidden_XRF = active_XRF.mul_(up_XRF)
        elif self.ffn_type == "relu2_mlp":
            hidden_XRF = up_XRF.relu_().square_()
        else:
            hidden_XRF = functional.gelu(up_XRF, approximate="tanh")
        return torch.bmm(hidden_XRF, self.down[which].transpose(1, 2))


class MixtureOfExperts(nn.Module):
    """Feed-forward network of routed and shared experts.

    Attributes:
        routing: what to assume on `meta`.
        tokens_per_expert: of the last forward, one number per routed expert.
    """

    def __init__(self, preset: ModelPreset, mixture: Mixture, dtype: torch.dtype) -> None:
        super().__init__()
        self.mixture = mixture
        self.routing = AssumedRouting()
        self.tokens_per_expert: tuple[int, ...] = ()
        self.router = Router(preset, mixture, dtype)
        self.experts = Experts(preset, mixture, dtype)
        self.shared = build_feed_forward(preset, mixture.shared * mixture.expert_ffn, dtype) if mixture.shared else None

    def forward(self, x_BSD: torch.Tensor, routed_by_BSD: torch.Tensor | None = None) -> torch.Tensor:
        """The network's output `[B, S, D]`.

        Args:
            x_BSD: what the experts read.
            routed_by_BSD: what the router reads, if something else.
        """
        x_ND = x_BSD.flatten(0, 1)
        weight_NK, expert_NK = self.router(x_ND if routed_by_BSD is None else routed_by_BSD.flatten(0, 1))
        by_expert_R = expert_NK.flatten().argsort(stable=True)
        token_R = by_expert_R // self.mixture.top_k
        self.tokens_per_expert = self._count_tokens(expert_NK)
        y_RD = self.experts(x_ND[token_R], self.tokens_per_expert)
        y_RD.mul_(weight_NK.flatten()[by_expert_R][:, None])
        y_ND = torch.zeros_like(x_ND).index_add_(0, token_R, y_RD)
        if self.shared is not None:
            y_ND.add_(self.shared(x_ND))
        return y_ND.view(x_BSD.shape)

    def _count_tokens(self, expert_NK: torch.Tensor) -> tuple[int, ...]:
        """Tokens of each expert: counted, and taken from the assumed routing where no values exist."""
        flat_R, experts = expert_NK.flatten(), self.mixture.experts
        counts_E = torch.zeros(experts, dtype=flat_R.dtype, device=flat_R.device)
        counts_E.index_add_(0, flat_R, torch.ones_like(flat_R))
        if expert_NK.device.type == "meta":
            return self.routing.counts(rows=expert_NK.shape[0], experts=experts, top_k=self.mixture.top_k)
        return tuple(counts_E.tolist())
