"""GPU-like chips: many cores with matrix units, lanes and an L1 each, one L2, stacks of DRAM at the edges."""

import numpy as np

from explorer.hardware import Hardware
from explorer.technology import Technology
from explorer.templates.template import (
    KIB,
    MIB,
    Columns,
    Knob,
    Reasons,
    common_columns,
    dead_memory,
    memory_columns,
    numbers,
)

TITLE = "GPU-like: cores with an L1 each, a shared L2, DRAM at the edges"
CONSTANTS_OF = "h100-sxm"  # the chip with measured kernels of most kinds; a space may say another
CONSTANTS: tuple[tuple[str, float], ...] = ()
KNOBS: tuple[Knob, ...] = (
    Knob("cores", 132, "", "cores that work"),
    Knob("clock_ghz", 1.83, "GHz", "clock of the cores"),
    Knob("matrix_macs", 2048, "1/clock", "16-bit multiply-adds of a core's matrix units"),
    Knob("matrix_units", 4, "", "matrix units of a core"),
    Knob("vector_lanes", 128, "", "32-bit multiply-add lanes of a core"),
    Knob("fp64_lanes", 64, "", "64-bit lanes of a core; 0 runs such types at the 32-bit rate"),
    Knob("special_lanes", 16, "1/clock", "elementary functions of a core"),
    Knob("sampler_lanes", 0, "1/clock", "logits that a core's streaming sampling unit takes; 0 for no unit"),
    Knob("register_kib", 256, "KiB", "registers of a core"),
    Knob("l1_kib", 256, "KiB", "L1 and scratchpad of a core"),
    Knob("l2_mib", 50, "MiB", "shared cache"),
    Knob("l2_bytes_per_clock", 5300, "bytes/clock", "bandwidth of the shared cache"),
    Knob("dram", "hbm3", "", "kind of main memory"),
    Knob("stacks", 5, "", "stacks, or 32-bit devices"),
    Knob("compute_dies", 1, "", "dies that share the cores"),
    Knob("node", "n4", "", "process node"),
    Knob("link_gb_per_s", 450, "GB/s", "to other devices, per direction"),
    Knob("host_dispatch_us", 5.0, "us", "host time to issue one eager operation"),
    Knob("spare_ratio", 0.08, "", "cores and cache on silicon beyond those that work, over those"),
)
LAUNCH_S = 2.5e-6  # where designs take no chip's constants; with them, that chip's launch


def hardware(values: Columns, technology: Technology) -> Hardware:
    """What the knobs build, [D]."""
    common = common_columns(values) | memory_columns(values, technology)
    cores, spare = common["cores"], numbers(values, "spare_ratio")
    one, l2_bytes = np.ones_like(cores), MIB * numbers(values, "l2_mib")
    own = {
        "spare_cores": np.round(cores * spare),
        "matrix_macs": numbers(values, "matrix_macs"),
        "matrix_units": numbers(values, "matrix_units"),
        "array_rows": one,
        "array_columns": one,
        "fp64_lanes": numbers(values, "fp64_lanes"),
        "l1_bytes": KIB * numbers(values, "l1_kib"),
        "l2_bytes": l2_bytes,
        "spare_l2_bytes": l2_bytes * spare,
        "l2_bytes_per_s": numbers(values, "l2_bytes_per_clock") * common["clock_hz"],
    }
    return Hardware(**(common | own))


def dead(values: Columns) -> Reasons:
    """Combinations that cannot be built, and why."""
    macs, units = numbers(values, "matrix_macs"), numbers(values, "matrix_units")
    no_tiles = numbers(values, "l1_kib") < 32
    dies, dram = dead_memory(values)
    return (
        ("matrix_macs is no multiple of matrix_units", np.mod(macs, np.maximum(units, 1.0)) != 0),
        dram,
        dies,
        ("l1_kib holds no two stages of a 64 x 64 tile (32 KiB)", no_tiles),
    )
