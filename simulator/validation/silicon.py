"""Tables of the package `aiconfigurator-core` (Apache-2.0): kernel latencies measured on real GPUs, as `MeasuredTable`.

Its latencies are means of CUDA-graph replays without an L2 flush; a GEMM goes through copies of its weights in turn.
Rows of narrow types hold the kernel that quantizes the activations; attention rows hold the storing of keys and values.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pandas as pd
from pyarrow import parquet

from roofline.chip import Chip
from simulator.errors import NoRowsError, SimulationError
from simulator.validation.product_tables import (
    ATTENTION_DTYPES,
    ATTENTION_KEYS,
    GEMM_DTYPES,
    bidirectional,
    block,
    decode,
    gemm,
    moe,
    prefill,
    weight_copies,
)
from simulator.validation.sequence_tables import delta_rule, mamba2
from simulator.validation.stream_tables import NCCL_DTYPES, collective, elementwise, mixing, row_scale, topk
from simulator.validation.tables import MeasuredTable, measured_table

SYSTEMS: dict[str, str] = {
    "a100-sxm-80gb": "a100_sxm",
    "h100-sxm": "h100_sxm",
    "h200-sxm": "h200_sxm",
    "b200-sxm": "b200_sxm",
    "l40s": "l40s",
}
BACKENDS: tuple[str, ...] = ("trtllm", "vllm", "sglang", "nccl")

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
        chips: on which they do, empty for all.
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
    chips: tuple[str, ...] = ()
    joined: str = ""


TABLES: dict[str, TableKind] = {
    "gemm": TableKind(
        folder="gemm",
        file="gemm_perf",
        read=gemm,
        dtypes=tuple(GEMM_DTYPES),
        keys=("m", "n", "k"),
        fitted="trtllm",  # its weights are random; vLLM's bf16 weights are not initialized, which is faster
    ),
    "moe": TableKind(
        folder="moe",
        file="moe_perf",
        read=moe,
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
        read=prefill,
        dtypes=tuple(ATTENTION_DTYPES),
        keys=ATTENTION_KEYS,
        fitted="vllm",
    ),
    "attention_decode": TableKind(
        folder="attention",
        file="generation_attention_perf",
        read=decode,
        dtypes=("bfloat16", "float8_cache"),
        keys=(*ATTENTION_KEYS, "step"),
        fitted="vllm",
    ),
    "attention_block": TableKind(
        folder="attention",
        file="generation_attention_perf",
        read=block,
        dtypes=("bfloat16", "float8_cache"),
        keys=(*ATTENTION_KEYS, "step"),
        fitted="",
        backends=("vllm",),
        chips=("h100-sxm", "h200-sxm", "b200-sxm"),  # the others run FlashAttention-2, which packs no queries
    ),
    "attention_bidirectional": TableKind(
        folder="encoder_attention",
        file="encoder_attention_perf",
        read=bidirectional,
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
            read=collective(name),
            dtypes=tuple(NCCL_DTYPES),
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
    if kind.chips and chip not in kind.chips:
        return ()
    allowed = kind.backends or BACKENDS
    return tuple(each for each in BACKENDS if each in allowed and _versions(folder / each, kind.file))


def table_kind(op: str, dtype: str = "") -> TableKind:
    """What is known of the tables of a family of kernels.

    Raises:
        SimulationError: there is no such family, or it has no such type.
    """
    if op not in TABLES:
        raise SimulationError(f"op must be one of {', '.join(TABLES)}, got {op!r}")
    kind = TABLES[op]
    if dtype and dtype not in kind.dtypes:
        raise SimulationError(f"dtype of {op} must be one of {', '.join(kind.dtypes)}, got {dtype!r}")
    return kind


def silicon_table(chip: Chip, op: str, dtype: str, backend: str) -> MeasuredTable:
    """The newest table of one family, dtype and backend, measured on this chip.

    Raises:
        SimulationError: the package is not installed, or has no such table.
    """
    kind = table_kind(op, dtype)
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
    source = f"aiconfigurator-core {'/'.join(path.parts[-5:])}"
    rows = rows_of_type(frame, op, dtype)
    return table_of_rows(rows, chip, op, dtype, backend, version=newest.name, source=source)


def rows_of_type(frame: pd.DataFrame, op: str, dtype: str) -> pd.DataFrame:
    """The rows of one type with the package's columns, their keys and seconds beside them; none where none is.

    Args:
        frame: the rows, with the latency of a second file as `latency_joined` where the family has one.
        op: family of kernels.
        dtype: type, one of the family's.
    """
    kind = table_kind(op, dtype)
    if "window_size" not in frame and "window_size" in kind.keys:
        frame = frame.assign(window_size=0)
    rows = kind.read(frame.assign(**{f"key_{key}": frame[key] for key in kind.keys}), dtype)
    return rows.assign(measured_s=rows["latency"] * 1e-3)


def table_of_rows(
    rows: pd.DataFrame, chip: Chip, op: str, dtype: str, backend: str, *, version: str, source: str
) -> MeasuredTable:
    """What `rows_of_type` read as a table.

    Args:
        rows: the rows.
        chip: what was measured.
        op: family of kernels.
        dtype: type, one of the family's.
        backend: library.
        version: of the library.
        source: where the rows are from.

    Raises:
        NoRowsError: there is none.
    """
    if rows.empty:
        raise NoRowsError(f"no rows of dtype {dtype} in the {op} table of {backend} on {chip.name}")
    if op == "gemm":
        rows = rows.assign(weight_copies=weight_copies(rows, chip, backend, version))
    return measured_table(
        rows[rows["measured_s"] > 0],
        chip=chip,
        op=op,
        dtype=dtype,
        backend=f"{backend} {version}",
        keys=[f"key_{key}" for key in table_kind(op, dtype).keys],
        source=source,
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
