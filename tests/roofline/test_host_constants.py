"""Constants of eager programs on a CPU from times that are made up, by hand; they survive the chip file."""

from dataclasses import replace

import pytest

from profiler.measurements import BandwidthPoint, MachineMeasurements, Measurement
from profiler.provenance import Provenance
from roofline.calibration import chip_from_measurements
from roofline.chipfile import load_chip, save_chip
from roofline.host_constants import host_constants

MIB = 2**20
# A matrix of 1024 x 1024 float32 is 4 MiB. Sixteen rows take 2 ms and 128 take 9 ms, so a row takes 62.5 us.
TIMES_S = {
    "near call": 3e-6,
    "near linear": 5e-6,
    "near convolution": 12e-6,
    "near norm": 20e-6,
    "near layer_norm": 8e-6,
    "near gelu": 18e-6,
    "near attention": 15e-6,
    "near module": 58e-6,
    "far call": 30e-6,
    "alone": 2e-6,
    "together": 6e-6,
    "1 rows float32": 0.5e-3,
    "16 rows float32": 2e-3,
    "128 rows float32": 9e-3,
    "1 held rows float32": 0.1e-3,
    "16 held rows float32": 1.5e-3,
}
RATES = {
    "many queries": ("flops_per_s", 70e9),
    "one query": ("bytes_per_s", 12e9),
    "norm elements": ("elements_per_s", 3e9),
    "function elements": ("elements_per_s", 2e9),
    "argmax elements": ("elements_per_s", 1e9),
    "fresh": ("bytes_per_s", 2e9),
    "convolution 3": ("flops_per_s", 120e9),
    "convolution 1": ("flops_per_s", 60e9),
}


def figure(name: str, value: float, unit: str = "s") -> Measurement:
    return Measurement(name=name, value=value, unit=unit, spread=0.01, runs=9, conditions="made up")  # type: ignore[arg-type]


def point(mib: int, read: float, both: float) -> BandwidthPoint:
    return BandwidthPoint(
        working_set_bytes=mib * MIB,
        read=figure(f"read {mib}", read, "bytes_per_s"),
        read_write=figure(f"read and write {mib}", both, "bytes_per_s"),
    )


@pytest.fixture
def measured() -> MachineMeasurements:
    times = [figure(f"eager {name}", value) for name, value in TIMES_S.items()]
    rates = [figure(f"eager {name}", value, unit) for name, (unit, value) in RATES.items()]
    return MachineMeasurements(
        device_type="cpu",
        device_name="Test CPU",
        cores=2,
        clock_hz=2e9,
        main_memory_bytes=2**34,
        matmul=(("float32", figure("matmul float32", 50e9, "flops_per_s")),),
        exponential=figure("exponential", 8e9, "flops_per_s"),
        bandwidth=(point(4, 90e9, 80e9), point(8, 70e9, 75e9), point(64, 20e9, 22e9), point(256, 21e9, 25e9)),
        dispatch=figure("dispatch", 1e-6),
        kernels=(figure("sort", 2e7, "elements_per_s"), figure("topk", 1e9, "elements_per_s")),
        eager=(*times, *rates),
        eager_reaches=(8 * MIB, 64 * MIB),
        provenance=Provenance(source="test", created_utc="2026-01-02T03:04:05+00:00"),
    )


def test_constants_by_hand(measured):
    found = {each.name: each.value for each in host_constants(measured)}
    assert found["gemm.float32.flops_per_s"] == pytest.approx(2 * 1024**2 / 62.5e-6)
    assert found["gemm.float32.row_bytes_per_s"] == pytest.approx(4 * MIB / 0.5e-3)
    # 16 rows of 62.5 us are 1 ms: the weights take the other one from main memory, and half of one from a cache
    assert found["gemm.float32.weight_bytes_per_s"] == pytest.approx(4 * MIB / 1e-3)
    assert found["gemm.float32.held_weight_bytes_per_s"] == pytest.approx(4 * MIB / 0.5e-3)
    assert found["gemm.float32.held_row_bytes_per_s"] == pytest.approx(4 * MIB / 0.1e-3)
    # a norm, two linear layers and four calls are 30 us of the block's 58: 4 us of Python for each of seven
    assert found["python_s"] == pytest.approx(4e-6)
    assert found["fork_s"] == pytest.approx(4e-6)
    assert (found["near_s"], found["far_s"], found["norm.near_s"]) == (3e-6, 30e-6, 20e-6)
    # as many FLOPs at 120 as at 60 GFLOP/s
    assert found["conv.flops_per_s"] == pytest.approx(80e9)
    # the largest set that is no larger than what was streamed, and the middle one of those beyond the caches
    assert (found["near_bytes_per_s"], found["far_bytes_per_s"]) == (75e9, 22e9)
    assert found["sort.elements_per_s"] == 2e7


def test_chip_file_keeps_the_constants_and_tells_where_each_comes_from(measured, tmp_path):
    chip = chip_from_measurements(measured).chip
    assert load_chip(save_chip(chip, tmp_path / "mine.toml")) == chip
    assert dict(chip.calibration)["eager.host.python_s"] == pytest.approx(4e-6)
    told = dict(chip.sources)["calibration.eager.host.fork_s"]
    assert "Test CPU 2026-01-02: eager alone" in told and "eager together" in told


def test_noise_that_turns_a_difference_around_leaves_rates_finite(measured):
    slower = {"eager near module": 1e-6, "eager together": 1e-6, "eager 16 rows float32": 20e-3}
    eager = tuple(replace(each, value=slower.get(each.name, each.value)) for each in measured.eager)
    found = {each.name: each.value for each in host_constants(replace(measured, eager=eager))}
    assert found["python_s"] == found["fork_s"] == 0.0
    assert found["gemm.float32.flops_per_s"] == 50e9  # no faster than the peak


def test_weights_come_no_faster_than_anything_else(measured):
    """Sixteen rows take no longer than their arithmetic: what remains for the weights is less than nothing."""
    quick = {"eager 16 rows float32": 0.9e-3, "eager 128 rows float32": 8e-3}
    eager = tuple(replace(each, value=quick.get(each.name, each.value)) for each in measured.eager)
    found = {each.name: each.value for each in host_constants(replace(measured, eager=eager))}
    assert found["gemm.float32.weight_bytes_per_s"] == pytest.approx(90e9)


def test_a_device_without_such_figures_has_no_constants(measured):
    assert host_constants(replace(measured, eager=())) == ()
    assert chip_from_measurements(replace(measured, eager=())).chip.calibration == ()
