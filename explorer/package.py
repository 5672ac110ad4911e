"""What designs take, whole: area, power and cost of the same designs, computed once and in order."""

from dataclasses import dataclass

from explorer.area import Area, die_area
from explorer.cost import Cost, chip_cost
from explorer.hardware import FloatArray, Hardware
from explorer.power import Power, chip_power
from explorer.technology import Technology


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Package:
    """Silicon, power and money of designs, [D] each."""

    area: Area
    power: Power
    cost: Cost

    def figures(self) -> dict[str, FloatArray]:
        """What limits and reports ask of designs, by the names they ask by."""
        return {
            "die_mm2": self.area.die_mm2,
            "area_mm2": self.area.compute_mm2,
            "tdp_w": self.power.tdp_w,
            "static_w": self.power.static_w,
            "bill_usd": self.cost.bill_usd,
            "usd_per_hour": self.cost.usd_per_hour,
        }


def package_of(hardware: Hardware, technology: Technology) -> Package:
    """Area, then power, which depends on it, then cost, which depends on both.

    Args:
        hardware: designs, [D].
        technology: the figures.
    """
    area = die_area(hardware, technology)
    power = chip_power(hardware, technology, area)
    return Package(area=area, power=power, cost=chip_cost(hardware, technology, area=area, tdp_w=power.tdp_w))
