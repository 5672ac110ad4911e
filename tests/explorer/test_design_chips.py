"""Designs as columns are the designs as chips; templates fill knobs and name what cannot be built."""

from dataclasses import fields

import numpy as np
import pytest

from explorer.design_chips import chip_columns, design_chip, same_levels
from explorer.errors import ExplorationError
from explorer.technology import load_technology
from explorer.templates.template import list_templates, load_template
from roofline.chipfile import load_chip
from simulator.chip_columns import ChipColumns

CALIBRATION = (("matrix_efficiency", 0.9), ("memory_efficiency", 0.8), ("gemm.t0_s", 1e-6), ("wave_s", 1e-7))


def build(template, **knobs):
    found = load_template(template)
    return found.hardware(found.fill({name: np.array(column) for name, column in knobs.items()}), load_technology())


@pytest.mark.parametrize("calibration", [(), CALIBRATION])
@pytest.mark.parametrize(
    ("template", "knobs"),
    [
        ("gpu", {"cores": [96, 144], "matrix_macs": [1024, 4096], "dram": ["hbm3", "hbm3e"], "fp64_lanes": [0, 64]}),
        ("systolic", {"array_rows": [128, 256], "vector_lanes": [2048, 4096], "dram": ["hbm2e", "lpddr5x"]}),
        ("dataflow", {"chips": [1, 8], "clock_ghz": [0.9, 1.5]}),
    ],
)
def test_columns_are_those_of_the_chips(template, knobs, calibration):
    hardware = build(template, **knobs)
    assert len(np.unique(same_levels(hardware))) == 1
    together = chip_columns(hardware, calibration)
    for row in range(len(hardware)):
        alone = ChipColumns.from_chips([design_chip(hardware, row, calibration=calibration)])
        for column in fields(ChipColumns):
            if column.name in ("names", "calibrations"):
                continue
            expected, found = getattr(alone, column.name), np.asarray(getattr(together, column.name))[..., row]
            assert found == pytest.approx(expected[..., 0], rel=1e-12), column.name
        assert together.constant("t0_s", "gemm", default=0.0)[row] == alone.constant("t0_s", "gemm", default=0.0)[0]


def test_default_gpu_is_an_h100():
    chip, real = design_chip(build("gpu"), 0), load_chip("h100-sxm")
    for dtype in ("bfloat16", "float8_e4m3fn", "float32"):
        assert chip.matrix_flops_per_s(dtype) == pytest.approx(real.matrix_flops_per_s(dtype), rel=1e-3), dtype
    assert chip.vector_flops_per_s("float64") == pytest.approx(real.vector_flops_per_s("float64"), rel=1e-3)
    assert chip.main_memory.bandwidth_bytes_per_s == pytest.approx(real.main_memory.bandwidth_bytes_per_s, rel=0.01)
    assert chip.main_memory.capacity_bytes == pytest.approx(real.main_memory.capacity_bytes, rel=0.01)
    assert [memory.name for memory in chip.memories] == ["l1", "l2", "dram"]
    assert chip.memory("l2").capacity_bytes == real.memory("l2").capacity_bytes


def test_designs_of_different_memories_are_refused_together():
    hardware = build("gpu", l2_mib=[50, 0])
    with pytest.raises(ExplorationError, match="planned apart"):
        chip_columns(hardware)


def test_every_template_builds_its_defaults():
    assert list_templates() == ("dataflow", "gpu", "systolic")
    for name in list_templates():
        template = load_template(name)
        values = template.fill({})
        assert len(template.hardware(values, load_technology())) == 1
        assert not any(holds.any() for _, holds in template.dead(values))
        assert all(knob.meaning for knob in template.knobs)


def test_knobs_are_checked():
    gpu = load_template("gpu")
    with pytest.raises(ExplorationError, match="did you mean 'cores'"):
        gpu.fill({"coers": np.array([1])})
    with pytest.raises(ExplorationError, match="node must be text, got"):
        gpu.fill({"node": np.array([4])})
    with pytest.raises(ExplorationError, match=r"'gpv'; did you mean 'gpu'\? known: dataflow, gpu, systolic"):
        load_template("gpv")
    dead = dict(gpu.dead(gpu.fill({"matrix_macs": np.array([2048, 1001]), "compute_dies": np.array([1, 5])})))
    assert dead["matrix_macs is no multiple of matrix_units"].tolist() == [False, True]
    assert dead["cores is no multiple of compute_dies"].tolist() == [False, True]
