"""Areas against the die photo that chose the constants, against hand sums, and in the right direction."""

from dataclasses import fields, replace

import numpy as np
import pytest

from explorer.area import die_area
from explorer.errors import ExplorationError
from explorer.hardware import Hardware
from explorer.known import known_chip, known_chips
from explorer.technology import load_technology

TECHNOLOGY = load_technology()


def changed(name, **columns):
    design = known_chip(name)
    return replace(design, **{key: np.array([value]) for key, value in columns.items()})


def test_parts_of_the_ga100_die_photo_come_back():
    area = die_area(known_chip("a100-sxm-80gb"), TECHNOLOGY)
    assert area.cores_mm2[0] == pytest.approx(476.25, rel=1e-3)
    assert area.interconnect[0] == pytest.approx(76.44, rel=1e-3)
    assert area.l2[0] == pytest.approx(119.31, rel=1e-3)
    assert area.dram[0] == pytest.approx(58.0 + 31.77, rel=2e-3)
    assert area.links[0] == pytest.approx(20.95, rel=1e-3)
    assert area.other[0] == 40
    assert area.compute_mm2[0] == pytest.approx(476.25 + 76.44 + 119.31 + 58.0 + 31.77 + 20.95 + 40, rel=1e-3)


def test_parts_of_a_core_are_hand_sums():
    area = die_area(known_chip("a100-sxm-80gb"), TECHNOLOGY)
    assert area.matrix[0] == pytest.approx(128 * 1024 * 854e-6)
    assert area.float64[0] == pytest.approx(128 * 32 * 685_300 / 96.3e6)
    assert area.vector[0] == pytest.approx(128 * 64 * (134_072 + 177_690) / 96.3e6)
    assert area.registers[0] == pytest.approx(128 * 0.25 * 3 * 0.875)
    assert area.sampler[0] == 0


def test_parts_add_up_to_the_dies():
    area = die_area(known_chips(), TECHNOLOGY)
    np.testing.assert_allclose(sum(area.parts().values()), area.compute_mm2)
    np.testing.assert_allclose(area.die_mm2 * area.compute_dies, area.compute_mm2)


@pytest.mark.parametrize(
    "column",
    [
        *("cores", "spare_cores", "matrix_macs", "vector_lanes", "fp64_lanes", "special_lanes", "sampler_lanes"),
        *("register_bytes", "l1_bytes", "l2_bytes", "spare_l2_bytes", "l2_bytes_per_s", "dram_stacks", "spare_stacks"),
        "link_bytes_per_s",
    ],
)
def test_more_of_anything_takes_more_silicon(column):
    design = known_chip("h100-sxm")
    more = replace(design, **{column: getattr(design, column) * 1.5 + 1})
    assert die_area(more, TECHNOLOGY).compute_mm2[0] > die_area(design, TECHNOLOGY).compute_mm2[0]


def test_a_denser_node_takes_less_and_phys_do_not_shrink():
    areas = {node: die_area(changed("h100-sxm", node=node), TECHNOLOGY) for node in ("n12", "n7", "n5", "n3e", "n2")}
    totals = [area.compute_mm2[0] for area in areas.values()]
    assert totals == sorted(totals, reverse=True)
    assert areas["n2"].dram[0] > 6 * 9.67


def test_base_dies_carry_memory_and_links_and_are_no_smaller_than_what_stands_on_them():
    area = die_area(known_chip("mi300x"), TECHNOLOGY)
    assert area.dram[0] == area.links[0] == area.other[0] == 0
    assert area.base_dies[0] == 4
    # 256 MiB of N6 SRAM, 8 HBM sites, 448 GB/s of links and 4 x 40 mm2
    content = 256 * 0.875 * 0.824 + 8 * (9.67 + 5.3 / 1.186) + 448 * 0.0698 + 160
    assert area.base_content_mm2[0] == pytest.approx(content)
    assert area.base_mm2[0] == max(content, area.compute_mm2[0])


def test_two_dies_pay_for_the_crossing_and_have_smaller_crossbars():
    one, two = (die_area(changed("h100-sxm", compute_dies=float(dies)), TECHNOLOGY) for dies in (1, 2))
    assert one.die_to_die[0] == 0
    # half of 9.7 TB/s crosses, with a PHY at both ends
    assert two.die_to_die[0] == pytest.approx(9.7 / 2 * 2 * 0.74)
    assert two.interconnect[0] == pytest.approx(one.interconnect[0] / 2)


def test_a_chip_without_dram_matrix_units_or_l2_has_an_area():
    bare = changed(
        "h100-sxm", dram="none", dram_stacks=0.0, spare_stacks=0.0, matrix_macs=0.0, l2_bytes=0.0, spare_l2_bytes=0.0
    )
    area = die_area(bare, TECHNOLOGY)
    assert area.dram[0] == area.matrix[0] == 0
    assert 0 < area.compute_mm2[0] < die_area(known_chip("h100-sxm"), TECHNOLOGY).compute_mm2[0]


def test_scratchpads_of_arrays_are_dense_memory_and_caches_pay_for_bandwidth():
    cmem = die_area(known_chip("tpu-v4"), TECHNOLOGY)
    assert cmem.l2[0] == pytest.approx(112)  # the 128 MiB of TPUv4i's die photo, at any bandwidth
    assert die_area(changed("tpu-v4", l2_bytes_per_s=8e12), TECHNOLOGY).l2[0] == cmem.l2[0]
    slow, fast = (die_area(changed("h100-sxm", l2_bytes_per_s=rate), TECHNOLOGY).l2[0] for rate in (5e12, 10e12))
    assert fast > 1.2 * slow


@pytest.mark.parametrize("column", ["compute_dies", "cores", "clock_hz"])
def test_nothing_is_one_line(column):
    with pytest.raises(ExplorationError, match=f"{column} of a design must be above 0, got 0"):
        die_area(changed("h100-sxm", **{column: 0.0}), TECHNOLOGY)


def test_unknown_nodes_and_memories_are_one_line():
    with pytest.raises(ExplorationError, match="unknown process node 'n9'; known: n12, n7"):
        die_area(changed("h100-sxm", node="n9"), TECHNOLOGY)
    with pytest.raises(ExplorationError, match="unknown kind of DRAM 'sdram'; known: none, hbm2"):
        die_area(changed("h100-sxm", dram="sdram"), TECHNOLOGY)


def test_designs_do_not_influence_each_other():
    together = die_area(known_chips(), TECHNOLOGY).compute_mm2
    alone = [die_area(known_chip(name), TECHNOLOGY).compute_mm2[0] for name in known_chips().name]
    np.testing.assert_allclose(together, alone, rtol=1e-12)


def test_every_column_of_the_known_chips_is_filled():
    chips = known_chips()
    for column in fields(Hardware):
        values = getattr(chips, column.name)
        assert values.dtype.kind == "U" or np.isfinite(values).all(), column.name
