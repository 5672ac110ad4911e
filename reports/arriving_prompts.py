"""How many tokens of prompts a step of serving computes, where prompts arrive by chance."""

from collections.abc import Iterator
from itertools import pairwise
from math import exp

_KINDS_OF_PROMPTS = 4  # of steps with prompts, by their tokens


def median_prompt_tokens(arriving: float, prompt: float) -> float:
    """Tokens of prompts that are computed in the median step.

    Prompts arrive by chance (Poisson), and their lengths are as spread as an exponential distribution; nobody has
    published them. Where less than half of the steps have a prompt, the median has none.

    >>> median_prompt_tokens(0.6, 300.0)
    0.0
    >>> 100 < median_prompt_tokens(1.0, 300.0) < 200
    True

    Args:
        arriving: prompts per step, on average.
        prompt: mean length of a prompt.
    """
    return prompt * _length_at(0.5, arriving)


def prompt_steps(arriving: float, prompt: float) -> tuple[tuple[float, float], ...]:
    """Kinds of steps by the tokens of prompts in them: (share of all steps, mean tokens), distributed as above.

    Steps without a prompt come first; the others fall into four kinds of equal share. A step's cost is no straight
    line in its tokens (weights are read once, and a first prompt wakes experts that slept), so the mean step is the
    mean over these and not the step of mean tokens.

    >>> [(round(share, 3), round(tokens)) for share, tokens in prompt_steps(0.1, 300.0)]
    [(0.905, 0), (0.024, 43), (0.024, 150), (0.024, 315), (0.024, 752)]
    """
    none = exp(-arriving)
    ends = [_length_at(none + (1.0 - none) * part / _KINDS_OF_PROMPTS, arriving) for part in range(_KINDS_OF_PROMPTS)]
    share = (1.0 - none) / _KINDS_OF_PROMPTS
    # The tokens of steps below a length, and of all steps: `arriving` mean prompts.
    below = [*(_tokens_of_steps_below(end, arriving) for end in ends), arriving]
    kinds = [(share, prompt * (upper - lower) / share) for lower, upper in pairwise(below)]
    return ((none, 0.0), *kinds)


def _length_at(share: float, arriving: float) -> float:
    """So many mean prompts of tokens, at most, are in this share of the steps."""
    low, high = 0.0, 40.0 + 4.0 * arriving
    if _share_of_steps_below(0.0, arriving) >= share:
        return 0.0
    for _ in range(60):
        middle = (low + high) / 2.0
        low, high = (middle, high) if _share_of_steps_below(middle, arriving) < share else (low, middle)
    return high


def _share_of_steps_below(length: float, arriving: float) -> float:
    """Part of all steps with at most so many mean prompts of tokens: a sum of n exponentials is an Erlang one."""
    return sum(weight * share for _, weight, share in _arrivals(length, arriving))


def _tokens_of_steps_below(length: float, arriving: float) -> float:
    """Mean prompts of tokens in such steps, per step of all: n times the share of sums of n + 1 below the length."""
    return sum(count * weight * share for count, weight, share in _arrivals(length, arriving, more=1))


def _arrivals(length: float, arriving: float, more: int = 0) -> Iterator[tuple[int, float, float]]:
    """For each number of arrivals: it, its chance, and that of a sum of so many exponentials and `more` below."""
    chance, beyond, term = exp(-arriving), 0.0, exp(-length)  # beyond: P(more than `length`) of the sum
    for summed in range(100):
        if summed >= more:
            arrivals = summed - more
            yield arrivals, chance, 1.0 - beyond
            chance *= arriving / (arrivals + 1)
        beyond += term
        term *= length / (summed + 1)
