"""What designs cost: dies, memory and package as a bill of materials, and the dollars of an hour and of a million."""

from dataclasses import dataclass

import numpy as np

from explorer.area import Area, die_area
from explorer.hardware import FloatArray, Hardware
from explorer.power import chip_power
from explorer.technology import Technology
from explorer.yields import YieldModel, dies_per_wafer, harvested_yield, yield_ratio

_MIB = 2.0**20
_J_PER_KWH = 3.6e6
_S_PER_HOUR = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cost:
    """Money of designs in USD, [D] each.

    Attributes:
        die_yield: part of compute dies that can be sold, spares used.
        logic_usd: compute dies and base dies of one package.
        dram_usd: main memory.
        packaging_usd: interposer, or substrate where none is needed.
        test_usd: test, assembly, and the good parts that are lost in it.
        masks_usd: masks of the compute die, once; not in `bill_usd`.
        price_usd: bill times the usual ratio of price to bill, an assumption.
        capital_usd_per_hour: price, server, network and interest over the lifetime, per hour of service.
        energy_usd_per_hour: electricity per hour of service.
    """

    die_yield: FloatArray
    logic_usd: FloatArray
    dram_usd: FloatArray
    packaging_usd: FloatArray
    test_usd: FloatArray
    masks_usd: FloatArray
    price_usd: FloatArray
    capital_usd_per_hour: FloatArray
    energy_usd_per_hour: FloatArray

    @property
    def bill_usd(self) -> FloatArray:
        """Bill of materials: dies, memory, package, test and assembly, [D]."""
        return self.logic_usd + self.dram_usd + self.packaging_usd + self.test_usd

    @property
    def usd_per_hour(self) -> FloatArray:
        """Capital and electricity of an hour of service, [D]."""
        return self.capital_usd_per_hour + self.energy_usd_per_hour

    def usd_per_million(self, per_s: FloatArray) -> FloatArray:
        """Dollars of a million tokens or images at a rate of them, [D]; NaN where the rate is 0 or unknown.

        Args:
            per_s: tokens or images per second that a design delivers, [D].
        """
        hourly = np.asarray(per_s, dtype=np.float64) * _S_PER_HOUR
        unknown = np.full(np.broadcast_shapes(self.usd_per_hour.shape, hourly.shape), np.nan)
        dollars: FloatArray = np.divide(self.usd_per_hour * 1e6, hourly, out=unknown, where=hourly > 0)
        return dollars


def chip_cost(
    hardware: Hardware,
    technology: Technology,
    *,
    area: Area | None = None,
    tdp_w: FloatArray | None = None,
    model: YieldModel = YieldModel.negative_binomial,
) -> Cost:
    """Bill of materials and cost of an hour of each design.

    Args:
        hardware: designs, [D].
        technology: the figures.
        area: their area where it is known already, else it is computed.
        tdp_w: their TDP where it is known already, [D].
        model: how defects are spread.
    """
    figures = technology.cost
    area = die_area(hardware, technology) if area is None else area
    tdp_w = chip_power(hardware, technology, area).tdp_w if tdp_w is None else tdp_w
    rows = technology.node_rows(hardware.node)
    kind = technology.dram_rows(hardware.dram)
    good = _die_yield(hardware, technology, area, model)
    base_rows = technology.node_rows(np.full(len(hardware), technology.area.base_node))
    base_defects = technology.node_figure("defects_per_cm2", base_rows)
    base_good = yield_ratio(area.base_die_mm2, base_defects, model, figures.clustering)
    logic = _dies_usd(technology, area.die_mm2, area.compute_dies, rows, good)
    logic = logic + _dies_usd(technology, area.base_die_mm2, area.base_dies, base_rows, base_good)
    dram = hardware.dram_bytes / 1e9 * technology.dram_figure("usd_per_gb", kind)
    interposer = technology.dram_figure("interposer", kind) > 0
    sites = hardware.dram_stacks + hardware.spare_stacks
    packages = np.where(interposer, 1.0, hardware.compute_dies)  # without an interposer each die has its own
    on_package = np.where(area.base_dies > 0, area.base_mm2, area.compute_mm2)
    on_package = on_package + sites * technology.dram_figure("stack_mm2", kind)
    packaging = np.where(interposer, on_package * figures.interposer_usd_per_mm2, figures.substrate_usd * packages)
    lost = np.where(interposer, figures.interposer_loss, figures.substrate_loss) * (logic + dram + packaging)
    test = lost + figures.test_usd * packages
    price = (logic + dram + packaging + test) * figures.price_over_bill
    server = price * (figures.server_price_ratio + figures.network_ratio) * (1 + figures.capital_ratio)
    served_hours = figures.lifetime_s / _S_PER_HOUR * figures.utilization
    wall_w = tdp_w * figures.load * figures.server_power_ratio * figures.pue
    return Cost(
        die_yield=good,
        logic_usd=logic,
        dram_usd=dram,
        packaging_usd=packaging,
        test_usd=test,
        masks_usd=technology.node_figure("masks_usd", rows),
        price_usd=price,
        capital_usd_per_hour=server / served_hours,
        energy_usd_per_hour=wall_w * _S_PER_HOUR / _J_PER_KWH * figures.electricity_usd_per_kwh,
    )


def _die_yield(hardware: Hardware, technology: Technology, area: Area, model: YieldModel) -> FloatArray:
    """Part of compute dies that can be sold, [D].

    A defect in a core, in a MiB of L2 or in the PHY of a stack costs a spare one; elsewhere it costs the die.
    """
    defects = technology.node_figure("defects_per_cm2", technology.node_rows(hardware.node))
    clustering = technology.cost.clustering
    dies = hardware.compute_dies
    good = np.ones(len(hardware))
    rest = area.die_mm2
    for mm2, working, spare in (
        (area.cores_mm2, hardware.cores, hardware.spare_cores),
        (area.l2, hardware.l2_bytes / _MIB, hardware.spare_l2_bytes / _MIB),
        (area.dram, hardware.dram_stacks, hardware.spare_stacks),
    ):
        spared = spare / dies >= 1
        blocks = np.maximum((working + spare) / dies, 1.0)
        of_block = yield_ratio(mm2 / dies / blocks, defects, model, clustering)
        good = good * np.where(spared, harvested_yield(of_block, blocks, spare / dies), 1.0)
        rest = rest - np.where(spared, mm2 / dies, 0.0)
    return good * yield_ratio(np.maximum(rest, 0.0), defects, model, clustering)


def _dies_usd(
    technology: Technology, die_mm2: FloatArray, dies: FloatArray, rows: np.ndarray, good: FloatArray
) -> FloatArray:
    """Dies of one package in USD, [D]; infinite where no die fits the wafer."""
    per_wafer = dies_per_wafer(die_mm2, technology.cost.wafer_mm) * good
    wafer = technology.node_figure("wafer_usd", rows)
    each = np.divide(wafer, per_wafer, out=np.full(len(dies), np.inf), where=per_wafer > 0)
    return np.where(dies > 0, dies * np.where(dies > 0, each, 0.0), 0.0)
