"""Layers of experts by hand: loads of experts, weights of touched ones, tiles, default tiles, warm caches."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from roofline.chipfile import load_chip
from simulator.errors import SimulationError
from simulator.kernels.expert_loads import expert_rows
from simulator.op_frame import ops_from_frame
from simulator.plans import plan_columns

LAYER = {"kind": "moe", "dtype": "bfloat16", "hidden": 2048, "inter": 768, "experts": 128, "topk": 8}


def columns(**changes):
    return ops_from_frame(pd.DataFrame([{**LAYER, "tokens": 64, **changes}]))


def seconds(chip="h100-sxm", **changes):
    return plan_columns(columns(**changes), [load_chip(chip)]).duration_s.item()


def test_flops_and_bytes_are_those_of_the_touched_experts():
    ops = columns(tokens=4)
    assert ops.matrix_flops.item() == 2 * 4 * 8 * 3 * 2048 * 768
    assert ops.read_bytes.item() == 32 * 3 * 2048 * 768 * 2 + 4 * 2048 * 2  # 32 of 128 experts
    assert columns(tokens=1000).read_bytes.item() == 128 * 3 * 2048 * 768 * 2 + 1000 * 2048 * 2
    assert columns(tokens=4, gated=0).matrix_flops.item() == 2 * 4 * 8 * 2 * 2048 * 768


def test_weights_of_another_type_are_what_is_read():
    """One token on 2 experts of 4-bit weights reads a quarter of what it reads of bfloat16 ones."""
    layer = {"tokens": 1, "hidden": 4096, "inter": 14336, "experts": 8, "topk": 2}
    wide, narrow = (
        plan_columns(columns(**layer, weight_dtype=dtype), [load_chip("h100-sxm")]) for dtype in (None, "int4")
    )
    read = [table.columns.traffic_bytes[0, 0, 0] for table in (wide, narrow)]
    assert read[1] == pytest.approx(2 * 3 * 4096 * 14336 / 2, rel=1e-3)
    assert read[0] == pytest.approx(4 * read[1], rel=1e-3)
    assert narrow.duration_s.item() < 0.5 * wide.duration_s.item()


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"topk": 16, "experts": 8}, "topk must be at most experts, got topk 16 and experts 8"),
        ({"experts": 1e9}, "experts must be at most 65,536, got 1,000,000,000"),
        ({"running": 129}, "running must be at most experts, got running 129 and experts 128"),
        ({"expert_ranks": 3}, "experts must be a multiple of expert_ranks, got experts 128 and expert_ranks 3"),
    ],
)
def test_layers_that_cannot_be_are_refused(sizes, message):
    with pytest.raises(SimulationError, match=message):
        columns(**sizes)


def test_weights_of_the_experts_that_run_are_read_where_they_are_known():
    """8 tokens on 64 experts at most; on 52, as chance has it (128 (1 - (15 / 16)^8) = 51.6), 52 of them are read."""
    layer = 3 * 2048 * 768 * 2
    all_apart, by_chance = (columns(tokens=8, running=running) for running in (0, 52))
    assert all_apart.read_bytes.item() == 64 * layer + 8 * 2048 * 2
    assert by_chance.read_bytes.item() == 52 * layer + 8 * 2048 * 2
    assert by_chance.matrix_flops.item() == all_apart.matrix_flops.item()
    traffic = plan_columns(by_chance, [load_chip("h100-sxm")]).columns.traffic_bytes[0].item()
    assert traffic == pytest.approx(52 * layer + 2 * 8 * 2048 * 2)
    assert seconds(tokens=8, running=64) == pytest.approx(seconds(tokens=8), rel=1e-3)
    assert 52 / 64 < seconds(tokens=8, running=52) / seconds(tokens=8) < 1


@pytest.mark.parametrize(("tokens", "measured_us"), [(1, 49.1), (8, 228.4), (16, 420.4), (64, 431.9), (512, 480.1)])
def test_triton_kernels_of_vllm_take_what_is_predicted_of_another_library(tokens, measured_us):
    """Balanced rows of aiconfigurator-core 0.12.0, h100_sxm/moe/vllm/0.24.0; the constants are TensorRT-LLM's."""
    assert 1e6 * seconds(tokens=tokens) == pytest.approx(measured_us, rel=0.1)


def test_rows_are_conserved_and_no_expert_has_more_than_the_tokens():
    for skew in (0.0, 1.01, 1.2):
        for tokens in (16, 300, 5000):
            rows = expert_rows(columns(tokens=tokens, skew=skew))
            assert rows.mean() * 128 == pytest.approx(tokens * 8, rel=0.02)
            assert rows.max() <= tokens
    assert np.ptp(expert_rows(columns(skew=0.0))) == 0 < np.ptp(expert_rows(columns(skew=1.2)))


def test_a_rank_has_its_share_of_balanced_rows_and_more_of_skewed_ones():
    alone = expert_rows(columns(tokens=4096)).mean() * 128
    shared = expert_rows(columns(tokens=4096, expert_ranks=8)).mean() * 16
    busiest = expert_rows(columns(tokens=4096, expert_ranks=8, skew=1.2)).mean() * 16
    assert shared == pytest.approx(alone / 8)
    assert busiest > 1.2 * shared


def test_a_block_step_costs_what_its_experts_weigh():
    """From 1 to 16 tokens the touched experts grow from 8 to all 128; from 16 to 64 they stay."""
    one, sixteen, many = (seconds(tokens=tokens) for tokens in (1, 16, 64))
    assert 6 < (sixteen - one) / one < 16
    assert many < 1.1 * sixteen
    assert seconds(tokens=64) >= 128 * 3 * 2048 * 768 * 2 / 3.35e12


def test_without_calibration_it_is_never_below_the_roofline(build):
    ops = ops_from_frame(pd.DataFrame([{**LAYER, "tokens": tokens} for tokens in (1, 7, 100, 9000)]))
    table = plan_columns(ops, [build.chip(), load_chip("h100-sxm"), load_chip("mi300x")])
    assert (table.duration_s >= table.bound_s).all()


def drawn_busiest_rank(tokens, experts, topk, ranks, skew, draws=400):
    """Rows and touched experts of the busiest rank, one expert after another, by the law in words."""
    draw, rows, touched = np.random.default_rng(7), [], []
    low, high = (1.0, 0.8 * tokens) if tokens * topk > experts else (0.01, 2.0)
    for _ in range(draws):
        share = (low ** (1 - skew) + (high ** (1 - skew) - low ** (1 - skew)) * draw.random(experts)) ** (
            1 / (1 - skew)
        )
        counts = np.minimum(np.round(share / share.sum() * tokens * topk), tokens).reshape(ranks, -1)
        while counts.sum() != tokens * topk:
            step = 1 if counts.sum() < tokens * topk else -1
            for rank in draw.permutation(ranks):
                if counts.sum() != tokens * topk:
                    counts[rank, counts[rank].argmin() if step > 0 else counts[rank].argmax()] += step
        busiest = counts[counts.sum(axis=1).argmax()]
        rows.append(busiest.sum())
        touched.append((busiest > 0).sum())
    return np.mean(rows), np.mean(touched)


@pytest.mark.parametrize(("tokens", "ranks"), [(8, 1), (8, 8), (64, 1), (64, 8), (1024, 8), (1024, 64)])
def test_skewed_loads_are_those_of_many_draws(tokens, ranks):
    """Eight draws stand for all: within 15 % of rows, 10 % of touched experts; on one rank rows are exact."""
    rows, touched = drawn_busiest_rank(tokens, 128, 8, ranks, 1.2)
    found = expert_rows(columns(tokens=tokens, skew=1.2, expert_ranks=ranks))[0]
    assert found.mean() * 128 / ranks == pytest.approx(rows, rel=1e-9 if ranks == 1 else 0.15)
    assert max(1.0, np.minimum(found, 1.0).mean() * 128 / ranks) == pytest.approx(touched, rel=0.1)


@pytest.mark.parametrize(("tokens", "experts"), [(2, 512), (4, 1024), (3, 4096)])
def test_a_few_rows_of_very_many_experts_are_not_lost(tokens, experts):
    rows, touched = drawn_busiest_rank(tokens, experts, 1, 1, 1.2)
    found = expert_rows(columns(tokens=tokens, experts=experts, topk=1, skew=1.2))[0]
    assert found.mean() * experts == pytest.approx(rows) == pytest.approx(tokens)
    assert np.minimum(found, 1.0).mean() * experts == pytest.approx(touched, rel=0.1)


@pytest.mark.parametrize("name", ["h100-sxm", "a100-sxm-80gb", "b200-sxm", "l40s", "mi300x", "tpu-v5e"])
def test_more_tokens_are_never_faster_and_nothing_is_below_the_roofline(name):
    """A block of B tokens touches min(B k, E) experts. Drawn loads are whole rows, so skewed layers dip by 4 %."""
    tokens = np.unique(np.geomspace(1, 20_000, 120).astype(int))
    for skew, least in ((0.0, 1.0 - 1e-12), (1.2, 0.96)):
        rows = [{**LAYER, "tokens": count, "skew": skew} for count in tokens]
        table = plan_columns(ops_from_frame(pd.DataFrame(rows)), [load_chip(name)])
        times_s = table.duration_s[:, 0]
        assert (times_s / np.maximum.accumulate(times_s)).min() >= least
        assert (table.duration_s >= table.bound_s).all()


def test_a_default_tile_costs_its_empty_rows(build):
    """Tile of 128 x 16 on 100 cores, 128 clocks a step of 64: 256 rows make 2 x 10 + 1 x 25 steps on a core.

    192 rows fill 1.5 of 2 row tiles, so at ratio 2 they cost 2.5: 250 tiles up (between 2.5 and 3 a core), 100 down.
    """
    constants = {"untuned_tile_rows": 128, "untuned_tile_columns": 16, "partial_tile_ratio": 2.0}
    constants |= {"ingest_bytes_per_clock_per_core": 1e9}
    chip = replace(build.chip(), calibration=tuple((f"moe.{name}", float(value)) for name, value in constants.items()))
    assert (chip.cores, dict(chip.matrix_macs)["bfloat16"]) == (100, 1024)
    layer = {"hidden": 640, "inter": 1600, "experts": 1, "topk": 1, "gated": 0}
    clocks = {
        (tokens, untuned): plan_columns(columns(tokens=tokens, untuned=untuned, **layer), [chip]).columns.core_s.item()
        * chip.clock_hz
        for tokens in (192, 256)
        for untuned in (0, 1)
    }
    assert clocks[256, 1] == pytest.approx(45 * 128)
    assert clocks[192, 1] == pytest.approx((2.75 * 10 + 25) * 128)
    assert clocks[256, 0] < clocks[256, 1]
    unknown = replace(chip, calibration=())
    both = [plan_columns(columns(tokens=256, untuned=each, **layer), [unknown]).duration_s.item() for each in (0, 1)]
    assert both[0] == both[1]


def test_a_repeated_layer_is_found_in_a_cache_that_holds_it():
    """19 MB of weights stay in the 96 MB of an L40S, 1.2 GB do not; without the condition all comes from afar."""
    chip = load_chip("l40s")
    for experts, ratio in ((2, 0.01), (128, 1.0)):
        cold, warm = (
            plan_columns(columns(experts=experts, topk=2, tokens=64, weight_copies=copies), [chip]) for copies in (0, 1)
        )
        main = [table.columns.traffic_bytes[0, 0, 0] for table in (cold, warm)]
        assert main[1] / main[0] == pytest.approx(ratio, abs=0.01)


def test_constants_of_a_type_count_for_that_type_alone():
    chip = load_chip("h100-sxm")
    slow = replace(chip, calibration=(*chip.calibration, ("moe.int8.routing_s", 1e-3)))
    for dtype, more_s in (("bfloat16", 0.0), ("int8", 1e-3 - dict(chip.calibration)["moe.routing_s"])):
        times = [plan_columns(columns(dtype=dtype), [each]).duration_s.item() for each in (chip, slow)]
        assert times[1] - times[0] == pytest.approx(more_s, abs=1e-9)


def test_a_rank_picks_and_sorts_for_all_tokens(build):
    """8 picks of 64 tokens among 128 experts: 8 x (128 x 2 ns + 64 x 3 ns) = 3.584 us, on one rank as on many."""
    chip = build.chip()
    counted = replace(chip, calibration=(*chip.calibration, ("moe.pick_s", 2e-9), ("moe.sort_s", 3e-9)))
    for ranks in (1, 16):
        times = [plan_columns(columns(expert_ranks=ranks), [each]).duration_s.item() for each in (chip, counted)]
        assert times[1] - times[0] == pytest.approx(3.584e-6)
