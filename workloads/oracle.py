"""Denoisers without weights: any function (`FunctionDenoiser`), and the exact posterior of a Markov chain.

A sampler that asks `MarkovOracle` has no network to blame: what its samples lack of the chain's distribution is the
sampler's own error (arXiv:2602.19619).

Shape suffixes: B batch, S positions, G generated positions, V states, W states and the mask token.
"""

import itertools
from collections.abc import Callable

import torch

from workloads.errors import WorkloadError
from workloads.kv_cache import KVCache
from workloads.markers import Marker, current_marker


class FunctionDenoiser:
    """A network that is any function from tokens `[B, S]` to logits `[B, S, V]`, for samplers worked out by hand.

    Attributes:
        mask_id: token id of a masked position, None where the function knows none.
        shown: the tokens of each call so far.
        markers: the phase and step of each call so far.
    """

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor], *, mask_id: int | None) -> None:
        self.function = function
        self.mask_id = mask_id
        self.shown: list[torch.Tensor] = []
        self.markers: list[Marker] = []

    def new_cache(self, batch: int, capacity: int) -> KVCache | None:
        """No cache is kept."""
        return None

    def __call__(
        self, tokens_BS: torch.Tensor, *, cache: KVCache | None = None, position: int = 0, last_only: bool = False
    ) -> torch.Tensor:
        """The function's answer, its last row with `last_only`."""
        self.shown.append(tokens_BS.clone())
        self.markers.append(current_marker())
        logits_BSV = self.function(tokens_BS)
        return logits_BSV[:, -1:] if last_only else logits_BSV


class MarkovOracle:
    """Exact logits of a stationary-transition Markov chain over tokens 0 to V - 1; the mask token is V.

    As a bidirectional denoiser, row i holds `log p(x_i | all tokens that are not masked)`; as a causal network, row i
    holds `log p(x_(i+1) | x_i)`. The first token of a sequence is uniform.
    """

    def __init__(self, move_VV: torch.Tensor, *, is_causal: bool = False) -> None:
        """Take the chain's transition probabilities `[V, V]`, each row summing to 1."""
        move_VV = move_VV.double()
        if move_VV.ndim != 2 or move_VV.shape[0] != move_VV.shape[1] or bool((move_VV < 0).any()):
            raise WorkloadError(f"oracle: transitions must be a square of probabilities, got {tuple(move_VV.shape)}")
        if not torch.allclose(move_VV.sum(dim=-1), torch.ones_like(move_VV[0])):
            raise WorkloadError(f"oracle: each row of transitions must sum to 1, got {move_VV.sum(dim=-1).tolist()}")
        self.move_VV = move_VV
        self.is_causal = is_causal
        self.evaluations = 0

    @property
    def states(self) -> int:
        """Number of tokens besides the mask."""
        return self.move_VV.shape[0]

    @property
    def mask_id(self) -> int | None:
        """The token behind the last state; None for a causal network."""
        return None if self.is_causal else self.states

    def new_cache(self, batch: int, capacity: int) -> KVCache | None:
        """No cache is kept."""
        return None

    def __call__(
        self, tokens_BS: torch.Tensor, *, cache: KVCache | None = None, position: int = 0, last_only: bool = False
    ) -> torch.Tensor:
        """Logits `[B, S, W]`, the mask token's at minus infinity."""
        self.evaluations += 1
        probability_BSV = self.move_VV[tokens_BS] if self.is_causal else self._posterior(tokens_BS)
        logits_BSW = torch.nn.functional.pad(probability_BSV.log(), (0, 1), value=-torch.inf)
        return logits_BSW[:, -1:] if last_only else logits_BSW

    def exact(self, first_token: int, length: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Every continuation of a first token by `length` tokens `[V^G, G]`, and its probability `[V^G]`."""
        sequences_NG = torch.tensor(list(itertools.product(range(self.states), repeat=length)))
        before_NG = torch.cat((torch.full_like(sequences_NG[:, :1], first_token), sequences_NG[:, :-1]), dim=1)
        return sequences_NG, self.move_VV[before_NG, sequences_NG].prod(dim=1)

    def chi_square(self, first_token: int, drawn_BG: torch.Tensor) -> tuple[float, int]:
        """Pearson's statistic of drawn continuations against the chain, and its degrees of freedom."""
        draws, length = drawn_BG.shape
        place_G = self.states ** torch.arange(length - 1, -1, -1)
        observed_N = torch.bincount((drawn_BG * place_G).sum(dim=-1), minlength=self.states**length)
        expected_N = self.exact(first_token, length)[1] * draws
        return float(((observed_N - expected_N) ** 2 / expected_N).sum()), self.states**length - 1

    def _posterior(self, tokens_BS: torch.Tensor) -> torch.Tensor:
        """Forward and backward sums over the chain; a token that is shown allows its own state alone."""
        shown_BSW = torch.nn.functional.one_hot(tokens_BS, self.states + 1).double()
        allowed_BSV = torch.where((tokens_BS == self.states)[..., None], 1.0, shown_BSW[..., :-1])
        forward = [allowed_BSV[:, 0]]
        for i in range(1, tokens_BS.shape[1]):
            forward.append(_scaled(forward[-1] @ self.move_VV) * allowed_BSV[:, i])
        backward = [torch.ones_like(forward[0])]
        for i in range(tokens_BS.shape[1] - 1, 0, -1):
            backward.append(_scaled((backward[-1] * allowed_BSV[:, i]) @ self.move_VV.T))
        return _scaled(torch.stack(forward, dim=1) * torch.stack(backward[::-1], dim=1))


def _scaled(weight_V: torch.Tensor) -> torch.Tensor:
    return weight_V / weight_V.sum(dim=-1, keepdim=True)
