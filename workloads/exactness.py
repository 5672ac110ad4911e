"""How far a sampler's samples lie from the truth, where the truth is known: error against steps on a Markov chain.

`UniformOracle` is the exact denoiser of a Markov chain under uniform noise, as `workloads.oracle.MarkovOracle` is under
absorbing noise. `error_against_steps` gives the points of a chart.

Shape suffixes: B batch, S positions, V states, N sequences, G generated positions.
"""

from dataclasses import dataclass

import torch

from workloads.kv_cache import KVCache
from workloads.oracle import MarkovOracle
from workloads.samplers.registry import load_sampler


class UniformOracle:
    """Exact logits of a Markov chain's clean tokens when all but the first `clean` positions carry uniform noise.

    `leave_one_out` gives `log p(x0_i | noisy tokens of the other positions)`, else the noisy token at i counts too. The
    first token of a sequence is uniform.
    """

    def __init__(
        self, move_VV: torch.Tensor, *, clean: int = 1, leave_one_out: bool = True, move_chance: float = 1.0
    ) -> None:
        """Take the chain's transitions `[V, V]` and the move chance of the noise."""
        self.chain = MarkovOracle(move_VV, is_causal=True)
        self.clean = clean
        self.leave_one_out = leave_one_out
        self.move_chance = move_chance

    mask_id = None

    @property
    def vocab(self) -> int:
        """Number of tokens."""
        return self.chain.states

    def new_cache(self, batch: int, capacity: int) -> KVCache | None:
        """No cache is kept."""
        return None

    def at_noise(self, move_chance: float) -> "UniformOracle":
        """The oracle for another amount of noise."""
        return UniformOracle(
            self.chain.move_VV, clean=self.clean, leave_one_out=self.leave_one_out, move_chance=move_chance
        )

    def __call__(
        self, tokens_BS: torch.Tensor, *, cache: KVCache | None = None, position: int = 0, last_only: bool = False
    ) -> torch.Tensor:
        """Logits `[B, S, V]`, by forward and backward sums over the chain with noise as emission."""
        shown_BSV = torch.nn.functional.one_hot(tokens_BS, self.vocab).double()
        likelihood_BSV = shown_BSV * (1 - self.move_chance) + self.move_chance / self.vocab
        likelihood_BSV[:, : self.clean] = shown_BSV[:, : self.clean]
        before = [torch.ones_like(likelihood_BSV[:, 0])]
        after = [torch.ones_like(likelihood_BSV[:, 0])]
        for i in range(tokens_BS.shape[1] - 1):
            before.append(_scaled((before[-1] * likelihood_BSV[:, i]) @ self.chain.move_VV))
            after.append(_scaled((after[-1] * likelihood_BSV[:, -1 - i]) @ self.chain.move_VV.T))
        posterior_BSV = torch.stack(before, dim=1) * torch.stack(after[::-1], dim=1)
        if not self.leave_one_out:
            posterior_BSV = posterior_BSV * likelihood_BSV
        logits_BSV = _scaled(posterior_BSV).log()
        return logits_BSV[:, -1:] if last_only else logits_BSV


def _scaled(weight_V: torch.Tensor) -> torch.Tensor:
    return weight_V / weight_V.sum(dim=-1, keepdim=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorPoint:
    """One sampler at one number of steps, against the truth.

    Attributes:
        sampler: its name.
        steps: denoising steps that it was given.
        nfe: network evaluations that it took.
        draws: sequences drawn.
        total_variation: half the absolute difference of drawn and true probabilities, summed over all sequences.
        chi_square: Pearson's statistic.
        degrees: its degrees of freedom.
    """

    sampler: str
    steps: int
    nfe: int
    draws: int
    total_variation: float
    chi_square: float
    degrees: int

    @property
    def noise_floor(self) -> float:
        """About the total variation that as many perfect draws show: `sqrt(sequences / (2 pi draws))` or less."""
        return float(((self.degrees + 1) / (2 * torch.pi * self.draws)) ** 0.5)


def error_against_steps(
    sampler_name: str,
    oracle: MarkovOracle | UniformOracle,
    steps: tuple[int, ...],
    *,
    gen_length: int = 3,
    draws: int = 4000,
    seed: int = 0,
    steps_option: str = "steps",
    options: dict[str, object] | None = None,
) -> tuple[ErrorPoint, ...]:
    """A sampler's distance from the chain, at each number of steps; the prompt is the chain's state 0.

    Args:
        sampler_name: as in the registry, or the path of a file.
        oracle: the exact denoiser for the sampler's noise.
        steps: numbers of steps.
        gen_length: tokens to generate; all sequences of them are compared, so keep it small.
        draws: sequences to draw.
        seed: seed of the sampler.
        steps_option: the sampler's option that takes a number of steps.
        options: its further options.
    """
    sampler = load_sampler(sampler_name)
    chain = oracle.chain if isinstance(oracle, UniformOracle) else oracle
    prompt_BP = torch.zeros((draws, 1), dtype=torch.long)
    points = []
    for count in steps:
        given = {"gen_length": gen_length, steps_option: count, "seed": seed, **(options or {})}
        generation = sampler.sample(oracle, prompt_BP, sampler.build_options(given))
        statistic, degrees = chain.chi_square(0, generation.generated)
        points.append(
            ErrorPoint(
                sampler=sampler.name,
                steps=count,
                nfe=generation.nfe,
                draws=draws,
                total_variation=total_variation(chain, 0, generation.generated),
                chi_square=statistic,
                degrees=degrees,
            )
        )
    return tuple(points)


def total_variation(chain: MarkovOracle, first_token: int, drawn_BG: torch.Tensor) -> float:
    """Half the absolute difference of the drawn continuations' shares and the chain's probabilities."""
    draws, length = drawn_BG.shape
    place_G = chain.states ** torch.arange(length - 1, -1, -1)
    share_N = torch.bincount((drawn_BG * place_G).sum(dim=-1), minlength=chain.states**length) / draws
    return float((share_N - chain.exact(first_token, length)[1]).abs().sum() / 2)
