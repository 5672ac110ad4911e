"""Tables of the package `aiconfigurator-core` (Apache-2.0): kernel latencies measured on real GPUs, as `MeasuredTable`.

Its latencies are means of CUDA-graph replays without an L2 flush; a GEMM goes through copies of its weights in turn.
Rows of narrow types hold the kernel that quantizes the activations; attention rows hold the storing of keys and values.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
from pyarrow import parquet

from profiler.op import DTYPE_BITS
from roofline.chip import Chip
from simulator.errors import SimulationError
from simulator.op_columns import FloatArray
from simulator.validation.sequence_tables import delta_rule, mamba2
from simulator.validation.stream_tables import elementwise, mixing, row_scale, topk
from simulator.validation.tables import MeasuredTable, measured_table
from simulator.validation.tuning_files import ran_untuned

SYSTEMS: dict[str, str] = {
    "a100-sxm-80gb": "a100_sxm",
    "h100-sxm": "h100_sxm",
    "h200-sxm": "h200_sxm",
    "b200-sxm": "b200_sxm",
    "l40s": "l40s",
}
BACKENDS: tuple[str, ...] = ("trtllm", "vllm", "sglang", "nccl")

_FLOAT8: dict[str, str | int] = {"dtype": "float8_e4m3fn", "quantizes_input": 1}
_GEMM_DTYPES: dict[str, tuple[str, dict[str, str | int]]] = {
    "bfloat16": ("bfloat16", {"dtype": "bfloat16"}),
    "float8_e4m3fn": ("fp8", _FLOAT8),
    "float8_block": ("fp8_block", _FLOAT8),
    "float4_e2m1fn": ("nvfp4", {"dtype": "float4_e2m1fn", "quantizes_input": 1}),
    "int8": ("sq", {"dtype": "int8", "quantizes_input": 1}),
    "int8_weights": ("int8_wo", {"dtype": "bfloat16", "weight_dtype": "int8"}),
    "int4_weights": ("int4_wo", {"dtype": "bfloat16", "weight_dtype": "int4"}),
}
_ATTENTION_DTYPES: dict[str, tuple[tuple[str, str], dict[str, str | int]]] = {
    "bfloat16": (("bfloat16", "bfloat16"), {"dtype": "bfloat16"}),
    "float8_cache": (("bfloat16", "fp8"), {"dtype": "bfloat16", "kv_dtype": "float8_e4m3fn"}),
    "float8_e4m3fn": (("fp8", "fp8"), {"dtype": "float8_e4m3fn", "output_dtype": "bfloat16"}),
}
_ATTENTION_COLUMNS = {"batch_size": "batch", "num_heads": "heads", "num_key_value_heads": "kv_heads"}
_ATTENTION_KEYS = ("batch_size", "isl", "num_heads", "num_key_value_heads", "head_dim", "window_size")
_NCCL_DTYPES = {"bfloat16": "half", "int8": "int8"}
Reader = Callable[[pd.DataFrame, str], pd.DataFrame]


@dataclass(frozen=True, slots=True, kw_only=True)
class TableKind:
    """Where the tables of one family of kernels are, and how they read.

    Attributes:
        folder: below a system's folder.
        file: stem of the Parquet file.
        read: from the package's columns and a dtype to those of `ops_from_frame`, with `measured_s`.
        dtypes: what can be asked for.
        keys: columns of the package's table that decide which rows are held out.
        takes_largest: take the version with the most rows instead of the newest, which holds a selection only.
        backends: whose tables hold this kernel, empty for all.
        joined: stem of a second file with the same keys, whose latency comes as `latency_joined`.
        fitted: the backend whose rows constants are fitted to, empty where no fit looks at this family; the others are
            scored with the same constants.
    """

    folder: str
    file: str
    read: Reader
    dtypes: tuple[str, ...]
    keys: tuple[str, ...]
    fitted: str
    takes_largest: bool = False
    backends: tuple[str, ...] = ()
    joined: str = ""


def _gemm(table: pd.DataFrame, dtype: str) -> pd.DataFrame:
    name, values = _GEMM_DTYPES[dtype]
    rows = table[table["gemm_dtype"] == name]
    return rows.assign(kind="gemm", **values)


def _weight_copies(rows: pd.DataFrame, chip: Chip, backend: str, version: str) -> FloatArray:
    """How many copies of its weights each product of a table went through in turn.

    As the package's collectors have it (ai-dynamo/aiconfigurator, collector/*/collect_gemm.py): six, or five for
    TensorRT-LLM; since its version 1.3 only as many as fill the last cache.
    """
    if backend != "trtllm":
        return np.full(len(rows), 6.0)
    if [int(part) for part in version.split(".")[:2]] < [1, 3]:
        return np.full(len(rows), 5.0)
    weight_bytes = rows["n"] * rows["k"] * DTYPE_BITS[str(rows["dtype"].iloc[0])] / 8
    filling: FloatArray = np.ceil(chip.memories[-2].capacity_bytes / weight_bytes).to_numpy()
    return np.clip(filling, 1.0, 5.0)


def _prefill(table: pd.DataFrame, dtype: str) -> pd.DataFrame:
    rows = _attention(table, dtype)
    return rows.assign(queries=rows["isl"], keys=rows["isl"], causal=1, stores_kv=1)


def _decode(table: pd.DataFrame, dtype: str) -> pd.DataFrame:
    rows = _attention(table, dtype)
    return rows.assign(queries=1, keys=rows["step"] + 1, causal=1, stores_kv=1)


def _attention(table: pd.DataFrame, dtype: str) -> pd.DataFrame:
    types, values = _ATTENTION_DTYPES[dtype]
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


def _bidirectional(table: pd.DataFrame, _dtype: str) -> pd.DataFrame:
    rows = _one_kernel(table).rename(columns=_ATTENTION_COLUMNS)
    return rows.assign(
        kind="attention", dtype="bfloat16", queries=rows["isl"], keys=rows["isl"], causal=0, weight_copies=1
    )


_SKEW = {"balanced": 0.0, "power_law_1.01": 1.01, "power_law_1.2": 1.2}


def _moe(table: pd.DataFrame, dtype: str) -> pd.DataFrame:
    """One rank's layers of experts; tensor parallel ranks split the inner dimension, expert parallel ones the experts.

    One set of weights, replayed: what fits the last shared cache is found there.
    """
    rows = table[table["moe_dtype"] == _GEMM_DTYPES[dtype][0]]
    rows = rows.assign(untuned=ran_untuned(rows).astype(int))
    names = {"num_tokens": "tokens", "hidden_size": "hidden", "num_experts": "experts", "moe_ep_size": "expert_ranks"}
    return rows.rename(columns=names).assign(
        kind="moe",
        dtype=_GEMM_DTYPES[dtype][1]["dtype"],
        inter=rows["inter_size"] / rows["moe_tp_size"],
        skew=rows["distribution"].map(_SKEW),
        gated=(~rows["kernel_source"].str.contains("nongated")).astype(int),
        weight_copies=1,
    )


def _collective(name: str) -> Reader:
    """Rows of one collective; the package counts elements."""

    def read(table: pd.DataFrame, dtype: str) -> pd.DataFrame:
        rows = table[(table["op_name"] == name) & (table["nccl_dtype"] == _NCCL_DTYPES[dtype])]
        named = rows.rename(columns={"num_gpus": "ranks", "message_size": "elements"})
        return named.assign(kind="collective", name=name, dtype=dtype)

    return read


TABLES: dict[str, TableKind] = {
    "gemm": TableKind(
        folder="gemm",
        file="gemm_perf",
        read=_gemm,
        dtypes=tuple(_GEMM_DTYPES),
        keys=("m", "n", "k"),
        fitted="trtllm",  # its weights are random; vLLM's bf16 weights are not initialized, which is faster
    ),
    "moe": TableKind(
        folder="moe",
        file="moe_perf",
        read=_moe,
        dtypes=("bfloat16", "float8_e4m3fn"),
        keys=(
            *("num_tokens", "hidden_size", "inter_size", "topk", "num_experts"),
            *("moe_tp_size", "moe_ep_size", "distribution"),
        ),
        fitted="trtllm",
        takes_largest=True,
    ),
    "attention_prefill": TableKind(
        folder="attention",
        file="context_attention_perf",
        read=_prefill,
        dtypes=tuple(_ATTENTION_DTYPES),
        keys=_ATTENTION_KEYS,
        fitted="vllm",
    ),
    "attention_decode": TableKind(
        folder="attention",
        file="generation_attention_perf",
        read=_decode,
        dtypes=("bfloat16", "float8_cache"),
        keys=(*_ATTENTION_KEYS, "step"),
        fitted="vllm",
    ),
    "attention_bidirectional": TableKind(
        folder="encoder_attention",
        file="encoder_attention_perf",
        read=_bidirectional,
        dtypes=("bfloat16",),
        keys=("batch_size", "isl", "num_heads", "head_dim"),
        fitted="vllm",
    ),
    "mamba2": TableKind(
        folder="linear_attention",
        file="mamba2_perf",
        read=mamba2,
        dtypes=("bfloat16",),
        keys=(
            *("phase", "batch_size", "seq_len", "d_model", "d_state", "d_conv"),
            *("nheads", "head_dim", "n_groups", "chunk_size"),
        ),
        fitted="trtllm",
    ),
    "delta_rule": TableKind(
        folder="linear_attention",
        file="gdn_perf",
        read=delta_rule,
        dtypes=("bfloat16",),
        keys=(
            *("phase", "batch_size", "seq_len", "d_model", "d_conv"),
            *("num_k_heads", "head_k_dim", "num_v_heads", "head_v_dim"),
        ),
        fitted="trtllm",
    ),
    "elementwise": TableKind(
        folder="quantize",
        file="scale_matrix_perf",
        read=elementwise,
        dtypes=("bfloat16",),
        keys=("m", "k"),
        fitted="vllm",  # TensorRT-LLM's kernel reaches two thirds of the bandwidth of a B200
        backends=("trtllm", "vllm"),  # SGLang's rows are four kernels of PyTorch
    ),
    "mixing": TableKind(
        folder="mhc",
        file="mhc_module_perf",
        read=mixing,
        dtypes=("bfloat16",),
        keys=("num_tokens", "hc_mult", "hidden_size"),
        fitted="",
    ),
    "row_scale": TableKind(
        folder="quantize",
        file="scale_matrix_perf",
        read=row_scale,
        dtypes=("bfloat16",),
        keys=("m", "k"),
        fitted="vllm",
        backends=("vllm",),  # the others scale a whole tensor, in several kernels
        joined="computescale_perf",
    ),
    "topk": TableKind(
        folder="sparse_attention",
        file="glm5_topk_module_perf",
        read=topk,
        dtypes=("float32",),
        keys=("batch_size", "isl", "step"),
        fitted="sglang",
    ),
    **{
        name: TableKind(
            folder="comm",
            file="nccl_perf",
            read=_collective(name),
            dtypes=tuple(_NCCL_DTYPES),
            keys=("nccl_dtype", "num_gpus", "message_size"),
            fitted="nccl" if name in ("all_reduce", "alltoall") else "",
        )
        for name in ("all_reduce", "all_gather", "reduce_scatter", "alltoall")
    },
}


def package_folder() -> Path | None:
    """Where the package keeps its tables; None where it is not installed."""
    spec = find_spec("aiconfigurator_core")
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0]) / "systems" / "data"


def silicon_backends(chip: str, op: str) -> tuple[str, ...]:
    """Backends that the package has tables of, for a family of kernels on a chip."""
    kind, folder = table_kind(op), _folder(chip, op)
    allowed = kind.backends or BACKENDS
    return tuple(each for each in BACKENDS if each in allowed and _versions(folder / each, kind.file))


def table_kind(op: str) -> TableKind:
    """What is known of the tables of a family of kernels.

    Raises:
        SimulationError: there is no such family.
    """
    if op not in TABLES:
        raise SimulationError(f"op must be one of {', '.join(TABLES)}, got {op!r}")
    return TABLES[op]


def silicon_table(chip: Chip, op: str, dtype: str, backend: str) -> MeasuredTable:
    """The newest table of one family, dtype and backend, measured on this chip.

    Raises:
        SimulationError: the package is not installed, or has no such table.
    """
    kind = table_kind(op)
    if dtype not in kind.dtypes:
        raise SimulationError(f"dtype of {op} must be one of {', '.join(kind.dtypes)}, got {dtype!r}")
    versions = _versions(_folder(chip.name, op) / backend, kind.file)
    if not versions or backend not in (kind.backends or (backend,)):
        there = ", ".join(silicon_backends(chip.name, op)) or "none"
        raise SimulationError(f"no measured {op} of backend {backend!r} on {chip.name}; backends with a table: {there}")
    newest = versions[-1]
    if kind.takes_largest:
        newest = max(versions, key=lambda folder: parquet.read_metadata(folder / f"{kind.file}.parquet").num_rows)
    path = newest / f"{kind.file}.parquet"
    frame = pd.read_parquet(path)
    if kind.joined:
        other = pd.read_parquet(newest / f"{kind.joined}.parquet")
        frame = frame.merge(other[[*kind.keys, "latency"]], on=list(kind.keys), suffixes=("", "_joined"))
    if "window_size" not in frame and "window_size" in kind.keys:
        frame = frame.assign(window_size=0)
    frame = frame.assign(**{f"key_{key}": frame[key] for key in kind.keys})
    rows = kind.read(frame, dtype)
    if rows.empty:
        raise SimulationError(f"no rows of dtype {dtype} in the {op} table of {backend} on {chip.name}")
    rows = rows.assign(measured_s=rows["latency"] * 1e-3)
    if op == "gemm":
        rows = rows.assign(weight_copies=_weight_copies(rows, chip, backend, newest.name))
    return measured_table(
        rows[rows["measured_s"] > 0],
        chip=chip,
        op=op,
        dtype=dtype,
        backend=f"{backend} {newest.name}",
        keys=[f"key_{key}" for key in kind.keys],
        source=f"aiconfigurator-core {'/'.join(path.parts[-5:])}",
    )


def _folder(chip: str, op: str) -> Path:
    root = package_folder()
    if root is None:
        raise SimulationError(
            "measured tables come with the package aiconfigurator-core, which is not installed: "
            "pip install 'roofscape[silicon]', or give a table of your own with --table"
        )
    if chip not in SYSTEMS:
        raise SimulationError(f"no measured tables for chip {chip!r}; there are some for {', '.join(SYSTEMS)}")
    return root / SYSTEMS[chip] / TABLES[op].folder


def _versions(folder: Path, file: str) -> list[Path]:
    """Folders that hold the file, oldest version first."""
    found = [path.parent for path in folder.glob(f"*/{file}.parquet")]
    return sorted(found, key=lambda path: [int(part) for part in re.findall(r"\d+", path.name)])
