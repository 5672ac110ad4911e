"""`roofscape validate --table`: which rows of a table of one's own are scored, and that it says so."""

import json
import zlib

import pytest
from command_line import refused
from typer.testing import CliRunner

from reports.cli import app

SIZES = [(m, 4096, 4096) for m in (1, 2, 3, 4, 128, 4096)]
HELD_OUT = [zlib.crc32(",".join(map(str, size)).encode()) % 2 == 1 for size in SIZES]


@pytest.fixture
def table(tmp_path):
    rows = [f"gemm,bfloat16,{m},{n},{k},2e-4" for m, n, k in SIZES]
    (tmp_path / "mine.csv").write_text("\n".join(["kind,dtype,m,n,k,measured_s", *rows]))
    return tmp_path / "mine.csv"


def run(*arguments):
    return CliRunner().invoke(app, ["validate", *map(str, arguments)], catch_exceptions=False)


def test_rows_that_are_not_scored_are_counted_aloud(table):
    assert 0 < sum(HELD_OUT) < len(SIZES)
    result = run("--table", table, "--json")
    (score,) = json.loads(result.stdout)
    assert score["rows"] == sum(HELD_OUT)
    assert f"{sum(HELD_OUT)} of {len(SIZES)} rows are scored" in result.stderr


def test_all_rows_of_a_table_that_nothing_was_fitted_to_are_scored(table):
    result = run("--table", table, "--all-rows", "--json")
    (score,) = json.loads(result.stdout)
    assert score["rows"] == len(SIZES)
    assert score["fitted_roofline_mape_percent"] is None  # no row is left to fit its four constants to
    # Six rows of 200 us: the largest product takes 2 x 4096^3 / 989.4 TFLOP/s = 138.9 us, its weights alone 10 us.
    assert score["datasheet_mape_percent"] == pytest.approx((30.5 + 94.3 + 4 * 95.0) / 6, abs=0.2)
    assert "are scored" not in result.stderr


def test_all_rows_of_the_package_are_refused(capsys, monkeypatch):
    assert "--all-rows is for a --table of your own" in refused(capsys, monkeypatch, "validate", "--all-rows")
