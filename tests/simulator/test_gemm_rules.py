"""Rules of a library's choice, the padding of K and the ramp of main memory, on a chip without other overheads."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from simulator.chip_columns import ChipColumns
from simulator.kernels.gemm_constants import GemmConstants
from simulator.kernels.gemm_tiles import ramped_s
from simulator.op_frame import ops_from_frame
from simulator.plans import plan_columns, plan_ops

STEPS_ARE_SLOW = (("k_step_clocks", 1000.0), ("split_k_s", 0.0))  # 100 steps take 100 us, so that splitting K pays


def plan(build, sizes, *rules, **changes):
    """The plan of an m x n x k product on the toy chip of 100 cores, with these constants."""
    chip = build.chip(calibration=STEPS_ARE_SLOW + rules, memories=build.memories(rate=100), **changes)
    return plan_ops([build.gemm(*sizes)], [chip]).plan(0)


def test_k_is_split_from_the_least_number_of_multiply_adds(build):
    least = ("gemm.split_least_macs", 2.0**21)
    below, at = (16, 32, 4032), (16, 32, 4096)  # 16 x 32 x 4096 = 2^21
    assert plan(build, below).split > 1
    assert plan(build, below, least).split == 1
    assert plan(build, at, least).split > 1
    assert plan(build, (1, 16, 8256), least).split > 1  # no rule holds beyond 8,192


def test_k_of_a_skinny_product_is_split_while_its_small_tiles_leave_half_of_the_cores(build):
    half = ("gemm.skinny_split_fill", 0.5)
    # Up to 16 rows in tiles of 16 x 16, up to 64 in tiles of 32 x 32: 50 and 51 of them, of 100 cores.
    assert plan(build, (16, 50 * 16, 4096), half).split > 1
    assert plan(build, (16, 51 * 16, 4096), half).split == 1
    assert plan(build, (64, 25 * 32, 4096), half).split > 1
    assert plan(build, (26 * 32, 64, 4096), half).split == 1
    assert plan(build, (16, 51 * 16, 8256), half).split > 1
    assert plan(build, (128, 51 * 16, 4096), half).split > 1  # not skinny


def test_no_k_shorter_than_the_least_is_split(build):
    least = ("gemm.split_least_k", 1024.0)
    assert plan(build, (16, 32, 960)).split > 1
    assert plan(build, (16, 32, 960), least).split == 1
    assert plan(build, (16, 32, 1024), least).split > 1


def test_each_part_of_a_split_reduction_takes_its_time_in_the_second_pass(build):
    free, timed = plan(build, (16, 32, 4096)), plan(build, (16, 32, 4096), ("gemm.split_part_s", 1e-9))
    assert free.split == timed.split > 1
    assert timed.reduction_s - free.reduction_s == pytest.approx(1e-9 * free.split)


def test_small_products_of_short_k_pay_for_k_that_threads_share(build):
    whole = ("gemm.split_least_k", 1024.0)
    shared = (whole, ("gemm.slice_below_macs", 2.0**21), ("gemm.slice_s", 7e-6))

    def paid_s(*sizes):
        return plan(build, sizes, *shared).duration_s - plan(build, sizes, whole).duration_s

    assert paid_s(32, 64, 512) == pytest.approx(7e-6)  # 2^20 multiply-adds
    assert paid_s(64, 64, 512) == 0  # 2^21
    assert paid_s(16, 64, 512) == 0  # one row of the smallest tiles
    assert paid_s(32, 32, 1024) == 0  # K may be split


def test_products_of_many_tiles_pay_for_the_counter_that_blocks_take_them_by(build):
    """On 100 cores 250 of the largest tiles and no more: 25 x 10 of 128 x 256."""
    counted = (("gemm.counter_tiles_per_core", 2.5), ("gemm.counter_s", 7e-6))

    def paid_s(*sizes):
        return plan(build, sizes, *counted).duration_s - plan(build, sizes).duration_s

    assert paid_s(25 * 128, 10 * 256, 64) == 0
    assert paid_s(25 * 128 + 1, 10 * 256, 64) == pytest.approx(7e-6)
    assert paid_s(1000 * 128, 1000 * 256, 64) == pytest.approx(7e-6)


def test_steps_of_slow_kernels_take_longer_between_their_bounds(build):
    slow = (
        *(("gemm.slow_most_rows", 8.0), ("gemm.slow_least_columns", 1024.0), ("gemm.slow_most_columns", 4096.0)),
        *(("gemm.slow_least_k", 256.0), ("gemm.slow_most_k", 1023.0), ("gemm.slow_step_ratio", 3.0)),
    )
    whole = ("gemm.split_least_k", 1e9)
    for sizes in ((8, 1024, 256), (1, 4096, 960)):  # steps of 64 elements and 1 us each
        assert plan(build, sizes, whole).core_s == pytest.approx(sizes[2] / 64 * 1e-6)
        assert plan(build, sizes, whole, *slow).core_s == pytest.approx(3 * sizes[2] / 64 * 1e-6)
    for sizes in ((9, 1024, 256), (8, 1023, 256), (8, 4097, 256), (8, 1024, 255), (8, 1024, 1024)):
        assert plan(build, sizes, whole, *slow) == plan(build, sizes, whole)


def test_the_kernels_of_a_single_row_are_not_slow(build):
    slow = (("gemm.slow_most_rows", 8.0), ("gemm.slow_step_ratio", 3.0), ("gemm.split_least_k", 1e9))
    vector = ("gemm.vector_ingest_bytes_per_clock_per_core", 1e-3)  # too slow to be chosen
    assert plan(build, (1, 1024, 256), *slow).core_s == pytest.approx(12e-6)
    assert plan(build, (1, 1024, 256), *slow, vector).core_s == pytest.approx(4e-6)


def test_tiles_with_a_side_of_96_are_taken_from_the_least_rows(build):
    least = ("gemm.least_rows_of_96_tiles", 513.0)
    few, many = (96, 9600, 4096), (960, 960, 4096)  # 100 tiles of 96 x 96, one a core
    for sizes in (few, many):
        free = plan(build, sizes)
        assert (free.tile_m, free.tile_n) == (96, 96)
    assert 96 not in (plan(build, few, least).tile_m, plan(build, few, least).tile_n)
    assert plan(build, many, least) == plan(build, many)


def test_products_that_fill_the_cores_take_the_largest_tiles_alone(build):
    first = ("gemm.largest_tiles_first", 1.0)
    sizes = (11 * 128, 10 * 256, 4096)  # 110 of the largest tiles: two a core, where 220 of 128 x 128 would be three
    free, bound = plan(build, sizes), plan(build, sizes, first)
    assert free.tile_m * free.tile_n < 128 * 256 or free.split > 1
    assert (bound.tile_m, bound.tile_n, bound.split) == (128, 256, 1)
    assert bound.core_s > free.core_s
    assert plan(build, (10 * 128, 10 * 256, 4096), first) == plan(build, (10 * 128, 10 * 256, 4096))  # 100 tiles
    padded = plan(build, (10 * 128 + 1, 9 * 256 + 1, 4096), first)  # outputs of 90 tiles, which 110 cover
    assert (padded.tile_m, padded.tile_n, padded.split, padded.tiles) == (128, 256, 1, 110)
    assert plan(build, (*sizes[:2], 8256), first).core_s < 2 * 130 * 128 * 256 * 64 / 1024e9


def test_the_largest_tiles_are_not_asked_of_outputs_that_are_no_larger_than_the_next_tile(build):
    chip = build.chip(calibration=(("gemm.largest_tiles_first", 1.0),), memories=build.memories(rate=100))
    ops = [build.gemm(130, side, 1024, batch=300) for side in (130, 192, 193)]  # 600 of the largest tiles
    table = plan_ops(ops, [chip])
    assert np.isfinite(table.duration_s).all()
    assert [(plan.tile_m, plan.tile_n) for plan in map(table.plan, range(3))][2] == (128, 256)


def test_the_largest_tiles_are_not_asked_of_cores_that_cannot_hold_them(build):
    small = tuple(replace(m, capacity_bytes=100 * 60e3) if m.per_core else m for m in build.memories(rate=100))
    chip = build.chip(calibration=(("gemm.largest_tiles_first", 1.0),), memories=small)
    assert np.isfinite(plan_ops([build.gemm(4096, 4096, 4096)], [chip]).duration_s).all()


def test_k_is_padded_to_the_units_of_the_kernels(build):
    # 16-bit types: a step is 64 long, half a step 32. Products of the same tiles take as long as what k is padded to.
    sizes, memories = (6400, 6400), build.memories(rate=1e4)
    whole, half = build.chip(memories=memories), build.chip(memories=memories, calibration=(("k_padding_bytes", 64.0),))
    ops = [build.gemm(*sizes, k) for k in (32, 64, 96, 128)]
    padded = {name: plan_ops(ops, [chip]).columns.matrix_s[:, 0] for name, chip in (("whole", whole), ("half", half))}
    np.testing.assert_allclose(padded["whole"] / padded["whole"][1], [1, 1, 2, 2])
    np.testing.assert_allclose(padded["half"] / padded["half"][1], [0.5, 1, 1.5, 2])


def test_a_stream_begins_at_three_quarters_of_its_rate_and_loses_its_ramp_in_all(build):
    columns = ChipColumns.from_chips([build.chip(calibration=(("gemm.memory_ramp_s", 3e-6),)), build.chip()])
    constants = GemmConstants.from_chips(columns, "bfloat16")
    main_s = np.array([[1e-12], [9e-6], [1e-3]])
    ramped = ramped_s(constants, main_s)
    np.testing.assert_allclose(ramped[0, 0], 4 / 3 * 1e-12, rtol=1e-6)
    np.testing.assert_allclose(ramped[1, 0], 9e-6 + 3e-6 * (1 - 1 / np.e))  # after 9 us, 1 - 1/e of it is lost
    np.testing.assert_allclose(ramped[2, 0], 1e-3 + 3e-6)
    np.testing.assert_allclose(ramped[:, 1], main_s[:, 0])


@pytest.mark.parametrize("ramp_s", [0.0, 1e-5])
def test_the_ramp_makes_a_stream_of_weights_longer_by_its_seconds(build, ramp_s):
    # 1 GB of weights at 1 TB/s: 1 ms, ramp after ramp beyond it.
    chip = build.chip(calibration=(("gemm.memory_ramp_s", ramp_s), ("gemm.stream_latency_s", 1e-9)))
    duration_s = plan_ops([build.gemm(1, 2**15, 2**14)], [chip]).duration_s[0, 0]
    flat = plan_ops([build.gemm(1, 2**15, 2**14)], [build.chip()]).duration_s[0, 0]
    assert duration_s - flat == pytest.approx(ramp_s, abs=2e-6)


@pytest.mark.parametrize(("rows", "seconds"), [(4, 4e-6), (2**16, 4 * 2**16 * 4000 / 1e12)])
def test_activations_are_quantized_row_by_row_as_fast_as_their_elements_or_their_bytes(build, rows, seconds):
    # 4,000 elements a row, of 2 bytes read and 2 written at 1 TB/s, or of 1 ns each.
    chip = build.chip(calibration=(("gemm.conversion_element_s", 1e-9),))
    sizes = {"kind": "gemm", "dtype": "bfloat16", "m": rows, "n": 16, "k": 4000}
    frame = pd.DataFrame([sizes | {"quantizes_input": counts} for counts in (0, 1)])
    plain_s, quantizing_s = plan_columns(ops_from_frame(frame), [chip]).duration_s[:, 0]
    assert quantizing_s - plain_s == pytest.approx(seconds)
