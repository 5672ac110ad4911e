import dataclasses

import pytest

from reports.errors import ReportError
from reports.subject import Subject, is_same_device
from roofline.chipfile import load_chip


def test_wrong_paradigm_is_refused_with_the_known_ones(decoding):
    with pytest.raises(ReportError, match=r"paradigm must be one of autoregressive, diffusion, other, got 'gan'"):
        dataclasses.replace(decoding, paradigm="gan")


def test_simulation_of_another_trace_is_refused(decoding, denoising):
    with pytest.raises(ReportError, match="simulation has 4 calls of 2 ops, the trace 9 of 3"):
        dataclasses.replace(decoding, simulation=denoising.simulation)


def test_simulation_on_another_chip_is_refused(decoding):
    with pytest.raises(ReportError, match="simulated on chip 'toy', but its chip is 'h100-sxm'"):
        dataclasses.replace(decoding, chip=load_chip("h100-sxm"))


def test_trace_without_calls_is_refused(decoding):
    empty = decoding.trace.select(decoding.trace.calls.step > 99)
    with pytest.raises(ReportError, match="has no calls"):
        Subject(label="empty", trace=empty, chip=decoding.chip)


@pytest.mark.parametrize("figures", [{"tokens": 0}, {"nfe": -1}])
def test_counts_below_one_are_refused(decoding, figures):
    with pytest.raises(ReportError, match="must be >= 1 or None"):
        dataclasses.replace(decoding, **figures)


@pytest.mark.parametrize(
    ("device", "chip", "same"),
    [
        ("NVIDIA H100 80GB HBM3", "h100-sxm", True),
        ("NVIDIA H100 PCIe", "h100-sxm", False),
        ("NVIDIA H200", "h100-sxm", False),
        ("NVIDIA GH100", "h100-sxm", False),
        ("AMD Instinct MI300X", "mi300x", True),
        ("NVIDIA A100-SXM4-80GB", "a100-sxm-80gb", True),
        ("NVIDIA A100-SXM4-40GB", "a100-sxm-80gb", False),  # its memory is slower
        ("NVIDIA A100-PG509-200 (39 GiB)", "a100-sxm-80gb", False),
        ("AMD Instinct MI300X (192 GiB)", "mi300x", True),  # of 192 GB, as it is sold
        ("NVIDIA B200 (179 GiB)", "b200-sxm", True),
        ("NVIDIA RTX A6000", "rtx-a6000", True),
        ("Quadro RTX 6000", "rtx-a6000", False),
        ("NVIDIA L40S", "l40s", True),
        ("Google v5e", "tpu-v5e", False),
        ("Intel(R) Xeon(R) Processor", "h100-sxm", False),
        ("", "h100-sxm", False),
    ],
)
def test_device_names_are_matched_to_chips(device, chip, same):
    assert is_same_device(device, load_chip(chip)) is same


def test_measured_times_of_another_device_are_not_of_this_chip(hostile):
    assert hostile.trace.is_measured
    assert not hostile.is_measured_here
    assert hostile.measured_on == "toy device"


def test_calibrated_machine_is_the_device_that_it_was_measured_on():
    chip = dataclasses.replace(load_chip("h100-sxm"), title="Some Processor, 2 threads", is_measured=True)
    assert is_same_device("Some Processor", chip)
    assert not is_same_device("Other Processor", chip)
    assert not is_same_device("", chip)


def test_a_chip_file_whose_title_is_the_name_of_a_device_is_that_device():
    chip = dataclasses.replace(load_chip("h100-sxm"), name="mine", title="NVIDIA H100 NVL")
    assert is_same_device("NVIDIA H100 NVL", chip)
    assert is_same_device("NVIDIA H100 NVL (80 GiB)", chip)
    assert not is_same_device("NVIDIA H100 PCIe", chip)
    assert not is_same_device("NVIDIA H100 NVL (24 GiB)", chip)  # a part of it
