"""GPU-like chips: many cores with matrix units, lanes and an L1 each, one L2, stacks of DRAM at the edges."""

import numpy as np

from explorer.hardware import Hardware
from explorer.technology import Technology
from explorer.templates.template import Columns, Knob, Reasons, numbers, texts

TITLE = "GPU-like: cores with an L1 each, a shared L2, DRAM at the edges"
CONSTANTS_OF = "h100-sxm"  # the newest chip with measured kernels of every kind
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
KIB, MIB = 2.0**10, 2.0**20
LAUNCH_S = 2.5e-6  # of the chip whose constants designs take; those hold what a launch costs each kind of kernel


def hardware(values: Columns, technology: Technology) -> Hardware:
    """What the knobs build, [D]."""
    cores, spare = numbers(values, "cores"), numbers(values, "spare_ratio")
    clock_hz = 1e9 * numbers(values, "clock_ghz")
    zero, one = np.zeros_like(cores), np.ones_like(cores)
    l2_bytes, dram, stacks = MIB * numbers(values, "l2_mib"), texts(values, "dram"), numbers(values, "stacks")
    kinds = technology.dram_rows(dram)
    return Hardware(
        name=texts(values, "name"),
        node=texts(values, "node"),
        dram=dram,
        compute_dies=numbers(values, "compute_dies"),
        cores=cores,
        spare_cores=np.round(cores * spare),
        clock_hz=clock_hz,
        matrix_macs=numbers(values, "matrix_macs"),
        matrix_units=numbers(values, "matrix_units"),
        array_rows=one,
        array_columns=one,
        vector_lanes=numbers(values, "vector_lanes"),
        fp64_lanes=numbers(values, "fp64_lanes"),
        special_lanes=numbers(values, "special_lanes"),
        sampler_lanes=numbers(values, "sampler_lanes"),
        register_bytes=KIB * numbers(values, "register_kib"),
        l1_bytes=KIB * numbers(values, "l1_kib"),
        l2_bytes=l2_bytes,
        spare_l2_bytes=l2_bytes * spare,
        l2_bytes_per_s=numbers(values, "l2_bytes_per_clock") * clock_hz,
        llc_bytes=zero,
        dram_stacks=stacks,
        spare_stacks=zero,
        dram_bytes=stacks * technology.dram_figure("capacity_bytes", kinds),
        dram_bytes_per_s=stacks * technology.dram_figure("bytes_per_s", kinds),
        link_bytes_per_s=1e9 * numbers(values, "link_gb_per_s"),
        launch_s=np.full_like(cores, LAUNCH_S),
        host_dispatch_s=1e-6 * numbers(values, "host_dispatch_us"),
    )


def dead(values: Columns) -> Reasons:
    """Combinations that cannot be built, and why."""
    macs, units = numbers(values, "matrix_macs"), numbers(values, "matrix_units")
    cores, dies = numbers(values, "cores"), numbers(values, "compute_dies")
    return (
        ("matrix_macs is no multiple of matrix_units", np.mod(macs, np.maximum(units, 1.0)) != 0),
        ("dram is none: weights have nowhere to be; take the template dataflow", texts(values, "dram") == "none"),
        ("cores is no multiple of compute_dies", np.mod(cores, np.maximum(dies, 1.0)) != 0),
        ("l1_kib holds no two stages of a 64 x 64 tile (32 KiB)", numbers(values, "l1_kib") < 32),
    )
