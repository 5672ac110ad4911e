"""Any design in a wide range has a finite, positive area, power and cost, of which each is the sum of its parts."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from explorer.area import die_area
from explorer.cost import chip_cost
from explorer.hardware import Hardware
from explorer.power import chip_power
from explorer.technology import load_technology
from explorer.yields import YieldModel

TECHNOLOGY = load_technology()
NODES = [node.name for node in TECHNOLOGY.nodes]
DRAMS = [dram.name for dram in TECHNOLOGY.drams]
RANGES = {
    "compute_dies": [1, 2, 8],
    "cores": [1, 132, 2000],
    "spare_cores": [0, 1, 12],
    "clock_hz": [1e8, 1.5e9, 4e9],
    "matrix_macs": [0, 64, 2048, 262144],
    "matrix_units": [0, 1, 4],
    "array_rows": [1, 128],
    "array_columns": [1, 128],
    "vector_lanes": [0, 1, 4096],
    "fp64_lanes": [0, 64],
    "special_lanes": [0, 1024],
    "sampler_lanes": [0, 32],
    "register_bytes": [0, 2**18],
    "l1_bytes": [0, 2**24],
    "l2_bytes": [0, 2**27],
    "spare_l2_bytes": [0, 2**22],
    "l2_bytes_per_s": [0, 1e13],
    "llc_bytes": [0, 2**28],
    "dram_stacks": [0, 1, 8],
    "spare_stacks": [0, 1],
    "dram_bytes": [1e8, 288e9],
    "dram_bytes_per_s": [1e10, 22e12],
    "link_bytes_per_s": [0, 1.8e12],
    "launch_s": [0, 1e-6],
    "host_dispatch_s": [0, 5e-6],
}


def designs(count=6):
    columns = {
        name: st.lists(st.sampled_from(values), min_size=count, max_size=count) for name, values in RANGES.items()
    }
    texts = {
        "name": st.just([f"d{i}" for i in range(count)]),
        "node": st.lists(st.sampled_from(NODES), min_size=count, max_size=count),
        "dram": st.lists(st.sampled_from(DRAMS), min_size=count, max_size=count),
    }
    return st.fixed_dictionaries({**columns, **texts}).map(
        lambda drawn: Hardware(
            **{name: np.array(values, dtype=np.str_ if name in texts else np.float64) for name, values in drawn.items()}
        )
    )


@settings(max_examples=60, deadline=None)
@given(hardware=designs(), model=st.sampled_from(list(YieldModel)))
def test_any_design_has_an_area_a_power_and_a_cost(hardware, model):
    area = die_area(hardware, TECHNOLOGY)
    for part in area.parts().values():
        assert (part >= 0).all()
    assert np.isfinite(area.compute_mm2).all()
    assert (area.base_mm2 >= np.where(hardware.llc_bytes > 0, area.compute_mm2, 0)).all()
    power = chip_power(hardware, TECHNOLOGY, area)
    assert (power.matrix_j_per_flop > 0).all()
    assert (power.dram_j_per_byte > 0).all()
    assert (power.tdp_w > power.static_w).all()
    cost = chip_cost(hardware, TECHNOLOGY, area=area, tdp_w=power.tdp_w, model=model)
    assert ((cost.die_yield >= 0) & (cost.die_yield <= 1)).all()
    assert not np.isnan(cost.usd_per_hour).any()
    assert (cost.bill_usd > 0).all()
