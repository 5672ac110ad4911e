"""Dataflow chips: everything in SRAM beside the arrays, scheduled by the compiler, as Groq's LPU."""

import numpy as np

from explorer.hardware import Hardware
from explorer.technology import Technology
from explorer.templates.template import Columns, Knob, Reasons, numbers, texts

TITLE = "dataflow: SRAM only, nothing is launched, scheduled by the compiler"
CONSTANTS_OF = ""  # no kernels of such chips were measured
CONSTANTS: tuple[tuple[str, float], ...] = (("wave_s", 0.0),)  # operands arrive with their instruction (assumed)
KNOBS: tuple[Knob, ...] = (
    Knob("chips", 1, "", "chips that hold one model together; all figures are of all of them"),
    Knob("clock_ghz", 0.9155, "GHz", "clock"),
    Knob("array_rows", 320, "", "rows of an array, along the reduction"),
    Knob("array_columns", 320, "", "columns of an array, along the output"),
    Knob("arrays", 1, "", "arrays of 16-bit multiply-adds of a chip"),
    Knob("vector_lanes", 2560, "", "32-bit multiply-add lanes of a chip"),
    Knob("special_lanes", 1280, "1/clock", "elementary functions of a chip"),
    Knob("sampler_lanes", 0, "1/clock", "logits that the streaming sampling unit of a chip takes; 0 for no unit"),
    Knob("sram_mib", 220, "MiB", "SRAM of a chip"),
    Knob("sram_bytes_per_clock", 87400, "bytes/clock", "its bandwidth"),
    Knob("node", "n4", "", "process node"),
    Knob("link_gb_per_s", 240, "GB/s", "to other devices, per direction, of a chip"),
    Knob("host_dispatch_us", 0.0, "us", "host time to issue one eager operation"),
)
KIB, MIB = 2.0**10, 2.0**20


def hardware(values: Columns, technology: Technology) -> Hardware:
    """What the knobs build, [D]; the time to hand activations from chip to chip is left out."""
    chips, clock_hz = numbers(values, "chips"), 1e9 * numbers(values, "clock_ghz")
    rows, columns = numbers(values, "array_rows"), numbers(values, "array_columns")
    zero = np.zeros_like(chips)
    sram_bytes = chips * MIB * numbers(values, "sram_mib")
    sram_rate = chips * numbers(values, "sram_bytes_per_clock") * clock_hz
    return Hardware(
        name=texts(values, "name"),
        node=texts(values, "node"),
        dram=np.full(len(chips), "none"),
        compute_dies=chips,
        cores=chips,
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
        register_bytes=zero,
        l1_bytes=zero,
        l2_bytes=sram_bytes,
        spare_l2_bytes=zero,
        l2_bytes_per_s=sram_rate,
        llc_bytes=zero,
        dram_stacks=zero,
        spare_stacks=zero,
        dram_bytes=sram_bytes,
        dram_bytes_per_s=sram_rate,
        link_bytes_per_s=1e9 * chips * numbers(values, "link_gb_per_s"),
        launch_s=zero,
        host_dispatch_s=1e-6 * numbers(values, "host_dispatch_us"),
    )


def dead(values: Columns) -> Reasons:
    """Combinations that cannot be built, and why."""
    return (("sram_mib is 0: there is no memory at all", numbers(values, "sram_mib") <= 0),)
