"""Bands of power: how far off predictions are of kernels whose board power was logged, each repeated until it settled.

    python benchmarks/power_bands.py KERNEL_POWER_H200.parquet [BANDS.json [TABLE.md]]

Measured over predicted power between which 90 % of one half of the kernels lie, and the part of the other half that
does. The logs: of an H200 (ai-dynamo/aiconfigurator@4c5709ac6, vLLM 0.22.0, in the columns of its collectors; not
shipped), and of a B200 (decoding and layers of experts, aiconfigurator-core, vLLM 0.22.0; the `silicon` extra). With a
second file name the bands are written there (`simulator/power_bands.json`), with a third the table.
"""

import sys
from collections.abc import Iterator

import pandas as pd

from reports.markdown import markdown_table, print_or_write
from roofline.chipfile import load_chip
from simulator.bands import Band, save_bands
from simulator.errors import SimulationError
from simulator.validation.power_ratios import bands_of_power
from simulator.validation.power_tables import PowerTable, power_table, read_power_table
from simulator.validation.silicon import TABLES, package_folder

HEADINGS = ("chip", "kernels", "rows", "from", "to", "coverage of the other half, %")
# What was logged of a B200, and the size at which a sweep begins anew. Causal attention is left out as for the H200.
B200_LOGS = (
    ("attention_decode", "generation_attention_perf", "bfloat16", "heads"),
    ("moe", "moe_perf", "bfloat16", "hidden"),
)
SETTLED_MS = 0.4


def main(h200_log: str, bands_file: str = "", table_file: str = "") -> None:
    h200 = bands_of_power(read_power_table(h200_log), load_chip("h200-sxm"))
    b200 = [band for table in b200_logs() for band in bands_of_power(table, load_chip("b200-sxm"))]
    if bands_file:
        save_bands([*h200, *b200], bands_file)
    table = markdown_table(HEADINGS, [_row(band) for band in (*h200, *b200)], [False, False, True, True, True, True])
    print_or_write(table, table_file)


def _row(band: Band) -> list[str]:
    ends = (f"{band.low_ratio:.2f}", f"{band.high_ratio:.2f}")
    return [band.chip, band.op, f"{band.rows:,}", *ends, "" if band.coverage is None else f"{100 * band.coverage:.0f}"]


def b200_logs() -> Iterator[PowerTable]:
    """Kernels of a B200 with their power."""
    root = package_folder()
    if root is None:
        raise SimulationError("the B200's logs come with aiconfigurator-core: pip install 'roofscape[silicon]'")
    for op, stem, dtype, swept in B200_LOGS:
        path = root / "b200_sxm" / TABLES[op].folder / "vllm" / "0.22.0" / f"{stem}.parquet"
        rows = TABLES[op].read(pd.read_parquet(path), dtype).reset_index(drop=True)
        measured = {"measured_s": rows["latency"] * 1e-3, "power_w": rows["power"]}
        counts = (rows["latency"] >= SETTLED_MS).astype(int)
        kept = rows.drop(columns=["latency", "power", "power_limit"])
        yield power_table(kept.assign(**measured, sweep=rows[swept], counts=counts), path)


if __name__ == "__main__":
    main(*sys.argv[1:])
