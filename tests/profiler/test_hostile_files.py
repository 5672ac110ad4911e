"""What strangers' files hold, made or by accident: one clear line or a counted omission, never a crash or a lie."""

import gzip
import io
import json
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from foreign_samples import KERNEL_EVENT, kineto_bytes, ncu_bytes, rocprof_v3_bytes, samples, write_nsys
from typer.testing import CliRunner

from profiler.errors import TraceError
from profiler.importers.registry import find_importer, list_importers
from profiler.storage import load_trace, save_trace
from profiler.traces import Trace

HUGE = 2**63
NASTY = "<script>alert(1)</script>\x1b]0;owned\x07\x1b[31m[bold]kernel"


def read(importer: str, path: Path, contents: bytes) -> Trace:
    path.write_bytes(contents)
    return find_importer(importer)(path)


@pytest.mark.parametrize("index", range(7))
def test_every_sample_imports_plain_and_packed_and_survives_saving(tmp_path: Path, index: int) -> None:
    importer, name, contents = samples(tmp_path)[index]
    trace = read(importer, tmp_path / name, contents)
    packed = read(importer, tmp_path / f"{name}.gz", gzip.compress(contents))
    assert packed == trace
    assert len(trace.kernels) >= 1
    save_trace(trace, tmp_path / "t.parquet")
    assert load_trace(tmp_path / "t.parquet") == trace


def test_samples_cover_every_importer(tmp_path: Path) -> None:
    assert {importer for importer, _, _ in samples(tmp_path)} == set(list_importers())


@pytest.fixture(scope="module")
def bomb() -> bytes:
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb") as stream:
        for _ in range(128):
            stream.write(bytes(2**20))
    return packed.getvalue()


@pytest.mark.parametrize("importer", ["kineto", "ncu", "nsys", "rocprof"])
def test_zip_bomb_is_refused_before_it_fills_the_memory(tmp_path: Path, importer: str, bomb: bytes) -> None:
    path = tmp_path / "bomb.gz"
    path.write_bytes(bomb)
    tracemalloc.start()
    with pytest.raises(TraceError, match="unpacks to more than 200 times its size"):
        find_importer(importer)(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**26  # half of what it holds


def test_file_over_the_limit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("profiler.importers.foreign_file.LARGEST_FILE_BYTES", 2**20)
    for name, contents in (("a.json", b" " * (2**20 + 1)), ("a.json.gz", gzip.compress(kineto_bytes() + b" " * 2**20))):
        with pytest.raises(TraceError, match="holds more than 1 MiB; record a shorter window"):
            read("kineto", tmp_path / name, contents)


@pytest.mark.parametrize("bracket", ["[", '{"a":'])
@pytest.mark.parametrize("place", ["whole", "args", "header"])
def test_absurd_nesting_is_one_line(tmp_path: Path, bracket: str, place: str) -> None:
    deep = bracket * 200_000
    text = {
        "whole": deep,
        "args": f'{{"traceEvents": [{{"args": {deep}',
        "header": f'{{"deviceProperties": {deep}',
    }[place]
    with pytest.raises(TraceError, match="nested too deeply"):
        read("kineto", tmp_path / "deep.json", text.encode())


def test_nesting_that_the_parser_just_takes_breaks_nothing_later(tmp_path: Path) -> None:
    """Descriptions of nested inputs are built by recursion as well."""
    depth = sys.getrecursionlimit() // 2
    nested: Any = json.loads("[" * depth + "]" * depth)
    op = {
        "ph": "X",
        "cat": "cpu_op",
        "name": "aten::mm",
        "pid": 1,
        "tid": 1,
        "ts": 1,
        "dur": 99,
        "args": {"External id": 7, "Input Dims": [nested], "Input type": ["float"], "Concrete Inputs": [nested]},
    }
    launch = {**op, "cat": "cuda_runtime", "name": "cudaLaunchKernel", "ts": 20, "dur": 1, "args": {"correlation": 1}}
    trace = read("kineto", tmp_path / "nested.json", kineto_bytes(op, launch, KERNEL_EVENT))
    assert [entry.kind for entry in trace.ops] == ["unknown"]


@pytest.mark.parametrize("field", ["ts", "dur"])
@pytest.mark.parametrize("value", [HUGE, -HUGE, 1e300, float("nan"), float("inf")])
def test_kineto_event_at_an_impossible_time_is_counted_out(tmp_path: Path, field: str, value: float) -> None:
    trace = read("kineto", tmp_path / "t.json", kineto_bytes(KERNEL_EVENT, {**KERNEL_EVENT, field: value}))
    assert len(trace.kernels) == 1
    assert any("Skipped 1 event: kernel: " in note for note in trace.provenance.notes)


@pytest.mark.parametrize("field", ["stream", "device", "correlation", "External id", "grid", "bytes"])
@pytest.mark.parametrize("value", [HUGE - 1, HUGE, -HUGE, 1e300, "9" * 400, None, [], {}])
def test_kineto_arguments_of_any_size_lose_no_kernel(tmp_path: Path, field: str, value: Any) -> None:
    event = {**KERNEL_EVENT, "args": {**KERNEL_EVENT["args"], field: value}}
    trace = read("kineto", tmp_path / "t.json", kineto_bytes(event, {**event, "cat": "gpu_memcpy"}))
    assert len(trace.kernels) == 2
    save_trace(trace, tmp_path / "t.parquet")


def test_kineto_duplicate_ids_keep_every_kernel_in_one_call(tmp_path: Path) -> None:
    from foreign_samples import KINETO_EVENTS

    trace = read("kineto", tmp_path / "t.json", kineto_bytes(*KINETO_EVENTS, *KINETO_EVENTS))
    assert len(trace.kernels) == 4
    assert np.bincount(trace.kernels.call).sum() == 4


@pytest.mark.parametrize(
    ("value", "unit"),
    [
        ("nan", "byte"),
        ("-5", "byte"),
        ("inf", "byte"),
        ("1e999", "byte"),
        ("n/a", "byte"),
        ("9" * 400, "byte"),
        ("5", "furlong"),
        ("1,00", "byte"),
    ],
)
def test_ncu_counter_that_is_no_count_is_unknown(tmp_path: Path, value: str, unit: str) -> None:
    metrics = (("dram__bytes.sum", unit, value), ("lts__t_bytes.sum", "byte", "5"))
    trace = read("ncu", tmp_path / "t.csv", ncu_bytes(metrics=metrics))
    assert np.isnan(trace.counted("dram_bytes")[0])
    assert trace.counted("l2_bytes")[0] == 5.0


@pytest.mark.parametrize("value", ["nan", "-1", "inf", "1e400", "x", ""])
def test_rocprof_counter_that_is_no_count_is_unknown(tmp_path: Path, value: str) -> None:
    rows = ((1, "good", "FETCH_SIZE", value), (1, "good", "WRITE_SIZE", "1"), (1, "good", "TCC_REQ_sum", "2"))
    trace = read("rocprof", tmp_path / "t.csv", rocprof_v3_bytes(*rows))
    assert np.isnan(trace.counted("dram_bytes")[0])
    assert trace.counted("l2_bytes")[0] == 256.0


def test_cupti_counter_that_is_no_count_is_unknown(tmp_path: Path) -> None:
    args = {"dram__bytes.sum": float("nan"), "lts__t_bytes.sum": -3, "l1tex__t_bytes.sum": 2**70}
    event = {**KERNEL_EVENT, "cat": "cuda_profiler_range", "args": args}
    trace = read("kineto", tmp_path / "t.json", kineto_bytes(event))
    assert not trace.is_counted


def test_duplicate_ids_of_counted_kernels_do_not_add_up(tmp_path: Path) -> None:
    """A file that was appended to itself counts nothing twice; other values under one id are named."""
    metrics = (("dram__bytes.sum", "byte", "5"), ("dram__bytes.sum", "byte", "5"), ("dram__bytes.sum", "byte", "6"))
    trace = read("ncu", tmp_path / "t.csv", ncu_bytes(metrics=metrics))
    assert trace.counted("dram_bytes").tolist() == [5.0]
    assert any("differ from one already read" in note for note in trace.provenance.notes)
    rows = ((1, "good", "TCC_REQ_sum", "2"), (1, "good", "TCC_REQ_sum", "2"), (1, "good", "TCC_REQ_sum", "3"))
    trace = read("rocprof", tmp_path / "r.csv", rocprof_v3_bytes(*rows))
    assert trace.counted("l2_bytes").tolist() == [256.0]
    assert any("differ from one already read" in note for note in trace.provenance.notes)


def test_one_id_of_two_kernels_is_two_kernels(tmp_path: Path) -> None:
    contents = ncu_bytes("one") + ncu_bytes("two").partition(b'Metric Value"\n')[2]
    trace = read("ncu", tmp_path / "t.csv", contents)
    assert trace.kernel_names == ("one", "two")


@pytest.mark.parametrize(
    ("change", "note"),
    [
        ("UPDATE CUPTI_ACTIVITY_KIND_MEMCPY SET start = 9223372036854775807", "out of range"),
        ("UPDATE CUPTI_ACTIVITY_KIND_MEMCPY SET start = -9223372036854775808", "out of range"),
        ("UPDATE CUPTI_ACTIVITY_KIND_MEMCPY SET start = 9000", "duration is negative"),
        ("UPDATE CUPTI_ACTIVITY_KIND_MEMCPY SET start = 'soon'", "no whole number"),
        ("UPDATE CUPTI_ACTIVITY_KIND_MEMCPY SET end = NULL", "no whole number"),
        ("UPDATE CUPTI_ACTIVITY_KIND_MEMCPY SET end = 1e300", "no whole number"),
    ],
)
def test_nsys_event_at_an_impossible_time_is_counted_out(tmp_path: Path, change: str, note: str) -> None:
    path = tmp_path / "t.sqlite"
    database = write_nsys(path)
    database.execute(change)
    database.commit()
    database.close()
    trace = find_importer("nsys")(path)
    assert len(trace.kernels) == 1
    assert any("Skipped 1 event: memcpy: " in text and note in text for text in trace.provenance.notes)


@pytest.mark.parametrize("value", ["9223372036854775807", "'x'", "NULL", "x'00ff'", "1e300", "-1"])
@pytest.mark.parametrize("column", ["deviceId", "streamId", "correlationId", "globalPid", "demangledName", "gridX"])
def test_nsys_columns_of_any_type_lose_no_kernel(tmp_path: Path, column: str, value: str) -> None:
    path = tmp_path / "t.sqlite"
    database = write_nsys(path)
    database.executescript(
        "ALTER TABLE CUPTI_ACTIVITY_KIND_KERNEL RENAME TO k0; "
        "CREATE TABLE CUPTI_ACTIVITY_KIND_KERNEL AS SELECT * FROM k0; "
        f"UPDATE CUPTI_ACTIVITY_KIND_KERNEL SET {column} = {value};"
    )
    database.close()
    trace = find_importer("nsys")(path)
    assert len(trace.kernels) == 2


def test_nsys_view_that_never_ends_is_not_run(tmp_path: Path) -> None:
    path = tmp_path / "t.sqlite"
    database = write_nsys(path)
    database.executescript(
        "DROP TABLE NVTX_EVENTS; CREATE VIEW NVTX_EVENTS AS WITH RECURSIVE r(start) AS (SELECT 1 UNION ALL "
        "SELECT start FROM r) SELECT start, start AS end, 59 AS eventType, 'x' AS text, 0 AS textId, 1 AS globalTid "
        "FROM r"
    )
    database.close()
    assert len(find_importer("nsys")(path).kernels) == 2


@pytest.mark.slow
@pytest.mark.parametrize("importer", ["kineto", "ncu", "nsys", "rocprof"])
def test_escapes_and_markup_in_kernel_names_reach_neither_terminal_nor_page(tmp_path: Path, importer: str) -> None:
    from reports.cli import app

    path = tmp_path / "nasty"
    if importer == "nsys":
        write_nsys(path, name=NASTY).close()
    else:
        path.write_bytes(
            {
                "kineto": kineto_bytes({**KERNEL_EVENT, "name": NASTY}),
                "ncu": ncu_bytes(NASTY),
                "rocprof": rocprof_v3_bytes((1, NASTY, "FETCH_SIZE", "1")),
            }[importer]
        )
    saved, page = tmp_path / "t.parquet", tmp_path / "page.html"
    result = CliRunner().invoke(app, ["import", importer, str(path), "-o", str(saved)])
    assert result.exit_code == 0, result.output
    assert "\x1b" not in result.output and "\x07" not in result.output
    assert NASTY in load_trace(saved).kernel_names
    shown = CliRunner().invoke(app, ["report", str(saved), "--chip", "h100-sxm", "-o", str(page)])
    assert shown.exit_code == 0, shown.output
    assert "<script>alert(1)" not in page.read_text(encoding="utf-8")


@pytest.mark.parametrize("importer", ["kineto", "ncu", "nsys", "rocprof"])
@pytest.mark.parametrize(
    "contents",
    [
        b"",
        b"\0" * 4096,
        b"\xff\xfe" * 999,
        b'"',
        b"SQLite format 3\0" + b"\xff" * 4096,
        b"PK\x03\x04",
        b"==PROF==\n",
        b"\n" * 999,
    ],
)
def test_what_is_no_such_file_is_one_line_that_names_it(tmp_path: Path, importer: str, contents: bytes) -> None:
    with pytest.raises(TraceError) as caught:
        read(importer, tmp_path / "strange.bin", contents)
    assert "strange.bin" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("importer", ["kineto", "ncu", "nsys", "rocprof"])
def test_missing_file_and_folder_are_named(tmp_path: Path, importer: str) -> None:
    for path in (tmp_path / "absent", tmp_path):
        with pytest.raises(TraceError, match="cannot be read"):
            find_importer(importer)(path)


@pytest.mark.parametrize("importer", ["kineto", "ncu", "nsys", "rocprof"])
def test_strict_mode_refuses_what_is_unknown(tmp_path: Path, importer: str) -> None:
    contents = {name: data for name, _, data in reversed(samples(tmp_path))}[importer]
    if importer == "kineto":
        contents = kineto_bytes(KERNEL_EVENT)
    path = tmp_path / "s.bin"
    path.write_bytes(contents)
    with pytest.raises(TraceError, match="strict mode is on"):
        find_importer(importer)(path, strict=True)
