"""The chart of designs opens on something: workloads that no design holds are not offered."""

import numpy as np
import pandas as pd

from explorer.objectives import COSTS_PER_UNIT
from reports.charts.exploration import front_chart


def menu(chart, name):
    """(options, what is chosen at first) of a menu below the chart."""
    found = next(each for each in chart["params"] if each["name"] == f"chosen_{name}")
    return found["bind"]["options"], found["value"]


def test_the_first_view_has_designs():
    designs = pd.DataFrame(
        {
            "design": [1, 2],
            "on_front": [True, False],
            "cores": [96, 132],
            "area_mm2": [500.0, 700.0],
            "tdp_w": [400.0, 600.0],
            "bill_usd": [2000.0, 3000.0],
        }
    )
    for prefix, value in (("", np.nan), ("small.", 1.0), ("huge.", np.nan)):
        designs = designs.assign(**{f"{prefix}{name}": value for name in (*COSTS_PER_UNIT, "memory_part")})
    chart = front_chart(designs, ["huge", "small"], ["cores"], ["seconds_per_unit"]).to_dict()
    assert menu(chart, "workload") == (["small"], "small")
    whole = designs.assign(**dict.fromkeys(COSTS_PER_UNIT, 2.0))
    chart = front_chart(whole, ["huge", "small"], ["cores"], ["seconds_per_unit"]).to_dict()
    assert menu(chart, "workload") == (["all, weighted", "small"], "all, weighted")
