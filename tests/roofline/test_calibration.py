"""From measurements to a chip: levels of a made-up ladder, rates that come back, notes on what is doubtful."""

from dataclasses import replace

import pytest

from profiler.measurements import BandwidthPoint, CacheSize, MachineMeasurements, Measurement
from profiler.provenance import Provenance
from roofline.calibration import chip_from_measurements
from roofline.chipfile import load_chip, save_chip
from roofline.errors import ChipError
from roofline.memory_levels import find_levels

KIB, MIB, GIB = 2**10, 2**20, 2**30
CACHES = (
    CacheSize(name="l1", capacity_bytes=48 * KIB, per_core=True),
    CacheSize(name="l2", capacity_bytes=2 * MIB, per_core=True),
    CacheSize(name="l3", capacity_bytes=480 * MIB, per_core=False),
)
# Working set [KiB] to GB/s of two cores: plateaus at 340, about 260, 58 (which ends at 64 MiB) and 30.
LADDER = {16: 331, 32: 340, 64: 338, 128: 260, 512: 258, 2048: 240, 4096: 120, 8192: 58, 65536: 56, 131072: 31}
LADDER |= {262144: 30, 1048576: 30}


def measurement(name: str, value: float, unit: str = "bytes_per_s", spread: float = 0.01) -> Measurement:
    return Measurement(name=name, value=value, unit=unit, spread=spread, runs=9, conditions="made up")  # type: ignore[arg-type]


def ladder(rates: dict[int, float]) -> tuple[BandwidthPoint, ...]:
    return tuple(
        BandwidthPoint(working_set_bytes=kib * KIB, read=measurement(f"read {kib} KiB", rate * 1e9))
        for kib, rate in rates.items()
    )


@pytest.fixture
def measured() -> MachineMeasurements:
    return MachineMeasurements(
        device_type="cpu",
        device_name="Test CPU",
        cores=2,
        clock_hz=2e9,
        main_memory_bytes=16 * GIB,
        matmul=(
            ("float32", measurement("matmul float32", 100e9, "flops_per_s")),
            ("float32", measurement("matmul float32", 200e9, "flops_per_s")),
            ("bfloat16", measurement("matmul bfloat16", 1600e9, "flops_per_s")),
        ),
        exponential=measurement("exponential", 8e9, "flops_per_s"),
        bandwidth=ladder(LADDER),
        latency=(
            (16 * KIB, measurement("latency 16 KiB", 33e-9, "s")),
            (512 * KIB, measurement("latency 512 KiB", 34e-9, "s")),
            (32 * MIB, measurement("latency 32 MiB", 100e-9, "s")),
            (256 * MIB, measurement("latency 256 MiB", 183e-9, "s")),
        ),
        dispatch=measurement("dispatch", 7e-7, "s"),
        caches=CACHES,
        provenance=Provenance(source="test", created_utc="2026-01-02T03:04:05+00:00"),
    )


def test_ladder_shows_levels_and_corrects_a_borrowed_cache():
    levels, notes = find_levels(ladder(LADDER), CACHES, cores=2, main_memory_bytes=16 * GIB)
    assert [(level.name, level.capacity_bytes, level.bandwidth.value / 1e9) for level in levels] == [
        ("l1", 96 * KIB, 340),
        ("l2", 4 * MIB, 258),  # 128 KiB is not clearly beyond 96 KiB
        ("l3", 64 * MIB, 58),
        ("dram", 16 * GIB, 30),
    ]
    assert notes == (
        "l3: the system tells of 480 MiB, but bandwidth falls beyond 64 MiB: taken as this machine's share",
    )


def test_levels_that_cannot_be_told_apart_are_dropped():
    flat = {kib: 30 if kib >= 128 else 300 for kib in LADDER}
    levels, notes = find_levels(ladder(flat), CACHES, cores=2, main_memory_bytes=16 * GIB)
    assert [level.name for level in levels] == ["l1", "dram"]
    assert any("l2: dropped, not told apart from dram" in note for note in notes)


def test_nearly_equal_caches_both_stay_and_none_is_slower_than_the_next():
    close = LADDER | {16: 250, 32: 250, 64: 250}
    levels, notes = find_levels(ladder(close), CACHES, cores=2, main_memory_bytes=16 * GIB)
    assert [(level.name, level.bandwidth.value / 1e9) for level in levels] == [
        ("l1", 258),
        ("l2", 258),
        ("l3", 58),
        ("dram", 30),
    ]
    assert any(note.startswith("l1: not faster than l2") for note in notes)


def test_fastest_set_far_beyond_the_caches_shows_main_memory():
    caches = CACHES[:2]
    disturbed = LADDER | {16384: 50, 1048576: 25}
    levels, _ = find_levels(ladder(disturbed), caches, cores=2, main_memory_bytes=16 * GIB)
    # the l2 of 4 MiB leaves nothing in a set of 32 MiB or more, but part of a set of 16 MiB
    assert levels[-1].bandwidth.name == "read 65536 KiB"


def test_cache_as_large_as_the_ladder_leaves_main_memory_only():
    sets = {kib: rate for kib, rate in LADDER.items() if kib <= 65536}
    levels, notes = find_levels(ladder(sets), CACHES, cores=2, main_memory_bytes=16 * GIB)
    assert [level.name for level in levels] == ["l1", "l2", "dram"]
    assert any(note.startswith("l3: dropped, the largest working set") for note in notes)


def test_without_cache_sizes_there_is_only_main_memory():
    levels, _ = find_levels(ladder(LADDER), (), cores=2, main_memory_bytes=16 * GIB)
    assert [(level.name, level.bandwidth.value) for level in levels] == [("dram", 30e9)]


def test_faster_of_reading_and_writing_counts():
    point = BandwidthPoint(
        working_set_bytes=GIB, read=measurement("read", 20e9), read_write=measurement("read and write", 25e9)
    )
    (level,), _ = find_levels([point], (), cores=2, main_memory_bytes=16 * GIB)
    assert level.bandwidth.name == "read and write"


def test_derived_rates_of_the_chip_are_the_measured_ones(measured):
    chip = chip_from_measurements(measured).chip
    assert chip.is_measured and chip.name == "this-machine" and chip.family == "cpu"
    assert chip.matrix_flops_per_s("bfloat16") == pytest.approx(1600e9, rel=1e-12)
    assert chip.vector_flops_per_s("float32") == pytest.approx(200e9, rel=1e-12)
    # products of float32 run on the vector units
    assert "float32" not in dict(chip.matrix_macs)
    assert chip.matrix_flops_per_s("float32") == pytest.approx(200e9, rel=1e-12)
    assert chip.special_flops_per_s == pytest.approx(8e9, rel=1e-12)
    assert chip.launch_s == 7e-7 and chip.host_dispatch_s is None
    assert chip.main_memory.bandwidth_bytes_per_s == 30e9
    assert chip.memory("l1").per_core and chip.memory("l1").capacity_bytes == 96 * KIB


def test_latency_is_what_comes_on_top_of_the_nearest_cache(measured):
    chip = chip_from_measurements(measured).chip
    assert chip.memory("l3").latency_s == pytest.approx(67e-9)
    assert chip.memory("dram").latency_s == pytest.approx(150e-9)
    # 1 ns on top of the loop tells nothing: 15 cycles at 2 GHz, and said so
    assert chip.memory("l2").latency_s == pytest.approx(7.5e-9)
    assert dict(chip.sources)["memory.l2.latency_s"].startswith("not measured: 15 cycles")


def test_every_figure_names_the_machine_the_day_and_the_spread(measured):
    sources = dict(chip_from_measurements(measured).chip.sources)
    assert sources["memory.dram.bandwidth_bytes_per_s"] == (
        "measured on Test CPU 2026-01-02: read 1048576 KiB (made up), median of 9, spread 1.0 %"
    )


def test_measured_chip_survives_saving(measured, tmp_path):
    chip = chip_from_measurements(measured, name="mine").chip
    assert load_chip(save_chip(chip, tmp_path / "mine.toml")) == chip


def test_doubtful_figures_are_noted_where_they_are_used(measured):
    shaky = tuple((dtype, replace(found, spread=0.3)) for dtype, found in measured.matmul if dtype == "bfloat16")
    steady = tuple((dtype, found) for dtype, found in measured.matmul if dtype != "bfloat16")
    notes = chip_from_measurements(replace(measured, matmul=steady + shaky, notes=("first",))).notes
    assert notes[0] == "first"
    doubts = [note for note in notes if "spread" in note]
    assert len(doubts) == 1 and doubts[0].startswith("matmul bfloat16: spread 30 % over 9 runs is above 5 %")


def test_figures_that_did_not_settle_are_named_in_the_file_and_in_the_notes(measured, tmp_path):
    def windows(differ):
        return lambda found: replace(found, windows=6, halves_differ=differ)

    matmul = tuple((d, windows(0.28 if d == "bfloat16" else 0.021)(found)) for d, found in measured.matmul)
    calibration = chip_from_measurements(replace(measured, matmul=matmul))
    open_notes = [note for note in calibration.notes if "not settled" in note]
    assert open_notes == [
        "not settled, as two halves of the windows do not agree within 5 %: "
        "matmul bfloat16 (6 windows, halves differ by 28.0 %, not settled)"
    ]
    sources = dict(load_chip(save_chip(calibration.chip, tmp_path / "mine.toml")).sources)
    assert sources["matrix.macs_per_clock_per_core.bfloat16"].endswith(
        "median of 9, spread 1.0 %, fastest of 6 windows, halves differ by 28.0 %, not settled"
    )
    assert "fastest of 6 windows, halves differ by 2.1 %;" in sources["vector.flops_per_clock_per_core.float32"]


def test_kernels_are_throughput_with_their_units_and_sources(measured, tmp_path):
    kernels = (
        measurement("logarithm", 9e9, "flops_per_s"),
        measurement("tall_skinny bfloat16", 900e9, "flops_per_s"),
        measurement("gemv float32", 25e9),
        measurement("sort", 2e7, "elements_per_s"),
        measurement("graph_launch", 1e-6, "s"),
    )
    chip = chip_from_measurements(replace(measured, kernels=kernels)).chip
    assert chip.throughput == (
        ("logarithm_per_s", 9e9),
        ("tall_skinny_bfloat16_flops_per_s", 900e9),
        ("gemv_float32_bytes_per_s", 25e9),
        ("sort_per_s", 2e7),
        ("graph_launch_s", 1e-6),
    )
    assert "sort (made up)" in dict(chip.sources)["throughput.sort_per_s"]
    assert load_chip(save_chip(chip, tmp_path / "mine.toml")) == chip
    # the fastest function and the fastest shape are the ceilings
    assert chip.special_flops_per_s == pytest.approx(9e9)
    assert chip.matrix_flops_per_s("bfloat16") == pytest.approx(1600e9)
    thin = (measurement("tall_skinny bfloat16", 1700e9, "flops_per_s"),)
    assert chip_from_measurements(replace(measured, kernels=thin)).chip.matrix_flops_per_s("bfloat16") == pytest.approx(
        1700e9
    )
    assert chip.links == ()


def test_all_reduce_gives_the_link(measured):
    kernels = (measurement("all_reduce latency", 3e-6, "s"), measurement("all_reduce bandwidth", 4e11))
    (link,) = chip_from_measurements(replace(measured, kernels=kernels)).chip.links
    assert (link.bandwidth_bytes_per_s, link.latency_s) == (4e11, 3e-6)


def test_gpu_figures_go_where_a_gpu_has_them(measured):
    launch = measurement("launch", 2.5e-6, "s")
    matmul = (*measured.matmul, ("float64", measurement("matmul float64", 60e9, "flops_per_s")))
    gpu = replace(measured, device_type="cuda", launch=launch, latency=(), matmul=matmul)
    chip = chip_from_measurements(gpu).chip
    assert (chip.launch_s, chip.host_dispatch_s) == (2.5e-6, 7e-7)
    assert "float64" in dict(chip.matrix_macs)
    assert dict(chip.sources)["memory.dram.latency_s"].startswith("not measured: as on H100")


def test_unknown_clock_is_nominal_and_said_so(measured):
    chip = chip_from_measurements(replace(measured, clock_hz=None)).chip
    assert chip.matrix_flops_per_s("bfloat16") == pytest.approx(1600e9, rel=1e-12)
    assert dict(chip.sources)["clock_hz"].startswith("unknown: 1 GHz is nominal")


def test_nothing_measured_is_one_clear_line(measured):
    with pytest.raises(ChipError, match="cannot calibrate Test CPU: no float32 product"):
        chip_from_measurements(replace(measured, matmul=()))
