"""Real chips as designs, and how far predicted area, power and cost are from what was published of them."""

import tomllib
from dataclasses import dataclass, fields
from functools import cache
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

from explorer.errors import ExplorationError
from explorer.hardware import FloatArray, Hardware
from explorer.package import package_of
from explorer.power import gemm_power_w
from explorer.technology import Technology
from workloads.hints import known_names

_FILE = "known_chips.toml"

BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Published:
    """What others published of the known chips, [D] each; NaN where nothing was found.

    Attributes:
        titles: of the chips as people write them.
        dies: the silicon, which several boards may share.
        area_mm2: all compute dies.
        area_at_most_mm2: where only a bound of it is known.
        base_mm2: all base dies.
        tdp_w: board power.
        highest_measured_w: the most that was measured in operation, where a TDP is far above it.
        bill_usd: bill of materials, analysts' estimates.
        logic_usd, dram_usd, packaging_usd, test_usd: its parts.
        price_usd: list or street price.
        gemm_flops_per_s: measured rate of large 16-bit products.
    """

    titles: tuple[str, ...]
    dies: tuple[str, ...]
    area_mm2: FloatArray
    area_at_most_mm2: FloatArray
    base_mm2: FloatArray
    tdp_w: FloatArray
    highest_measured_w: FloatArray
    bill_usd: FloatArray
    logic_usd: FloatArray
    dram_usd: FloatArray
    packaging_usd: FloatArray
    test_usd: FloatArray
    price_usd: FloatArray
    gemm_flops_per_s: FloatArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Comparison:
    """One figure of the known chips, [D]; NaN where nothing was published.

    Attributes:
        figure: which one, with its unit.
        published: by others.
        predicted: by this program.
        is_prediction: false where the chip's own figures chose constants, [D].
    """

    figure: str
    published: FloatArray
    predicted: FloatArray
    is_prediction: BoolArray

    @property
    def error_ratio(self) -> FloatArray:
        """Predicted over published, less 1, [D]."""
        return self.predicted / self.published - 1

    def within(self, ratio: float) -> BoolArray:
        """Which chips are within a ratio of a published figure, [D]."""
        return np.abs(self.error_ratio) <= ratio


def known_chips() -> Hardware:
    """The known chips as designs.

    >>> len(known_chips()) >= 10
    True
    """
    document = _chips()
    texts = {"name", "node", "dram"}
    columns: dict[str, Any] = {
        column.name: np.array(
            [name if column.name == "name" else chip[column.name] for name, chip in document.items()],
            dtype=np.str_ if column.name in texts else np.float64,
        )
        for column in fields(Hardware)
    }
    return Hardware(**columns)


def known_chip(name: str) -> Hardware:
    """One known chip as a design of its own.

    Raises:
        ExplorationError: there is none of this name.

    >>> known_chip("h100-sxm").cores.tolist()
    [132.0]
    """
    chips = known_chips()
    rows = np.flatnonzero(chips.name == name)
    if not rows.size:
        raise ExplorationError(f"unknown chip {name!r}; {known_names(name, chips.name.tolist())}")
    return chips.take(rows)


def sources_of(name: str) -> tuple[tuple[str, str], ...]:
    """Where the figures of one known chip come from, as pairs of what and where from."""
    known_chip(name)
    return tuple(_chips()[name]["sources"].items())


def published() -> Published:
    """What others published of them, in the same order."""
    chips = _chips().values()
    figures = {
        column.name: np.array([float(chip["published"].get(column.name, np.nan)) for chip in chips])
        for column in fields(Published)
        if column.name not in {"titles", "dies"}
    }
    return Published(
        titles=tuple(chip["title"] for chip in chips),
        dies=tuple(chip["die"] for chip in chips),
        **figures,
    )


def compare(technology: Technology) -> tuple[Comparison, ...]:
    """Area, TDP, cost, its bill of materials, price and parts of the bill, and the TDP at the datasheet's clock.

    A vendor sets the TDP, and under it a large product runs at the clock that it allows: TDP is held against the power
    at the rate that large products were measured to reach, and at the datasheet's clock where no rate was found.
    """
    chips = known_chips()
    known = published()
    package = package_of(chips, technology)
    area, power, cost = package.area, package.power, package.cost
    rate = np.where(np.isnan(known.gemm_flops_per_s), 0.0, known.gemm_flops_per_s)
    at_rate = np.where(rate > 0, gemm_power_w(chips, technology, rate, area), np.nan)
    sustained = np.where(rate > 0, at_rate, power.tdp_w)
    chosen = _document()["chosen_on"]
    figures = (
        ("area_mm2", known.area_mm2, area.compute_mm2),
        ("tdp_w", known.tdp_w, sustained),
        ("power_at_measured_rate_w", known.tdp_w, at_rate),
        ("power_at_datasheet_clock_w", known.tdp_w, power.tdp_w),
        ("bill_usd", known.bill_usd, cost.bill_usd),
        ("price_usd", known.price_usd, cost.price_usd),
        ("logic_usd", known.logic_usd, cost.logic_usd),
        ("dram_usd", known.dram_usd, cost.dram_usd),
        ("packaging_usd", known.packaging_usd, cost.packaging_usd),
        ("test_usd", known.test_usd, cost.test_usd),
    )
    found = {
        figure: Comparison(
            figure=figure,
            published=theirs,
            predicted=ours,
            is_prediction=~np.isin(np.array(known.dies) if figure == "area_mm2" else chips.name, chosen[figure]),
        )
        for figure, theirs, ours in figures
    }
    return (*found.values(), _cost(found["bill_usd"], found["price_usd"]))


def _cost(bill: Comparison, price: Comparison) -> Comparison:
    """The bill of materials where one was published, the price of the others."""
    has_bill = np.isfinite(bill.published)
    return Comparison(
        figure="cost_usd",
        published=np.where(has_bill, bill.published, price.published),
        predicted=np.where(has_bill, bill.predicted, price.predicted),
        is_prediction=np.where(has_bill, bill.is_prediction, price.is_prediction),
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Together:
    """Area, TDP and cost of the known chips at once, [D] each.

    Attributes:
        published: all three were.
        within: all three are within the asked ratio.
        is_prediction: the chip's own figures chose no constant of any of the three.
    """

    published: BoolArray
    within: BoolArray
    is_prediction: BoolArray


def together(comparisons: tuple[Comparison, ...], ratio: float) -> Together:
    """Which chips are within a ratio of all three of the published area, TDP and cost.

    Args:
        comparisons: those of `compare`.
        ratio: the most that each may be off.
    """
    three = [each for each in comparisons if each.figure in {"area_mm2", "tdp_w", "cost_usd"}]
    return Together(
        published=np.all([np.isfinite(each.error_ratio) for each in three], axis=0),
        within=np.all([each.within(ratio) for each in three], axis=0),
        is_prediction=np.all([each.is_prediction for each in three], axis=0),
    )


@cache
def _document() -> dict[str, Any]:
    return tomllib.loads((resources.files("explorer") / _FILE).read_text(encoding="utf-8"))


@cache
def _chips() -> dict[str, dict[str, Any]]:
    """Every chip whole: one that is `like` another takes the columns that it does not state, and their sources."""
    whole: dict[str, dict[str, Any]] = {}
    for name, chip in _document()["chip"].items():
        like = whole.get(chip.get("like", ""), {"sources": {}})
        columns = {key: value for key, value in chip["sources"].items() if "published" not in key}
        others = {key: value for key, value in like["sources"].items() if "published" not in key}
        published = {key: value for key, value in chip["sources"].items() if "published" in key}
        whole[name] = like | chip | {"sources": others | columns | published}
    return whole
