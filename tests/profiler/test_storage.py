"""Traces on disk: equal after save and load, and one clear line for whatever is no trace."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from profiler.capture import capture, phase
from profiler.errors import TraceError
from profiler.fusion import fuse
from profiler.storage import load_trace, save_trace
from profiler.traces import Kernels


@pytest.fixture
def trace():
    with torch.no_grad(), capture(name="små <b>", seed=7) as recording, phase("denoise", step=1):
        torch.softmax(torch.ones(4, 8) @ torch.ones(8, 2), -1)
    return recording.trace


def test_trace_is_equal_after_save_and_load(trace, tmp_path):
    save_trace(trace, tmp_path / "a" / "trace.parquet")
    assert load_trace(tmp_path / "a" / "trace.parquet") == trace
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["trace.parquet"]


def test_fused_trace_is_equal_after_save_and_load(trace, tmp_path):
    save_trace(fuse(trace), tmp_path / "fused.parquet")
    assert load_trace(tmp_path / "fused.parquet") == fuse(trace)


def test_trace_from_before_storages_were_recorded_loads_without_them(trace, tmp_path):
    save_trace(trace, tmp_path / "new.parquet")
    table = pq.read_table(tmp_path / "new.parquet").drop_columns(["replaces"])
    header = json.loads(table.schema.metadata[b"roofscape.trace"])
    del header["allocations"]
    metadata = {**table.schema.metadata, b"roofscape.trace": json.dumps(header).encode()}
    pq.write_table(table.replace_schema_metadata(metadata), tmp_path / "old.parquet")
    old = load_trace(tmp_path / "old.parquet")
    assert len(old.calls.replaces) == len(old.allocations) == 0
    assert np.array_equal(old.calls.writes, trace.calls.writes)


def test_kernels_are_kept(trace, tmp_path):
    from dataclasses import replace

    kernels = Kernels(
        call=np.array([0, 2, 2]),
        name=np.array([1, 0, 0]),
        category=np.zeros(3, dtype=np.int64),
        attribution=np.zeros(3, dtype=np.int64),
        stream=np.array([7, 7, 8]),
        start_s=np.array([0.0, 1.0, 2.0]),
        duration_s=np.array([0.5, 0.25, 0.125]),
    )
    with_kernels = replace(trace, kernels=kernels, kernel_names=("a", "b"))
    save_trace(with_kernels, tmp_path / "t.parquet")
    assert load_trace(tmp_path / "t.parquet") == with_kernels


def test_counters_are_kept_summed_per_call_and_unknown_where_a_kernel_was_not_counted(trace, tmp_path):
    from dataclasses import replace

    kernels = Kernels(
        call=np.array([0, 0, 1, 1]),
        name=np.zeros(4, dtype=np.int64),
        category=np.zeros(4, dtype=np.int64),
        attribution=np.zeros(4, dtype=np.int64),
        stream=np.zeros(4, dtype=np.int64),
        start_s=np.full(4, np.nan),
        duration_s=np.ones(4),
        dram_bytes=np.array([10.0, 5.0, 7.0, np.nan]),
    )
    counted = replace(trace, kernels=kernels, kernel_names=("a",))
    save_trace(counted, tmp_path / "t.parquet")
    loaded = load_trace(tmp_path / "t.parquet")
    assert loaded == counted
    assert loaded.is_counted and not trace.is_counted
    assert loaded.counted("dram_bytes")[0] == 15.0
    assert np.isnan(loaded.counted("dram_bytes")[1:]).all()
    assert np.isnan(loaded.kernels.l2_bytes).all()
    assert loaded.to_frame()["counted_dram_bytes"].tolist()[0] == 15.0


def test_saving_the_same_trace_twice_gives_the_same_bytes(trace, tmp_path):
    save_trace(trace, tmp_path / "a.parquet")
    save_trace(trace, tmp_path / "b.parquet")
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_missing_file_is_named(tmp_path):
    with pytest.raises(TraceError, match=r"none\.parquet: no such trace file"):
        load_trace(tmp_path / "none.parquet")


@pytest.mark.parametrize("content", [b"", b"PAR1", b"not parquet at all", b"PAR1" + bytes(100) + b"PAR1"])
def test_file_that_is_no_parquet_is_refused(content, tmp_path):
    path = tmp_path / "x.parquet"
    path.write_bytes(content)
    with pytest.raises(TraceError, match="not a readable Parquet file"):
        load_trace(path)


def test_truncated_trace_is_refused(trace, tmp_path):
    path = tmp_path / "t.parquet"
    save_trace(trace, path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(TraceError, match="not a readable Parquet file"):
        load_trace(path)


def test_parquet_of_something_else_is_refused(tmp_path):
    pq.write_table(pa.table({"op": [1, 2]}), tmp_path / "other.parquet")
    with pytest.raises(TraceError, match="not a Roofscape trace"):
        load_trace(tmp_path / "other.parquet")


def test_other_schema_version_is_refused(trace, tmp_path):
    path = tmp_path / "t.parquet"
    save_trace(trace, path)
    table = pq.read_table(path)
    pq.write_table(table.replace_schema_metadata({**table.schema.metadata, b"roofscape.schema_version": b"99"}), path)
    with pytest.raises(TraceError, match="schema version must be 2, got '99'"):
        load_trace(path)


def test_header_that_lacks_a_field_is_refused(trace, tmp_path):
    path = tmp_path / "t.parquet"
    save_trace(trace, path)
    table = pq.read_table(path)
    pq.write_table(table.replace_schema_metadata({**table.schema.metadata, b"roofscape.trace": b"{}"}), path)
    with pytest.raises(TraceError, match="damaged trace"):
        load_trace(path)


def test_nothing_is_left_where_the_folder_cannot_be_written(trace, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(TraceError, match="cannot write"):
        save_trace(trace, tmp_path / "file" / "t.parquet")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
