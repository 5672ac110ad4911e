"""Real chips: what is predicted of them against what others published, and the table in the docs."""

import json
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner
from work import python_calls

from explorer.area import die_area
from explorer.cost import chip_cost
from explorer.errors import ExplorationError
from explorer.known import compare, known_chip, known_chips, published, sources_of
from explorer.power import chip_power
from explorer.technology import load_technology
from reports.cli import app
from roofline.chipfile import list_chips, load_chip

ROOT = Path(__file__).resolve().parents[2]
TECHNOLOGY = load_technology()


def chosen(figure):
    """Chips whose own figures chose constants of that figure."""
    found = next(each for each in compare(TECHNOLOGY) if each.figure == figure)
    return known_chips().name[~found.is_prediction].tolist()


def errors(figure):
    found = next(each for each in compare(TECHNOLOGY) if each.figure == figure)
    return dict(zip(known_chips().name.tolist(), found.error_ratio.tolist(), strict=True))


def test_area_of_six_chips_that_chose_no_constant_is_within_15_percent():
    found = errors("area_mm2")
    chose_nothing = ("v100-sxm2", "h100-sxm", "h200-sxm", "b200-sxm", "l40s", "rtx-pro-6000")
    assert all(abs(found[name]) <= 0.15 for name in chose_nothing)
    assert not set(chose_nothing) & set(chosen("area_mm2"))


def test_tdp_of_seven_chips_that_chose_no_constant_is_within_15_percent():
    """At the rate that was measured under their power limits."""
    found = errors("tdp_w")
    chose_nothing = ("v100-sxm2", "b200-sxm", "l40s", "l4", "rtx-pro-6000", "mi250x", "mi300x")
    assert all(abs(found[name]) <= 0.15 for name in chose_nothing)
    assert not set(chose_nothing) & set(chosen("tdp_w"))


def test_tdp_is_held_against_the_datasheets_clock_only_where_no_rate_was_measured():
    tdp, at_rate, full = (
        errors(f"{figure}_w") for figure in ("tdp", "power_at_measured_rate", "power_at_datasheet_clock")
    )
    for name, error in tdp.items():
        assert error == at_rate[name] or (np.isnan(at_rate[name]) and np.array_equal(error, full[name], equal_nan=True))
    measured = [name for name, error in at_rate.items() if np.isfinite(error)]
    assert len(measured) >= 11


def test_six_chips_that_hold_their_clock_draw_their_tdp_at_it_within_15_percent():
    found = errors("power_at_datasheet_clock_w")
    near = ("v100-sxm2", "a100-sxm-80gb", "h100-sxm", "h200-sxm", "rtx-pro-6000", "groq-lpu-v1")
    assert all(abs(found[name]) <= 0.15 for name in near)


@pytest.mark.parametrize("name", ["h100-sxm", "h200-sxm", "b200-sxm"])
def test_area_tdp_and_bill_of_one_chip_are_all_within_15_percent(name):
    assert all(abs(errors(figure)[name]) <= 0.15 for figure in ("area_mm2", "tdp_w", "bill_usd"))


def test_bills_of_six_chips_are_within_15_percent():
    found = errors("bill_usd")
    near = ("h100-sxm", "h200-sxm", "b200-sxm", "tpu-v4i", "tpu-v4", "tpu-v6e")
    assert all(abs(found[name]) <= 0.15 for name in near)
    assert len(set(near) - set(chosen("bill_usd"))) == 4


def test_price_and_bill_are_apart():
    known = published()
    both = np.isfinite(known.price_usd) & np.isfinite(known.bill_usd)
    assert both.any() and (known.price_usd[both] > 2 * known.bill_usd[both]).all()


@pytest.mark.parametrize("name", ["tpu-v3", "tpu-v4i", "tpu-v4"])
def test_areas_of_tpus_keep_the_published_bound(name):
    area = die_area(known_chip(name), TECHNOLOGY).compute_mm2[0]
    at_most = published().area_at_most_mm2[known_chips().name == name][0]
    assert 0.5 * at_most < area < at_most


@pytest.mark.parametrize("name", known_chips().name.tolist())
def test_every_published_figure_has_a_source(name):
    known, at = published(), known_chips().name.tolist().index(name)
    sources = {key for key, _ in sources_of(name)}
    for figure in ("area", "tdp", "bill", "price", "gemm"):
        columns = [column for column in fields(known) if column.name.startswith(figure)]
        if any(np.isfinite(getattr(known, column.name)[at]) for column in columns):
            assert f"published.{figure}" in sources
    if np.isfinite(known.logic_usd[at]):
        assert {"published.bill", "published.logic"} & sources


def test_known_chips_have_the_peaks_of_their_chip_files():
    chips = known_chips()
    peaks = dict(zip(chips.name.tolist(), chips.peak_flops_per_s.tolist(), strict=True))
    both = [name for name in list_chips() if name in peaks]
    assert len(both) >= 7
    for name in both:
        assert peaks[name] == pytest.approx(load_chip(name).matrix_flops_per_s("bfloat16"), rel=2e-3)


def test_a_hundred_thousand_designs_take_no_more_steps_than_the_known_chips():
    def evaluate(chips):
        area = die_area(chips, TECHNOLOGY)
        power = chip_power(chips, TECHNOLOGY, area)
        return chip_cost(chips, TECHNOLOGY, area=area, tdp_w=power.tdp_w)

    few = known_chips()
    many = few.take(np.arange(100_000) % len(few))
    evaluate(few)  # what is done once
    (cost, steps), (repeated, same_steps) = python_calls(lambda: evaluate(few)), python_calls(lambda: evaluate(many))
    assert same_steps == steps
    np.testing.assert_array_equal(repeated.bill_usd[: len(few)], cost.bill_usd)


def test_the_table_of_the_docs_is_what_the_command_writes(tmp_path):
    path = tmp_path / "known_chips.md"
    assert CliRunner().invoke(app, ["known-chips", "--markdown", str(path)]).exit_code == 0
    assert path.read_text() == (ROOT / "docs" / "tables" / "known_chips.md").read_text()


def test_the_command_speaks_json_for_all_and_for_one():
    everything = json.loads(CliRunner().invoke(app, ["known-chips", "--json"]).stdout)
    assert len(everything["chips"]) == len(known_chips())
    assert everything["chips"][0]["bill_usd"]["published"] is None
    one = json.loads(CliRunner().invoke(app, ["known-chips", "h100-sxm", "--json"]).stdout)
    parts = one["area_mm2"]
    assert parts["compute_mm2"] == pytest.approx(
        sum(value for part, value in parts.items() if part not in {"compute_mm2", "base_mm2"})
    )
    assert "published.area" in one["sources"]


def test_an_unknown_chip_is_one_line():
    with pytest.raises(ExplorationError, match="unknown chip 'h100'; known: v100-sxm2"):
        known_chip("h100")


def test_more_hbm_on_the_same_die_costs_more_as_from_h100_to_h200():
    h100, h200 = (chip_cost(known_chip(name), TECHNOLOGY).bill_usd[0] for name in ("h100-sxm", "h200-sxm"))
    assert 600 < h200 - h100 < 1500
    assert chip_cost(replace(known_chip("h100-sxm"), dram_bytes=np.array([160e9])), TECHNOLOGY).bill_usd[0] > h100
