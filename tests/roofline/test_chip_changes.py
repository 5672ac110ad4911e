import pytest

from roofline.chip import Chip, Memory
from roofline.chip_changes import change_chip
from roofline.chipfile import load_chip
from roofline.errors import ChipError


@pytest.fixture
def chip() -> Chip:
    return Chip(
        name="example",
        title="Example",
        family="none",
        clock_hz=1e9,
        cores=100,
        launch_s=2e-6,
        matrix_macs=(("bfloat16", 500.0), ("int8", 1000.0)),
        vector_flops=(("float32", 100.0),),
        special_flops=10,
        memories=(
            Memory(name="l1", capacity_bytes=1e7, bandwidth_bytes_per_s=1e13, latency_s=2e-8, per_core=True),
            Memory(name="hbm", capacity_bytes=8e10, bandwidth_bytes_per_s=1e12, latency_s=5e-7),
        ),
    )


def test_twice_the_bandwidth_halves_the_ridge_point(chip):
    """2 x 500 x 100 x 1e9 = 100 TFLOP/s over 2 TB/s are 50 FLOP/byte."""
    changed = change_chip(chip, "hbm.bandwidth_bytes_per_s*2")
    assert changed.ridge_flops_per_byte("bfloat16") == 50.0
    assert changed.memory("l1") == chip.memory("l1")
    assert change_chip(chip, "hbm.bandwidth_bytes_per_s=2e12") == changed


def test_more_cores_bring_their_own_memory_and_a_higher_clock_its_rate(chip):
    more = change_chip(chip, "cores*1.5")
    assert (more.cores, more.memory("l1").capacity_bytes, more.memory("l1").bandwidth_bytes_per_s) == (
        150,
        1.5e7,
        1.5e13,
    )
    assert more.memory("hbm") == chip.memory("hbm")
    faster = change_chip(chip, "clock_hz=2e9")
    assert faster.matrix_flops_per_s("bfloat16") == 2e14
    assert (faster.memory("l1").capacity_bytes, faster.memory("l1").bandwidth_bytes_per_s) == (1e7, 2e13)


def test_changes_with_commas_are_made_together(chip):
    changed = change_chip(chip, "matrix*2, vector*0.5, launch_s=0, hbm.latency_s*2")
    assert changed.matrix_macs == (("bfloat16", 1000.0), ("int8", 2000.0))
    assert changed.vector_flops == (("float32", 50.0),)
    assert (changed.launch_s, changed.memory("hbm").latency_s) == (0.0, 1e-6)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hbm.bandwith*2", r"has no figure 'hbm.bandwith'; did you mean 'hbm.bandwidth_bytes_per_s'\?"),
        ("l3.latency_s*2", "has no figure 'l3.latency_s'"),
        ("cores", r"'cores' must be a figure with =value or \*factor"),
        ("cores*x", "'cores\\*x' must be a figure"),
        ("cores*1.001", r"must give a whole number of cores, got 100\.1"),
        ("matrix=3", r"takes a factor, such as matrix\*2"),
        ("tdp_w*2", "has no tdp_w to multiply"),
        ("hbm.bandwidth_bytes_per_s*0", "must be > 0"),
        ("clock_hz=0", "clock_hz must be > 0"),
        ("tdp_w=0", r"power\.tdp_w must be > 0"),
        (" , ", "nothing given"),
    ],
)
def test_what_is_no_change_is_one_line(chip, text, message):
    with pytest.raises(ChipError, match=message) as error:
        change_chip(chip, text)
    assert "\n" not in str(error.value)


def test_shipped_chip_keeps_its_constants():
    chip = load_chip("h100-sxm")
    assert change_chip(chip, "hbm.bandwidth_bytes_per_s*2").calibration == chip.calibration
