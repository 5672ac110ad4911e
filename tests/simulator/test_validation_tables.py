"""Measured tables: the held-out rule, size classes, impossible rows, tables of one's own, and the silicon package."""

import zlib

import numpy as np
import pandas as pd
import pytest

from roofline.chipfile import load_chip
from simulator.errors import SimulationError
from simulator.validation.silicon import package_folder, silicon_backends, silicon_table
from simulator.validation.table_files import file_tables
from simulator.validation.tables import held_out_rows, read_frame, write_frame

ROWS = [
    {"kind": "gemm", "dtype": "bfloat16", "m": m, "n": 4096, "k": 4096, "measured_s": 1e-4} for m in (1, 16, 17, 8192)
]


def test_held_out_rows_follow_the_published_rule():
    frame = pd.DataFrame({"m": [1, 2, 3, 4], "n": [128, 128, 256, 256], "k": [64, 64, 64, 64]})
    expected = [zlib.crc32(f"{m},{n},{k}".encode()) % 2 == 1 for m, n, k in zip(*frame.to_numpy().T, strict=True)]
    assert held_out_rows(frame, ("m", "n", "k")).tolist() == expected
    # Beside rows of another kind, which have no m, pandas keeps the numbers as fractions.
    assert held_out_rows(frame.astype(float), ("m", "n", "k")).tolist() == expected


def test_a_table_of_ones_own_is_classed_and_what_is_impossible_dropped(tmp_path):
    path = tmp_path / "own.csv"
    impossible = {"kind": "gemm", "dtype": "bfloat16", "m": 1, "n": 65536, "k": 65536, "measured_s": 1e-4}  # 8.6 GB
    pd.DataFrame([*ROWS, impossible]).to_csv(path, index=False)
    (table,) = file_tables(path, load_chip("h100-sxm"))
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
        file_tables(path, load_chip("h100-sxm"))


def test_a_missing_file_and_an_empty_choice_are_one_line(tmp_path):
    for name in ("absent.csv", "absent.parquet"):
        with pytest.raises(SimulationError, match=rf"cannot read table .*{name}: No such file"):
            file_tables(tmp_path / name, load_chip("h100-sxm"))
    pd.DataFrame(ROWS).to_parquet(tmp_path / "own.parquet")
    with pytest.raises(SimulationError, match="no rows of op 'attention_decode'"):
        file_tables(tmp_path / "own.parquet", load_chip("h100-sxm"), op="attention_decode")


def test_a_table_of_several_kinds_and_libraries_is_taken_apart(tmp_path):
    path = tmp_path / "own.csv"
    norm = {"kind": "norm", "dtype": "bfloat16", "rows": 64, "columns": 4096, "measured_s": 1e-5}
    pd.DataFrame([*ROWS, {**ROWS[1], "backend": "mine"}, norm]).to_csv(path, index=False)
    chip = load_chip("h100-sxm")
    found = [(table.op, table.backend, len(table)) for table in file_tables(path, chip)]
    assert found == [("gemm", "mine", 1), ("gemm", "own", 4), ("norm", "own", 1)]
    assert [len(table) for table in file_tables(path, chip, backend="mine")] == [1]
    pd.DataFrame([{**ROWS[1], "dtype": "bf16"}, ROWS[1]]).to_csv(path, index=False)
    (table,) = file_tables(path, chip, dtype="torch.bfloat16")
    assert (table.dtype, len(table)) == ("bfloat16", 2)
    with pytest.raises(SimulationError, match="no rows of op 'gemm', dtype 'any' and backend 'theirs'"):
        file_tables(path, chip, op="gemm", backend="theirs")


def test_rows_with_the_columns_of_the_package_are_read_as_the_package_is(tmp_path):
    said = {"framework": "VLLM", "version": "0.1", "kernel_source": "fa", "latency": 0.25}
    product = {**said, "op_name": "gemm", "gemm_dtype": "bfloat16", "m": 16, "n": 4096, "k": 4096}
    narrow = {**product, "gemm_dtype": "fp8"}
    heads = {"num_heads": 8, "num_key_value_heads": 2, "head_dim": 128, "window_size": 0}
    types = {"attn_dtype": "bfloat16", "kv_cache_dtype": "bfloat16"}
    query = {**said, **heads, **types, "op_name": "generation_attention", "batch_size": 4, "isl": 1, "step": 99}
    pd.DataFrame([product, narrow, query]).to_csv(tmp_path / "kernels.txt", index=False)
    chip = load_chip("h100-sxm")
    tables = {(table.op, table.dtype): table for table in file_tables(tmp_path / "kernels.txt", chip)}
    assert set(tables) == {("gemm", "bfloat16"), ("gemm", "float8_e4m3fn"), ("attention_decode", "bfloat16")}
    assert {table.backend for table in tables.values()} == {"vllm 0.1"}
    ops = tables["gemm", "float8_e4m3fn"].ops
    assert [ops.size(name).item() for name in ("m", "quantizes_input", "weight_copies")] == [16, 1, 6]
    decode = tables["attention_decode", "bfloat16"]
    assert [decode.ops.size(name).item() for name in ("queries", "keys", "kv_heads")] == [1, 100, 2]
    assert decode.measured_s.tolist() == [0.25e-3]
    with pytest.raises(SimulationError, match="dtype of gemm must be one of"):
        file_tables(tmp_path / "kernels.txt", chip, op="gemm", dtype="bf16")
    with pytest.raises(SimulationError, match="no rows of op 'moe'"):
        file_tables(tmp_path / "kernels.txt", chip, op="moe")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"latency": "fast"}, "latency must be milliseconds, got 'fast' in row 2"),
        ({"version": "main"}, "version of trtllm must begin as 1.3 does, got 'main'"),
        ({"version": None}, "version of trtllm must begin as 1.3 does, got 'unknown'"),
    ],
)
def test_a_wrong_cell_of_a_collector_is_one_line(tmp_path, change, message):
    product = {"framework": "TRTLLM", "version": "1.0rc1", "op_name": "gemm", "gemm_dtype": "bfloat16", "latency": 0.25}
    row = {**product, "m": 16, "n": 4096, "k": 4096}
    path, chip = tmp_path / "kernels.csv", load_chip("h100-sxm")
    pd.DataFrame([row]).to_csv(path, index=False)
    (table,) = file_tables(path, chip)
    assert (table.backend, table.ops.size("weight_copies").item()) == ("trtllm 1.0rc1", 5)
    pd.DataFrame([row, {**row, **change}]).to_csv(path, index=False)
    with pytest.raises(SimulationError, match=message):
        file_tables(path, chip)


def test_a_file_of_unknown_operations_says_which_it_holds(tmp_path):
    row = {"framework": "VLLM", "version": "0.1", "op_name": "rope", "latency": 0.25}
    pd.DataFrame([row]).to_csv(tmp_path / "kernels.csv", index=False)
    with pytest.raises(SimulationError, match=r"has no rows of op 'any'.*; op_name is rope"):
        file_tables(tmp_path / "kernels.csv", load_chip("h100-sxm"))


def test_rows_of_unknown_operations_beside_known_ones_are_counted_aloud(tmp_path, caplog):
    said = {"framework": "VLLM", "version": "0.1", "latency": 0.25}
    product = {**said, "op_name": "gemm", "gemm_dtype": "bfloat16", "m": 16, "n": 4096, "k": 4096}
    others = [{**said, "op_name": name} for name in ("rope", "rope", "swizzle")]
    pd.DataFrame([product, *others]).to_csv(tmp_path / "kernels.csv", index=False)
    (table,) = file_tables(tmp_path / "kernels.csv", load_chip("h100-sxm"))
    assert (table.op, len(table)) == ("gemm", 1)
    (message,) = caplog.messages
    assert message.endswith("kernels.csv: rows left out, since no model is for their op_name: rope 2, swizzle 1")


def test_rows_without_a_name_or_of_unknown_types_or_without_a_time_are_counted_aloud(tmp_path, caplog):
    said = {"framework": "VLLM", "version": "0.1", "latency": 0.25}
    product = {**said, "op_name": "gemm", "gemm_dtype": "bfloat16", "m": 16, "n": 4096, "k": 4096}
    rows = [product, {**product, "op_name": None}, {**product, "gemm_dtype": "fp3"}, {**product, "latency": 0.0}]
    pd.DataFrame(rows).to_csv(tmp_path / "kernels.csv", index=False)
    (table,) = file_tables(tmp_path / "kernels.csv", load_chip("h100-sxm"))
    assert (table.op, len(table)) == ("gemm", 1)
    reasons = [message.partition("left out, since ")[2] for message in caplog.messages]
    assert reasons == ["no model is for their op_name: (empty) 1", "no table holds their type, kernel or time: gemm 2"]


def test_rows_of_unknown_names_are_what_is_asked_for_only_where_no_row_says_so(tmp_path):
    said = {"framework": "VLLM", "version": "0.1", "latency": 0.25}
    product = {**said, "op_name": "gemm", "gemm_dtype": "bfloat16", "m": 16, "n": 4096, "k": 4096}
    other = {**product, "op_name": "my_gemm"}
    path, chip = tmp_path / "kernels.csv", load_chip("h100-sxm")
    pd.DataFrame([product, other, other]).to_csv(path, index=False)
    assert [len(table) for table in file_tables(path, chip, op="gemm")] == [1]
    pd.DataFrame([other, other]).to_csv(path, index=False)
    assert [len(table) for table in file_tables(path, chip, op="gemm")] == [2]


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


def test_spaces_after_commas_are_no_part_of_names_and_a_compressed_table_reads_back(tmp_path):
    (tmp_path / "own.csv").write_text("kind, dtype, m\ngemm, bfloat16, 3\n")
    frame = read_frame(tmp_path / "own.csv")
    assert frame.to_dict("list") == {"kind": ["gemm"], "dtype": ["bfloat16"], "m": [3]}
    write_frame(frame, tmp_path / "own.csv.gz")
    written = (tmp_path / "own.csv.gz").read_bytes()
    assert written[:2] == b"\x1f\x8b"  # of a gzip file
    assert written[4:8] == bytes(4)  # which may tell when it was written: then no two were equal
    assert read_frame(tmp_path / "own.csv.gz").equals(frame)


def test_rows_with_more_cells_than_columns_are_refused(tmp_path):
    (tmp_path / "table.csv").write_text("kind,m\ngemm,1,2\n")
    with pytest.raises(SimulationError, match="rows have more cells than the 2 named columns"):
        read_frame(tmp_path / "table.csv")
    (tmp_path / "table.csv").write_text("kind,m\ngemm,1\ngemm,1,2\n")
    with pytest.raises(SimulationError, match=r"line 3 has 3 cells, more than the 2 columns$"):
        read_frame(tmp_path / "table.csv")
