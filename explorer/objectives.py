"""What designs are judged by: objectives over all workloads, limits that a design must hold, and what breaks them."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from explorer.errors import ExplorationError
from explorer.hardware import FloatArray
from workloads.hints import known_names

# Objective: what it is; those in PER_UNIT are means over workloads, the others figures of the design alone.
OBJECTIVES: dict[str, str] = {
    "seconds_per_unit": "seconds of a token or image",
    "joules_per_unit": "joules of a token or image",
    "usd_per_million_units": "dollars of a million tokens or images, capital and electricity",
    "quality_loss": "one minus the score of the operating point",
    "area_mm2": "silicon of all compute dies",
    "tdp_w": "power of a large product at the usual part of the peak",
    "bill_usd": "bill of materials",
}
COSTS_PER_UNIT = ("seconds_per_unit", "joules_per_unit", "usd_per_million_units")
PER_UNIT = (*COSTS_PER_UNIT, "quality_loss")
# Limit: (figure of a design that it bounds from above, in words).
LIMITS: dict[str, str] = {
    "max_die_mm2": "die_mm2",
    "max_area_mm2": "area_mm2",
    "max_tdp_w": "tdp_w",
    "max_bill_usd": "bill_usd",
}
RETICLE_MM2 = 858.0  # 26 x 33 mm, the largest field that a scanner exposes; GH100 has 814 of it


@dataclass(frozen=True, slots=True, kw_only=True)
class Goals:
    """What to minimize and what to hold.

    Attributes:
        objectives: names out of `OBJECTIVES`, one or more.
        limits: (name out of `LIMITS`, value).
        holds_models: whether main memory must hold every workload.
    """

    objectives: tuple[str, ...] = ("seconds_per_unit", "joules_per_unit")
    limits: tuple[tuple[str, float], ...] = field(default=(("max_die_mm2", RETICLE_MM2),))
    holds_models: bool = True

    def __post_init__(self) -> None:
        if not self.objectives:
            raise ExplorationError(f"no objective given; known: {', '.join(OBJECTIVES)}")
        for name in self.objectives:
            if name not in OBJECTIVES:
                raise ExplorationError(f"unknown objective {name!r}; {known_names(name, OBJECTIVES)}")
        if len(set(self.objectives)) < len(self.objectives):
            raise ExplorationError("an objective is given twice")
        for name, value in self.limits:
            if name not in LIMITS:
                raise ExplorationError(f"unknown constraint {name!r}; {known_names(name, (*LIMITS, 'holds_models'))}")
            if not (np.isfinite(value) and value > 0):
                raise ExplorationError(f"constraint {name} must be > 0 and finite, got {value}")

    def violation(self, figures: dict[str, FloatArray]) -> tuple[FloatArray, list[tuple[str, FloatArray]]]:
        """(relative excess over all limits, [(reason, by how much)]), each [D]."""
        count = len(next(iter(figures.values())))
        total, parts = np.zeros(count), []
        for name, value in self.limits:
            excess = np.maximum(0.0, figures[LIMITS[name]] / value - 1.0)
            total += excess
            parts.append((f"{LIMITS[name]} above {value:g}", excess))
        return total, parts


def geometric_mean(values: FloatArray, weights: Sequence[float]) -> FloatArray:
    """Weighted geometric mean over workloads, [W, D] to [D]: a design twice as fast on one gains as on any other.

    >>> geometric_mean(np.array([[1.0], [4.0]]), (1.0, 1.0)).tolist()
    [2.0]
    """
    shares = np.asarray(weights, dtype=np.float64) / np.sum(weights)
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = sum(share * row for share, row in zip(shares, np.log(values), strict=True))  # in order, see `evaluate`
        mean: FloatArray = np.exp(logs)
    return mean
