"""RAPL through a copy of /sys/class/powercap: which zones count, wraps, and what cannot be read."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from profiler.capture.energy.rapl import rapl_sources
from profiler.capture.energy.sampler import Sampler
from profiler.energy_windows import window_energy


def make_zone(folder, name, energy_uj, range_uj=262_143_328_850):
    folder.mkdir(parents=True)
    (folder / "name").write_text(f"{name}\n")
    (folder / "energy_uj").write_text(f"{energy_uj}\n")
    (folder / "max_energy_range_uj").write_text(f"{range_uj}\n")
    return folder


@pytest.fixture
def powercap(tmp_path):
    make_zone(tmp_path / "intel-rapl:0", "package-0", 1_000_000)
    make_zone(tmp_path / "intel-rapl:0:0", "core", 400_000)
    make_zone(tmp_path / "intel-rapl:0:1", "dram", 300_000, 65_712_999_613)
    make_zone(tmp_path / "intel-rapl:1", "package-1", 2_000_000)
    make_zone(tmp_path / "intel-rapl:2", "psys", 9_000_000)
    make_zone(tmp_path / "intel-rapl-mmio:0", "package-0", 1_000_000)
    return tmp_path


def read_twice(powercap, change):
    now_s = [0.0]
    sampler = Sampler(rapl_sources(powercap), period_s=1.0, clock=lambda: now_s[0])
    sampler.sample()
    change()
    now_s[0] = 10.0
    sampler.sample()
    return [log.readings(0.0) for log in sampler.logs]


def joules(source):
    return window_energy(source, np.array([0.0]), np.array([10.0])).energy_j[0]


def test_packages_and_memory_are_read_once_each(powercap):
    def use():
        (powercap / "intel-rapl:0/energy_uj").write_text("501000000\n")
        (powercap / "intel-rapl:0:1/energy_uj").write_text("20300000\n")

    sources = read_twice(powercap, use)
    assert [source.name for source in sources] == [
        "CPU package-0 (RAPL)",
        "CPU package-0 dram (RAPL)",
        "CPU package-1 (RAPL)",
    ]
    assert [joules(source) for source in sources] == pytest.approx([500.0, 20.0, 0.0])


def test_wrap_at_the_range_of_the_zone_is_undone(powercap):
    energy = powercap / "intel-rapl:0/energy_uj"
    energy.write_text(f"{262_143_328_850 - 7_000_000}\n")
    source, *_ = read_twice(powercap, lambda: energy.write_text("5000000\n"))
    assert [change.state for change in source.states] == ["wrapped"]
    assert joules(source) == pytest.approx(12.0)


def test_zone_that_only_root_may_read_is_denied_and_the_others_are_read(powercap, monkeypatch):
    read_text = Path.read_text

    def guarded(path, *args, **kwargs):
        if path == powercap / "intel-rapl:0/energy_uj":
            raise PermissionError(13, "Permission denied", str(path))
        return read_text(path, *args, **kwargs)

    monkeypatch.setattr(Path, "read_text", guarded)
    denied, dram, other = read_twice(powercap, lambda: None)
    assert denied.state == "permission_denied"
    assert "root only" in denied.states[0].message
    assert np.isnan(joules(denied))
    assert dram.state == other.state == "ok"


def test_zone_that_goes_away_keeps_its_readings(powercap):
    source, *_ = read_twice(powercap, lambda: shutil.rmtree(powercap / "intel-rapl:0"))
    assert source.state == "device_lost"
    assert np.isfinite(source.energy_j).tolist() == [True, False]


def test_text_that_is_no_number_is_a_failure(powercap):
    source, *_ = read_twice(powercap, lambda: (powercap / "intel-rapl:0/energy_uj").write_text("many\n"))
    assert source.state == "failed"


@pytest.mark.parametrize("exists", [True, False])
def test_machine_without_zones_says_so(tmp_path, exists):
    (source,) = rapl_sources(tmp_path if exists else tmp_path / "nowhere")
    assert source.state == "absent"
    assert "no RAPL package zone" in source.message
