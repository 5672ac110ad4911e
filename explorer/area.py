"""Die area of designs, part by part, from counts of units, bytes of memory and a process node."""

from dataclasses import dataclass, fields

import numpy as np

from explorer.errors import ExplorationError
from explorer.hardware import FloatArray, Hardware
from explorer.technology import Technology

_MIB = 2.0**20


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Area:
    """Silicon of designs in mm2, [D] each, all compute dies together, spare parts included.

    Attributes:
        matrix, vector, special, float64, control, registers, l1, sampler, core_other: parts of the cores.
        l2: cache shared by the cores; on systolic chips a scratchpad, without tags and queues.
        interconnect: crossbar between cores and L2.
        dram: PHYs and controllers of main memory, unused sites included.
        links: to other devices.
        die_to_die: between compute dies that share one cache and stand on no base die.
        other: host interface, front end, clocks, edges.
        base_content_mm2: what base dies below the compute dies carry: last cache, DRAM, links, `other`; 0 without.
        compute_dies: dies over which the compute silicon is spread.
        base_dies: dies over which the base silicon is spread.
    """

    matrix: FloatArray
    vector: FloatArray
    special: FloatArray
    float64: FloatArray
    control: FloatArray
    registers: FloatArray
    l1: FloatArray
    sampler: FloatArray
    core_other: FloatArray
    l2: FloatArray
    interconnect: FloatArray
    dram: FloatArray
    links: FloatArray
    die_to_die: FloatArray
    other: FloatArray
    base_content_mm2: FloatArray
    compute_dies: FloatArray
    base_dies: FloatArray

    @property
    def cores_mm2(self) -> FloatArray:
        """All cores, spare ones included, [D]."""
        parts = (self.matrix, self.vector, self.special, self.float64, self.control)
        memories = (self.registers, self.l1, self.sampler, self.core_other)
        total: FloatArray = np.sum((*parts, *memories), axis=0, dtype=np.float64)
        return total

    @property
    def compute_mm2(self) -> FloatArray:
        """All compute dies, [D]."""
        return self.cores_mm2 + self.l2 + self.interconnect + self.dram + self.links + self.die_to_die + self.other

    @property
    def die_mm2(self) -> FloatArray:
        """One compute die, [D]: what must fit a reticle."""
        return self.compute_mm2 / self.compute_dies

    @property
    def base_mm2(self) -> FloatArray:
        """All base dies, [D]: compute dies stand on them, so they are no smaller; 0 without."""
        return np.where(self.base_dies > 0, np.maximum(self.base_content_mm2, self.compute_mm2), 0.0)

    @property
    def base_die_mm2(self) -> FloatArray:
        """One base die, [D]; 0 without."""
        return self.base_mm2 / np.maximum(self.base_dies, 1.0)

    def parts(self) -> dict[str, FloatArray]:
        """Every part of the compute dies by name; they add up to `compute_mm2`."""
        beside = {"base_content_mm2", "compute_dies", "base_dies"}
        return {part.name: getattr(self, part.name) for part in fields(self) if part.name not in beside}


def die_area(hardware: Hardware, technology: Technology) -> Area:
    """Silicon of each design, part by part; constants and sources in `technology.toml`, equations in the docs.

    Args:
        hardware: designs, [D].
        technology: the figures.

    Raises:
        ExplorationError: a node or kind of DRAM that the technology does not know, or no dies, cores or clock.
    """
    for name in ("compute_dies", "cores", "clock_hz"):
        if not (getattr(hardware, name) > 0).all():
            raise ExplorationError(f"{name} of a design must be above 0, got {getattr(hardware, name).min():g}")
    figures = technology.area
    node = technology.node_rows(hardware.node)
    density = technology.node_figure("logic_density", node)
    sram = technology.node_figure("sram_ratio", node)
    cores = hardware.cores + hardware.spare_cores
    logic = cores / (figures.transistors_per_mm2 * density)
    stacked = hardware.llc_bytes > 0
    systolic = hardware.array_rows > 1
    beside = _memory_and_links(hardware, technology, density)
    # bytes that the whole L2 would move per clock, switched-off parts included
    l2_bytes = hardware.l2_bytes + hardware.spare_l2_bytes
    whole = np.divide(l2_bytes, hardware.l2_bytes, out=np.zeros_like(l2_bytes), where=hardware.l2_bytes > 0)
    l2_per_clock = hardware.l2_bytes_per_s / hardware.clock_hz * whole
    # of evenly spread traffic this part is for another die than the core's
    crossing_tb_per_s = hardware.l2_bytes_per_s / 1e12 * (1 - 1 / hardware.compute_dies)
    remainder = np.where(systolic, figures.systolic_core_mm2, figures.core_mm2)
    lane_transistors = figures.float32_transistors + figures.integer_transistors
    return Area(
        matrix=cores * hardware.matrix_macs * figures.matrix_mm2_per_mac / density,
        vector=logic * hardware.vector_lanes * lane_transistors,
        special=logic * hardware.special_lanes * figures.special_transistors,
        float64=logic * hardware.fp64_lanes * figures.float64_transistors,
        control=np.where(systolic, 0.0, logic * hardware.vector_lanes * figures.control_transistors),
        registers=cores * hardware.register_bytes / _MIB * figures.register_mm2_per_mib * sram,
        l1=cores * hardware.l1_bytes / _MIB * figures.l1_mm2_per_mib * sram,
        sampler=logic * hardware.sampler_lanes * figures.sampler_transistors,
        core_other=cores * remainder / density,
        l2=l2_bytes / _MIB * figures.sram_mm2_per_mib * sram
        + np.where(systolic, 0.0, l2_per_clock * figures.l2_mm2_per_byte_per_clock / density),
        interconnect=cores * l2_per_clock / hardware.compute_dies * figures.crossbar_mm2_per_port_pair / density,
        dram=np.where(stacked, 0.0, beside[0]),
        links=np.where(stacked, 0.0, beside[1]),
        die_to_die=np.where(stacked | systolic, 0.0, crossing_tb_per_s * 2 * figures.die_to_die_mm2_s_per_tb),
        other=np.where(stacked, 0.0, figures.other_mm2 * hardware.compute_dies),
        base_content_mm2=_base_content(hardware, technology),
        compute_dies=hardware.compute_dies,
        base_dies=np.where(stacked, np.ceil(hardware.compute_dies / figures.compute_dies_per_base_die), 0.0),
    )


def _memory_and_links(
    hardware: Hardware, technology: Technology, density: FloatArray, node: str | None = None
) -> tuple[FloatArray, FloatArray]:
    """PHYs and controllers of main memory, and links, in mm2 on silicon of a density (or of a named node), [D]."""
    names = hardware.node if node is None else np.full(len(hardware), node)
    rows = technology.node_rows(names)
    kind = technology.dram_rows(hardware.dram)
    sites = hardware.dram_stacks + hardware.spare_stacks
    per_site = technology.dram_figure("phy_mm2", kind) + technology.dram_figure("controller_mm2", kind) / density
    links = hardware.link_bytes_per_s / 1e9 * technology.node_figure("link_phy_mm2_s_per_gb", rows)
    return sites * per_site, links


def _base_content(hardware: Hardware, technology: Technology) -> FloatArray:
    """What base dies carry in mm2, [D]: last cache, DRAM, links and the rest; 0 without base dies."""
    figures = technology.area
    if not (hardware.llc_bytes > 0).any():
        return np.zeros(len(hardware))
    rows = technology.node_rows(np.full(len(hardware), figures.base_node))
    density = technology.node_figure("logic_density", rows)
    dram, links = _memory_and_links(hardware, technology, density, figures.base_node)
    cache = hardware.llc_bytes / _MIB * figures.sram_mm2_per_mib * technology.node_figure("sram_ratio", rows)
    other = figures.other_mm2 * np.ceil(hardware.compute_dies / figures.compute_dies_per_base_die)
    return np.where(hardware.llc_bytes > 0, cache + dram + links + other, 0.0)
