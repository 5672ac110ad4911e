"""Tiles of attention by kernel generation, against what the launchers of the libraries choose.

FlashAttention-2: Dao-AILab/flash-attention, `csrc/flash_attn/src/flash_fwd_launch_template.h` on an A100; -3:
`hopper/tile_size.h`, 16-bit operands.
"""

import numpy as np
import pandas as pd
import pytest

from simulator.chip_columns import ChipColumns
from simulator.kernels.attention_constants import attention_constants
from simulator.kernels.attention_splits import decoding_split, equal_split, fullest_split
from simulator.kernels.attention_tiles import attention_tiles
from simulator.op_frame import ops_from_frame


@pytest.fixture
def tiles_of(build):
    """Tiles of one op on a toy chip of 100 cores, unless said, with kernels of a generation."""

    def tiles(generation, *, cores=100, matrix_array=(1, 1), **sizes):
        row = {"kind": "attention", "dtype": "bfloat16", "batch": 4, "queries": 4096, "keys": 4096, "heads": 8}
        ops = ops_from_frame(pd.DataFrame([{**row, "head_dim": 128, "causal": 0, **sizes}]))
        constants = (("attention.generation", float(generation)),)
        chip = build.chip(calibration=constants, cores=cores, matrix_array=matrix_array)
        chips = ChipColumns.from_chips([chip])
        return attention_tiles(ops, chips, attention_constants(ops, chips))

    return tiles


def shape(tiles):
    return tiles.rows.item(), tiles.block.item()


@pytest.mark.parametrize(
    ("head_dim", "plain", "paged"),
    [
        (32, (128, 128), (64, 256)),
        (64, (128, 128), (64, 256)),
        (96, (128, 64), (64, 128)),
        (128, (128, 64), (64, 128)),
        (192, (128, 64), (64, 64)),
        (256, (128, 64), (64, 64)),
    ],
)
def test_flash_attention_2_by_head_size(tiles_of, head_dim, plain, paged):
    """On a paged cache, where keys and values are stored or longer than the queries, its kernel of split keys runs."""
    for causal in (0, 1):
        sizes = {"head_dim": head_dim, "causal": causal}
        assert shape(tiles_of(2, **sizes)) == plain
        assert shape(tiles_of(2, **sizes, stores_kv=1)) == shape(tiles_of(2, **sizes, keys=8192)) == paged
    assert tiles_of(2, head_dim=head_dim).resident.item() == 2
    # Queries and keys wider than values, or narrower: one head size is compiled for both.
    assert shape(tiles_of(2, head_dim=head_dim, value_dim=32, keys=8192)) == paged
    assert shape(tiles_of(2, head_dim=32, value_dim=head_dim, keys=8192)) == paged


@pytest.mark.parametrize(
    ("head_dim", "none", "causal", "window"),
    [
        (64, (192, 192), (192, 128), None),  # of a window the versions differ
        (96, (192, 144), None, (192, 128)),  # and here of a causal mask
        (128, (128, 176), (128, 128), (128, 128)),
        (192, (128, 112), (128, 112), (128, 96)),
        (256, (128, 80), (128, 80), (128, 64)),
    ],
)
def test_flash_attention_3_by_head_size_and_mask(tiles_of, head_dim, none, causal, window):
    assert shape(tiles_of(3, head_dim=head_dim)) == none
    assert causal is None or shape(tiles_of(3, head_dim=head_dim, causal=1)) == causal
    assert window is None or shape(tiles_of(3, head_dim=head_dim, causal=1, window=1024)) == window
    # A window as wide as the keys hides nothing.
    assert shape(tiles_of(3, head_dim=head_dim, window=4096)) == none


def test_flash_attention_3_takes_smaller_blocks_from_pages(tiles_of):
    assert shape(tiles_of(3, keys=8192)) == (128, 128)
    assert shape(tiles_of(3, head_dim=192, keys=8192)) == (128, 96)


@pytest.mark.parametrize("generation", [2, 3, 4])
def test_heads_run_the_next_wider_kernel(tiles_of, generation):
    narrowest = 32 if generation == 2 else 64
    sizes = {24: narrowest, 33: 64, 72: 96, 100: 128, 130: 192, 200: 256, 300: 512, 576: 576}
    for head_dim, kernel in sizes.items():
        tiles = tiles_of(generation, head_dim=head_dim)
        assert (tiles.query_depth.item(), tiles.is_padded.item()) == (kernel, kernel != head_dim)
    generic = tiles_of(0, head_dim=72)  # whole steps of 16
    assert (generic.query_depth.item(), generic.is_padded.item()) == (80, False)


def test_flash_attention_2_packs_no_heads_under_a_window(tiles_of):
    single = {"queries": 1, "heads": 32, "kv_heads": 8}
    assert tiles_of(2, **single).group.item() == 4
    assert tiles_of(2, **single, window=128).group.item() == 1


def test_kernels_of_blackwell_pack_up_to_1024_rows_of_tokens_and_heads(tiles_of):
    """256 tokens of 4 heads are 1,024 rows, 8 tiles of 128; one more are prompts' tiles of 256, head by head."""
    packed, prompt, first = (
        tiles_of(4, queries=queries, keys=keys, heads=32, kv_heads=8, causal=1)
        for queries, keys in ((256, 4096), (257, 4096), (1, 1))
    )
    assert (packed.group.item(), packed.row_tiles.item(), shape(packed)) == (4, 8, (128, 256))
    assert (prompt.group.item(), prompt.row_tiles.item(), shape(prompt)) == (1, 2, (256, 128))
    assert (first.group.item(), shape(first)) == (4, (8, 256))  # the first token of an answer to nothing


def test_prompts_on_blackwell_take_two_tiles_of_128_rows_but_for_wide_heads_and_short_ones(tiles_of):
    """FlashAttention-4 without a mask takes one tile for up to 128 rows of the heads that share keys."""
    assert shape(tiles_of(4, causal=1)) == (256, 128)
    assert shape(tiles_of(4, causal=1, head_dim=192)) == (128, 128)
    rows = [tiles_of(4, queries=length, keys=length).rows.item() for length in (128, 129)]
    assert rows == [128, 256]
    assert tiles_of(4, queries=128, keys=128, causal=1).rows.item() == 256


def test_two_cores_share_wide_values_on_blackwell(tiles_of):
    """Latent attention: 512 values, 256 for each of two cores, unless keys take the place of rows (up to 32)."""
    sizes = {"batch": 1, "queries": 1, "keys": 256, "kv_heads": 1, "head_dim": 576}
    shared = tiles_of(4, **sizes, heads=64, value_dim=512)
    assert (shared.value_depth.item(), shared.tiles.item(), shared.query_depth.item()) == (256, 2, 576)
    few = tiles_of(4, **sizes, heads=32, value_dim=512)
    assert (few.value_depth.item(), few.tiles.item()) == (512, 1)
    narrow = tiles_of(4, **sizes, heads=64, value_dim=256)
    assert (narrow.value_depth.item(), narrow.tiles.item()) == (256, 1)
    assert tiles_of(3, **sizes, heads=64, value_dim=512).value_depth.item() == 512


def test_parts_are_summed_by_the_rows_that_a_tile_holds_on_blackwell(tiles_of):
    """One token of 4 heads has 4 outputs to sum at a time, 64 have 128 of a tile; other generations sum 8."""
    sizes = {"keys": 65_536, "heads": 32, "kv_heads": 8}
    found = [tiles_of(4, queries=queries, **sizes).combined_rows.item() for queries in (1, 64)]
    assert found == [4, 128]
    assert tiles_of(3, queries=1, **sizes).combined_rows.item() == 8


def test_flash_attention_2_fills_two_slots_a_core(tiles_of):
    """8 tiles on 200 slots: 21 parts fill 0.84 of them, 22 parts 0.88, and 25, the best, all."""
    sizes = {"batch": 1, "queries": 1, "keys": 8192, "heads": 32, "kv_heads": 8}
    assert tiles_of(2, **sizes).split.item() == 22


def test_the_smallest_number_of_parts_that_is_nearly_the_best_is_taken():
    """45 tiles on 100 slots: 2 parts fill 0.9 of a round, 11 parts 0.99 of five, 20 parts all of nine."""
    tiles, blocks, slots = (np.array([value]) for value in (45.0, 64.0, 100.0))
    assert fullest_split(tiles, blocks, slots, np.ones(1, dtype=np.bool_), most=128).tolist() == [2]


def test_parts_on_pages_are_whole_blocks_and_equal():
    """7 tiles of 64 blocks on 95 cores, a tenth more: a share of 5.2 blocks is 6, in 11 parts.

    10 blocks in at most 6 parts are 2 for each, so 5 parts.
    """

    def split(tiles, blocks, slots, limit):
        return equal_split(*(np.array([float(value)]) for value in (tiles, blocks, slots, limit))).item()

    assert split(7, 64, 95, 128) == 11
    assert split(1, 10, 100, 6) == 5


def test_flash_attention_3_splits_more_than_four_blocks_without_a_mask(tiles_of):
    """4 heads of 64: 768 positions are 4 tiles and 4 blocks of 192 each; 960 are 5, where 5 parts fill the most.

    44 tiles of 128 rows on 1,000 cores: 22 parts fill 0.968, 19 parts 0.836, which is 0.85 of it, 18 parts 0.792.
    """
    short, longer = (
        tiles_of(3, batch=1, heads=4, head_dim=64, queries=length, keys=length).split.item() for length in (768, 960)
    )
    assert (short, longer) == (1, 5)
    assert tiles_of(3, cores=1000, batch=1, heads=1, queries=5632, keys=5632).split.item() == 19


def test_flash_attention_4_splits_into_as_many_parts_as_fit_the_cores(tiles_of):
    """100 cores: 8 tiles of 256 rows leave room for 12 parts; 4 tiles for 25, but there are 8 blocks of 128 keys."""
    long, short = (tiles_of(4, batch=1, heads=1, queries=length, keys=length).split.item() for length in (2048, 1024))
    assert (long, short) == (12, 8)


def test_decoding_on_blackwell_splits_what_a_window_reaches():
    """Parts of two blocks of 256 keys: 4,097 keys are 9; a window of 512 may begin within a block, so it is two."""
    tiles, block, cores = np.array([8.0]), np.array([256.0]), np.array([148.0])
    for keys, window, parts in ((4096, 0, 8), (4097, 0, 9), (4097, 512, 2), (4097, 257, 1)):
        assert decoding_split(tiles, np.array([float(keys)]), np.array([float(window)]), block, cores).item() == parts


def test_tiles_fill_both_sides_of_a_systolic_array_twice(tiles_of):
    """An array of 128 rows and 256 columns: 256 rows of queries, and 512 keys."""
    assert shape(tiles_of(0, matrix_array=(128, 256))) == (256, 512)
