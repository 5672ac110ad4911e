"""Ops from tables: the same FLOPs and bytes as the ops that capture records, and clear errors."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn import functional

from profiler.capture import capture
from simulator.errors import SimulationError
from simulator.op_columns import DTYPES, OpColumns
from simulator.op_frame import doubtful_rows, mistaken_columns, ops_from_frame

META = {"device": "meta", "dtype": torch.bfloat16}
AMOUNTS = ("read_bytes", "write_bytes", "matrix_flops", "required_matrix_flops", "vector_flops", "special_flops")


def captured(run):
    with capture() as recording:
        run()
    return OpColumns.from_ops(recording.trace.ops)


@pytest.mark.parametrize(
    ("row", "run"),
    [
        ({"kind": "gemm", "m": 5, "n": 7, "k": 11}, lambda: torch.empty(5, 11, **META) @ torch.empty(11, 7, **META)),
        (
            {"kind": "attention", "batch": 2, "queries": 9, "keys": 9, "heads": 4, "head_dim": 64, "causal": True},
            lambda: functional.scaled_dot_product_attention(*[torch.empty(2, 4, 9, 64, **META)] * 3, is_causal=True),
        ),
        (
            {"kind": "attention", "batch": 1, "queries": 3, "keys": 20, "heads": 8, "kv_heads": 2, "head_dim": 16},
            lambda: functional.scaled_dot_product_attention(
                torch.empty(1, 8, 3, 16, **META), *[torch.empty(1, 2, 20, 16, **META)] * 2, enable_gqa=True
            ),
        ),
        ({"kind": "softmax", "rows": 3, "columns": 50}, lambda: torch.empty(3, 50, **META).softmax(-1)),
        ({"kind": "sort", "rows": 3, "columns": 50}, lambda: torch.empty(3, 50, **META).sort()),
        ({"kind": "topk", "rows": 3, "columns": 50, "k": 4}, lambda: torch.empty(3, 50, **META).topk(4)),
        ({"kind": "pointwise", "name": "silu", "elements": 99}, lambda: functional.silu(torch.empty(99, **META))),
        ({"kind": "pointwise", "elements": 99, "inputs": 2}, lambda: torch.empty(99, **META) + torch.empty(99, **META)),
        (  # the second input is read once for four rows
            {"kind": "pointwise", "elements": 96, "inputs": 1.25},
            lambda: torch.empty(4, 24, **META) + torch.empty(24, **META),
        ),
        ({"kind": "copy", "elements": 99}, lambda: torch.empty(99, **META).clone()),
    ],
)
def test_a_row_costs_what_the_captured_op_costs(row, run):
    ours = ops_from_frame(pd.DataFrame([{"dtype": "bfloat16", **row}]))
    theirs = captured(run)
    assert {name: getattr(ours, name).item() for name in AMOUNTS} == {
        name: getattr(theirs, name).item() for name in AMOUNTS
    }


def test_a_causal_mask_with_a_cache_is_aligned_at_the_end():
    row = {"kind": "attention", "dtype": "bfloat16", "batch": 1, "heads": 1, "head_dim": 1, "causal": 1}
    ops = ops_from_frame(pd.DataFrame([{**row, "queries": 3, "keys": 5}, {**row, "queries": 1, "keys": 5}]))
    assert ops.required_matrix_flops[:, 0].tolist() == [4 * (3 + 4 + 5), 4 * 5]


SHAPES = [(6, 6, 3), (2, 9, 4), (5, 8, 4), (1, 9, 3), (4, 4, 9), (7, 3, 2), (9, 4, 6), (8, 5, 0), (3, 8, 1)]


@pytest.mark.parametrize("causal", [0, 1])
@pytest.mark.parametrize(("queries", "keys", "window"), SHAPES)
def test_mask_and_window_leave_the_pairs_that_counting_leaves(queries, keys, window, causal):
    row = {"kind": "attention", "dtype": "float32", "batch": 1, "heads": 1, "head_dim": 1, "causal": causal}
    ops = ops_from_frame(pd.DataFrame([{**row, "queries": queries, "keys": keys, "window": window}]))
    place = np.arange(queries)[:, None] + keys - queries
    key = np.arange(keys)
    seen = (key <= place if causal else True) & (key > place - window if window else True) & np.ones_like(place + key)
    assert ops.required_matrix_flops.item() == 4 * seen.sum()


def test_narrow_weights_are_read_narrow_and_16_bits_are_written():
    frame = pd.DataFrame([{"kind": "gemm", "dtype": "bfloat16", "weight_dtype": "int4", "m": 2, "n": 4, "k": 8}])
    ops = ops_from_frame(frame)
    assert (ops.read_bytes.item(), ops.write_bytes.item()) == (2 * 8 * 2 + 4 * 8 / 2, 2 * 4 * 2)
    assert ops_from_frame(frame.assign(dtype="float8_e4m3fn", weight_dtype=None)).write_bytes.item() == 16


def test_kinds_may_be_mixed_in_any_order():
    gemm = {"kind": "gemm", "dtype": "bfloat16", "m": 2, "n": 4, "k": 8}
    copy = {"kind": "copy", "dtype": "float32", "elements": 3}
    mixed = ops_from_frame(pd.DataFrame([copy, gemm, copy]))
    alone = ops_from_frame(pd.DataFrame([gemm]))
    assert mixed.read_bytes[:, 0].tolist() == [12, alone.read_bytes.item(), 12]
    np.testing.assert_array_equal(mixed.take(np.array([1])).sizes, alone.sizes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "gem"}, "kind must be one of gemm, .* got 'gem' in row 1"),
        ({"dtype": "bf17"}, "dtype must be one of .* got 'bf17' in row 1"),
        ({"dtype": None}, "dtype is empty in row 1"),
        ({"m": -1}, "m must be a number >= 1, got -1 in row 1"),
        ({"m": "many"}, "m must be a number >= 1, got 'many' in row 1"),
        ({"m": float("inf")}, "m must be a number >= 1, got inf in row 1"),
        ({"m": 1.5}, "m must be a whole number of at most 1e.12, got 1.5 in row 1"),
        ({"m": 1e30}, "m must be a whole number of at most 1e.12, got 1e.30 in row 1"),
        ({"m": None}, "m must be a number >= 1, got nothing in row 1"),
    ],
)
def test_a_wrong_cell_is_one_line(change, message):
    row = {"kind": "gemm", "dtype": "bfloat16", "m": 2, "n": 4, "k": 8}
    with pytest.raises(SimulationError, match=message):
        ops_from_frame(pd.DataFrame([{**row, **change}]))


@pytest.mark.parametrize(
    ("short", "full"), [("bf16", "bfloat16"), ("torch.float16", "float16"), ("FP8", "float8_e4m3fn"), ("Int8", "int8")]
)
def test_short_names_of_types_are_those_in_full(short, full):
    row = {"kind": "gemm", "m": 2, "n": 4, "k": 8, "output_dtype": "fp32"}
    said, meant = (ops_from_frame(pd.DataFrame([{**row, "dtype": name}])) for name in (short, full))
    assert said.dtype.tolist() == meant.dtype.tolist() == [[DTYPES.index(full)]]
    assert said.write_bytes.item() == 2 * 4 * 4


@pytest.mark.parametrize(
    ("columns", "hint"),
    [
        (["kind;dtype;m"], "a CSV file separates its cells by commas"),
        (["Kind", "DType", "m"], "names are in small letters"),
    ],
)
def test_columns_that_are_not_found_come_with_a_hint(columns, hint):
    with pytest.raises(SimulationError, match=rf"no column 'kind'; its columns are {columns[0]}.*; {hint}$"):
        ops_from_frame(pd.DataFrame(columns=columns))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            {"kind": "attention", "batch": 1, "queries": 2, "keys": 3, "heads": 4, "head_dim": 64, "kv_heads": 3},
            "heads must be a multiple of kv_heads, got heads 4 and kv_heads 3",
        ),
        (
            {"kind": "attention", "batch": 1, "queries": 2, "keys": 3, "heads": 4, "head_dim": 64, "kv_heads": 0},
            "kv_heads must be at least 1, got kv_heads 0",
        ),
        ({"kind": "topk", "rows": 2, "columns": 10, "k": 11}, "k of a topk must be at most columns, got k 11"),
        ({"kind": "collective", "elements": 9, "ranks": 2, "name": "gather"}, "name of a collective .* got 'gather'$"),
    ],
)
def test_sizes_that_do_not_fit_one_another_are_one_line(row, message):
    with pytest.raises(SimulationError, match=message):
        ops_from_frame(pd.DataFrame([{**row, "dtype": "bfloat16"}]))


def test_a_column_of_ones_own_is_not_taken_for_a_misspelled_one():
    assert mistaken_columns(pd.DataFrame(columns=["kind", "dtype", "notes", "layer", "count"])) == []
    hint = "column 'kv_head' is not read; did you mean 'kv_heads'?"
    assert mistaken_columns(pd.DataFrame(columns=["kv_head"])) == [hint]


@pytest.mark.parametrize("names", [["m", "m", "n", "k"], ["m", "n", "k", "k.1"]])
def test_a_column_that_stands_twice_is_refused(names):
    frame = pd.DataFrame([["gemm", "bfloat16", *range(1, len(names) + 1)]], columns=["kind", "dtype", *names])
    with pytest.raises(SimulationError, match="the table has two columns"):
        ops_from_frame(frame)


def test_a_column_in_capital_letters_is_told_from_a_missing_one():
    with pytest.raises(SimulationError, match=r"no column 'k', which gemm needs \(with m, n, k\); it has 'K'"):
        ops_from_frame(pd.DataFrame([{"kind": "gemm", "dtype": "bfloat16", "m": 2, "n": 4, "K": 5}]))


def test_rows_whose_mask_hides_every_key_of_some_queries_are_named():
    sizes = {"kind": "attention", "dtype": "bfloat16", "batch": 1, "heads": 1, "head_dim": 64}
    shapes = ((5, 5, 1), (9, 5, 0), (9, 5, None), (7, 5, 1), (6, 1, 1))
    rows = [{**sizes, "queries": queries, "keys": keys, "causal": causal} for queries, keys, causal in shapes]
    (told,) = doubtful_rows(pd.DataFrame(rows))
    assert told.startswith("row 4: a causal mask is aligned at the end, so the first 2 of 7 queries")
    assert told.endswith("; so it is in 1 more")
    assert doubtful_rows(pd.DataFrame(rows[:3])) == []


def test_a_missing_column_is_named():
    with pytest.raises(SimulationError, match="no column 'k', which gemm needs"):
        ops_from_frame(pd.DataFrame([{"kind": "gemm", "dtype": "bfloat16", "m": 2, "n": 4}]))
