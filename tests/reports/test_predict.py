"""`roofscape predict`: a table in, a table with seconds, bands and joules out, under the conditions asked for."""

import json

import pandas as pd
import pytest
from command_line import refused
from typer.testing import CliRunner

from reports.cli import app

TABLE = "kind,dtype,m,n,k,note\ngemm,float8_e4m3fn,16,4096,4096,mine\ngemm,bfloat16,16,4096,4096,\n"


def run(*arguments):
    return CliRunner().invoke(app, ["predict", *map(str, arguments)])


@pytest.fixture
def ops_file(tmp_path):
    file = tmp_path / "ops.csv"
    file.write_text(TABLE)
    return file


def test_a_table_is_answered_row_by_row(ops_file, tmp_path):
    output = tmp_path / "out.csv"
    result = run(ops_file, "-o", output)
    assert result.exit_code == 0, result.output
    answered = pd.read_csv(output)
    assert answered.note.fillna("").tolist() == ["mine", ""]
    assert (answered.low_s < answered.predicted_s).all() and (answered.predicted_s < answered.high_s).all()
    assert (answered.bound_s <= answered.predicted_s).all() and (answered.joules > 0).all()
    assert "as benchmarks measure kernels" in result.output


def test_conditions_are_those_asked_for(ops_file):
    # A benchmark's float8 product quantizes its activations; a program's is a kernel by itself, with half the weights.
    times = {
        name: [row["predicted_s"] for row in json.loads(run(ops_file, "--conditions", name, "--json").stdout)]
        for name in ("benchmark", "program")
    }
    assert times["benchmark"][0] > times["benchmark"][1]
    assert times["program"][0] < times["program"][1]


def test_conditions_that_are_none_are_told(ops_file):
    result = run(ops_file, "--conditions", "warm")
    assert result.exit_code == 2
    assert "'benchmark', 'program'" in result.output + result.stderr


def test_joules_that_are_unknown_come_with_a_reason(tmp_path):
    file = tmp_path / "ops.csv"
    file.write_text("kind,dtype,m,n,k\ngemm,float64,64,64,64\ngemm,bf16,64,64,64\n")
    types = run(file, "--json")
    assert [row["joules"] is None for row in json.loads(types.stdout)] == [True, False]
    assert "joules of 1 rows are unknown: chip h100-sxm has no energy per FLOP of its matrix units of float64" in (
        types.stderr
    )
    assert "joules are unknown: chip tpu-v5e has no energy constants" in run(file, "--chip", "tpu-v5e").stderr


def test_predictions_are_not_written_as_csv_into_a_file_that_says_json(ops_file, tmp_path, capsys, monkeypatch):
    line = refused(capsys, monkeypatch, "predict", ops_file, "-o", tmp_path / "out.json")
    assert "written as .csv, .csv.gz or .parquet" in line
    assert not (tmp_path / "out.json").exists()
