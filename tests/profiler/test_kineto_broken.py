"""Broken files give one clear line; broken events are counted and skipped."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from profiler.errors import TraceError
from profiler.importers.kineto import import_kineto

GOOD: dict[str, Any] = {
    "ph": "X",
    "cat": "kernel",
    "name": "good",
    "pid": 0,
    "tid": 7,
    "ts": 10.5,
    "dur": 2.5,
    "args": {"stream": 7, "correlation": 1},
}
WHOLE = json.dumps({"traceEvents": [GOOD]}).encode()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("cut.json.gz", gzip.compress(WHOLE)[:-12], "truncated gzip"),
        ("head.json.gz", b"\x1f\x8b", "truncated gzip"),
        ("flipped.json.gz", gzip.compress(WHOLE)[:20] + b"\xff\xff\xff" + gzip.compress(WHOLE)[23:], "broken gzip"),
        ("plain.json.gz", WHOLE, "not a gzip file"),
        ("cut.json", WHOLE[:-5], "not valid JSON"),
        ("empty.json", b"", "the file is empty"),
        ("empty.json.gz", b"", "the file is empty"),
        ("deep.json", b"[" * 200_000, "nested too deeply"),
        ("huge.json", b'{"traceEvents": [1e99999999999999999999]}', "out of range"),
        ("digits.json", b'{"traceEvents": [' + b"1" * 5000 + b"]}", "out of range"),
        ("list.json", b"[]", "not a PyTorch profiler trace"),
        ("other.json", b'{"a": 1}', "not a PyTorch profiler trace"),
        ("events.json", b'{"traceEvents": {}}', "not a PyTorch profiler trace"),
        ("none.json", b'{"traceEvents": []}', "no device events"),
        (
            "cpu.json",
            b'{"traceEvents": [{"ph": "X", "cat": "cpu_op", "name": "a", "ts": 1, "dur": 1}]}',
            "no device events",
        ),
    ],
)
def test_broken_file_is_one_line_that_names_it(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(TraceError, match=message) as caught:
        import_kineto(path)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_file_and_folder_are_named(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.json", tmp_path):
        with pytest.raises(TraceError, match="cannot be read"):
            import_kineto(path)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ('"ts": 10.5, ', "ts is missing"),
        ('"dur": 2.5, ', "dur is missing"),
        ('"name": "good", ', "has no name"),
    ],
)
def test_event_that_lacks_something_is_counted_and_skipped(tmp_path: Path, change: str, reason: str) -> None:
    assert_skipped(tmp_path, json.dumps(GOOD).replace(change, ""), f"kernel: {reason}")


@pytest.mark.parametrize("value", ["NaN", "Infinity", '"5"', "null", "true", "1e300", "[1]"])
def test_event_with_a_time_that_is_no_number_is_counted_and_skipped(tmp_path: Path, value: str) -> None:
    assert_skipped(tmp_path, json.dumps(GOOD).replace("10.5", value), "kernel: ts is no finite number")
    assert_skipped(tmp_path, json.dumps(GOOD).replace("2.5", value), "kernel: dur is no finite number")


def test_negative_duration_is_counted_and_skipped(tmp_path: Path) -> None:
    assert_skipped(tmp_path, json.dumps(GOOD).replace("2.5", "-2.5"), "kernel: dur is negative")


@pytest.mark.parametrize("event", ["5", "null", '"x"', "[]"])
def test_event_that_is_no_object_is_counted_and_skipped(tmp_path: Path, event: str) -> None:
    assert_skipped(tmp_path, event, "is not an object")


@pytest.mark.parametrize(
    "args",
    [None, [], "x", {"correlation": "abc", "stream": {}}, {"External id": 2**200, "grid": "x"}, {"bytes": "many"}],
)
def test_strange_arguments_do_not_lose_a_kernel(tmp_path: Path, args: Any) -> None:
    path = tmp_path / "strange.json"
    path.write_text(json.dumps({"traceEvents": [{**GOOD, "args": args}, {**GOOD, "cat": "gpu_memcpy", "args": args}]}))
    assert len(import_kineto(path).kernels) == 2


def test_names_of_any_bytes_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "names.json"
    path.write_bytes(b'{"traceEvents": [' + json.dumps(GOOD).encode().replace(b"good", b"<script>\xff\t") + b"]}")
    assert import_kineto(path).kernel_names == ("<script>\N{REPLACEMENT CHARACTER}\t",)


def assert_skipped(tmp_path: Path, event: str, reason: str) -> None:
    path = tmp_path / "mixed.json"
    path.write_text(f'{{"traceEvents": [{json.dumps(GOOD)}, {event}]}}')
    trace = import_kineto(path)
    assert len(trace.kernels) == 1
    assert f"Skipped 1 event: {reason}." in trace.provenance.notes
