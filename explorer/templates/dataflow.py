"""Dataflow chips: everything in SRAM beside the arrays, scheduled by the compiler, as Groq's LPU."""

import numpy as np

from explorer.hardware import Hardware
from explorer.technology import Technology
from explorer.templates.template import MIB, Columns, Knob, Reasons, array_columns, common_columns, numbers

TITLE = "dataflow: SRAM only, nothing is launched, scheduled by the compiler"
CONSTANTS_OF = ""  # no kernels of such chips were measured
CONSTANTS: tuple[tuple[str, float], ...] = (
    ("wave_s", 0.0),  # operands arrive with their instruction (assumed)
    ("array_load_clocks", 40.0),  # as on Groq's LPU, see roofline/chips/groq-lpu-v1.toml
)
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


def hardware(values: Columns, technology: Technology) -> Hardware:
    """What the knobs build, [D]; the time to hand activations from chip to chip is left out."""
    common = common_columns(values) | array_columns(values)
    chips = numbers(values, "chips")
    sram_bytes = chips * MIB * numbers(values, "sram_mib")
    sram_rate = chips * numbers(values, "sram_bytes_per_clock") * common["clock_hz"]
    own = {
        "dram": np.full(len(chips), "none"),
        "compute_dies": chips,
        "cores": chips,
        "l2_bytes": sram_bytes,
        "l2_bytes_per_s": sram_rate,
        "dram_bytes": sram_bytes,
        "dram_bytes_per_s": sram_rate,
        "link_bytes_per_s": chips * common["link_bytes_per_s"],
    }
    return Hardware(**(common | own))


def dead(values: Columns) -> Reasons:
    """Combinations that cannot be built, and why."""
    return (("sram_mib is 0: there is no memory at all", numbers(values, "sram_mib") <= 0),)
