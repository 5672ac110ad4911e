"""Fits of power: constants that made a table by hand are found again, from rows that count; bad tables are one line."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from reports.cli import app
from roofline.chip import Chip, Energy
from roofline.chipfile import load_chip, save_chip
from simulator.errors import SimulationError
from simulator.validation.power_fit import fit_power
from simulator.validation.power_tables import read_power_table
from simulator.validation.silicon import package_folder

LAUNCH_S = 1e-3
LIMIT_W = 400.0
# Bytes and vector FLOPs cost nothing, so that power follows from FLOPs and busy cores alone.
FREE = Energy(
    static_w=1.0,
    matrix_j_per_flop=(("bfloat16", 1e-12), ("float8_e4m3fn", 0.5e-12)),
    vector_j_per_flop=0.0,
    memory_j_per_byte=(("l1", 0.0), ("l2", 0.0), ("hbm", 0.0)),
)


def made(path: Path) -> pd.DataFrame:
    """What a board of 100 W, 42 pJ a FLOP and 0.5 W for each of 100 busy cores would show, held to its limit.

    Products of 2,048 x 2,048 outputs run on all cores; those of 16 x 16 that last no longer than their launch do
    nothing. A first row of each sweep, products of one row and rows that the table rules out show something else.
    """
    random = np.random.default_rng(3)
    rows = 400
    k, seconds = random.integers(256, 8192, rows), LAUNCH_S * random.uniform(5.0, 60.0, rows)
    work_j = 2.0 * 2048 * 2048 * k * 42e-12 + 100 * 0.5 * (seconds - LAUNCH_S)
    busy = pd.DataFrame({"m": 2048, "n": 2048, "k": k, "measured_s": seconds})
    busy["power_w"] = np.minimum(100.0 + work_j / seconds, LIMIT_W)
    idle = pd.DataFrame({"m": 16, "n": 16, "k": np.arange(16, 36), "measured_s": LAUNCH_S, "power_w": 100.0})
    single = pd.DataFrame({"m": 1, "n": 2048, "k": np.arange(64, 94), "measured_s": 0.1, "power_w": 390.0})
    cold = busy.head(30).assign(power_w=110.0, counts=0)  # the sensor had no time
    parts = [busy.assign(counts=1), idle.assign(counts=1), single.assign(counts=1), cold]
    frame = pd.concat(parts, ignore_index=True).assign(kind="gemm", dtype="bfloat16")
    frame["sweep"] = np.arange(len(frame)) // 10
    frame.loc[frame["sweep"] != frame["sweep"].shift(), "power_w"] = 395.0
    frame.to_parquet(path)
    return frame


@pytest.fixture
def board(build) -> Chip:
    chip: Chip = build.chip(energy=FREE, launch_s=LAUNCH_S)
    return replace(chip, tdp_w=LIMIT_W)


def test_constants_that_made_a_table_are_found(board, tmp_path):
    path = tmp_path / "power.parquet"
    frame = made(path)
    assert (frame["power_w"] == LIMIT_W).sum() > 10
    table = read_power_table(path)
    assert int(table.counts.sum()) == 420 - 42  # 42 sweeps of 10 begin with a row that does not count
    found = fit_power(table, board)
    assert dict(found.constants) == pytest.approx(
        {"static_w": 100.0, "core_w": 0.5, "matrix_j_per_flop.bfloat16": 42e-12}
    )
    assert found.halves[0] == pytest.approx((42e-12, 0.5), rel=1e-3)
    assert found.median_error_w < 0.1
    energy = found.chip.energy
    assert energy is not None
    assert dict(energy.matrix_j_per_flop)["float8_e4m3fn"] == pytest.approx(21e-12)  # half, as before
    assert (energy.static_w, energy.core_w) == (100.0, 0.5)
    assert energy.memory_j_per_byte == FREE.memory_j_per_byte
    assert "fit --power" in dict(found.chip.sources)["energy.core_w"]


def test_error_is_that_of_each_half_with_the_constants_of_the_other(board, tmp_path):
    """One half drawn by a board of twice the joules: each half's own constants would be near, the other's are not."""
    path = tmp_path / "power.parquet"
    frame = made(path)
    table = read_power_table(path)
    power_w = np.where(table.half, 100.0 + 0.5 * (frame["power_w"] - 100.0), frame["power_w"])
    found = fit_power(replace(table, power_w=power_w), board)
    assert found.halves[0][0] > 1.5 * found.halves[1][0]
    assert found.median_error_w > 20


def test_bad_tables_are_one_line(board, tmp_path):
    path = tmp_path / "power.csv"
    frame = made(tmp_path / "power.parquet")
    with pytest.raises(SimulationError, match="cannot read table"):
        read_power_table(tmp_path / "absent.parquet")
    for spoiled, message in (
        (frame.drop(columns="power_w"), "no column 'power_w'"),
        (frame.assign(power_w=0), "power_w must be > 0, got '0' in row 1"),
        (frame.assign(dtype=["float16"] + ["bfloat16"] * (len(frame) - 1)), "one dtype, got bfloat16, float16"),
        (frame.rename(columns={"measured_s": "latency_ms"}), "no column 'op'"),
    ):
        spoiled.to_csv(path, index=False)
        with pytest.raises(SimulationError, match=message):
            read_power_table(path)
    frame.head(30).to_csv(path, index=False)
    with pytest.raises(SimulationError, match="too few for a fit of power"):
        fit_power(read_power_table(path), board)
    table = read_power_table(tmp_path / "power.parquet")
    with pytest.raises(SimulationError, match=r"has no \[energy\]"):
        fit_power(table, replace(board, energy=None))
    with pytest.raises(SimulationError, match="has no bfloat16"):
        fit_power(table, replace(board, energy=replace(FREE, matrix_j_per_flop=())))


@pytest.mark.skipif(package_folder() is None, reason="aiconfigurator-core is not installed")
def test_command_without_a_table_takes_chips_with_measured_products_only(tmp_path):
    done = CliRunner().invoke(app, ["fit", "--power", "--chip", "mi300x", "-o", str(tmp_path / "chip.toml")])
    assert done.exit_code != 0
    assert "mi300x" in done.output + str(done.exception)


@pytest.mark.skipif(package_folder() is None, reason="aiconfigurator-core is not installed")
def test_a_chip_file_of_ones_own_finds_the_tables_of_its_chip(tmp_path):
    mine, output = tmp_path / "mine.toml", tmp_path / "chip.toml"
    save_chip(load_chip("a100-sxm-80gb"), mine)
    done = CliRunner().invoke(app, ["fit", "--power", "--chip", str(mine), "-o", str(output)])
    assert done.exit_code == 0, done.output + str(done.exception)
    assert load_chip(str(output)).energy == load_chip("a100-sxm-80gb").energy


def test_shipped_constants_of_the_h200_are_those_that_the_command_finds(tmp_path, shared_data):
    path = shared_data("tables/kernel_power_h200.parquet")
    output = tmp_path / "h200.toml"
    done = CliRunner().invoke(
        app, ["fit", "--power", "--table", str(path), "--chip", "h200-sxm", "-o", str(output), "--json"]
    )
    assert done.exit_code == 0, done.output
    printed = json.loads(done.stdout)
    assert (printed["rows"], printed["left_out"]) == (3863, 5211)
    assert printed["median_error_w"] < 3
    shipped, same_die = load_chip("h200-sxm").energy, load_chip("h100-sxm").energy
    assert shipped is not None
    assert same_die is not None
    assert printed["constants"] == {
        "static_w": shipped.static_w,
        "core_w": shipped.core_w,
        "matrix_j_per_flop.bfloat16": dict(shipped.matrix_j_per_flop)["bfloat16"],
    }
    assert (same_die.static_w, same_die.core_w) == (shipped.static_w, shipped.core_w)
    assert load_chip(str(output)).energy == load_chip("h200-sxm").energy
