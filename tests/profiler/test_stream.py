"""Recordings written to disk while the program runs: the same trace at the end, and most of it after a kill."""

import gc
import itertools
import subprocess
import sys
import tracemalloc

import pytest
import torch

from profiler.capture import capture, phase, recorder, stream
from profiler.errors import TraceError
from profiler.storage import load_trace
from profiler.trace_parts import part_path, parts_folder


@pytest.fixture
def small_parts(monkeypatch):
    """Parts of a few calls, and a clock that ticks by itself, so that two recordings have the same times."""
    monkeypatch.setattr(stream, "MOST_VERSIONS", 8)
    ticks = itertools.count(1000, 10)
    monkeypatch.setattr(recorder, "perf_counter_ns", lambda: next(ticks))


@pytest.fixture
def saved_parts(monkeypatch):
    """Paths of the parts that are written."""
    paths = []
    save = stream.save_part

    def saving(stretch, skip, path):
        save(stretch, skip, path)
        paths.append(path)

    monkeypatch.setattr(stream, "save_part", saving)
    return paths


def program(steps=12):
    """Every step brings an op of a new shape; modules and phases come one after another, storages of its own too."""
    kept = []
    layers = [torch.nn.Linear(4, 4, bias=False), torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.ReLU())]
    for step in range(steps):
        with phase("even" if step % 2 == 0 else f"odd{step}", step=step):
            x = torch.empty(step + 1, 4).fill_(1.0)
            kept += [x, layers[step // 6](x), x.sum(0), torch.cat([x, x])]
    return kept


def recorded(**options):
    with torch.no_grad(), capture(name="p", seed=3, **options) as recording:
        kept = program()
    del kept
    return recording.trace


def cut_off(path):
    """A folder of parts, left by a program that failed."""
    with pytest.raises(ZeroDivisionError), torch.no_grad(), capture(name="p", seed=3, stream_to=path):
        kept = program()
        raise ZeroDivisionError(len(kept))
    return parts_folder(path)


def assert_same(trace, other):
    assert trace.calls == other.calls
    assert trace.allocations == other.allocations
    for column in ("name", "ops", "phases", "modules", "view"):
        assert getattr(trace, column) == getattr(other, column)
    assert (trace.provenance.notes, trace.provenance.seed) == (other.provenance.notes, other.provenance.seed)


@pytest.mark.parametrize("timing", [True, False])
def test_streamed_recording_gives_the_same_trace(timing, small_parts, saved_parts, tmp_path, monkeypatch):
    plain = recorded(timing=timing)
    ticks = itertools.count(1000, 10)
    monkeypatch.setattr(recorder, "perf_counter_ns", lambda: next(ticks))
    path = tmp_path / "out" / "p.parquet"
    streamed = recorded(timing=timing, stream_to=path)
    assert len(plain.calls) >= 48
    assert len(saved_parts) >= 5
    assert_same(streamed, plain)
    assert load_trace(path) == streamed
    assert [file.name for file in path.parent.iterdir()] == ["p.parquet"]


def test_recording_shorter_than_a_part_is_the_same_too(tmp_path, saved_parts):
    assert_same(recorded(timing=False, stream_to=tmp_path / "p.parquet"), recorded(timing=False))
    assert not saved_parts


def test_program_that_fails_leaves_what_it_did(small_parts, tmp_path, monkeypatch):
    plain = recorded()
    ticks = itertools.count(1000, 10)
    monkeypatch.setattr(recorder, "perf_counter_ns", lambda: next(ticks))
    folder = cut_off(tmp_path / "p.parquet")
    left = load_trace(folder)
    assert left.calls == plain.calls
    assert left.ops == plain.ops
    assert left.allocations == plain.allocations
    assert left.provenance.notes[-1].startswith("incomplete: recording was cut off")
    with pytest.raises(TraceError, match=r"p\.parquet: no such trace file, but .*p\.parquet\.parts holds"):
        load_trace(tmp_path / "p.parquet")
    with pytest.raises(TraceError, match="holds an unfinished recording"):
        recorded(stream_to=tmp_path / "p.parquet")


def test_program_that_fails_before_its_first_call_leaves_nothing(tmp_path):
    with pytest.raises(ZeroDivisionError), capture(stream_to=tmp_path / "p.parquet"):
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())


def test_first_parts_alone_are_a_trace(small_parts, tmp_path):
    folder = cut_off(tmp_path / "p.parquet")
    whole = load_trace(folder)
    last = max(folder.iterdir())
    (folder / f".{last.name}.tmp").write_bytes(last.read_bytes()[:50])  # as a kill while writing leaves it
    last.unlink()
    shorter = load_trace(folder)
    count = len(shorter.calls)
    assert 0 < count < len(whole.calls)
    assert shorter.ops == whole.ops[: len(shorter.ops)]
    assert shorter.calls.duration_s.tolist() == whole.calls.duration_s[:count].tolist()
    assert f"these are the {count} calls" in shorter.provenance.notes[-1]


def test_damaged_missing_or_single_part_gives_one_line(small_parts, tmp_path):
    folder = cut_off(tmp_path / "p.parquet")
    second = part_path(folder, 1)
    content = second.read_bytes()
    with pytest.raises(TraceError, match=r"part-000001.parquet: one part of an unfinished recording; read its whole"):
        load_trace(second)
    for damaged in (b"", content[:-30], content[:100], b"PAR1" + bytes(60) + b"PAR1"):
        second.write_bytes(damaged)
        with pytest.raises(TraceError, match=r"part-000001.parquet: not a readable Parquet file") as error:
            load_trace(folder)
        assert len(str(error.value).splitlines()) == 1
    second.unlink()
    with pytest.raises(TraceError, match=r"part-000001.parquet is missing, but part-000002.parquet is there"):
        load_trace(folder)
    with pytest.raises(TraceError, match="without a complete part"):
        load_trace(tmp_path)


def test_parts_of_two_recordings_do_not_mix_unseen(small_parts, tmp_path):
    folder = cut_off(tmp_path / "p.parquet")
    part_path(folder, 0).write_bytes(part_path(folder, 1).read_bytes())  # its tables lack the first entries
    with pytest.raises(TraceError):
        load_trace(folder)


def test_full_disk_leaves_the_program_and_the_trace_whole(small_parts, tmp_path, monkeypatch, caplog):
    plain = recorded(timing=False)
    attempts = []
    save = stream.save_part

    def failing(stretch, skip, path):
        attempts.append(path)
        if len(attempts) in (2, 3):
            raise TraceError(f"cannot write {path}: No space left on device")
        save(stretch, skip, path)

    monkeypatch.setattr(stream, "save_part", failing)
    streamed = recorded(timing=False, stream_to=tmp_path / "p.parquet")
    assert len(attempts) > 4
    assert "No space left on device" in caplog.text
    assert_same(streamed, plain)


def test_disk_that_stays_full_keeps_calls_in_memory(small_parts, tmp_path, monkeypatch):
    def failing(stretch, skip, path):
        raise TraceError(f"cannot write {path}: No space left on device")

    monkeypatch.setattr(stream, "save_part", failing)
    assert_same(recorded(timing=False, stream_to=tmp_path / "p.parquet"), recorded(timing=False))


def test_forked_worker_writes_nothing(small_parts, saved_parts, tmp_path, monkeypatch):
    with torch.no_grad(), capture(stream_to=tmp_path / "p.parquet"):
        monkeypatch.setattr(stream.os, "getpid", lambda: -1)
        program()
    assert not saved_parts


def test_path_that_cannot_be_written_is_refused_before_the_program_runs(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(TraceError, match="cannot write"), capture(stream_to=tmp_path / "file" / "p.parquet"):
        pytest.fail("the program ran")
    with pytest.raises(TraceError, match="is a folder"), capture(stream_to=tmp_path):
        pytest.fail("the program ran")


def test_period_alone_writes_parts(tmp_path, monkeypatch, saved_parts):
    monkeypatch.setattr(stream, "PERIOD_S", 0.02)
    monkeypatch.setattr(stream, "MOST_VERSIONS", 10**9)  # never so many
    x = torch.ones(2)
    with torch.no_grad(), capture(stream_to=tmp_path / "p.parquet") as recording:
        while len(saved_parts) < 3:
            x.add(1.0)
    assert len(saved_parts) == 3
    assert recording.trace.calls.step.size > 0


def peak_bytes(calls, path):
    """Most memory that Python held at once while a recording ran, beyond what it held before."""
    x = torch.ones(2)
    with torch.no_grad(), capture(timing=True, stream_to=path):
        x.add(1.0)
        gc.collect()
        tracemalloc.start()
        for _ in range(calls):
            x.add(1.0)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return peak


@pytest.mark.slow
def test_memory_stays_flat(tmp_path, monkeypatch):
    monkeypatch.setattr(stream, "MOST_VERSIONS", 1000)
    peak_bytes(2000, tmp_path / "warm.parquet")
    few = peak_bytes(4000, tmp_path / "few.parquet")
    many = peak_bytes(40000, tmp_path / "many.parquet")
    # What still grows is the table of storages' addresses, up to as many as the heap has: about 100 bytes each.
    assert many < few + 1_000_000
    assert peak_bytes(40000, None) > peak_bytes(4000, None) + 5_000_000


_ENDLESS = """
import itertools, sys
from pathlib import Path
import torch
from profiler.capture import capture, phase, stream
stream.PERIOD_S = 0.1
save = stream.save_part
def saving(stretch, skip, path):
    save(stretch, skip, path)
    print(stretch.calls.step[-1], flush=True)
stream.save_part = saving
x = torch.ones(64)
with torch.no_grad(), capture(name="endless", stream_to=Path(sys.argv[1])):
    for step in itertools.count():
        with phase("loop", step=step):
            x.add(1.0)
"""


@pytest.mark.slow
def test_killed_program_leaves_all_that_its_parts_hold(tmp_path):
    """Every tenth of a second a part is saved: a kill loses what came after the last one."""
    path = tmp_path / "endless.parquet"
    with subprocess.Popen([sys.executable, "-c", _ENDLESS, str(path)], stdout=subprocess.PIPE, text=True) as process:
        saved = [int(process.stdout.readline()) for _ in range(5)]  # the last step of each part
        process.kill()  # SIGKILL
        process.wait()
    trace = load_trace(parts_folder(path))
    assert not path.exists()
    assert trace.calls.step.tolist() == list(range(len(trace.calls)))
    assert trace.phases == ("loop",)
    assert saved == sorted(set(saved)) and len(trace.calls) > saved[-1]
    assert trace.provenance.notes[-1].startswith("incomplete: recording was cut off")
