"""Joules a byte of a B200's main memory, from the power of kernels that it binds.

    python benchmarks/stream_joules.py

Layers of experts in bfloat16 with at most four tokens for each expert, of at least 0.4 ms and 5.5 TB/s, in the log of
aiconfigurator-core (b200_sxm, vLLM 0.22.0; the `silicon` extra): the joules a byte at which half of the rows read no
more than predicted, for each half of the rows by the CRC-32 of their sizes, and how far off the chip file is. Then what
decoding reads, whose caches are random, too: the collector fills them with `torch.randn`. Figures of docs/energy.md,
constants at the limit.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from reports.markdown import markdown_table
from roofline.chip import Chip
from roofline.chipfile import load_chip
from simulator.clocks import steady_chip
from simulator.energy import op_energy
from simulator.errors import SimulationError
from simulator.op_columns import BoolArray, FloatArray
from simulator.plans import plan_columns
from simulator.validation.power_ratios import settled_power_w
from simulator.validation.power_tables import PowerTable, power_table
from simulator.validation.silicon import TABLES, package_folder

SETTLED_MS = 0.4
_MOST_TOKENS = 4  # for each expert
_LEAST_BYTES_PER_S = 5.5e12


def main() -> None:
    chip, (table, found) = load_chip("b200-sxm"), streamed_experts()
    joules, off_w = joules_per_byte(table, chip), settled_power_w(table.ops, chip) - table.power_w
    lines = []
    for name, half in (("even CRC-32", ~table.half), ("odd CRC-32", table.half)):
        rows = found & half
        values = (f"{np.median(joules[rows]) * 1e12:.0f}", f"{np.median(table.power_w[rows]):.0f}")
        errors = (f"{np.median(off_w[rows]):+.0f}", f"{np.median(np.abs(off_w[rows])):.0f}")
        lines.append([name, str(rows.sum()), *values, *errors])
    print(markdown_table(("half", "rows", "pJ/byte", "W", "W off", "W off at all"), lines, [False, *[True] * 5]))
    for cache, watts in decoding_w().items():
        low, middle, high = np.percentile(watts, (25, 50, 75))
        said = f"{middle:.0f} W ({low:.0f} to {high:.0f})"
        print(f"decoding at 6.5 TB/s and more, {cache} caches: {said}, {len(watts)} rows")


def streamed_experts() -> tuple[PowerTable, BoolArray]:
    """Layers of experts in bfloat16 with their power, and which of them main memory binds, [rows]."""
    path = _folder() / "moe" / "vllm" / "0.22.0" / "moe_perf.parquet"
    rows = TABLES["moe"].read(pd.read_parquet(path), "bfloat16").reset_index(drop=True)
    measured = {"measured_s": rows["latency"] * 1e-3, "power_w": rows["power"]}
    kept = rows.drop(columns=["latency", "power", "power_limit"])
    counts = (rows["latency"] >= SETTLED_MS).astype(int)
    table = power_table(kept.assign(**measured, sweep=rows["hidden"], counts=counts), path)
    tokens = (rows["tokens"] * rows["topk"] / rows["experts"]).to_numpy()
    rate = _main_memory_bytes(table, load_chip("b200-sxm")) / table.measured_s
    return table, table.counts & (tokens <= _MOST_TOKENS) & (rate >= _LEAST_BYTES_PER_S)


def joules_per_byte(table: PowerTable, chip: Chip) -> FloatArray:
    """What is left for each byte of main memory of a kernel's power, at full clock, [rows]."""
    energy = op_energy(plan_columns(table.ops, [steady_chip(chip)]))
    if isinstance(energy, str):
        raise SimulationError(energy)
    other_j = energy.total_j - dict(energy.parts)[chip.memories[-1].name]
    left_j = (table.power_w - energy.static_w) * table.measured_s - other_j
    joules: FloatArray = left_j / _main_memory_bytes(table, chip)
    return joules


def decoding_w() -> dict[str, FloatArray]:
    """Board power while decoding streams its caches for 0.25 ms and more, by their type."""
    log = pd.read_parquet(_folder() / "attention" / "vllm" / "0.22.0" / "generation_attention_perf.parquet")
    kinds = log["kv_cache_dtype"].astype(str)
    elements = 2 * log["batch_size"] * log["num_key_value_heads"] * log["head_dim"] * (log["step"] + 1)
    rate = elements * np.where(kinds == "fp8", 1, 2) / (log["latency"] * 1e-3)
    kept = (log["window_size"] == 0) & (log["latency"] >= 0.25) & (rate >= 6.5e12)
    return {kind: log["power"][kept & (kinds == kind)].to_numpy() for kind in ("bfloat16", "fp8")}


def _main_memory_bytes(table: PowerTable, chip: Chip) -> FloatArray:
    traffic: FloatArray = plan_columns(table.ops, [steady_chip(chip)]).columns.traffic_bytes[0, :, 0]
    return traffic


def _folder() -> Path:
    root = package_folder()
    if root is None:
        raise SimulationError("the B200's logs come with aiconfigurator-core: pip install 'roofscape[silicon]'")
    return root / "b200_sxm"


if __name__ == "__main__":
    main()
