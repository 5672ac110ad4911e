"""Readers of the package's tables of kernels without a matrix product: streams, rows, top-k and collectives.

The package keeps them as parts of other operations: of 8-bit products that quantize their activations, of sparse
attention that picks its keys, of residual streams that are mixed. Each of these parts is one kernel.
"""

from collections.abc import Callable

import pandas as pd

_QUANTIZED: dict[str, str | int] = {
    "kind": "pointwise",
    "dtype": "bfloat16",
    "output_dtype": "float8_e4m3fn",
    "weight_copies": 1,
}

NCCL_DTYPES = {"bfloat16": "half", "int8": "int8"}
_BLOCK_COLUMNS = 2048  # of a row, that a block of threads takes at a time
_MOST_CORES = 148  # of the chips that were measured


def elementwise(table: pd.DataFrame, _dtype: str) -> pd.DataFrame:
    """Every bfloat16 number times one scale, to 8 bits (`scale_matrix`); five calls on the same tensor in a graph.

    TensorRT-LLM's kernel goes along the elements. vLLM's gives each row a block of threads: rows that are too short for
    one, or long and too few for the chip's cores, are no streams and are left out.
    """
    by_rows = table["framework"].str.lower() == "vllm"
    is_stream = (table["k"] >= _BLOCK_COLUMNS) & ((table["k"] <= 2 * _BLOCK_COLUMNS) | (table["m"] > _MOST_CORES))
    rows = table[~by_rows | is_stream]
    return rows.assign(**_QUANTIZED, name="mul", elements=rows["m"] * rows["k"])


def row_scale(table: pd.DataFrame, _dtype: str) -> pd.DataFrame:
    """One block of threads a row: its largest number, then the row again, scaled to 8 bits, as a norm does.

    The package gives the time beyond that of a fixed scale (`computescale_perf`, cut at zero), measured on the same
    rows: the sum is what was measured. Rows that were cut are left out.
    """
    rows = table[table["latency_joined"] > 0]
    names = {"m": "rows", "k": "columns"}
    values: dict[str, str | int] = {**_QUANTIZED, "kind": "norm"}
    return rows.rename(columns=names).assign(**values, latency=rows["latency"] + rows["latency_joined"])


def mixing(table: pd.DataFrame, _dtype: str) -> pd.DataFrame:
    """What a layer gave is mixed into several residual streams (`mhc_module`, `post`); a row holds two calls.

    The streams are read and written, and one more tensor of a stream's size is read.
    """
    rows = table[table["op_name"] == "post"]
    return rows.assign(
        kind="pointwise",
        dtype="bfloat16",
        name="addcmul",
        elements=rows["num_tokens"] * rows["hc_mult"] * rows["hidden_size"],
        inputs=1.0 + 1.0 / rows["hc_mult"],
        weight_copies=1,
        latency=rows["latency"] / rows["num_sites"],
    )


_PICKED = 2048  # keys that the indexer of GLM-5 keeps, fixed in the measured kernel
_LEAST_PAST = 8  # times the new positions: rows are then alike


def topk(table: pd.DataFrame, _dtype: str) -> pd.DataFrame:
    """The 2,048 largest of every row of float32 scores, with their places (`fast_topk`: a radix select, a block a row).

    Of the package's two kinds of scores those with clear winners are taken. The rows of a call grow by one key each;
    calls of many new positions on a short past are left out, as the package does not say how their rows were cut.
    """
    rows = table[(table["score_mode"] == "top_last") & (table["latency"] > 0)]
    rows = rows[(rows["step"] >= _PICKED) & (rows["step"] >= _LEAST_PAST * rows["isl"])]
    return rows.assign(
        kind="topk",
        dtype="float32",
        rows=rows["batch_size"] * rows["isl"],
        columns=rows["step"] + (rows["isl"] + 1) // 2,
        k=_PICKED,
        weight_copies=1,
    )


def collective(name: str) -> Callable[[pd.DataFrame, str], pd.DataFrame]:
    """A reader of the rows of one collective; the package counts elements."""

    def read(table: pd.DataFrame, dtype: str) -> pd.DataFrame:
        rows = table[(table["op_name"] == name) & (table["nccl_dtype"] == NCCL_DTYPES[dtype])]
        named = rows.rename(columns={"num_gpus": "ranks", "message_size": "elements"})
        return named.assign(kind="collective", name=name, dtype=dtype)

    return read
