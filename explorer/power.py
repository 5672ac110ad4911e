"""Power of designs: energy of an operation and of a byte, what is drawn at rest, and the TDP of a large product."""

from dataclasses import dataclass

import numpy as np

from explorer.area import Area, die_area
from explorer.hardware import FloatArray, Hardware
from explorer.technology import Technology


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Power:
    """Energy constants and power of designs at their clock, [D] each.

    Attributes:
        matrix_j_per_flop: one 16-bit FLOP of a matrix unit, delivery of its operands included.
        vector_j_per_flop: one 32-bit FLOP of a vector lane, registers included.
        l1_j_per_byte: a byte of the memory next to a core.
        l2_j_per_byte: a byte of the shared cache, with the wires to it; without them on SRAM-only chips.
        dram_j_per_byte: a byte of main memory, with controller and PHY; on SRAM-only chips of the SRAM.
        static_w: leakage, clocks and refresh, the clocks on and nothing to do.
        gemm_w: a large 16-bit product at the usual part of the peak, or streaming main memory where that is more.
        tdp_w: the same, as a GPU slows down under its limit. Systolic arrays beside a main memory hold their clock, and
            their memory streams into the scratchpad while they work: they are provided for everything at once, arrays
            at their peak, vector lanes, memory and links.
    """

    matrix_j_per_flop: FloatArray
    vector_j_per_flop: FloatArray
    l1_j_per_byte: FloatArray
    l2_j_per_byte: FloatArray
    dram_j_per_byte: FloatArray
    static_w: FloatArray
    gemm_w: FloatArray
    tdp_w: FloatArray


def chip_power(hardware: Hardware, technology: Technology, area: Area | None = None) -> Power:
    """Energy constants, static power and TDP of each design at its clock.

    Args:
        hardware: designs, [D].
        technology: the figures.
        area: their area where it is known already, else it is computed.
    """
    area = die_area(hardware, technology) if area is None else area
    usual = technology.energy.gemm_part_of_peak * hardware.peak_flops_per_s
    return _power(hardware, technology, area, np.ones(len(hardware)), usual)


def gemm_power_w(
    hardware: Hardware, technology: Technology, flops_per_s: FloatArray, area: Area | None = None
) -> FloatArray:
    """Board power of a large 16-bit product at a rate, [D].

    A rate below the usual part of the peak is taken for a lower clock (at less voltage), as a power limit makes it.

    Args:
        hardware: designs, [D].
        technology: the figures.
        flops_per_s: rate of the product, [D], for example a measured one.
        area: their area where it is known already, else it is computed.
    """
    area = die_area(hardware, technology) if area is None else area
    usual = technology.energy.gemm_part_of_peak * hardware.peak_flops_per_s
    part = np.divide(flops_per_s, usual, out=np.ones(len(hardware)), where=usual > 0)
    return _power(hardware, technology, area, np.minimum(part, 1.0), flops_per_s).gemm_w


def _power(
    hardware: Hardware, technology: Technology, area: Area, clock_ratio: FloatArray, flops_per_s: FloatArray
) -> Power:
    """All of it at a part of the clock and a rate of the product, [D]."""
    figures = technology.energy
    rows = technology.node_rows(hardware.node)
    kind = technology.dram_rows(hardware.dram)
    clock_hz = hardware.clock_hz * clock_ratio
    scale = technology.node_figure("energy_ratio", rows)
    # energy goes with the square of the voltage, which a faster clock takes more of
    over = clock_hz / technology.node_figure("clock_hz", rows) - 1
    dynamic = scale * (1 + figures.voltage_slope * over) ** 2
    unit_macs = np.maximum(hardware.matrix_macs / np.maximum(hardware.matrix_units, 1.0), 1.0)
    matrix = dynamic * (figures.mac_j / 2 + figures.operand_j / np.sqrt(unit_macs))
    # caches span all dies of a package; arrays have their memory on their own die, or beside them if it is the only one
    sram_only = hardware.dram == "none"
    span_mm2 = np.where(hardware.array_rows > 1, area.die_mm2, area.compute_mm2)
    wire_mm = np.where(sram_only, 0.0, figures.wire_length_ratio * np.sqrt(span_mm2))
    l1 = scale * figures.l1_j_per_byte
    l2 = scale * figures.l2_j_per_byte + figures.wire_j_per_byte_per_mm * wire_mm
    dram = np.where(sram_only, l2, 8 * technology.dram_figure("j_per_bit", kind))
    static = _static_w(hardware, technology, area, clock_hz)
    vector = dynamic * figures.vector_fma_j / 2
    tile_edge = np.sqrt(figures.gemm_outputs_per_mac * np.maximum(hardware.matrix_macs, 1.0))
    # a FLOP with its operands from L2: two of 2 bytes along each edge for 2 edge^2 FLOPs, L1 written and read
    fed = matrix + 2 / tile_edge * (l2 + 2 * l1)
    dram_bytes_per_s = flops_per_s * 3 / figures.gemm_size  # three matrices of 2 n^2 bytes for 2 n^3 FLOPs
    streaming = hardware.dram_bytes_per_s * clock_ratio * np.where(sram_only, l2 + l1, dram + l2 + l1)
    gemm = static + np.maximum(flops_per_s * fed + dram_bytes_per_s * dram, streaming)
    lanes = 2 * hardware.cores * hardware.vector_lanes * clock_hz * vector
    links = 8 * hardware.link_bytes_per_s * figures.link_j_per_bit
    at_once = static + hardware.peak_flops_per_s * clock_ratio * fed + streaming + lanes + links
    return Power(
        matrix_j_per_flop=matrix,
        vector_j_per_flop=vector,
        l1_j_per_byte=l1,
        l2_j_per_byte=l2,
        dram_j_per_byte=dram,
        static_w=static,
        gemm_w=gemm,
        tdp_w=np.where((hardware.array_rows > 1) & ~sram_only, at_once, gemm),
    )


def _static_w(hardware: Hardware, technology: Technology, area: Area, clock_hz: FloatArray) -> FloatArray:
    """Leakage and clock tree in proportion to transistors and clock, and main memory at rest, [D]."""
    rows = technology.node_rows(hardware.node)
    density = technology.node_figure("logic_density", rows)
    base = technology.node_rows(np.full(len(hardware), technology.area.base_node))
    silicon = area.compute_mm2 * density + area.base_content_mm2 * technology.node_figure("logic_density", base)
    stacks = hardware.dram_stacks * technology.dram_figure("static_w", technology.dram_rows(hardware.dram))
    return technology.energy.static_j_per_mm2 * silicon * clock_hz + stacks
