"""Attention on a toy chip of round figures, each part of a plan worked out by hand.

100 cores of 1 GHz: in a clock each does 1,024 multiply-adds, 256 vector FLOP and 16 exponentials and takes in 128
bytes; 40 MB of shared cache at 5 TB/s, main memory at 1 TB/s. Unless said, tiles are 128 rows and blocks 128 keys.
Heads are 192 wide in queries and keys and 128 in values, so a block is 128 x 128 x (192 + 128) / 1,024 = 5,120 clocks
of products, 512 of vectors, 1,024 of exponentials, and 128 x (192 + 128) x 2 = 81,920 bytes, 640 clocks of intake.
"""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from roofline.chip import Memory
from simulator import prediction
from simulator.op_frame import ops_from_frame
from simulator.plans import plan_columns, plan_ops

PRODUCTS, VECTOR, SPECIAL = 5_120.0, 512.0, 1_024.0
TILE = 1_000.0  # clocks of a tile beyond its blocks
FIRST = 1.5  # of a tile on an idle core
CONSTANTS = {"tile_clocks": TILE, "first_tile_ratio": FIRST, "softmax_overlap_p": 1.0}


def plan(chip, **sizes):
    row = {"kind": "attention", "dtype": "bfloat16", "batch": 100, "queries": 1024, "keys": 1024, "heads": 1}
    row |= {"head_dim": 192, "value_dim": 128, "causal": 0}
    return plan_columns(ops_from_frame(pd.DataFrame([{**row, **sizes}])), [chip])


@pytest.fixture
def toy(build):
    def toy_chip(constants=(), **changes):
        named = {f"attention.{name}": value for name, value in {**CONSTANTS, **dict(constants)}.items()}
        return build.chip(calibration=tuple({**named, **changes.pop("calibration", {})}.items()), **changes)

    return toy_chip


def core_clocks(table):
    return 1e9 * table.columns.core_s.item()


def test_equal_tiles_take_whole_rounds_of_all_their_blocks(toy):
    """8 tiles a core, of 8 blocks; with an exponent of 1 products and softmax follow each other."""
    table = plan(toy())
    block = PRODUCTS + VECTOR + SPECIAL
    assert core_clocks(table) == pytest.approx((FIRST + 7) * (TILE + 8 * block))
    found = [1e9 * getattr(table.columns, name).item() for name in ("matrix_s", "vector_s", "special_s")]
    assert found == pytest.approx([64 * PRODUCTS, 64 * VECTOR, 64 * SPECIAL])
    # A quarter of the sequences more are 10 tiles a core; one more sequence is 8.08, so 9 rounds.
    assert core_clocks(plan(toy(), batch=125)) == pytest.approx((FIRST + 9) * (TILE + 8 * block))
    assert core_clocks(plan(toy(), batch=101)) == pytest.approx((FIRST + 8) * (TILE + 8 * block))


@pytest.mark.parametrize(
    ("constants", "block", "units"),
    [
        ({"matrix_efficiency": 0.5}, 2 * PRODUCTS + VECTOR + SPECIAL, (2 * PRODUCTS, VECTOR, SPECIAL)),
        ({"softmax_ratio": 2.0}, PRODUCTS + 2 * (VECTOR + SPECIAL), (PRODUCTS, VECTOR, SPECIAL)),
        # Below 1 exponentials are emulated, so the units take as much less.
        ({"softmax_ratio": 0.5}, PRODUCTS + (VECTOR + SPECIAL) / 2, (PRODUCTS, VECTOR / 2, SPECIAL / 2)),
        ({"softmax_overlap_p": 2.0}, np.hypot(PRODUCTS, VECTOR + SPECIAL), (PRODUCTS, VECTOR, SPECIAL)),
        ({"softmax_instructions": 8.0}, PRODUCTS + 2 * VECTOR + SPECIAL, (PRODUCTS, 2 * VECTOR, SPECIAL)),
        ({"block_clocks": 44.0}, PRODUCTS + VECTOR + SPECIAL + 44, (PRODUCTS, VECTOR, SPECIAL)),
    ],
)
def test_constants_of_a_block(toy, constants, block, units):
    table = plan(toy(constants))
    assert core_clocks(table) == pytest.approx((FIRST + 7) * (TILE + 8 * block))
    found = [1e9 * getattr(table.columns, name).item() for name in ("matrix_s", "vector_s", "special_s")]
    assert found == pytest.approx([64 * unit for unit in units])


def test_a_block_takes_no_less_than_its_keys_and_values_need_to_come_in(toy):
    """81,920 bytes at 8 a clock are 10,240 clocks, more than it computes."""
    slow = toy(calibration={"ingest_bytes_per_clock_per_core": 8.0})
    assert core_clocks(plan(slow)) == pytest.approx((FIRST + 7) * (TILE + 8 * 10_240))


def test_types_without_matrix_units_multiply_on_the_vector_units(toy):
    """128 multiply-adds a clock: 128 x 128 x 320 / 128 = 40,960 clocks a block."""
    table = plan(toy(), dtype="float32")
    assert table.columns.matrix_s.item() == 0
    assert 1e9 * table.columns.vector_s.item() == pytest.approx(64 * (VECTOR + 40_960))


def test_a_causal_mask_makes_tiles_of_one_to_eight_blocks(toy):
    """Of 8 tiles of a head the longest has 8 blocks, the mean 4.5; a core takes its share of the mean, and a tail."""
    block = PRODUCTS + VECTOR + SPECIAL
    first, further = FIRST * (TILE + 8 * block), TILE + 4.5 * block
    table = plan(toy({"tail_ratio": 0.25}), causal=1)
    assert core_clocks(table) == pytest.approx(8 * further + 0.25 * first)
    assert 1e9 * table.columns.matrix_s.item() == pytest.approx(8 * 4.5 * PRODUCTS)
    # One sequence more is 8.08 tiles a core, no whole rounds.
    more = plan(toy({"lockstep_blocks": 1.0}), causal=1, batch=101).columns
    assert 1e9 * more.matrix_s.item() == pytest.approx(8.08 * 4.5 * PRODUCTS)
    assert more.stages.item() == pytest.approx(8.08 * 4.5)
    # 13 sequences: 1.04 tiles a core, less than the longest takes, alone on its core.
    assert core_clocks(plan(toy({"tail_ratio": 0.25}), causal=1, batch=13)) == pytest.approx(first)
    # 80 tiles on 80 cores are one each, without a tail.
    one_each = plan(toy({"tail_ratio": 0.9}, cores=80), causal=1, batch=10)
    assert core_clocks(one_each) == pytest.approx(first)
    assert 1e9 * one_each.columns.matrix_s.item() == pytest.approx(8 * PRODUCTS)


def test_the_clock_falls_in_kernels_of_many_milliseconds(toy):
    """8 rounds of tiles of 1 ms or half of it: at 8 ms a half of the slowdown, at 4 ms 1 / (1 + 2^2) of it."""
    blocks = 8 * (PRODUCTS + VECTOR + SPECIAL)
    for tile, slower in ((1e6 - blocks, 1.1), (5e5 - blocks, 1.04)):
        chip = toy({"tile_clocks": tile, "first_tile_ratio": 1.0, "sustained_slowdown": 0.2})
        assert core_clocks(plan(chip)) == pytest.approx(slower * 8 * (tile + blocks))


def test_a_fused_step_runs_on_the_vector_units_of_all_cores(toy, build):
    """25.6 TFLOP/s in all: 256 MFLOP more are 10 us, beside what attention takes."""
    op = build.attention(100, 1, 1, 1024, 1024, 128, causal=False)
    alone, fused = (plan_ops([replace(op, vector_flops=flops)], [toy()]).columns for flops in (0, 256_000_000))
    assert fused.core_s.item() - alone.core_s.item() == pytest.approx(1e-5)
    assert fused.vector_s.item() - alone.vector_s.item() == pytest.approx(1e-5)


def test_cores_take_in_what_tiles_read_and_main_memory_moves_it_once(toy):
    """A tile reads 8 blocks, 655,360 bytes, and its own queries and outputs, 128 x (192 + 128) x 2 = 81,920."""
    main, shared, own = plan(toy()).columns.traffic_bytes[:, 0, 0]
    assert main == 100 * 4 * 1024 * (192 + 128)
    assert shared == own == 800 * (655_360 + 81_920)
    # 5 queries fill 5 of the 16 rows of their tile, and move no more than these.
    _, shared, _ = plan(toy(), queries=5, causal=1).columns.traffic_bytes[:, 0, 0]
    assert shared == 100 * (1024 + 5) * (192 + 128) * 2


def test_a_core_of_two_tiles_reads_keys_again_only_after_both(toy, build):
    """FlashAttention-2: 16 tiles of 128 rows on 4 cores of two are two rounds, so 2,048 x 128 x 2 bytes come twice.

    Half of them are still in a cache of half their size.
    """
    keys_bytes = 2048 * (64 + 64) * 2
    own, shared, main = build.memories()
    memories = (own, replace(shared, capacity_bytes=keys_bytes / 2), main)
    chip = toy({"generation": 2.0}, cores=4, memories=memories)
    sizes = {"batch": 1, "queries": 2048, "keys": 2048, "head_dim": 64, "value_dim": 64}
    assert plan(chip, **sizes).columns.traffic_bytes[0].item() == 2 * keys_bytes + keys_bytes / 2
    assert plan(chip, **sizes).columns.waves.item() == 2


def test_a_window_reads_again_what_its_queries_see(toy, build):
    """2,048 queries at the end of 65,536 keys, of which each sees 897: tiles of 128 queries go through 8 whole blocks.

    16 tiles on 4 cores are four rounds, so of what is read again 3 of 15 parts come from afar, as far as the
    897 + 2,048 keys of one head do not fit: half of them do.
    """
    depth_bytes = (64 + 64) * 2
    own, shared, main = build.memories()
    memories = (own, replace(shared, capacity_bytes=(897 + 2048) * depth_bytes / 2), main)
    sizes = {"batch": 1, "queries": 2048, "keys": 65_536, "window": 897, "causal": 1, "head_dim": 64, "value_dim": 64}
    moved = (2 * 2048 * 64 * 2) + (897 + 2048 - 1) * depth_bytes
    again = 16 * (8 * 128 + 128) * depth_bytes - moved
    table = plan(toy(cores=4, memories=memories), **sizes)
    assert table.columns.traffic_bytes[:2, 0, 0] == pytest.approx([moved + again * 3 / 15 / 2, moved + again])


def test_replays_find_what_the_cache_keeps(toy, build):
    """One tile a head, 100 x 128 x 640 x 2 = 16,384,000 bytes, in a cache that keeps half of its capacity.

    Of as much as it keeps a half is there; of 1.1 times as much 1 / (1 + 1.1^12) = 0.2416. The cache gives that at half
    of its 5 TB/s; where its part is less than main memory's 1 TB/s, at that.
    """
    moved = 16_384_000
    own, shared, main = build.memories()
    for share, held in ((1.0, 0.5), (1.1, 1 / (1 + 1.1**12))):
        for efficiency, rate in ((0.5, 2.5e12), (0.1, 1e12)):
            memories = (own, replace(shared, capacity_bytes=2 * moved / share), main)
            chip = toy({"held_ratio": 0.5, "cache_efficiency": efficiency}, memories=memories)
            table = plan(chip, queries=128, keys=128, weight_copies=1)
            assert table.columns.traffic_bytes[:2, 0, 0] == pytest.approx([(1 - held) * moved, moved])
            assert table.level_s[0].item() == pytest.approx((1 - held) * moved / 1e12)
            assert table.level_s[1].item() == pytest.approx(max(held * moved / rate, moved / 5e12))
            storing = plan(chip, queries=128, keys=128, stores_kv=1, batch=1, weight_copies=1)
            assert storing.columns.traffic_bytes[0].item() < 1  # all is there
            stored = 2 * 128 * 320 * 2
            assert storing.columns.prologue_s.item() == pytest.approx(stored / rate)
    assert plan(chip, queries=128, keys=128).level_s[1].item() == pytest.approx(moved / 5e12)  # a fresh kernel


def test_main_memory_gives_its_achievable_part(toy):
    table = plan(toy({"memory_efficiency": 0.5}))
    assert table.level_s[0].item() == pytest.approx(131_072_000 / 0.5e12)
    assert table.level_s[1].item() == pytest.approx(589_824_000 / 5e12)  # not the cache


def test_stored_keys_count_in_what_a_replay_must_hold(toy, build):
    """4 sequences of 1,000 new tokens on 1,000 keys: K and V of 4,000 x 320 x 2 bytes are read, written and kept."""
    kept_bytes = 4 * 1000 * 320 * 2
    own, shared, main = build.memories()
    # Queries, keys, values and outputs, and what is stored, read once and written once: twice their size in all.
    memories = (own, replace(shared, capacity_bytes=4.0 * kept_bytes), main)
    table = plan(toy(memories=memories), batch=4, queries=1000, keys=1000, stores_kv=1, weight_copies=1)
    assert table.columns.traffic_bytes[0].item() == pytest.approx(0.5 * 2 * kept_bytes)


def test_storing_takes_a_time_for_each_token_and_holds_no_more_than_there_are_keys(toy):
    """100 x 1,024 tokens of 1 ns are 102.4 us; of 2,048 queries on 1,024 keys no more than 1,024 are stored."""
    plain, timed = (plan(toy({"store_token_s": s}), stores_kv=1).columns.prologue_s.item() for s in (0.0, 1e-9))
    assert timed - plain == pytest.approx(102.4e-6)
    stored = 2 * 100 * 1024 * 320 * 2 / 1e12  # to main memory and back
    assert plain - plan(toy()).columns.prologue_s.item() == pytest.approx(stored)
    more, none = (plan(toy(), queries=2048, stores_kv=stores).columns.prologue_s.item() for stores in (1, 0))
    assert more - none == pytest.approx(stored)


@pytest.mark.parametrize(
    ("constants", "sizes", "bound_by"),
    [
        ({}, {}, "matrix"),  # products are 77 % of a block
        ({"tile_clocks": 40_000.0, "first_tile_ratio": 1.0}, {}, "latency"),  # 44 % of the core's time
        ({}, {"queries": 1, "keys": 65_536, "heads": 32, "kv_heads": 8}, "hbm"),
        ({"split_s": 1.0}, {"batch": 1, "queries": 1, "keys": 65_536, "heads": 32, "kv_heads": 8}, "latency"),
    ],
)
def test_what_binds_fills_more_than_half_of_the_time_of_a_core(toy, constants, sizes, bound_by):
    """A unit that fills less waits: for first operands, normalizing and write-back, or for parts to be combined."""
    chip = toy(constants)
    assert prediction.bound_by(plan(chip, **sizes), chip) == [bound_by]


def test_heads_between_two_kernels_are_padded_and_copied(toy):
    """FlashAttention-2: heads of 72 run that of 96, 128 x 64 x 192 / 1,024 = 1,536 clocks of products a block of 64."""
    chip = toy({"generation": 2.0, "pad_s": 7e-6})
    padded, full = (plan(chip, head_dim=size, value_dim=size) for size in (72, 96))
    assert padded.columns.prologue_s.item() - full.columns.prologue_s.item() == pytest.approx(7e-6)
    assert padded.columns.matrix_s.item() == full.columns.matrix_s.item() == pytest.approx(8 * 16 * 1_536e-9)


def test_packing_queries_costs_two_launches_where_no_view_will_do(toy):
    """FlashAttention-2 packs the heads of single queries; one sequence, or one KV head, needs no copy."""
    chip = toy({"generation": 2.0}, launch_s=3e-6)
    packed, one, shared = (
        plan(chip, queries=1, keys=4096, heads=32, kv_heads=kv_heads, batch=batch).columns.prologue_s.item()
        for kv_heads, batch in ((8, 2), (8, 1), (1, 2))
    )
    assert packed - one == packed - shared == pytest.approx(6e-6)


@pytest.mark.parametrize(("cache_efficiency", "ingest"), [(1.0, 128.0), (1.0, 1.0), (0.01, 128.0)])
def test_parts_of_split_keys_are_written_and_read_as_32_bit_numbers(toy, cache_efficiency, ingest):
    """32 rows of 129 numbers, from as many parts: 4 bytes each, written and read once.

    Eight rows are summed by one core, so four cores take in what is read.
    """
    constants = {"split_s": 5e-6, "cache_efficiency": cache_efficiency}
    table = plan(
        toy(constants, calibration={"ingest_bytes_per_clock_per_core": ingest}),
        batch=1,
        queries=1,
        keys=65_536,
        heads=32,
        kv_heads=8,
    )
    assert table.columns.split.item() == 12  # see test_attention.py
    # 512 blocks in 12 parts: the busiest core has 43, of 16 rows (the fewest of a tile) x 128 x 320 / 1,024 clocks.
    assert 1e9 * table.columns.matrix_s.item() == pytest.approx(43 * 640)
    partial = 4 * 32 * 129 * 12
    both = 2 * partial / (5e12 * cache_efficiency), partial / (4 * ingest * 1e9)
    assert table.columns.reduction_s.item() == pytest.approx(5e-6 + max(both))


def test_no_more_cores_sum_parts_than_there_are(toy):
    """32 queries of 32 heads are 1,024 rows, eight for each of 128 cores: 100 take in a byte a clock each."""
    chip = toy({"split_s": 0.0}, calibration={"ingest_bytes_per_clock_per_core": 1.0})
    columns = plan(chip, batch=1, queries=32, keys=65_536, heads=32, kv_heads=8).columns
    assert columns.split.item() == 12
    assert columns.reduction_s.item() == pytest.approx(4 * 1024 * 129 * 12 / (100 * 1e9))


def test_cores_drift_apart_within_some_blocks(toy):
    """8 rounds of 8 blocks are 64 steps; with a lockstep of 4 blocks 16 stages."""
    assert plan(toy({"lockstep_blocks": 4.0})).columns.stages.item() == 16
    assert plan(toy({"lockstep_blocks": 100.0})).columns.stages.item() == 1
    few = plan(toy(), batch=5, causal=1).columns
    assert (few.cores_used.item(), few.waves.item()) == (40, 1)


def test_wide_heads_run_blocks_of_32_queries_of_which_four_share_a_core(toy):
    """Heads of 384: a block of 32 x 1,024 x 4 x 384 = 50,331,648 FLOP, alone at 400 a clock, a full core at 600.

    One head of 1,024 queries is 32 blocks, each alone. 40 heads are 1,280 blocks: four rounds of 400 places, or 13 on
    the busiest core, the latter longer. Heads of 256 run flash kernels.
    """
    rates = {"wide_block_flops_per_clock": 400.0, "wide_core_flops_per_clock": 600.0}
    wide = {"head_dim": 384, "value_dim": 384}
    flops = 32 * 1024 * 4 * 384
    assert core_clocks(plan(toy(rates), batch=1, **wide)) == pytest.approx(flops / 400)
    assert core_clocks(plan(toy(rates), batch=40, **wide)) == pytest.approx(13 * flops / 600)
    slow_alone = rates | {"wide_block_flops_per_clock": 100.0}
    assert core_clocks(plan(toy(slow_alone), batch=40, **wide)) == pytest.approx(4 * flops / 100)
    # No unit is busy for longer than the core: one block of a flash kernel's products would be 12,288 clocks.
    quick = plan(toy(dict.fromkeys(rates, 5_000.0)), batch=1, **wide).columns
    assert quick.matrix_s.item() == quick.core_s.item() == pytest.approx(1e-9 * flops / 5_000)
    flash = {"batch": 1, "head_dim": 256, "value_dim": 256}
    assert core_clocks(plan(toy(rates), **flash)) == core_clocks(plan(toy(), **flash))


def test_a_mask_as_a_tensor_takes_another_kernel(toy, build):
    """Of 1.5 times the time of a core, where a chip says so."""
    op = build.attention(100, 1, 1, 1024, 1024, 128, causal=False)
    masked = replace(op, sizes=(*op.sizes, ("masked", 1)))
    chip = toy({"mask_ratio": 1.5})
    plain, with_mask = (plan_ops([each], [chip]).columns.core_s.item() for each in (op, masked))
    assert with_mask == pytest.approx(1.5 * plain)
    assert plan_ops([masked], [toy()]).columns.core_s.item() == plain


def test_a_chip_whose_caches_are_all_its_cores_own_takes_all_from_main_memory(toy, build):
    own, _, _ = build.memories()
    main = Memory(name="hbm", capacity_bytes=40e9, bandwidth_bytes_per_s=1e12, latency_s=0.0)
    table = plan(toy({"memory_efficiency": 0.5}, memories=(own, main)), weight_copies=1)
    assert table.columns.traffic_bytes[0].item() == 589_824_000
    assert table.level_s[0].item() == pytest.approx(589_824_000 / 0.5e12)
