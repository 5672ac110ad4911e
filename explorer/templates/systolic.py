"""Systolic chips: few cores with large arrays of multiply-adds and a shared scratchpad, as Google's TPUs."""

from explorer.hardware import Hardware
from explorer.technology import Technology
from explorer.templates.template import (
    MIB,
    Columns,
    Knob,
    Reasons,
    array_columns,
    common_columns,
    dead_memory,
    memory_columns,
    numbers,
)

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


def hardware(values: Columns, technology: Technology) -> Hardware:
    """What the knobs build, [D]."""
    common = common_columns(values) | memory_columns(values, technology) | array_columns(values)
    own = {
        "l2_bytes": MIB * numbers(values, "scratchpad_mib"),
        "l2_bytes_per_s": numbers(values, "scratchpad_bytes_per_clock") * common["clock_hz"],
        "launch_s": 1e-6 * numbers(values, "launch_us"),
    }
    return Hardware(**(common | own))


def dead(values: Columns) -> Reasons:
    """Combinations that cannot be built, and why."""
    return dead_memory(values)
