"""Records of the figures of a technology file: process nodes, kinds of DRAM, and constants of area, energy and cost."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessNode:
    """One process node; ratios are against N7."""

    name: str
    logic_density: float
    sram_ratio: float
    energy_ratio: float
    clock_hz: float
    link_phy_mm2_s_per_gb: float
    wafer_usd: float
    defects_per_cm2: float
    masks_usd: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DramKind:
    """One kind of main memory; figures are per stack, or per device of 32 bits."""

    name: str
    bytes_per_s: float
    capacity_bytes: float
    phy_mm2: float
    controller_mm2: float
    stack_mm2: float
    j_per_bit: float
    static_w: float
    usd_per_gb: float
    interposer: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class AreaConstants:
    """Area of units and memories at N7; `explorer.area` says how they add up."""

    transistors_per_mm2: float
    matrix_mm2_per_mac: float
    float32_transistors: float
    integer_transistors: float
    float64_transistors: float
    control_transistors: float
    special_transistors: float
    sampler_transistors: float
    core_mm2: float
    systolic_core_mm2: float
    sram_mm2_per_mib: float
    l1_mm2_per_mib: float
    register_mm2_per_mib: float
    l2_mm2_per_byte_per_clock: float
    crossbar_mm2_per_port_pair: float
    die_to_die_mm2_s_per_tb: float
    other_mm2: float
    base_node: str
    compute_dies_per_base_die: float
    reticle_mm2: float


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyConstants:
    """Energy of operations and bytes at N7; `explorer.power` says how they add up."""

    mac_j: float
    operand_j: float
    vector_fma_j: float
    l1_j_per_byte: float
    l2_j_per_byte: float
    wire_j_per_byte_per_mm: float
    wire_length_ratio: float
    link_j_per_bit: float
    voltage_slope: float
    static_j_per_mm2: float
    gemm_part_of_peak: float
    gemm_outputs_per_mac: float
    gemm_size: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CostConstants:
    """Money: wafers, packages, servers, electricity; `explorer.cost` says how they add up."""

    wafer_mm: float
    clustering: float
    interposer_usd_per_mm2: float
    interposer_loss: float
    substrate_usd: float
    substrate_loss: float
    test_usd: float
    price_over_bill: float
    server_price_ratio: float
    server_power_ratio: float
    network_ratio: float
    lifetime_s: float
    capital_ratio: float
    electricity_usd_per_kwh: float
    pue: float
    load: float
    utilization: float
