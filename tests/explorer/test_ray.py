"""Searches on a real Ray cluster of local nodes give what one process gives, also when a node is killed meanwhile."""

import importlib.util
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from explorer.store import Store

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = ROOT / "tests" / "samples"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray comes with roofscape[cluster]"),
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes that are left are found in /proc"),
]

SPACE = """
schema = 1
title = "Many chips"
objectives = ["seconds_per_unit", "bill_usd"]

[parameters]
cores = { low = 64, high = 160, step = 4 }
stacks = [3, 4, 5, 6]
clock_ghz = { low = 1.0, high = 2.4, steps = 8 }
matrix_macs = [1024, 2048, 4096]
l2_mib = [16, 50]
vector_lanes = [64, 128]

[[workload]]
name = "ar"
program = "ar-100m"
prompt_length = 32
gen_length = 4
"""
DESIGNS = 25 * 4 * 8 * 3 * 2 * 2


@pytest.fixture
def folder():
    """A folder with a short name: Ray's sockets lie in it, and a socket's path is at most 107 bytes long."""
    with TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as name:
        yield Path(name)


def environment(folder):
    # Ray puts a token into the home folder, reports home unless it is told not to, and takes 15 s to see a node dead
    quiet = {"HOME": str(folder), "RAY_TMPDIR": str(folder), "RAY_USAGE_STATS_ENABLED": "0"}
    quiet |= {"RAY_health_check_period_ms": "1000", "RAY_gcs_server_port_wait_time_s": "300"}
    return {**os.environ, **quiet, "PYTHONPATH": f"{ROOT}{os.pathsep}{SAMPLES}"}


def session_of(pid):
    """Session of a process, by /proc: the fourth field after its name; None where it has ended or is a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else int(fields[3])


def members(session):
    return [
        int(each.name) for each in Path("/proc").iterdir() if each.name.isdigit() and session_of(each.name) == session
    ]


def end(session):
    """Kill every process of a session: what a node of Ray starts stays in that of its `ray start`."""
    while found := members(session):
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.1)


@contextmanager
def started(arguments, folder, **variables):
    """A program in a session of its own, of which nothing is left afterwards."""
    with subprocess.Popen(
        [sys.executable, *arguments],
        env=environment(folder) | variables,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            end(process.pid)


@contextmanager
def node(arguments, folder):
    """`ray start --block` with one core, from when it runs."""
    command = ["-m", "ray.scripts.scripts", "start", "--num-cpus", "1", "--disable-usage-stats", "--block", *arguments]
    with started([*command, "--node-ip-address", "127.0.0.1"], folder) as process:
        read_until(process, "Ray runtime started")
        yield process


def read_until(process, words):
    """The first line with these words that a program prints."""
    said = []
    for line in process.stdout:
        said.append(line)
        if words in line:
            return line
    raise AssertionError("".join(said))


def saved(store):
    """Designs in a store so far."""
    if not store.exists():
        return 0
    with closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as reading:
        try:
            return reading.execute("SELECT COUNT(*) FROM designs").fetchone()[0]
        except sqlite3.OperationalError:
            return 0  # it is being set up


def test_a_cluster_that_loses_a_node_while_it_works_gives_the_same(folder):
    """Of two nodes one is killed amid its designs, see the program."""
    with started([str(SAMPLES / "ray_cluster.py")], folder) as process:
        printed, _ = process.communicate()
    assert process.returncode == 0, printed
    assert "nodes that live: 1; parts lost with the other: 1; same front: True" in printed


def test_explore_on_nodes_of_ray_start_gives_the_same_when_one_is_killed(folder):
    pytest.importorskip("torch", reason="workloads are captured")
    (folder / "space.toml").write_text(SPACE)
    store = folder / "ray.sqlite"
    with Store(store) as shared:  # one design is said to be ours, so that the search does not end before the node
        owner = f"{socket.gethostname()}:{os.getpid()}:aa"
        shared.database.execute("INSERT INTO claims VALUES (1, ?, ?, ?)", (DESIGNS // 2, owner, time.time() + 1e6))
    command = ["-m", "reports.cli", "explore", "space.toml", "--no-finalists"]
    with ExitStack() as running:
        alone = [*command, "-o", "local.html", "--csv", "local.csv", "--processes", "1"]
        local = running.enter_context(started(alone, folder))
        head = running.enter_context(node(["--head", "--port", "0", "--include-dashboard=false"], folder))
        address = read_until(head, "ray start --address=").split("'")[1]
        worker = running.enter_context(node(["--address", address], folder))
        shared = [*command, "-o", "ray.html", "--csv", "ray.csv", "--engine", "ray"]
        ray = running.enter_context(started(shared, folder, RAY_ADDRESS=address))
        while saved(store) == 0:
            assert ray.poll() is None, ray.communicate()[0]
            time.sleep(0.05)
        end(worker.pid)
        before = saved(store)
        with closing(sqlite3.connect(store, timeout=60.0)) as ours:
            ours.execute("DELETE FROM claims WHERE owner = ?", (owner,))
            ours.commit()
        for process in (ray, local):
            printed, _ = process.communicate()
            assert process.returncode == 0, printed
    assert 0 < before < DESIGNS == saved(store) == saved(folder / "local.sqlite")
    assert (folder / "ray.csv").read_bytes() == (folder / "local.csv").read_bytes()
