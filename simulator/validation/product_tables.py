"""Readers of the package's tables of products: GEMM, attention and layers of experts, and how each was measured."""

import re

import numpy as np
import pandas as pd

from profiler.op import DTYPE_BITS
from roofline.chip import Chip
from simulator.conditions import filling_copies
from simulator.errors import SimulationError
from simulator.op_columns import FloatArray
from simulator.validation.tuning_files import ran_untuned

_FLOAT8: dict[str, str | int] = {"dtype": "float8_e4m3fn", "quantizes_input": 1}
GEMM_DTYPES: dict[str, tuple[str, dict[str, str | int]]] = {
    "bfloat16": ("bfloat16", {"dtype": "bfloat16"}),
    "float8_e4m3fn": ("fp8", _FLOAT8),
    "float8_block": ("fp8_block", _FLOAT8),
    "float4_e2m1fn": ("nvfp4", {"dtype": "float4_e2m1fn", "quantizes_input": 1}),
    "int8": ("sq", {"dtype": "int8", "quantizes_input": 1}),
    "int8_weights": ("int8_wo", {"dtype": "bfloat16", "weight_dtype": "int8"}),
    "int4_weights": ("int4_wo", {"dtype": "bfloat16", "weight_dtype": "int4"}),
}
ATTENTION_DTYPES: dict[str, tuple[tuple[str, str], dict[str, str | int]]] = {
    "bfloat16": (("bfloat16", "bfloat16"), {"dtype": "bfloat16"}),
    "float8_cache": (("bfloat16", "fp8"), {"dtype": "bfloat16", "kv_dtype": "float8_e4m3fn"}),
    "float8_e4m3fn": (("fp8", "fp8"), {"dtype": "float8_e4m3fn", "output_dtype": "bfloat16"}),
}
_ATTENTION_COLUMNS = {"batch_size": "batch", "num_heads": "heads", "num_key_value_heads": "kv_heads"}
ATTENTION_KEYS = ("batch_size", "isl", "num_heads", "num_key_value_heads", "head_dim", "window_size")


def gemm(table: pd.DataFrame, dtype: str) -> pd.DataFrame:
    """Rows of one type of `GEMM_DTYPES`."""
    name, values = GEMM_DTYPES[dtype]
    rows = table[table["gemm_dtype"] == name]
    return rows.assign(kind="gemm", **values)


def weight_copies(rows: pd.DataFrame, chip: Chip, backend: str, version: str) -> FloatArray:
    """How many copies of its weights each product of a table went through in turn.

    As the package's collectors have it (ai-dynamo/aiconfigurator, collector/*/collect_gemm.py): six, or five for
    TensorRT-LLM; since its version 1.3 only as many as fill the last cache.

    Raises:
        SimulationError: the version of TensorRT-LLM is none.
    """
    if backend != "trtllm":
        return np.full(len(rows), 6.0)
    release = re.match(r"(\d+)\.(\d+)", version)
    if release is None:
        raise SimulationError(f"version of trtllm must begin as 1.3 does, got {version!r}")
    if tuple(map(int, release.groups())) < (1, 3):
        return np.full(len(rows), 5.0)
    weight_bytes = rows["n"] * rows["k"] * DTYPE_BITS[str(rows["dtype"].iloc[0])] / 8
    return filling_copies(weight_bytes.to_numpy(dtype=np.float64), chip)


def prefill(table: pd.DataFrame, dtype: str) -> pd.DataFrame:
    """Rows of causal attention over whole sequences."""
    rows = _attention(table, dtype)
    return rows.assign(queries=rows["isl"], keys=rows["isl"], causal=1, stores_kv=1)


def decode(table: pd.DataFrame, dtype: str) -> pd.DataFrame:
    """Rows of attention of one query on a cache."""
    rows = _attention(table, dtype)
    return rows.assign(queries=1, keys=rows["step"] + 1, causal=1, stores_kv=1)


def block(table: pd.DataFrame, dtype: str) -> pd.DataFrame:
    """Rows of decoding as the blocks of queries that their kernels take no other way.

    FlashAttention-3 and TensorRT-LLM's kernels on Blackwell pack queries and the heads that share keys into the rows
    of a tile: one query of g heads is what g queries of one head are, where no mask hides keys of the block. Each block
    of these rows stores one token. Where there are no more keys than queries there is no cache.
    """
    rows = decode(table, dtype)
    shared = rows["heads"] // rows["kv_heads"]
    chosen = (shared > 1) & (rows["window"] == 0) & (rows["keys"] > shared)
    rows = rows.assign(queries=shared, heads=rows["kv_heads"], causal=0, stores_kv=1.0 / shared)
    return rows[chosen]


def _attention(table: pd.DataFrame, dtype: str) -> pd.DataFrame:
    types, values = ATTENTION_DTYPES[dtype]
    rows = _one_kernel(table[(table["attn_dtype"] == types[0]) & (table["kv_cache_dtype"] == types[1])])
    if "window_size" not in rows:
        rows = rows.assign(window_size=0)
    # One set of operands, replayed: what fits the last shared cache is found there.
    return rows.rename(columns=_ATTENTION_COLUMNS).assign(
        kind="attention", window=rows["window_size"], weight_copies=1, **values
    )


def _one_kernel(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of the kernel that most of them ran: others differ by 12-47 %, and no constant stands for all."""
    return rows[rows["kernel_source"] == rows["kernel_source"].mode().iloc[0]] if len(rows) else rows


def bidirectional(table: pd.DataFrame, _dtype: str) -> pd.DataFrame:
    """Rows of attention without a mask."""
    rows = _one_kernel(table).rename(columns=_ATTENTION_COLUMNS)
    return rows.assign(
        kind="attention", dtype="bfloat16", queries=rows["isl"], keys=rows["isl"], causal=0, weight_copies=1
    )


_SKEW = {"balanced": 0.0, "power_law_1.01": 1.01, "power_law_1.2": 1.2}


def moe(table: pd.DataFrame, dtype: str) -> pd.DataFrame:
    """One rank's layers of experts; tensor parallel ranks split the inner dimension, expert parallel ones the experts.

    One set of weights, replayed: what fits the last shared cache is found there.
    """
    rows = table[table["moe_dtype"] == GEMM_DTYPES[dtype][0]]
    rows = rows.assign(untuned=ran_untuned(rows).astype(int))
    names = {"num_tokens": "tokens", "hidden_size": "hidden", "num_experts": "experts", "moe_ep_size": "expert_ranks"}
    return rows.rename(columns=names).assign(
        kind="moe",
        dtype=GEMM_DTYPES[dtype][1]["dtype"],
        inter=rows["inter_size"] / rows["moe_tp_size"],
        skew=rows["distribution"].map(_SKEW),
        gated=(~rows["kernel_source"].str.contains("nongated")).astype(int),
        weight_copies=1,
    )
