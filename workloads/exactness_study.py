"""The usual study of exactness: which samplers are held against a small Markov chain, and what theory says of them.

The chain has three states and goes on by one of them with a high chance, so that neighbors depend on each other.

Shape suffixes: N sequences, G generated positions, W states and the mask token.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import torch

from workloads.errors import WorkloadError
from workloads.exactness import ErrorPoint, UniformOracle, error_against_steps
from workloads.oracle import MarkovOracle
from workloads.samplers.registry import load_sampler

CHAIN = ((0.1, 0.8, 0.1), (0.05, 0.05, 0.9), (0.6, 0.2, 0.2))
STEPS = (1, 2, 4, 8, 16, 32)
GEN_LENGTH = 3
DRAWS = 5_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A sampler, its options, and the noise whose exact denoiser it asks.

    Attributes:
        label: what it is called in a chart.
        sampler: name in the registry.
        options: (name, value) of its options.
        noise: `absorbing`, or `uniform` where the oracle gives `p(x0_i | the other positions)`, or `uniform_posterior`
            where the noisy token at i counts too.
        steps_option: the sampler's option that takes a number of steps.
    """

    label: str
    sampler: str
    noise: str
    options: tuple[tuple[str, object], ...] = ()
    steps_option: str = "steps"


CASES = (
    Case(label="mdlm", sampler="mdlm", noise="absorbing"),
    Case(label="sedd, absorbing, Euler", sampler="sedd", noise="absorbing"),
    Case(
        label="bd3lm, ddpm, blocks of 2",
        sampler="bd3lm",
        noise="absorbing",
        options=(("update", "ddpm"), ("block_length", 2), ("temperature", 1.0)),
        steps_option="steps_per_block",
    ),
    Case(label="sedd, uniform, Euler", sampler="sedd", noise="uniform_posterior", options=(("graph", "uniform"),)),
    Case(label="udlm", sampler="udlm", noise="uniform"),
    Case(label="udlm, fed with the wrong conditional", sampler="udlm", noise="uniform_posterior"),
)


NOISES = ("absorbing", "uniform", "uniform_posterior")
_STEPS_OPTIONS = ("steps", "steps_per_block")


def own_case(text: str, noise: str = "absorbing", steps_option: str | None = None) -> Case:
    """A case of one's own from `SAMPLER[:key=value,key=value]`; a sampler is a name or a file.

    A sampler that has a temperature draws at 1 unless told otherwise, for at 0 it does not draw at all.

    Args:
        text: sampler and options.
        noise: whose exact denoiser the sampler is given.
        steps_option: the option that takes a number of steps; None for `steps`, else `steps_per_block`.

    Raises:
        WorkloadError: an unknown sampler, option or noise, one that the study sets, or no option that takes steps.
    """
    name, _, given = text.partition(":")
    sampler = load_sampler(name)
    known = [field.name for field in fields(sampler.options_type)]
    found = steps_option or next((option for option in _STEPS_OPTIONS if option in known), None)
    if found not in known:
        asked = f"no option {steps_option!r}" if steps_option else f"none of the options {', '.join(_STEPS_OPTIONS)}"
        raise WorkloadError(
            f"exactness: sampler {name!r} has {asked}; say which takes a number of steps: {', '.join(known)}"
        )
    options: dict[str, object] = {"temperature": 1.0} if "temperature" in known else {}
    for part in filter(None, given.split(",")):
        key, separator, value = part.partition("=")
        if not (key.strip() and separator and value):
            raise WorkloadError(f"exactness: options must be key=value, got {part!r}")
        if key.strip() in (found, "gen_length", "seed"):
            raise WorkloadError(f"exactness: {key.strip()} of sampler {name!r} is set by the study, leave it out")
        options[key.strip()] = value
    sampler.build_options({**options, "gen_length": GEN_LENGTH, found: 1})  # refuses what it does not take, now
    make_oracle(noise)
    label = f"{sampler.name}{':' if given else ''}{given}"
    return Case(label=label, sampler=name, noise=noise, options=tuple(options.items()), steps_option=found)


@dataclass(frozen=True, slots=True, kw_only=True)
class CasePoint:
    """One case at one number of steps."""

    case: Case
    point: ErrorPoint


def study(
    *,
    cases: Sequence[Case] = CASES,
    steps: tuple[int, ...] = STEPS,
    draws: int = DRAWS,
    seed: int = 0,
    on_point: Callable[[Case], object] = lambda case: None,
) -> tuple[CasePoint, ...]:
    """Draw sequences with every case at every number of steps, and hold them against the chain.

    Args:
        cases: what to run.
        steps: numbers of steps.
        draws: sequences per point.
        seed: of the samplers.
        on_point: called with the case after each point.

    Raises:
        WorkloadError: a number is not above 0, or there are no steps.
    """
    if not steps or min(steps) <= 0 or draws <= 0:
        raise WorkloadError(f"exactness: steps and draws must be > 0, got {steps} and {draws}")
    points = []
    for case in cases:
        for count in steps:
            (point,) = error_against_steps(
                case.sampler,
                make_oracle(case.noise),
                (count,),
                gen_length=GEN_LENGTH,
                draws=draws,
                seed=seed,
                steps_option=case.steps_option,
                options=dict(case.options),
            )
            points.append(CasePoint(case=case, point=point))
            on_point(case)
    return tuple(points)


def make_oracle(noise: str) -> MarkovOracle | UniformOracle:
    """The exact denoiser of `CHAIN` under this noise.

    Raises:
        WorkloadError: there is no such noise.
    """
    chain = torch.tensor(CHAIN, dtype=torch.float64)
    if noise == "absorbing":
        return MarkovOracle(chain)
    if noise not in NOISES:
        raise WorkloadError(f"exactness: noise must be absorbing, uniform or uniform_posterior, got {noise!r}")
    return UniformOracle(chain, leave_one_out=noise == "uniform")


def masked_error(oracle: MarkovOracle, steps: int, length: int, first_token: int = 0) -> float:
    """Total variation from the chain of perfect ancestral sampling under absorbing noise, in closed form.

    With an even schedule every position is revealed in one of `steps` steps, each as likely, whatever the others do;
    those of the same step are drawn from their marginals given the earlier ones. So each ordering of positions into k
    groups has the chance `C(steps, k) / steps ** length`, and the samples' distribution is a sum over orderings. What
    it leaves out: the last noise level, 1e-5 or so, at which samplers reveal the rest by a forward of its own.

    Args:
        oracle: the chain.
        steps: in which positions are revealed.
        length: positions behind the first token.
        first_token: where the chain begins.

    >>> round(masked_error(MarkovOracle(torch.tensor([[0.5, 0.5], [0.5, 0.5]])), 1, 2), 12)
    0.0
    """
    sequences_NG, exact_N = oracle.exact(first_token, length)
    drawn_N = torch.zeros_like(exact_N)
    for ranks in _orderings(length):
        groups = max(ranks) + 1
        chance = math.comb(steps, groups) / steps**length
        if chance > 0:
            drawn_N += chance * _ordered_probability(oracle, sequences_NG, torch.tensor(ranks), first_token)
    return float((drawn_N - exact_N).abs().sum() / 2)


def _orderings(length: int) -> list[tuple[int, ...]]:
    """Every way to put positions in order with ties, as the rank of each: ranks without gaps, from 0 on."""
    return [
        ranks for ranks in itertools.product(range(length), repeat=length) if set(ranks) == set(range(len(set(ranks))))
    ]


def _ordered_probability(
    oracle: MarkovOracle, sequences_NG: torch.Tensor, rank_G: torch.Tensor, first_token: int
) -> torch.Tensor:
    """Chance of each sequence `[N]` when groups of positions are drawn in order of rank, each from its marginals."""
    probability_N = torch.ones(len(sequences_NG), dtype=torch.float64)
    first_N1 = torch.full_like(sequences_NG[:, :1], first_token)
    for group in range(int(rank_G.max()) + 1):
        shown_NG = sequences_NG.masked_fill(rank_G >= group, oracle.states)
        chance_NGW = oracle(torch.cat((first_N1, shown_NG), dim=1))[:, 1:].exp()
        own_NG = chance_NGW.gather(-1, sequences_NG[..., None])[..., 0]
        probability_N *= own_NG.masked_fill(rank_G != group, 1.0).prod(dim=1)
    return probability_N
