"""From physical designs to chips: columns for thousands at once, and one `Chip` for a file or the event engine."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from explorer.errors import ExplorationError
from explorer.hardware import FloatArray, Hardware, IntArray
from roofline.chip import Chip, Energy, Link, Memory
from simulator.chip_columns import ChipColumns
from simulator.op_columns import DTYPES, BoolArray

# Rate of a type over that of 16-bit floats on matrix units, as on NVIDIA Hopper (white paper: 494.5, 989, 1979
# TFLOP/s of tfloat32, bfloat16, float8 and int8).
MATRIX_RATES: Mapping[str, float] = {
    "tfloat32": 0.5,
    "bfloat16": 1.0,
    "float16": 1.0,
    "float8_e4m3fn": 2.0,
    "float8_e5m2": 2.0,
    "int8": 2.0,
}
# Assumed of every design, measured on H100 PCIe and H200 (te42kyfo/gpu-benches@1c36d50 gpu-latency): seconds of one
# dependent access, by level; bytes per clock and core of the memory next to a core.
LATENCY_S: Mapping[str, float] = {"l1": 19.4e-9, "l2": 151e-9, "llc": 250e-9, "dram": 370e-9, "sram": 20e-9}
L1_BYTES_PER_CLOCK = 128.0
LINK_LATENCY_S = 1.1e-6
_HALF_RATE_TYPES = ("float16", "bfloat16")  # on vector units: twice the 32-bit rate


def design_chip(
    hardware: Hardware,
    row: int,
    *,
    calibration: tuple[tuple[str, float], ...] = (),
    energy: Energy | None = None,
    tdp_w: float | None = None,
    source: str = "a design of `roofscape explore`",
) -> Chip:
    """One design as a chip, equal in every figure to its row of `chip_columns`."""
    design = {name: getattr(hardware, name)[row] for name in Hardware.__slots__}
    cores, clock_hz, lanes = int(design["cores"]), float(design["clock_hz"]), float(design["vector_lanes"])
    macs = float(design["matrix_macs"])
    return Chip(
        name=str(design["name"]),
        title=str(design["name"]),
        family=f"design-{'array' if design['array_rows'] > 1 else 'gpu'}",
        clock_hz=clock_hz,
        cores=cores,
        launch_s=float(design["launch_s"]),
        host_dispatch_s=float(design["host_dispatch_s"]),
        matrix_macs=tuple((dtype, macs * rate) for dtype, rate in MATRIX_RATES.items()) if macs > 0 else (),
        matrix_array=(int(design["array_rows"]), int(design["array_columns"])),
        vector_flops=(
            *((dtype, 4.0 * lanes) for dtype in _HALF_RATE_TYPES),
            ("float32", 2.0 * lanes),
            *((("float64", 2.0 * float(design["fp64_lanes"])),) if design["fp64_lanes"] > 0 else ()),
        ),
        special_flops=float(design["special_lanes"]),
        memories=_memories(design),
        links=(_link(float(design["link_bytes_per_s"])),) if design["link_bytes_per_s"] > 0 else (),
        energy=energy,
        tdp_w=tdp_w,
        calibration=calibration,
        sources=(("*", source),),
    )


def chip_columns(hardware: Hardware, calibration: tuple[tuple[str, float], ...] = ()) -> ChipColumns:
    """All designs as columns: what `ChipColumns.from_chips` makes of their chips, without making those.

    Designs are grouped by the memories that they have; call it once for each group (`same_levels`).

    Args:
        hardware: the designs; all with the same levels of memory.
        calibration: constants that all of them take.

    Raises:
        ExplorationError: designs with different levels of memory, which must be planned apart.
    """
    shape = same_levels(hardware)
    if len(np.unique(shape)) > 1:
        raise ExplorationError("designs with different levels of memory must be planned apart")
    template = ChipColumns.from_chips([design_chip(hardware, 0, calibration=calibration)])
    count, ones = len(hardware), np.ones(len(hardware))
    constants = dict(calibration)
    own_rate = L1_BYTES_PER_CLOCK * ones if shape[0] & 1 else np.full(count, np.inf)
    ingest = _constant(constants, "ingest_bytes_per_clock_per_core", own_rate)
    levels = _level_columns(hardware, template, min(1.0, constants.get("memory_efficiency", 1.0)))
    wave_default = levels["level_latency_s"][1 if len(levels["level_latency_s"]) > 1 else 0]
    macs, vector, has_matrix = _rates(hardware, template)
    return ChipColumns(
        names=tuple(hardware.name.tolist()),
        clock_hz=hardware.clock_hz,
        cores=hardware.cores,
        launch_s=_constant(constants, "t0_s", hardware.launch_s),
        macs=macs,
        has_matrix=has_matrix,
        array_rows=hardware.array_rows,
        array_columns=hardware.array_columns,
        array_load_clocks=_constant(constants, "array_load_clocks", hardware.array_rows),
        vector_flops=vector,
        special_flops=hardware.special_lanes,
        link_bandwidth=hardware.link_bytes_per_s,
        link_latency_s=np.where(hardware.link_bytes_per_s > 0, LINK_LATENCY_S, 0.0),
        matrix_efficiency=template.matrix_efficiency * ones,
        k_step_clocks=template.k_step_clocks * ones,
        ingest=ingest,
        epilogue=_constant(constants, "epilogue_bytes_per_clock_per_core", ingest),
        split_k_s=_constant(constants, "split_k_s", hardware.launch_s),
        wave_s=_constant(constants, "wave_s", wave_default),
        smooth_max_p=template.smooth_max_p * ones,
        cluster_cores=template.cluster_cores * ones,
        first_access_s=template.first_access_s * ones,
        calibrations=(constants,),
        **levels,
    )


def same_levels(hardware: Hardware) -> IntArray:
    """A number that designs with the same levels of memory share: bit 0 a core's own, 1 the L2, 2 a further cache."""
    has_dram = hardware.dram != "none"
    shared = (hardware.l2_bytes > 0) * 2 + (hardware.llc_bytes > 0) * 4
    return np.asarray((hardware.l1_bytes > 0) * 1 + has_dram * (8 + shared), dtype=np.int64)


def _constant(constants: Mapping[str, float], name: str, default: FloatArray) -> FloatArray:
    return np.full(len(default), constants[name]) if name in constants else default


def _memories(design: Mapping[str, object]) -> tuple[Memory, ...]:
    figures = {name: float(value) for name, value in design.items() if isinstance(value, int | float | np.number)}
    cores, clock_hz = figures["cores"], figures["clock_hz"]
    is_sram_only = design["dram"] == "none"
    levels = (
        ("l1", figures["l1_bytes"] * cores, L1_BYTES_PER_CLOCK * cores * clock_hz, True),
        ("l2", figures["l2_bytes"], figures["l2_bytes_per_s"], False),
        ("llc", figures["llc_bytes"], figures["l2_bytes_per_s"], False),
    )
    main = "sram" if is_sram_only else "dram"
    return (
        *(
            Memory(name=name, capacity_bytes=size, bandwidth_bytes_per_s=rate, latency_s=LATENCY_S[name], per_core=own)
            for name, size, rate, own in levels
            if size > 0 and not (is_sram_only and not own)
        ),
        Memory(
            name=main,
            capacity_bytes=figures["dram_bytes"],
            bandwidth_bytes_per_s=figures["dram_bytes_per_s"],
            latency_s=LATENCY_S[main],
        ),
    )


def _link(bytes_per_s: float) -> Link:
    return Link(name="link", bandwidth_bytes_per_s=bytes_per_s, latency_s=LINK_LATENCY_S)


def _level_columns(hardware: Hardware, template: ChipColumns, efficiency: float) -> dict[str, Any]:
    """Columns of the memory levels, [levels, D], main memory first."""
    first = design_chip(hardware, 0).memories
    ones = np.ones(len(hardware))
    sizes = {
        "l1": hardware.l1_bytes * hardware.cores,
        "l2": hardware.l2_bytes,
        "llc": hardware.llc_bytes,
        "dram": hardware.dram_bytes,
        "sram": hardware.dram_bytes,
    }
    rates = {
        "l1": L1_BYTES_PER_CLOCK * hardware.cores * hardware.clock_hz,
        "l2": hardware.l2_bytes_per_s,
        "llc": hardware.l2_bytes_per_s,
        "dram": hardware.dram_bytes_per_s,
        "sram": hardware.dram_bytes_per_s,
    }
    names = [memory.name for memory in reversed(first)]
    peak = np.stack([rates[name] * ones for name in names])
    bandwidth = peak.copy()
    bandwidth[0] *= efficiency
    return {
        "level_exists": np.broadcast_to(template.level_exists, peak.shape),
        "level_is_core": np.broadcast_to(template.level_is_core, peak.shape),
        "level_capacity_bytes": np.stack([sizes[name] * ones for name in names]),
        "level_bandwidth": bandwidth,
        "level_peak_bandwidth": peak,
        "level_latency_s": np.stack([LATENCY_S[name] * ones for name in names]),
    }


def _rates(hardware: Hardware, template: ChipColumns) -> tuple[FloatArray, FloatArray, BoolArray]:
    """(multiply-adds, vector FLOPs) per clock and core and whether matrix units take the type, [dtypes, D] each.

    Every rate is a multiple of the design's 16-bit multiply-adds or of its lanes, as the first design's is.
    """
    lanes = hardware.vector_lanes / hardware.vector_lanes[0]
    vector = template.vector_flops * lanes
    doubles = hardware.fp64_lanes
    vector[DTYPES.index("float64")] = 2.0 * np.where(doubles > 0, doubles, hardware.vector_lanes)
    matrix = hardware.matrix_macs / hardware.matrix_macs[0] if hardware.matrix_macs[0] > 0 else np.ones(len(hardware))
    has_matrix = np.broadcast_to(template.has_matrix, vector.shape)
    macs = np.where(has_matrix, template.macs * matrix, vector / 2.0)
    return macs, vector, has_matrix
