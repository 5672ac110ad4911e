"""Systolic chips: few cores with large arrays of multiply-adds and a shared scratchpad, as Google's TPUs."""

import numpy as np

from explorer.hardware import Hardware
from explorer.technology import Technology
from explorer.templates.template import Columns, Knob, Reasons, numbers, texts

TITLE = "systolic: few cores, large arrays, one scratchpad"
CONSTANTS_OF = ""  # no kernels of such chips were measured
CONSTANTS: tuple[tuple[str, float], ...] = (("wave_s", 0.0),)  # the compiler fetches the next tile meanwhile (assumed)
KNOBS: tuple[Knob, ...] = (
    Knob("cores", 2, "", "cores"),
    Knob("clock_ghz", 1.75, "GHz", "clock of the cores"),
    Knob("array_rows", 128, "", "rows of an array, along the reduction"),
    Knob("array_columns", 128, "", "columns of an array, along the output"),
    Knob("arrays", 4, "", "arrays of a core"),
    Knob("vector_lanes", 4096, "", "32-bit multiply-add lanes of a core"),
    Knob("special_lanes", 1024, "1/clock", "elementary functions of a core"),
    Knob("sampler_lanes", 0, "1/clock", "logits that a core's streaming sampling unit takes; 0 for no unit"),
    Knob("register_kib", 256, "KiB", "registers of a core"),
    Knob("scratchpad_mib", 128, "MiB", "memory that the cores share"),
    Knob("scratchpad_bytes_per_clock", 12000, "bytes/clock", "its bandwidth"),
    Knob("dram", "hbm2e", "", "kind of main memory"),
    Knob("stacks", 6, "", "stacks, or 32-bit devices"),
    Knob("compute_dies", 1, "", "dies that share the cores"),
    Knob("node", "n5", "", "process node"),
    Knob("link_gb_per_s", 540, "GB/s", "to other devices, per direction"),
    Knob("launch_us", 1.0, "us", "least time between dependent kernels"),
    Knob("host_dispatch_us", 5.0, "us", "host time to issue one eager operation"),
)
KIB, MIB = 2.0**10, 2.0**20


def hardware(values: Columns, technology: Technology) -> Hardware:
    """What the knobs build, [D]."""
    cores, clock_hz = numbers(values, "cores"), 1e9 * numbers(values, "clock_ghz")
    rows, columns = numbers(values, "array_rows"), numbers(values, "array_columns")
    dram, stacks, zero = texts(values, "dram"), numbers(values, "stacks"), np.zeros_like(cores)
    kinds = technology.dram_rows(dram)
    return Hardware(
        name=texts(values, "name"),
        node=texts(values, "node"),
        dram=dram,
        compute_dies=numbers(values, "compute_dies"),
        cores=cores,
        spare_cores=zero,
        clock_hz=clock_hz,
        matrix_macs=numbers(values, "arrays") * rows * columns,
        matrix_units=numbers(values, "arrays"),
        array_rows=rows,
        array_columns=columns,
        vector_lanes=numbers(values, "vector_lanes"),
        fp64_lanes=zero,
        special_lanes=numbers(values, "special_lanes"),
        sampler_lanes=numbers(values, "sampler_lanes"),
        register_bytes=KIB * numbers(values, "register_kib"),
        l1_bytes=zero,
        l2_bytes=MIB * numbers(values, "scratchpad_mib"),
        spare_l2_bytes=zero,
        l2_bytes_per_s=numbers(values, "scratchpad_bytes_per_clock") * clock_hz,
        llc_bytes=zero,
        dram_stacks=stacks,
        spare_stacks=zero,
        dram_bytes=stacks * technology.dram_figure("capacity_bytes", kinds),
        dram_bytes_per_s=stacks * technology.dram_figure("bytes_per_s", kinds),
        link_bytes_per_s=1e9 * numbers(values, "link_gb_per_s"),
        launch_s=1e-6 * numbers(values, "launch_us"),
        host_dispatch_s=1e-6 * numbers(values, "host_dispatch_us"),
    )


def dead(values: Columns) -> Reasons:
    """Combinations that cannot be built, and why."""
    cores, dies = numbers(values, "cores"), numbers(values, "compute_dies")
    return (
        ("cores is no multiple of compute_dies", np.mod(cores, np.maximum(dies, 1.0)) != 0),
        ("dram is none: weights have nowhere to be; take the template dataflow", texts(values, "dram") == "none"),
    )
