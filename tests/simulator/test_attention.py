from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from roofline.chipfile import load_chip
from simulator import analytic, event
from simulator.chip_columns import ChipColumns
from simulator.kernels.attention import blocks_per_tile
from simulator.kernels.attention_constants import CONSTANTS, attention_constants, decode_weight
from simulator.kernels.attention_splits import decoding_split, fullest_split
from simulator.kernels.attention_tiles import attention_tiles
from simulator.op_frame import ops_from_frame
from simulator.plans import plan_columns, plan_ops


def attention(**sizes):
    columns = {"kind": "attention", "dtype": "bfloat16", "batch": 1, "heads": 32, "head_dim": 128, "causal": 0}
    rows = {**columns, **sizes}
    count = max(len(np.atleast_1d(value)) for value in rows.values())
    return ops_from_frame(pd.DataFrame(rows, index=range(count)))


def duration_s(chip, **sizes):
    return plan_columns(attention(**sizes), [chip]).duration_s[:, 0]


def tiles_on(chip, ops):
    chips = ChipColumns.from_chips([chip])
    return attention_tiles(ops, chips, attention_constants(ops, chips))


def with_calibration(chip, **changes):
    return replace(chip, calibration=tuple({**dict(chip.calibration), **changes}.items()))


def test_a_block_of_queries_lies_between_decoding_and_a_full_tile():
    queries = np.array([1, 2, 4, 8, 16, 32, 64])
    for name in ("h100-sxm", "b200-sxm"):
        seconds = duration_s(load_chip(name), queries=queries, keys=32768, kv_heads=8, batch=8)
        assert (np.diff(seconds[1:]) >= -0.05 * seconds[1:-1]).all(), name
        assert (seconds >= 0.9 * seconds[0]).all(), name
        assert seconds[-1] < 8 * seconds[0], name  # 64 queries share what one reads


def test_constants_move_from_decoding_to_many_queries_between_one_tile_and_eight():
    # 128 rows of a tile were measured in decoding; 8 x 128 = 1024 rows are many queries; 362 = 128 sqrt(8) is half-way.
    three = np.array([[3.0]])
    queries = [1, 8, 128, 362, 1024]
    assert decode_weight(attention(queries=queries, keys=4096), three)[:, 0] == pytest.approx(
        [1.0, 1.0, 1.0, 0.5, 0.0], abs=1e-3
    )
    assert decode_weight(attention(queries=[32, 256], keys=4096, kv_heads=8), three)[:, 0] == pytest.approx([1.0, 0.0])
    assert decode_weight(attention(queries=256, keys=4096, kv_heads=8), np.array([[2.0]]))[0, 0] == pytest.approx(2 / 3)
    assert decode_weight(attention(queries=16, keys=16), three)[0, 0] == 0.0  # no cache: prefill or bidirectional
    chip = load_chip("h100-sxm")
    constants = dict(chip.calibration)
    one, many = constants["attention.decode.tile_clocks"], constants["attention.bidirectional.tile_clocks"]
    found = attention_constants(attention(queries=queries, keys=4096), ChipColumns.from_chips([chip])).tile_clocks[:, 0]
    assert found == pytest.approx([one, one, one, 0.5 * (one + many), many], rel=1e-3)


@pytest.mark.parametrize("name", ["h100-sxm", "h200-sxm", "b200-sxm"])
def test_a_block_of_queries_takes_as_long_as_the_heads_that_share_keys(name):
    # Both are packed into the rows of one tile, so 8 queries of 4 heads are one query of 32 heads, on 2 KV heads each.
    chip = load_chip(name)
    for keys in (1024, 32768):
        block, single, heads = (
            duration_s(chip, queries=queries, keys=keys, heads=count, kv_heads=2, batch=4)[0]
            for queries, count in ((8, 8), (1, 64), (32, 2))
        )
        assert block == pytest.approx(single, rel=1e-9), keys
        assert heads == pytest.approx(single, rel=1e-9), keys


def brute_force_blocks(queries, keys, window, rows, block, *, causal):
    """Blocks of every tile of one head, counted one by one."""
    counts = []
    if causal and queries > keys:  # the first queries see nothing
        counts, queries = [0] * ((queries - keys) // rows), keys
    for start in range(0, queries, rows):
        last = min(keys - queries + start + rows, keys) - 1 if causal and queries > 1 else keys - 1
        first = max(0, keys - queries + start - window + 1) if window else 0
        counts.append(last // block - first // block + 1)
    return counts


@pytest.mark.parametrize("generation", [2.0, 3.0, 4.0])
def test_blocks_of_tiles_are_those_counted_one_by_one(build, generation):
    chip = with_calibration(build.chip(cores=4), **{"attention.generation": generation})
    chips = ChipColumns.from_chips([chip])
    sizes = [(1, 300, 0), (1, 2048, 128), (1, 2000, 128), (768, 768, 0), (1536, 1536, 128), (384, 1920, 1000)]
    sizes += [(1536, 768, 0), (3072, 1536, 128)]
    for queries, keys, window in sizes:
        ops = attention(queries=queries, keys=keys, window=window, causal=1, batch=64, stores_kv=1)
        tiles = attention_tiles(ops, chips, attention_constants(ops, chips))
        assert tiles.split[0, 0] == 1
        mean, longest = blocks_per_tile(ops, tiles)
        rows = int(min(tiles.rows[0, 0], queries))
        counted = brute_force_blocks(queries, keys, window, rows, int(tiles.block[0, 0]), causal=True)
        assert longest[0, 0] == max(counted), (queries, keys, window)
        # A window that opens within a period of tiles and blocks leaves a remainder of its own.
        assert mean[0, 0] == pytest.approx(np.mean(counted), rel=0.02), (queries, keys, window)


@pytest.mark.parametrize("name", ["h100-sxm", "a100-sxm-80gb", "b200-sxm", "tpu-v5e", "mi300x"])
@pytest.mark.parametrize("sizes", [{}, {"window": 128}, {"heads": 8, "head_dim": 96}, {"kv_heads": 8}])
def test_a_single_query_is_the_same_with_a_mask_and_without(name, sizes):
    for batch in (1, 17):  # 17 x 8 tiles are a few more than an H100 has cores
        plain, masked = (
            plan_columns(attention(queries=1, keys=75_000, batch=batch, causal=causal, **sizes), [load_chip(name)])
            for causal in (0, 1)
        )
        assert plain.duration_s.item() == masked.duration_s.item()
        assert plain.bound_s.item() == masked.bound_s.item()


def test_tiles_that_work_at_a_time_fetch_common_keys_once():
    # 8 KV heads x 65,536 keys x 512 bytes are 268 MB a sequence, five times the shared cache of an H100, which has 132
    # cores. 512 queries of 4 heads are 16 tiles of 128 rows, all at a time; 8,192 are 256, 124 of them in a second
    # round, which finds of its head's 33.6 MB (two at a time: 67 MB) what 52.4 MB hold.
    chip = load_chip("h100-sxm")
    for batch in (1, 8):
        table = plan_columns(attention(queries=[512, 8192], keys=65_536, kv_heads=8, batch=batch), [chip])
        keys_bytes = batch * 8 * 65_536 * 512
        beyond = table.columns.traffic_bytes[0, :, 0] - table.op_columns.moved_bytes[:, 0]
        assert beyond[0] == 0
        assert beyond[1] == pytest.approx(
            keys_bytes * (256 / 132 - 1) * (1 - 52_428_800 / (2 * 65_536 * 512)), rel=0.01
        )


@pytest.mark.parametrize("name", ["h100-sxm", "b200-sxm", "a100-sxm-80gb", "l40s"])
@pytest.mark.parametrize("causal", [0, 1])
def test_a_chunk_of_a_prompt_keeps_its_rate_on_a_longer_cache(name, causal):
    keys = np.array([32_768, 65_536, 131_072])
    seconds = duration_s(load_chip(name), queries=512, keys=keys, kv_heads=8, batch=4, causal=causal)
    rates = keys / seconds
    assert rates[1:] == pytest.approx(rates[0], rel=0.1)


def test_queries_that_see_nothing_cost_no_blocks():
    chip = load_chip("h100-sxm")
    seconds = duration_s(chip, queries=[4096, 8192, 16_384], keys=4096, kv_heads=8, batch=4, causal=1)
    assert (np.diff(seconds) > 0).all()  # their tiles begin and write zeros
    assert seconds[2] < 2 * seconds[0]


def test_a_window_on_a_cache_is_one_block_where_it_ends_with_it(build):
    # 128 keys before position 2048 are block 15 of 128; before 2047 they are blocks 14 and 15.
    chip = with_calibration(build.chip(), **{"attention.generation": 3.0})
    chips = ChipColumns.from_chips([chip])
    ops = attention(queries=1, keys=[2048, 2047], window=128, batch=64)
    mean, _ = blocks_per_tile(ops, attention_tiles(ops, chips, attention_constants(ops, chips)))
    assert mean[:, 0].tolist() == [1, 2]


def test_decoding_reads_a_long_cache_at_the_memory_bandwidth():
    # 64 x 32768 x 8 KV heads x 128 x 2 x 2 bytes = 8.6 GB.
    chip = load_chip("h100-sxm")
    seconds = duration_s(chip, queries=1, keys=32768, batch=64, kv_heads=8)[0]
    efficiency = dict(chip.calibration)["attention.decode.memory_efficiency"]
    assert seconds == pytest.approx(64 * 32768 * 8 * 512 / (efficiency * 3.35e12), rel=0.05)


def test_flash_attention_3_splits_keys_where_tiles_fill_less_than_four_fifths_of_the_cores(build):
    # 1024 rows are 6 tiles of 192 and as many blocks of keys. 16 heads: 96 tiles on 132 cores are 73 % of a wave, and
    # so are 2 and 3 parts (1.45, 2.18 waves), but 4 parts are 2.91 of 3 waves. 1296 rows: 112 tiles, no split.
    chip = with_calibration(build.chip(cores=132), **{"attention.generation": 3.0})
    tiles = tiles_on(chip, attention(queries=[1024, 1296], keys=[1024, 1296], heads=16, head_dim=64))
    assert tiles.split[:, 0].tolist() == [4, 1]
    assert tiles.tiles[:, 0].tolist() == [4 * 96, 112]


def test_decoding_splits_keys_so_that_the_cores_are_filled_once(build):
    # 8 tiles of 512 blocks on 100 cores: a share of ceil(1.1 * 4096 / 100) = 46 blocks, 12 parts, 43 blocks at most.
    tiles = tiles_on(build.chip(), attention(queries=1, keys=65536, kv_heads=8))
    assert tiles.split[0, 0] == 12
    limited = with_calibration(build.chip(), **{"attention.split_limit": 4.0})
    assert tiles_on(limited, attention(queries=1, keys=65536, kv_heads=8)).split[0, 0] == 4


def test_flash_attention_2_packs_only_heads_of_single_queries_and_copies_them(build):
    chip = with_calibration(build.chip(), **{"attention.generation": 2.0})
    tiles = tiles_on(chip, attention(queries=[1, 16], keys=4096, kv_heads=8, batch=2))
    assert tiles.group[:, 0].tolist() == [4, 1]
    assert tiles.copies_queries[:, 0].tolist() == [True, False]
    alone = tiles_on(chip, attention(queries=1, keys=65536, kv_heads=32))
    assert alone.split[0, 0] == 1  # it splits keys only where it packs
    generic = tiles_on(build.chip(), attention(queries=[1, 16], keys=4096, kv_heads=8, batch=2))
    assert generic.group[:, 0].tolist() == [4, 4]
    assert not generic.copies_queries.any()


def test_flash_attention_2_splits_until_its_slots_are_nearly_as_full_as_they_can_be():
    # 60 tiles on 216 slots: 3 parts are 0.83 of a round, 4 are 1.11 of two rounds (0.56), 7 are 1.94 of two (0.97), 18
    # are whole (60 x 18 = 5 x 216); the smallest above 0.85 is 7. With 6 blocks only 3 parts come near the best.
    tiles, slots, yes = np.array([60.0, 60.0, 180.0]), np.full(3, 216.0), np.ones(3, dtype=bool)
    split = fullest_split(tiles, np.array([64.0, 6.0, 64.0]), slots, yes, most=128)
    assert split.tolist() == [7, 3, 1]  # 180 tiles fill more than four fifths


def test_kernels_of_blackwell_pack_on_a_cache_and_not_in_a_prompt(build):
    chip = with_calibration(build.chip(cores=148), **{"attention.generation": 4.0})
    tiles = tiles_on(chip, attention(queries=[1, 4, 64, 512, 64], keys=[4096] * 4 + [64], kv_heads=8, causal=1))
    assert tiles.group[:, 0].tolist() == [4, 4, 4, 1, 1]
    assert tiles.rows[:, 0].tolist() == [8, 16, 128, 256, 256]
    assert tiles.block[:, 0].tolist() == [256, 256, 256, 128, 128]
    # 8 KV heads on 148 cores leave room for 18 parts, two tiles each for 9; 4096 keys are 8 times two blocks of 256.
    assert tiles.split[:, 0].tolist() == [8, 8, 8, 1, 1]
    sizes = (np.array([8.0]), np.array([65536.0]), np.array([0.0]), np.array([256.0]), np.array([148.0]))
    assert decoding_split(*sizes).tolist() == [18]


def test_flash_attention_3_takes_a_narrow_tile_for_few_rows_without_a_window(build):
    chip = with_calibration(build.chip(), **{"attention.generation": 3.0})
    sizes = {"queries": 1, "keys": 4096, "kv_heads": 8}
    assert tiles_on(chip, attention(**sizes, window=[0, 128])).rows[:, 0].tolist() == [64, 128]
    assert tiles_on(chip, attention(**sizes, head_dim=64, window=[0, 128])).rows[:, 0].tolist() == [64, 192]
    assert tiles_on(chip, attention(**sizes | {"queries": 16}, batch=2)).rows[0, 0] == 64  # 16 queries of 4 heads
    assert tiles_on(chip, attention(**sizes | {"queries": 17}, batch=2)).rows[0, 0] == 128


def test_a_window_makes_prefill_linear_in_its_length():
    chip = load_chip("h100-sxm")
    lengths = np.array([8192, 16384, 32768])
    windowed = duration_s(chip, queries=lengths, keys=lengths, causal=1, window=128)
    full = duration_s(chip, queries=lengths, keys=lengths, causal=1)
    assert windowed[1:] / windowed[:-1] == pytest.approx([2, 2], rel=0.1)
    assert (windowed < full).all()
    assert full[2] / full[1] > 3.5


def test_replayed_operands_come_from_the_cache_only_if_it_holds_them():
    chip = load_chip("l40s")  # 96 MB of shared cache
    small, large = ({"queries": 1, "keys": keys, "batch": 8, "kv_heads": 8} for keys in (1024, 65536))
    assert duration_s(chip, **small, weight_copies=1)[0] < 0.8 * duration_s(chip, **small)[0]
    assert duration_s(chip, **large, weight_copies=1)[0] == pytest.approx(duration_s(chip, **large)[0], rel=1e-3)
    table = plan_columns(attention(**small), [chip])
    assert table.duration_s[0, 0] >= table.bound_s[0, 0]


def test_storing_keys_and_values_costs_a_kernel_and_their_bytes(build):
    chip = build.chip(launch_s=1e-6)
    sizes = {"queries": 1024, "keys": 1024, "causal": 1, "kv_heads": 8}
    alone, storing = (duration_s(chip, **sizes, stores_kv=stores)[0] for stores in (0, 1))
    # K and V of 1024 tokens x 8 heads x 128: 4.19 MB, read and written at 1 TB/s.
    assert storing - alone == pytest.approx(1e-6 + 2 * 2 * 1024 * 8 * 128 * 2 / 1e12, rel=1e-6)
    some = duration_s(chip, **sizes, stores_kv=0.25)[0]  # a quarter of the tokens
    assert some - alone == pytest.approx(1e-6 + 2 * 2 * 256 * 8 * 128 * 2 / 1e12, rel=1e-6)


def test_engines_agree_in_every_regime(build):
    ops = [
        build.attention(1, 32, 8, 2048, 2048, 128, True),
        build.attention(2, 16, 16, 4096, 4096, 64, False),
        build.attention(16, 32, 8, 1, 8192, 128, False),
        build.attention(4, 32, 8, 32, 16384, 128, False),
    ]
    for name in ("h100-sxm", "a100-sxm-80gb", "b200-sxm"):
        chip = load_chip(name)
        for op in ops:
            trace = build.trace([op], [0])
            closed, played = (engine.simulate(trace, chip).makespan_s for engine in (analytic, event))
            assert played == pytest.approx(closed, rel=0.03), (name, op.sizes)


def test_every_fitted_constant_is_declared_and_within_its_bounds(shipped_chips):
    bounds = {constant.name: (constant.low, constant.high) for constant in CONSTANTS}
    known = {*bounds, "generation", "split_limit"}
    for chip in shipped_chips():
        for key, value in chip.calibration:
            scope, _, name = key.rpartition(".")
            if scope.startswith("attention"):
                assert name in known, key
                low, high = bounds.get(name, (0.0, 1024.0))
                assert low * 0.999 <= value <= high * 1.001, key


@pytest.mark.slow
@pytest.mark.parametrize(
    ("chip", "op", "limit_percent"),
    [
        ("h100-sxm", "attention_prefill", 8),
        ("a100-sxm-80gb", "attention_prefill", 10),
        ("h100-sxm", "attention_bidirectional", 8),
        ("h200-sxm", "attention_bidirectional", 8),
        ("b200-sxm", "attention_bidirectional", 8),
        ("h100-sxm", "attention_decode", 8),
        ("a100-sxm-80gb", "attention_decode", 11),
    ],
)
def test_error_on_rows_that_no_fit_saw(chip, op, limit_percent):
    pytest.importorskip("aiconfigurator_core", reason="measured tables come with roofscape[silicon]")
    from simulator.validation.scores import predict_s, score
    from simulator.validation.silicon import silicon_table

    loaded = load_chip(chip)
    table = silicon_table(loaded, op, "bfloat16", "vllm").half(held_out=True)
    assert score(table, predict_s(table, loaded)).mape_percent < limit_percent


def test_a_plan_of_ops_and_of_columns_is_the_same(build):
    op = build.attention(2, 32, 8, 1, 4096, 128, False)
    columns = attention(queries=1, keys=4096, batch=2, kv_heads=8)
    chip = load_chip("h100-sxm")
    assert plan_ops([op], [chip]).duration_s == pytest.approx(plan_columns(columns, [chip]).duration_s)
