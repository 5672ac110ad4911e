"""The store: what is saved stays saved, through kills, full disks, other processes and other people's files."""

import os
import shlex
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from explorer_samples import CHIPS, chips, count_lines, search

from explorer.errors import ExplorationError
from explorer.parameters import Parameter, ParameterSpace
from explorer.result import Result
from explorer.run_key import code_version, run_key
from explorer.search import explore, propose
from explorer.store import Store

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = ROOT / "tests" / "samples"
SPACE = ParameterSpace(parameters=(Parameter.range("x", 0, 99, steps=100), Parameter(name="dram", values=("a", "b"))))


def evaluate(designs):
    x = designs["x"] / 7  # no short decimals: all bits must survive
    return Result(
        costs=np.column_stack([x, np.where(designs["dram"] == "a", np.nan, 1 - x)]),
        violation=np.where(designs["x"] > 90, np.inf, np.where(designs["x"] > 80, np.nan, 0.0)),
        reason=np.where(designs["x"] > 80, "too large <é>", ""),
        metrics={"area_mm2": x * 3, "power_w": np.where(designs["x"] % 2 == 0, np.nan, x)},
    )


@pytest.fixture
def start_search():
    """Starts `search` as a program, with its arguments; nothing of it is left after the test."""
    processes = []

    def start(*arguments):
        environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{SAMPLES}"}
        command = [sys.executable, str(SAMPLES / "explorer_samples.py"), *map(str, arguments)]
        processes.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.wait()
        process.stdout.close()


def test_results_come_back_bit_for_bit(tmp_path):
    index = np.array([7, 170, 3, 199])
    result = evaluate(SPACE.decode(index))
    with Store(tmp_path / "a" / "designs.db") as store:
        store.run("key", SPACE, description="test").save(index, result)
    with Store(tmp_path / "a" / "designs.db", read_only=True) as store:
        assert [(run[0], run[1], run[3]) for run in store.runs()] == [("key", "test", 4)]
        found, loaded = store.find_run("key", SPACE).load()
        assert store.find_run("key", SPACE).done().tolist() == found.tolist() == [3, 7, 170, 199]
    expected = result.take(np.array([2, 0, 1, 3]))
    np.testing.assert_array_equal(loaded.costs, expected.costs)
    np.testing.assert_array_equal(loaded.violation, expected.violation)
    assert loaded.reason.tolist() == expected.reason.tolist()
    for name in ("area_mm2", "power_w"):
        np.testing.assert_array_equal(loaded.metrics[name], expected.metrics[name])


def test_any_program_can_read_the_designs(tmp_path):
    with Store(tmp_path / "designs.db") as store:
        store.run("key", SPACE).save(np.array([3]), evaluate(SPACE.decode(np.array([3]))))
    row = sqlite3.connect(tmp_path / "designs.db").execute(
        "SELECT json_extract(parameters, '$.x'), json_extract(parameters, '$.dram'), feasible, "
        "json_extract(metrics, '$.area_mm2') FROM designs"
    )
    assert row.fetchall() == [(1, "b", 1, 3 / 7)]


def test_a_search_over_a_store_evaluates_nothing_twice(tmp_path):
    seen = []

    def counted(designs):
        seen.append(len(designs["x"]))
        return evaluate(designs)

    with Store(tmp_path / "designs.db") as store:
        run = store.run("key", SPACE)
        first = list(explore(SPACE, counted, propose("sobol", SPACE, designs=50), memory=run))
        assert sum(seen) == 50 and first[0].computed.all()
        again = list(explore(SPACE, counted, propose("sobol", SPACE, designs=50), memory=run))
        assert sum(seen) == 50 and not again[0].computed.any()
        grid = list(explore(SPACE, counted, propose("grid", SPACE), memory=run))
    assert sum(seen) == 200
    np.testing.assert_array_equal(again[0].result.costs, first[0].result.costs)
    np.testing.assert_array_equal(grid[0].result.costs, evaluate(SPACE.decode(np.arange(200))).costs)
    assert grid[0].computed.sum() == 150


def test_runs_of_other_spaces_workloads_or_code_are_apart(tmp_path):
    details = {"workloads": ["decode"], "code": code_version()}
    keys = [run_key(SPACE, details), run_key(CHIPS, details), run_key(SPACE, {**details, "workloads": ["prefill"]})]
    assert len(set(keys)) == 3 and len(code_version()) == 64
    with Store(tmp_path / "designs.db") as store:
        for key in keys:
            assert store.run(key, SPACE).done().tolist() == []
            store.run(key, SPACE).save(np.array([1]), evaluate(SPACE.decode(np.array([1]))))
        with pytest.raises(ExplorationError, match=f"has no run 'other'; known: {keys[0][:12]}, "):
            store.find_run("other", SPACE)


def test_killed_in_the_middle_it_goes_on_and_ends_with_the_same_front(tmp_path, start_search):
    pytest.importorskip("pymoo", reason="pymoo comes with roofscape[explore]")
    whole = search(tmp_path / "whole.db", tmp_path / "whole.log", 300)
    log = tmp_path / "log"
    process = start_search(tmp_path / "designs.db", log, 300, "hold_at", 100)
    while count_lines(log) < 100:
        assert process.poll() is None
        time.sleep(0.02)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    evaluated = count_lines(log)
    with Store(tmp_path / "designs.db", read_only=True) as store:
        saved = store.runs()[0][3]
    assert 100 <= evaluated < 300 and 0 < evaluated - saved <= 16  # one claim of 16 designs was in flight
    resumed = search(tmp_path / "designs.db", log, 300)
    lines = log.read_text().splitlines()
    assert len(set(lines)) == 300
    assert len(lines) - 300 == evaluated - saved  # repeated: what was in flight, and nothing else
    assert resumed.index.tolist() == whole.index.tolist()
    np.testing.assert_array_equal(resumed.costs, whole.costs)


def test_one_who_is_making_the_store_is_waited_for(tmp_path):
    path = tmp_path / "designs.db"
    maker = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    maker.execute("BEGIN IMMEDIATE")  # as another process is just before it turns the write-ahead log on
    with pytest.raises(sqlite3.OperationalError, match="locked"), closing(sqlite3.connect(path)) as second:
        second.execute("PRAGMA journal_mode = WAL")  # SQLite itself does not wait here
    release = threading.Timer(0.2, maker.execute, ["COMMIT"])
    release.start()
    with Store(path) as store:
        assert not maker.in_transaction and store.runs() == []
    release.join()
    maker.close()


def test_two_processes_share_the_work_and_find_the_same(tmp_path, start_search):
    pytest.importorskip("pymoo", reason="pymoo comes with roofscape[explore]")
    whole = search(tmp_path / "whole.db", tmp_path / "whole.log", 300)
    logs = [tmp_path / "first.log", tmp_path / "second.log"]
    processes = [
        start_search(tmp_path / "designs.db", log, 300, "other", other)
        for log, other in zip(logs, reversed(logs), strict=True)
    ]
    while any(process.poll() is None for process in processes):
        assert all(process.poll() in (None, 0) for process in processes)  # else the other waits for good
        time.sleep(0.05)
    fronts = [process.stdout.read().strip() for process in processes]
    assert fronts == [str(whole.index.tolist())] * 2
    parts = [log.read_text().splitlines() for log in logs]
    assert sorted(parts[0] + parts[1]) == sorted((tmp_path / "whole.log").read_text().splitlines())  # none twice
    assert all(parts)  # both did some


def test_a_process_that_lives_is_waited_for_and_one_that_died_is_not(tmp_path):
    index = np.arange(10)
    with Store(tmp_path / "designs.db") as store:
        run = store.run("key", SPACE)
        dead = subprocess.Popen([sys.executable, "-c", ""])
        dead.wait()
        host = os.uname().nodename
        store.database.execute("INSERT INTO claims VALUES (1, 4, ?, ?)", (f"{host}:{dead.pid}:aa", time.time() + 600))
        store.database.execute("INSERT INTO claims VALUES (1, 5, 'elsewhere:1:aa', ?)", (time.time() - 1,))
        lapses_s = time.time() + 0.5
        store.database.execute("INSERT INTO claims VALUES (1, 6, 'elsewhere:2:aa', ?)", (lapses_s,))
        result, computed = run.complete(index, lambda part: evaluate(SPACE.decode(part)))
        assert computed.all() and time.time() >= lapses_s
        np.testing.assert_array_equal(result.costs, evaluate(SPACE.decode(index)).costs)
        assert store.database.execute("SELECT count(*) FROM claims").fetchone() == (0,)


def test_claims_are_given_up_when_the_evaluation_fails(tmp_path):
    def fail(_):
        raise KeyboardInterrupt

    with Store(tmp_path / "designs.db") as store:
        run = store.run("key", SPACE)
        with pytest.raises(KeyboardInterrupt):
            run.complete(np.arange(5), fail)
        assert store.database.execute("SELECT count(*) FROM claims").fetchone() == (0,)
        assert run.done().tolist() == []


def test_a_full_disk_is_one_line_and_the_store_stays_readable(tmp_path):
    path = tmp_path / "designs.db"
    with Store(path) as store:
        run = store.run("key", CHIPS, claim_designs=100)
        pages = store.database.execute("PRAGMA page_count").fetchone()[0] + 40
        store.database.execute(f"PRAGMA max_page_count = {pages}")
        kept = []
        with pytest.raises(ExplorationError) as error:
            for batch in explore(CHIPS, chips, propose("sobol", CHIPS, designs=5000, block=100), memory=run):
                kept.append(batch.index)
        assert "the disk is full; what was saved before stays readable: free space" in str(error.value)
        assert "\n" not in str(error.value)
    assert len(kept) >= 3
    with Store(path, read_only=True) as store:
        found, result = store.find_run("key", CHIPS).load()
    assert sorted(np.concatenate(kept).tolist()) == found.tolist()
    np.testing.assert_array_equal(result.costs, chips(CHIPS.decode(found)).costs)
    with Store(path) as store:  # space is there again
        run = store.run("key", CHIPS)
        batches = list(explore(CHIPS, chips, propose("sobol", CHIPS, designs=5000, block=100), memory=run))
    assert sum(int(batch.computed.sum()) for batch in batches) == 5000 - len(found)


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"this is no database, but long enough to be looked at" * 100, "is not a store of designs: file is not a"),
        ("CREATE TABLE t (x)", "is a database of another program; give another path"),
        (
            f"PRAGMA application_id = {0x526F6F66}; PRAGMA user_version = 99; CREATE TABLE t (x)",
            "has schema version 99",
        ),
    ],
)
def test_other_files_are_one_line_and_left_as_they_are(tmp_path, content, line):
    path = tmp_path / "designs.db"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        database = sqlite3.connect(path)
        database.executescript(content)
        database.close()
    with pytest.raises(ExplorationError, match=line) as error:
        Store(path)
    assert "\n" not in str(error.value)
    if isinstance(content, bytes):
        assert path.read_bytes() == content


def test_paths_that_cannot_be_stores_are_one_line(tmp_path):
    with pytest.raises(ExplorationError, match=r"there is no store .*; a search makes one"):
        Store(tmp_path / "none.db", read_only=True)
    with pytest.raises(ExplorationError, match="cannot be used: unable to open"):
        Store(tmp_path)
    (tmp_path / "new.db").touch()  # as a search leaves it for a moment when it makes one
    with pytest.raises(ExplorationError, match="is still empty: the search that makes it has just begun"):
        Store(tmp_path / "new.db", read_only=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(ExplorationError, match="cannot be used"):
        Store(tmp_path / "file" / "designs.db")


@pytest.mark.slow
def test_a_really_full_disk(tmp_path):
    program = shlex.join([sys.executable, str(SAMPLES / "full_disk.py"), str(tmp_path)])
    command = f"mount -t tmpfs -o size=1m tmpfs {shlex.quote(str(tmp_path))} && exec {program}"
    small_disk = ["unshare", "--map-root-user", "--mount", "sh", "-c"]
    trial = [*small_disk, f"mount -t tmpfs tmpfs {shlex.quote(str(tmp_path))}"]
    if not shutil.which("unshare") or subprocess.run(trial, check=False).returncode:
        pytest.skip("this machine lets nobody mount a small disk")
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{SAMPLES}"}
    done = subprocess.run([*small_disk, command], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    first, read, _, second, still_read = done.stdout.splitlines()
    assert "first.db: the disk is full; what was saved before stays readable" in first
    assert int(read.split()[0]) >= 1000 and read.endswith("designs, right: True")
    assert "second.db: the disk is full; what was saved before stays readable" in second
    assert still_read == "100 designs, right: True"


def test_a_store_in_a_folder_that_takes_no_files_can_be_read(tmp_path):
    with Store(tmp_path / "designs.db") as store:
        store.run("key", SPACE).save(np.array([3]), evaluate(SPACE.decode(np.array([3]))))
    (tmp_path / "designs.db-shm").mkdir()  # stands where SQLite would put a file; root may write anywhere
    with Store(tmp_path / "designs.db", read_only=True) as store:
        assert store.find_run("key", SPACE).done().tolist() == [3]
