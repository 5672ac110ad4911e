"""Dies, yields and money against hand sums and against what is published of yields."""

from dataclasses import replace
from math import comb, exp, floor, pi, sqrt

import numpy as np
import pytest

from explorer.area import die_area
from explorer.cost import chip_cost
from explorer.known import known_chip, known_chips
from explorer.technology import load_technology
from explorer.yields import YieldModel, dies_per_wafer, harvested_yield, yield_ratio

TECHNOLOGY = load_technology()


def column(*values):
    return np.array(values, dtype=np.float64)


def test_dies_of_a_wafer():
    # 100, 400, 609 and 814 mm2: 640, 143, 89 and 63 (PrincetonUniversity/ttm-cas)
    assert dies_per_wafer(column(100, 400, 609, 814)).tolist() == [640, 143, 89, 63]
    assert dies_per_wafer(column(814))[0] == floor(pi * 150**2 / 814 - pi * 300 / sqrt(2 * 814))
    assert dies_per_wafer(column(60_000))[0] == 0


@pytest.mark.parametrize(
    ("mm2", "poisson", "murphy", "negative_binomial"),
    [(100, 0.905, 0.906, 0.906), (400, 0.670, 0.679, 0.687), (609, 0.544, 0.561, 0.574), (814, 0.443, 0.468, 0.487)],
)
def test_yields_are_the_published_ones(mm2, poisson, murphy, negative_binomial):
    ratios = [yield_ratio(column(mm2), column(0.1), model)[0] for model in YieldModel]
    assert ratios == pytest.approx([poisson, murphy, negative_binomial], abs=5e-4)


@pytest.mark.parametrize("model", list(YieldModel))
def test_no_defects_and_no_area_yield_everything(model):
    assert yield_ratio(column(800, 0), column(0, 0.1), model) == pytest.approx([1, 1])


def test_harvesting_is_a_binomial_sum():
    good = exp(-0.004)
    by_hand = sum(comb(144, bad) * (1 - good) ** bad * good ** (144 - bad) for bad in range(13))
    assert harvested_yield(column(good), column(144), column(12))[0] == pytest.approx(by_hand)
    assert harvested_yield(column(0.9), column(10), column(0))[0] == pytest.approx(0.9**10)
    assert harvested_yield(column(0.2), column(10), column(10))[0] == 1


def test_spare_cores_lift_the_yield_of_a_large_die_to_the_published_85_percent():
    cost = chip_cost(known_chip("h100-sxm"), TECHNOLOGY)
    assert cost.die_yield[0] == pytest.approx(0.85, abs=0.06)
    none = replace(known_chip("h100-sxm"), cores=column(144), spare_cores=column(0))
    assert chip_cost(none, TECHNOLOGY).die_yield[0] < 0.65


def test_bill_of_h100_is_the_hand_sum():
    design = known_chip("h100-sxm")
    area = die_area(design, TECHNOLOGY)
    cost = chip_cost(design, TECHNOLOGY, area=area)
    logic = 19_000 / (floor(pi * 150**2 / area.die_mm2[0] - pi * 300 / sqrt(2 * area.die_mm2[0])) * cost.die_yield[0])
    package = 0.487 * (area.compute_mm2[0] + 6 * 121)
    parts = logic + 80 * 17 + package
    assert cost.bill_usd[0] == pytest.approx(parts * 1.183 + 480)
    assert cost.price_usd[0] == pytest.approx(7.1 * cost.bill_usd[0])


def test_an_hour_and_a_million_are_hand_sums():
    cost = chip_cost(known_chip("h100-sxm"), TECHNOLOGY, tdp_w=column(700))
    hours = 1.42e8 / 3600 * 0.6
    assert cost.capital_usd_per_hour[0] == pytest.approx(cost.price_usd[0] * (1.23 + 0.175) * 1.1 / hours)
    assert cost.energy_usd_per_hour[0] == pytest.approx(0.7 * 0.7 * 2.0 * 1.2 * 0.09)
    # 1,000 tokens a second are 3.6 million an hour
    assert cost.usd_per_million(column(1000))[0] == pytest.approx(cost.usd_per_hour[0] / 3.6)
    assert np.isnan(cost.usd_per_million(column(0))[0])


@pytest.mark.parametrize("name", ["matrix_macs", "dram_bytes", "spare_stacks"])
def test_more_costs_more(name):
    design = known_chip("h100-sxm")
    more = replace(design, **{name: getattr(design, name) * 1.5 + 1})
    assert chip_cost(more, TECHNOLOGY).bill_usd[0] > chip_cost(design, TECHNOLOGY).bill_usd[0]


def test_a_die_larger_than_a_wafer_has_no_price():
    huge = replace(known_chip("h100-sxm"), cores=column(30_000))
    assert np.isinf(chip_cost(huge, TECHNOLOGY).bill_usd[0])


def test_chips_without_an_interposer_are_packaged_one_by_one():
    one, four = (
        chip_cost(replace(known_chip("groq-lpu-v1"), cores=column(dies), compute_dies=column(dies)), TECHNOLOGY)
        for dies in (1, 4)
    )
    assert four.packaging_usd[0] == 4 * one.packaging_usd[0] == 200


def test_gddr_needs_no_interposer_and_sram_no_memory():
    cost = chip_cost(known_chip("l40s"), TECHNOLOGY)
    assert cost.packaging_usd[0] == 50
    bare = replace(known_chip("h100-sxm"), dram=np.array(["none"]), dram_stacks=column(0), spare_stacks=column(0))
    assert chip_cost(bare, TECHNOLOGY).dram_usd[0] == 0


@pytest.mark.parametrize("model", list(YieldModel))
def test_every_yield_model_prices_every_chip(model):
    cost = chip_cost(known_chips(), TECHNOLOGY, model=model)
    assert (cost.die_yield > 0.3).all()
    assert (cost.die_yield <= 1).all()
    assert np.isfinite(cost.usd_per_hour).all()
