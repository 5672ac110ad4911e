"""Measured tables: the held-out rule, size classes, impossible rows, tables of one's own, and the silicon package."""

import zlib

import numpy as np
import pandas as pd
import pytest

from roofline.chipfile import load_chip
from simulator.errors import SimulationError
from simulator.validation.silicon import package_folder, silicon_backends, silicon_table
from simulator.validation.tables import held_out_rows, read_frame, read_table, write_frame

ROWS = [
    {"kind": "gemm", "dtype": "bfloat16", "m": m, "n": 4096, "k": 4096, "measured_s": 1e-4} for m in (1, 16, 17, 8192)
]


def test_held_out_rows_follow_the_published_rule():
    frame = pd.DataFrame({"m": [1, 2, 3, 4], "n": [128, 128, 256, 256], "k": [64, 64, 64, 64]})
    expected = [zlib.crc32(f"{m},{n},{k}".encode()) % 2 == 1 for m, n, k in zip(*frame.to_numpy().T, strict=True)]
    assert held_out_rows(frame, ("m", "n", "k")).tolist() == expected


def test_a_table_of_ones_own_is_classed_and_what_is_impossible_dropped(tmp_path):
    path = tmp_path / "own.csv"
    impossible = {"kind": "gemm", "dtype": "bfloat16", "m": 1, "n": 65536, "k": 65536, "measured_s": 1e-4}  # 8.6 GB
    pd.DataFrame([*ROWS, impossible]).to_csv(path, index=False)
    (table,) = read_table(path, load_chip("h100-sxm"))
    assert (len(table), table.dropped, table.op, table.backend) == (4, 1, "gemm", "own")
    assert table.size_class.tolist() == ["m 1-16", "m 1-16", "m 17-64", "m >=4353"]
    assert len(table.half(held_out=True)) + len(table.half(held_out=False)) == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"measured_s": 0}, "measured_s must be > 0, got .*0.* in row 1"),
        ({"measured_s": "soon"}, "measured_s must be > 0, got 'soon' in row 1"),
    ],
)
def test_a_wrong_measurement_is_one_line(tmp_path, change, message):
    path = tmp_path / "own.csv"
    pd.DataFrame([{**ROWS[0], **change}]).to_csv(path, index=False)
    with pytest.raises(SimulationError, match=message):
        read_table(path, load_chip("h100-sxm"))


def test_a_missing_file_and_an_empty_choice_are_one_line(tmp_path):
    for name in ("absent.csv", "absent.parquet"):
        with pytest.raises(SimulationError, match=rf"cannot read table .*{name}: No such file"):
            read_table(tmp_path / name, load_chip("h100-sxm"))
    pd.DataFrame(ROWS).to_parquet(tmp_path / "own.parquet")
    with pytest.raises(SimulationError, match="no rows of op 'attention_decode'"):
        read_table(tmp_path / "own.parquet", load_chip("h100-sxm"), op="attention_decode")


@pytest.mark.skipif(package_folder() is None, reason="the extra `silicon` (aiconfigurator-core) is not installed")
def test_silicon_tables_are_what_the_package_holds():
    chip = load_chip("h100-sxm")
    assert silicon_backends("h100-sxm", "gemm") == ("trtllm", "vllm", "sglang")
    table = silicon_table(chip, "gemm", "bfloat16", "trtllm")
    raw = pd.read_parquet(package_folder() / "h100_sxm/gemm/trtllm/1.3.0rc20/gemm_perf.parquet")
    raw = raw[raw.gemm_dtype == "bfloat16"]
    assert len(table) + table.dropped == len(raw) == 35_700
    np.testing.assert_allclose(np.sort(table.measured_s), np.sort(raw.latency * 1e-3))
    flops = table.ops.matrix_flops[:, 0]
    assert flops.sum() == (2.0 * raw.m * raw.n * raw.k).sum()
    assert 0.48 < table.held_out.mean() < 0.52
    decode = silicon_table(load_chip("a100-sxm-80gb"), "attention_decode", "bfloat16", "trtllm")
    assert decode.dropped > 0  # rows above the memory's peak, which the package is known to hold for this chip


@pytest.mark.skipif(package_folder() is None, reason="the extra `silicon` (aiconfigurator-core) is not installed")
@pytest.mark.parametrize(
    ("chip", "backend", "copies"),
    [
        # Weights of 2, 33.6 and 134 MB: as many as fill 52.4 or 100.7 MB of cache, at most five.
        ("h100-sxm", "trtllm", (5, 2, 1)),
        ("l40s", "trtllm", (5, 3, 1)),
        ("a100-sxm-80gb", "trtllm", (5, 5, 5)),  # an earlier release
        ("h100-sxm", "vllm", (6, 6, 6)),
    ],
)
def test_products_go_through_as_many_weights_as_the_benchmark_did(chip, backend, copies):
    ops = silicon_table(load_chip(chip), "gemm", "bfloat16", backend).ops
    n, k, found = (ops.size(name)[:, 0] for name in ("n", "k", "weight_copies"))
    assert tuple(set(found[(n == side) & (k == side)]) for side in (1024, 4096, 8192)) == tuple({c} for c in copies)


@pytest.mark.parametrize("text", ["plain", 'a, "quoted" one', "two\nlines"])
def test_a_written_table_reads_back_equal(tmp_path, text):
    frame = pd.DataFrame(
        {
            "kind": [text, "gemm"],
            "m": [3, 10**12],
            "k": [np.nan, 4.0],
            "predicted_s": [1 / 3e6, 2.5e-300],
            "on": [True, False],
        }
    )
    for name in ("table.csv", "table.parquet"):
        write_frame(frame, tmp_path / name)
        pd.testing.assert_frame_equal(read_frame(tmp_path / name), frame)
    assert (tmp_path / "table.csv").read_text().startswith("kind,m,k,predicted_s,on\n")


def test_columns_of_mixed_types_are_written_as_text(tmp_path):
    write_frame(pd.DataFrame({"note": [1, "one"], "m": [2, 3]}), tmp_path / "table.csv")
    assert (tmp_path / "table.csv").read_text() == "note,m\n1,2\none,3\n"


def test_rows_with_more_cells_than_columns_are_refused(tmp_path):
    (tmp_path / "table.csv").write_text("kind,m\ngemm,1,2\n")
    with pytest.raises(SimulationError, match="rows have more cells than the 2 named columns"):
        read_frame(tmp_path / "table.csv")
