"""Two runs of a program compared launch by launch: what agrees is paired, and nothing else."""

import random
from dataclasses import replace

import numpy as np
import pytest
from foreign_samples import ncu_bytes

from profiler.errors import TraceError
from profiler.importers.assembly import ForeignKernel, LaunchedCall, assemble
from profiler.importers.ncu import import_ncu
from profiler.importers.unknown_ops import opaque_op
from profiler.launch_join import align_launches, join_launches
from profiler.provenance import Provenance

LOOP = ["gemm", "norm", "add"]


def plain(*kernels):
    """A trace of one call for each (name, start in picoseconds[, category])."""
    table = [
        ForeignKernel(name=name, start_ps=start, duration_ps=5, category=category[0] if category else "kernel")
        for name, start, *category in kernels
    ]
    calls = [
        LaunchedCall(op=opaque_op(f"op {i}"), kernels=(i,), attribution="correlation") for i in range(len(kernels))
    ]
    return assemble("plain", table, calls, Provenance(source="test"))


def counted(tmp_path, *names):
    """What ncu counted of kernels of these names: the n-th, from 1, moved n bytes at main memory."""
    rows = [ncu_bytes("x", metrics=()).decode()]
    for number, name in enumerate(names, start=1):
        row = ncu_bytes(name, metrics=(("dram__bytes.sum", "byte", str(number)),)).decode().splitlines()[-1]
        rows.append(row.replace('"0","43201"', f'"{number}","43201"', 1) + "\n")
    path = tmp_path / "counters.csv"
    path.write_text("".join(rows))
    return import_ncu(path)


def test_runs_that_agree_are_paired_whole_and_times_stay(tmp_path):
    trace = plain(("a", 0), ("b", 10), ("a", 20))
    joined, match = join_launches(trace, counted(tmp_path, "a", "b", "a"))
    assert joined.kernels.dram_bytes.tolist() == [1, 2, 3]
    assert joined.calls == trace.calls
    assert joined.kernels.duration_s.tolist() == trace.kernels.duration_s.tolist()
    assert match.is_whole
    assert joined.provenance.notes[-1] == match.note()
    assert not trace.is_counted


def test_kernels_are_in_the_order_of_their_launches_not_of_their_starts_and_copies_are_not_counted(tmp_path):
    """Two streams: what was launched first starts last; ncu runs one kernel after the other."""
    trace = plain(("a", 90), ("Memcpy HtoD", 5, "memcpy"), ("b", 10), ("Memset", 6, "memset"))
    joined, match = join_launches(trace, counted(tmp_path, "a", "b"))
    assert joined.kernels.dram_bytes.tolist() == pytest.approx([1, np.nan, 2, np.nan], nan_ok=True)
    assert (match.matched, match.ours, match.theirs) == (2, 2, 2)


def test_equally_many_kernels_in_another_order_do_not_get_each_others_counters(tmp_path):
    """Names alone would pair all four, the wrong way."""
    trace = plain(("mul", 0), ("add", 10), ("add", 20), ("mul", 30))
    joined, match = join_launches(trace, counted(tmp_path, "mul", "mul", "add", "add"))
    assert joined.kernels.dram_bytes[0] == 1
    assert np.isnan(joined.kernels.dram_bytes[1:3]).all()
    assert (match.matched, match.is_whole) == (1, False)
    assert match.unmatched_names == (("add", 2), ("mul", 1))
    assert "Hardware counters of 1 of 4 kernels" in match.note()
    assert "3 of this run were not counted, and 3 of 4 counted ones have no place in it" in match.note()
    assert match.note().endswith("without counters: add (2x), mul (1x).")


def test_extra_kernels_of_either_run_are_left_out_and_the_rest_is_paired(tmp_path):
    ours = [*LOOP * 4, "tuning", *LOOP * 4]
    theirs = [*LOOP * 2, "warm", "warm", *LOOP * 6]
    joined, match = join_launches(plain(*((name, 10 * i) for i, name in enumerate(ours))), counted(tmp_path, *theirs))
    expected = [*range(1, 7), *range(9, 15), np.nan, *range(15, 27)]
    assert joined.kernels.dram_bytes.tolist() == pytest.approx(expected, nan_ok=True)
    assert (match.matched, match.ours, match.theirs, match.unmatched_names) == (24, 25, 26, (("tuning", 1),))


def test_runs_with_nothing_in_common_are_refused(tmp_path):
    trace = plain(("a", 0), ("b", 10))
    with pytest.raises(TraceError, match="none of its 2 kernels are among the 1 that were counted"):
        join_launches(trace, counted(tmp_path, "z"))
    with pytest.raises(TraceError, match="holds no kernels"):
        join_launches(trace.select(np.zeros(2, dtype=bool)), counted(tmp_path, "z"))


def test_few_launches_that_agree_between_differences_prove_nothing():
    assert align_launches([*"abx", "k", *"ycd"], [*"abu", "k", *"vcd"]) == ([0, 1, 5, 6], [0, 1, 5, 6])
    assert align_launches([*"ax", *"klmn", *"yd"], [*"au", *"klmn", *"vd"])[0] == [0, 2, 3, 4, 5, 7]
    assert align_launches([], ["a"]) == ([], [])
    assert align_launches(["a", "b"], ["a", "b", "b"]) == ([0, 1], [0, 1])


@pytest.mark.slow
def test_long_sequences_that_differ_everywhere_end_soon_with_what_is_at_both_ends():
    ours, theirs = [f"a{i}" for i in range(30_000)], [f"b{i}" for i in range(30_000)]
    assert align_launches(["x", *ours, "y"], ["x", *theirs, "y"]) == ([0, 30_001], [0, 30_001])


def longest_common(ours, theirs):
    """By the table that textbooks fill."""
    table = np.zeros((len(ours) + 1, len(theirs) + 1), dtype=int)
    for i, mine in enumerate(ours):
        for j, other in enumerate(theirs):
            table[i + 1, j + 1] = table[i, j] + 1 if mine == other else max(table[i, j + 1], table[i + 1, j])
    return int(table[-1, -1])


@pytest.mark.parametrize("seed", range(30))
def test_no_more_launches_could_be_paired(seed, monkeypatch):
    monkeypatch.setattr("profiler.launch_join._RUN", 1)
    chance = random.Random(seed)
    ours, theirs = (chance.choices("abc", k=chance.randrange(25)) for _ in range(2))
    mine, other = align_launches(ours, theirs)
    assert len(mine) == longest_common(ours, theirs)
    assert [ours[i] for i in mine] == [theirs[j] for j in other]
    assert mine == sorted(set(mine))
    assert other == sorted(set(other))


@pytest.mark.parametrize("seed", range(20))
def test_single_changes_cost_single_kernels(seed):
    chance = random.Random(seed)
    ours = [f"k{chance.randrange(50)}" for _ in range(400)]
    theirs = list(ours)
    for at in (300, 200, 100):
        if chance.random() < 0.5:
            del theirs[at]
        else:
            theirs.insert(at, "new")
    mine, other = align_launches(ours, theirs)
    assert all(ours[i] == theirs[j] for i, j in zip(mine, other, strict=True))
    assert (np.diff(mine) > 0).all()
    assert (np.diff(other) > 0).all()
    assert len(mine) >= 397


def test_names_that_command_a_terminal_stay_in_the_note_for_the_console_to_escape(tmp_path):
    trace = plain(("a", 0), ("\x1bred", 10))
    _, match = join_launches(replace(trace, name="\x1b[0m"), counted(tmp_path, "a"))
    from reports.console import printable

    assert "\x1b" not in printable(match.note())
    assert "\N{REPLACEMENT CHARACTER}red" in printable(match.note())
