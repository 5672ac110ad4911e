"""Energy and power against hand sums, against what A100 and H100 were fitted to, and in the right direction."""

from dataclasses import replace

import numpy as np
import pytest

from explorer.area import die_area
from explorer.known import known_chip, known_chips
from explorer.power import chip_power, gemm_power_w
from explorer.technology import load_technology

TECHNOLOGY = load_technology()


def changed(name, **columns):
    design = known_chip(name)
    return replace(design, **{key: np.array([value]) for key, value in columns.items()})


def test_energy_of_a_matrix_flop_is_the_hand_sum():
    # at N7 and its clock: half of a multiply-add with a sum in float32, and operands along the edge of 256 multipliers
    power = chip_power(known_chip("a100-sxm-80gb"), TECHNOLOGY)
    assert power.matrix_j_per_flop[0] == pytest.approx((0.21e-12 + 0.38e-12) / 2 + 9.5e-12 / 16)
    assert power.vector_j_per_flop[0] == pytest.approx(1.22e-12)
    assert power.dram_j_per_byte[0] == pytest.approx(8 * 7.03e-12)


def test_chips_that_were_measured_are_near_their_fitted_energies():
    # chip files, fitted to measured power: a100, h100 and b200 0.85, 0.5 and 0.37 pJ; B200 chose nothing here
    fitted = {"a100-sxm-80gb": 0.85e-12, "h100-sxm": 0.5e-12, "b200-sxm": 0.37e-12}
    for name, joules in fitted.items():
        assert chip_power(known_chip(name), TECHNOLOGY).matrix_j_per_flop[0] == pytest.approx(joules, rel=0.09)


def test_delivery_of_operands_is_the_least_squares_fit_to_a100_and_h100():
    # (node's energy, multipliers of a unit, pJ of a FLOP in the chip file), arithmetic of 0.295 pJ taken off
    rows = ((1.0, 256, 0.85), (0.66, 512, 0.5))
    slopes = [scale / (fitted * units**0.5) for scale, units, fitted in rows]
    rests = [1 - scale * 0.295 / fitted for scale, _, fitted in rows]
    found = sum(a * b for a, b in zip(slopes, rests, strict=True)) / sum(a * a for a in slopes)
    assert TECHNOLOGY.energy.operand_j == pytest.approx(found * 1e-12, rel=2e-3)


def test_static_power_of_v100_is_near_its_measurement():
    # AccelWattch: 32.3 W and 0.283 W for each of 80 idle multiprocessors
    assert chip_power(known_chip("v100-sxm2"), TECHNOLOGY).static_w[0] == pytest.approx(32.3 + 80 * 0.283, rel=0.25)


def test_tdp_of_a100_is_the_hand_sum():
    design = known_chip("a100-sxm-80gb")
    area = die_area(design, TECHNOLOGY)
    power = chip_power(design, TECHNOLOGY, area)
    rate = 0.8 * 2 * 108 * 1024 * 1.41e9
    static = 82.6e-12 * area.compute_mm2[0] * 1.41e9 + 5 * 5
    wire_mm = 0.418 * area.compute_mm2[0] ** 0.5
    cache = rate * 2 / (32 * 1024) ** 0.5 * (1.75e-12 + 0.64e-12 * wire_mm + 2 * 1.06e-12)
    assert power.static_w[0] == pytest.approx(static)
    arithmetic = rate * (0.295e-12 + 9.5e-12 / 16)
    assert power.tdp_w[0] == pytest.approx(static + arithmetic + cache + rate * 3 / 8192 * 56.24e-12)


def test_a_memory_machine_draws_what_streaming_takes():
    thin = changed("h100-sxm", matrix_macs=16.0, matrix_units=4.0)
    power = chip_power(thin, TECHNOLOGY)
    per_byte = power.dram_j_per_byte[0] + power.l2_j_per_byte[0] + power.l1_j_per_byte[0]
    assert power.tdp_w[0] == pytest.approx(power.static_w[0] + 3.35e12 * per_byte)


def test_a_faster_clock_costs_more_for_each_operation():
    slow, fast = (chip_power(changed("h100-sxm", clock_hz=hz), TECHNOLOGY) for hz in (1.2e9, 2.4e9))
    assert fast.matrix_j_per_flop[0] > slow.matrix_j_per_flop[0]
    assert fast.tdp_w[0] > 2 * slow.tdp_w[0]


def test_larger_matrix_units_and_denser_nodes_take_less_energy():
    small, large = (chip_power(changed("h100-sxm", matrix_units=units), TECHNOLOGY) for units in (8.0, 1.0))
    assert large.matrix_j_per_flop[0] < small.matrix_j_per_flop[0]
    old, new = (chip_power(changed("h100-sxm", node=node, clock_hz=1.5e9), TECHNOLOGY) for node in ("n7", "n3e"))
    assert new.matrix_j_per_flop[0] < old.matrix_j_per_flop[0]


def test_power_at_the_usual_rate_is_the_tdp_of_gpus_and_less_below_it():
    chips = known_chips()
    usual = 0.8 * chips.peak_flops_per_s
    power = chip_power(chips, TECHNOLOGY)
    np.testing.assert_allclose(gemm_power_w(chips, TECHNOLOGY, usual), power.gemm_w)
    assert (gemm_power_w(chips, TECHNOLOGY, 0.7 * usual) < 0.9 * power.gemm_w).all()
    holds_its_clock = (chips.array_rows > 1) & (chips.dram != "none")
    np.testing.assert_array_equal(power.tdp_w[~holds_its_clock], power.gemm_w[~holds_its_clock])
    assert (power.tdp_w[holds_its_clock] > power.gemm_w[holds_its_clock]).all()


def test_tdp_of_arrays_beside_a_main_memory_is_everything_at_once():
    # TPU v4i by hand: arrays of 4 x 16,384 at their peak, 614 GB/s of HBM2, 1,024 lanes and 100 GB/s of links
    design = known_chip("tpu-v4i")
    power = chip_power(design, TECHNOLOGY)
    voltage = (1 + 0.37 * (1.05 / 1.41 - 1)) ** 2
    l2 = 1.75e-12 + 0.64e-12 * 0.418 * die_area(design, TECHNOLOGY).compute_mm2[0] ** 0.5
    peak = 2 * 65536 * 1.05e9
    arrays = peak * (voltage * (0.295e-12 + 9.5e-12 / 128) + 2 / (32 * 65536) ** 0.5 * (l2 + 2 * 1.06e-12))
    memory = 614e9 * (56.24e-12 + l2 + 1.06e-12)
    lanes = 2 * 1024 * 1.05e9 * voltage * 1.22e-12
    links = 100e9 * 8 * 5.5e-12
    assert power.tdp_w[0] == pytest.approx(power.static_w[0] + arrays + memory + lanes + links)


def test_sram_beside_the_arrays_costs_its_cells_and_no_wires():
    groq = chip_power(known_chip("groq-lpu-v1"), TECHNOLOGY)
    assert groq.dram_j_per_byte[0] == groq.l2_j_per_byte[0] == pytest.approx(1.32 * 1.75e-12)
    # 80 TB/s are read and handed on
    assert groq.tdp_w[0] == pytest.approx(groq.static_w[0] + 80e12 * 1.32 * (1.75e-12 + 1.06e-12))


def test_a_chip_without_dram_or_matrix_units_has_a_power():
    bare = changed("h100-sxm", dram="none", dram_stacks=0.0, spare_stacks=0.0, matrix_macs=0.0, matrix_units=0.0)
    power = chip_power(bare, TECHNOLOGY)
    assert power.dram_j_per_byte[0] == power.l2_j_per_byte[0] > 0
    assert np.isfinite(power.tdp_w[0])
    assert power.tdp_w[0] > power.static_w[0]
    # asked for vector products at a rate of its own, it keeps its clock
    assert gemm_power_w(bare, TECHNOLOGY, np.array([1e12]))[0] >= power.static_w[0]
