"""How sure a difference is: medians, their bootstrap, and a correction for looking at many groups at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import erfc, log, sqrt

import numpy as np

from profiler.traces import FloatArray, IntArray
from reports.diff_samples import Stratum

# All of n samples lie on one side of the median with probability 2 x 0.5^n, so fewer than six have no 95 % interval.
LEAST_SAMPLES = 6
_DRAWS = 4_000
# A phase with a smaller part of a group's cost needs no samples of its own: its error could not move the ratio by more.
_NEGLIGIBLE = 0.01
_INTERVAL = (2.5, 97.5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """How one group's cost changed from A to B.

    Attributes:
        ratio: B over A, of typical totals (samples times median, summed over phases).
        low: lower end of the 95 % bootstrap interval of the ratio, None where not known.
        high: upper end.
        p_value: of the ratio being 1, None where not known.
        samples: of the phase and side that has the fewest, phases of less than 1 % left out.
        paired: whether B's steps were compared with A's of the same number.
    """

    ratio: float
    low: float | None
    high: float | None
    p_value: float | None
    samples: int
    paired: bool


class Bootstrap:
    """Medians of resampled samples, from a fixed seed.

    The median of n values drawn with replacement from n is known to be the k-th of them with the probability of an
    order statistic, so the draws are of its position and not of n values.
    """

    def __init__(self, seed: int = 0) -> None:
        """Start from a seed; equal samples then give equal intervals."""
        self._seed = seed
        self._positions: dict[tuple[int, int], tuple[IntArray, IntArray]] = {}

    def medians(self, values: FloatArray, side: int) -> FloatArray:
        """Medians of resamples, [draws]; those of different sides are drawn independently."""
        key = (len(values), side)
        if key not in self._positions:
            self._positions[key] = _median_positions(len(values), np.random.default_rng([self._seed, *key]))
        low, high = self._positions[key]
        ordered = np.sort(values)
        return np.asarray(0.5 * (ordered[low] + ordered[high]))


def _median_positions(count: int, generator: np.random.Generator) -> tuple[IntArray, IntArray]:
    """Positions among `count` sorted values of the lower and the upper middle value of resamples, [draws] each.

    The i-th smallest of n uniform numbers has a Beta(i, n + 1 - i) distribution; given it, the next one is the least of
    n - i uniform numbers above it.
    """
    middle = (count + 1) // 2
    lower = generator.beta(middle, count + 1 - middle, _DRAWS)
    upper = lower
    if count % 2 == 0:
        upper = lower + (1.0 - lower) * (1.0 - generator.random(_DRAWS) ** (1.0 / (count - middle)))
    low, high = (np.minimum((count * drawn).astype(np.int64), count - 1) for drawn in (lower, upper))
    return low, high


def change_of(a: Sequence[Stratum], b: Sequence[Stratum], bootstrap: Bootstrap) -> Change | None:
    """Compare the samples of one group in two traces; None where there are none, or their medians are zero.

    Where every phase has the same numbered steps in both, step is compared with step: what grows along the steps, as
    attention over a growing KV cache, is then no noise.
    """
    if not sum(stratum.typical for stratum in a) or not sum(stratum.typical for stratum in b):
        return None
    samples = min(_samples(a), _samples(b))
    if _is_paired(a, b):
        weights = [stratum.typical for stratum in a]
        ratios = [after.values / before.values for before, after in zip(a, b, strict=True)]
        ratio = sum(w * float(np.median(r)) for w, r in zip(weights, ratios, strict=True)) / sum(weights)
        if samples < LEAST_SAMPLES:
            return Change(ratio=ratio, low=None, high=None, p_value=None, samples=samples, paired=True)
        drawn = [w * bootstrap.medians(r, 0) for w, r in zip(weights, ratios, strict=True)]
        return _with_interval(ratio, np.sum(drawn, axis=0) / sum(weights), samples, paired=True)
    ratio = sum(stratum.typical for stratum in b) / sum(stratum.typical for stratum in a)
    if samples < LEAST_SAMPLES:
        return Change(ratio=ratio, low=None, high=None, p_value=None, samples=samples, paired=False)
    totals = [
        np.sum([len(stratum.values) * bootstrap.medians(stratum.values, side) for stratum in strata], axis=0)
        for side, strata in enumerate((a, b))
    ]
    return _with_interval(ratio, totals[1] / totals[0], samples, paired=False)


def _samples(strata: Sequence[Stratum]) -> int:
    """Samples of the phase that has the fewest, of those that matter."""
    least = _NEGLIGIBLE * sum(stratum.typical for stratum in strata)
    return min(len(stratum.values) for stratum in strata if stratum.typical >= least)


def _is_paired(a: Sequence[Stratum], b: Sequence[Stratum]) -> bool:
    return [stratum.phase for stratum in a] == [stratum.phase for stratum in b] and all(
        before.by_step and after.by_step and np.array_equal(before.keys, after.keys) and bool((before.values > 0).all())
        for before, after in zip(a, b, strict=True)
    )


def _with_interval(ratio: float, drawn: FloatArray, samples: int, *, paired: bool) -> Change:
    low, high = np.percentile(drawn, _INTERVAL)
    spread = float(np.log(np.maximum(drawn, 1e-300)).std())
    distance = abs(log(max(ratio, 1e-300)))
    p_value = (0.0 if distance > 1e-12 else 1.0) if spread <= 1e-12 else erfc(distance / spread / sqrt(2.0))
    return Change(ratio=ratio, low=float(low), high=float(high), p_value=p_value, samples=samples, paired=paired)


def discoveries(p_values: Sequence[float], rate: float = 0.05) -> list[bool]:
    """Which of many differences are real, so that at most this part of them is expected to be chance.

    Benjamini and Hochberg 1995: the largest k for which the k-th smallest p-value is at most k / n x rate.

    >>> discoveries([0.01, 0.04, 0.03, 0.5])
    [True, False, False, False]
    """
    values = np.array(p_values, dtype=np.float64)
    order = np.argsort(values)
    passing = np.flatnonzero(values[order] <= rate * np.arange(1, len(values) + 1) / max(1, len(values)))
    limit = values[order][passing[-1]] if len(passing) else -1.0
    return [bool(value <= limit) for value in values]
