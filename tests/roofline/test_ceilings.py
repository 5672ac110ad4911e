"""Ceilings of a chip."""

from roofline.ceilings import ceilings


def test_ceilings_name_every_peak_and_bandwidth(toy_chip):
    lines = {ceiling.label: ceiling for ceiling in ceilings(toy_chip)}
    assert list(lines) == ["bfloat16 matrix", "float32 vector", "l2", "hbm"]
    assert lines["bfloat16 matrix"].flops_per_s == 1e13
    assert lines["float32 vector"].flops_per_s == 1e11
    assert lines["hbm"].bytes_per_s == 1e11
    assert lines["hbm"].flops_per_s is None
