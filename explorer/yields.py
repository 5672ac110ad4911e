"""Dies of a wafer and how many of them work: three yield models, and the harvesting of dies with spare parts."""

from enum import StrEnum

import numpy as np
from scipy.special import bdtr

from explorer.hardware import FloatArray


class YieldModel(StrEnum):
    """How defects are spread over a wafer."""

    poisson = "poisson"
    murphy = "murphy"
    negative_binomial = "negative_binomial"


def dies_per_wafer(die_mm2: FloatArray, wafer_mm: float = 300.0) -> FloatArray:
    """Whole dies of a round wafer, good and bad, [D]: pi r^2 / A - pi d / sqrt(2 A), rounded down.

    Source: PrincetonUniversity/ttm-cas@d98ac05, a formula of common use. No scribe lines and no edge exclusion.

    >>> [int(dies) for dies in dies_per_wafer(np.array([100.0, 814.0]))]
    [640, 63]
    """
    mm2 = np.maximum(die_mm2, 1e-9)
    dies = np.pi * wafer_mm**2 / 4 / mm2 - np.pi * wafer_mm / np.sqrt(2 * mm2)
    whole: FloatArray = np.floor(np.maximum(dies, 0.0))
    return whole


def yield_ratio(
    mm2: FloatArray,
    defects_per_cm2: FloatArray,
    model: YieldModel = YieldModel.negative_binomial,
    clustering: float = 3.0,
) -> FloatArray:
    """Part of pieces of silicon without a defect, [D].

    Poisson exp(-AD), Murphy ((1 - exp(-AD)) / AD)^2, negative binomial (1 + AD / alpha)^-alpha, alpha = `clustering`.

    >>> area, defects = np.array([814.0]), np.array([0.1])
    >>> [round(float(yield_ratio(area, defects, model)[0]), 3) for model in YieldModel]
    [0.443, 0.468, 0.487]
    """
    expected = mm2 / 100 * defects_per_cm2
    if model is YieldModel.poisson:
        good: FloatArray = np.exp(-expected)
        return good
    if model is YieldModel.murphy:
        some = np.maximum(expected, 1e-12)
        return (-np.expm1(-some) / some) ** 2
    ratio: FloatArray = (1 + expected / clustering) ** -clustering
    return ratio


def harvested_yield(block_yield: FloatArray, blocks: FloatArray, spares: FloatArray) -> FloatArray:
    """Part of dies in which at most `spares` of `blocks` like blocks are bad, [D]: a binomial distribution.

    Args:
        block_yield: part of blocks without a defect.
        blocks: blocks of a die, rounded to whole ones.
        spares: how many of them may be bad, rounded down.

    One spare of two blocks that each work nine times of ten: 1 - 0.1 * 0.1.

    >>> round(float(harvested_yield(np.array([0.9]), np.array([2.0]), np.array([1.0]))[0]), 6)
    0.99
    """
    whole = np.maximum(np.rint(blocks), 0.0)
    allowed = np.minimum(np.floor(spares + 1e-9), whole)
    ratio: FloatArray = bdtr(allowed, whole.astype(np.int64), 1 - block_yield)
    return ratio
