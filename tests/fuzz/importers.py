"""Feeds damaged files to every importer; only our own errors may come out, and what imports must save and load.

    python tests/fuzz/importers.py --inputs 10000

Three sources, a third of the inputs each, all repeatable by seed: bytes of real and small files changed, cut, repeated
and spliced; fields of parsed files (JSON values, CSV cells, SQLite cells) replaced by values that break programs; and
files drawn by Hypothesis from the formats' grammar. Real files are used where they are found (ROOFSCAPE_SHARED_DATA).

`ncu-rep`, the reports that the importer `ncu` also reads, is driven apart, where NVIDIA's package is installed: its
process is forked here rather than started, which takes milliseconds.
"""

import argparse
import copy
import csv
import gzip
import io
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "samples")]

from foreign_samples import KINETO_EVENTS, NCU_METRICS, kineto_bytes, ncu_bytes, rocprof_v3_bytes, samples  # noqa: E402
from hypothesis import HealthCheck, Phase, given, seed, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from ncu_report_samples import ReportKernel, report_bytes  # noqa: E402

from profiler.errors import TraceError  # noqa: E402
from profiler.importers import ncu_report_file  # noqa: E402
from profiler.importers.registry import find_importer, list_importers  # noqa: E402
from profiler.storage import load_trace, save_trace  # noqa: E402

REAL_FILES = {
    "kineto": ("kineto_mi300x_sglang_qwen3-8b_decode.json.gz", "kineto_a100_alexnet.json.gz"),
    "ncu": ("ncu_bert_flashattn_nsight.csv.gz",),
    "nsys": ("nsys_h100x2_fastvideo_1s.sqlite.gz",),
    "rocprof": ("rocprof_mi300x_vcopy_pmc_perf.csv", "rocprof_mi300x_vcopy_timestamps.csv"),
}
# A real file takes up to a second; every this many inputs one is used, so that a run stays under half an hour.
REAL_EVERY = 200
NASTY: tuple[Any, ...] = (
    2**63, 2**63 - 1, -(2**63), 2**200, -1, 0, 1e308, -1e308, 1e-320, float("nan"), float("inf"), True, None, "", "0",
    "\0", "9" * 400, "1,000", "1e9", "-5", "nan", "<b>\x1b[31m", "\ud7ff\u202e", [], {}, [[[[]]]], {"a": {"b": []}},
    "[1, 2", "aten::mm", "ProfilerStep#999999999", "kernel", [2**62, 2**62], [-1], "Memcpy HtoD",
)  # fmt: skip
SAVE_EVERY = 25
REPORTS = "ncu-rep"
REPORT_METRICS = [*(name for name, _, _ in NCU_METRICS), "device__attribute_display_name", "gpu__time_duration.sum"]
SAMPLE_KERNEL = ReportKernel(name="gemm(int*)", ranges=("forward", "decode 3"))
_LONGEST_READ_S = 20


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=10_000, help="per importer (default: 10000)")
    parser.add_argument("--seed", type=int, default=0)
    known = [*sorted(list_importers()), *([REPORTS] if find_spec("ncu_report") else [])]
    parser.add_argument("--importer", choices=known, help="only this one (default: each)")
    arguments = parser.parse_args()
    failures = 0
    with tempfile.TemporaryDirectory() as name:
        for importer in [arguments.importer] if arguments.importer else known:
            failures += fuzz(importer, arguments.inputs, arguments.seed, Path(name))
    return 1 if failures else 0


def fuzz(importer: str, inputs: int, number: int, folder: Path) -> int:
    """Run one importer; prints what happened and returns how many inputs broke it."""
    probe = Probe(importer, folder)
    chance = random.Random(f"{importer} {number}")
    seeds = [(name, contents) for owner, name, contents in samples(folder) if owner == importer]
    seeds += [("sample.ncu-rep", report_bytes()), ("long.ncu-rep", report_bytes(*[SAMPLE_KERNEL] * 20))]
    seeds = [(name, contents) for name, contents in seeds if name.endswith(REPORTS) == (importer == REPORTS)]
    real = [] if importer == REPORTS else real_files(importer)
    started = time.monotonic()
    drawn = inputs // 3
    for index in range(inputs - drawn):
        name, contents = chance.choice(real) if real and index % REAL_EVERY == 0 else chance.choice(seeds)
        change = change_bytes if index % 2 else change_fields
        probe.feed(name, change(chance, name, contents))
    if drawn:
        drive_hypothesis(importer, drawn, number, probe.feed)
    outcomes = ", ".join(f"{count} {what}" for what, count in sorted(probe.outcomes.items()))
    print(f"{importer}: {probe.count} inputs in {time.monotonic() - started:.0f} s: {outcomes}", flush=True)
    return probe.outcomes["BROKE IT"]


class Probe:
    """Feeds files to one importer and counts the outcomes; a breaking input is kept and shown."""

    def __init__(self, importer: str, folder: Path) -> None:
        self.count = 0
        self.outcomes: Counter[str] = Counter()
        self._importer, self._folder = importer, folder
        self._import = find_importer("ncu" if importer == REPORTS else importer)
        if importer == REPORTS:
            import ncu_report  # noqa: F401  # loaded once, before the forks

            ncu_report_file.subprocess.run = read_in_a_fork

    def feed(self, name: str, contents: bytes) -> None:
        self.count += 1
        path = self._folder / f"fuzz-{name}"
        path.write_bytes(contents)
        try:
            trace = self._import(path)
            if self.count % SAVE_EVERY == 0:
                save_trace(trace, self._folder / "fuzz.parquet")
                assert load_trace(self._folder / "fuzz.parquet") == trace
                trace.to_frame()
            self.outcomes["imported"] += 1
        except TraceError as error:
            self.outcomes["refused"] += 1
            if "\n" in str(error):
                self._report(contents, name, error)
        except Exception as error:  # the very thing that is looked for
            self._report(contents, name, error)
        finally:
            path.unlink()

    def _report(self, contents: bytes, name: str, error: Exception) -> None:
        self.outcomes["BROKE IT"] += 1
        kept = Path(tempfile.gettempdir()) / f"broke-{self._importer}-{self.count}-{name}"
        kept.write_bytes(contents)
        print(f"{self._importer}: input {self.count} ({kept}): {type(error).__name__}: {error}", flush=True)


def real_files(importer: str) -> list[tuple[str, bytes]]:
    folder = os.environ.get("ROOFSCAPE_SHARED_DATA")
    traces = [Path(folder, "traces", name) for name in REAL_FILES[importer]] if folder else []
    paths = [path for path in traces if path.is_file()]
    if not paths:
        where = f"in {folder}/traces" if folder else "(set ROOFSCAPE_SHARED_DATA)"
        print(f"{importer}: no real files {where}, so only small ones are changed", flush=True)
    return [
        (
            path.name.removesuffix(".gz"),
            gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes(),
        )
        for path in paths
    ]


def read_in_a_fork(command: list[str], **_: Any) -> "subprocess.CompletedProcess[bytes]":
    """Stands in for `subprocess.run` of the process that reads a report: the same code, on a copy of this process."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if child == 0:
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            signal.alarm(_LONGEST_READ_S)
            sys.stdout, sys.stderr, sys.argv = os.fdopen(1, "w"), os.fdopen(2, "w"), command[2:]
            code = 1
            try:
                code = ncu_report_file.main()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess(command, code, out.read(), err.read())


def change_bytes(chance: random.Random, name: str, contents: bytes) -> bytes:
    """Up to eight changes anywhere, now and then of the packed file."""
    is_packed = chance.random() < 0.1
    data = bytearray(gzip.compress(contents, 1) if is_packed else contents)
    for _ in range(chance.randint(1, 8)):
        at, length = chance.randrange(len(data) + 1), chance.choice((1, 2, 4, 16, 256))
        match chance.randrange(6):
            case 0 if at < len(data):
                data[at] ^= 1 << chance.randrange(8)
            case 1:
                data[at : at + length] = chance.randbytes(length)
            case 2:
                del data[at : at + length]
            case 3:
                data[at:at] = data[at : at + length] * chance.choice((1, 2, 50))
            case 4:
                source = chance.randrange(len(data) + 1)
                data[at : at + length] = data[source : source + length]
            case 5 if chance.random() < 0.3:
                del data[at:]
    return bytes(data)


def change_fields(chance: random.Random, name: str, contents: bytes) -> bytes:
    """Up to four fields of the parsed file replaced, removed or repeated."""
    if name.endswith(".json"):
        return change_json(chance, contents)
    if name.endswith(REPORTS):
        return change_report(chance)
    return change_sqlite(chance, contents) if name.endswith(".sqlite") else change_csv(chance, contents)


def change_json(chance: random.Random, contents: bytes) -> bytes:
    document = json.loads(contents)
    for _ in range(chance.randint(1, 4)):
        holder: Any = document
        while True:
            keys = list(holder) if isinstance(holder, dict) else range(len(holder))
            if not keys:
                break
            key = chance.choice(list(keys)) if len(keys) < 5000 else chance.randrange(len(keys))
            if isinstance(holder[key], dict | list) and holder[key] and chance.random() < 0.85:
                holder = holder[key]
                continue
            if chance.random() < 0.15:
                del holder[key]
            elif isinstance(holder, list) and chance.random() < 0.2:
                holder.append(copy.deepcopy(holder[key]))
            else:
                holder[key] = copy.deepcopy(chance.choice(NASTY))
            break
    return json.dumps(document).encode("utf-8", errors="surrogatepass")


def change_csv(chance: random.Random, contents: bytes) -> bytes:
    rows = list(csv.reader(io.StringIO(contents.decode(errors="replace"), newline="")))
    for _ in range(chance.randint(1, 4)):
        row = chance.choice([row for row in rows if row])
        at = chance.randrange(len(row))
        match chance.randrange(5):
            case 0:
                rows.insert(chance.randrange(len(rows)), list(row))
            case 1:
                row.insert(at, str(chance.choice(NASTY)))
            case 2 if len(row) > 1:
                del row[at]
            case _:
                row[at] = str(chance.choice(NASTY))
    out = io.StringIO()
    csv.writer(out, quoting=csv.QUOTE_ALL).writerows(rows)
    return out.getvalue().encode("utf-8", errors="replace")


def change_report(chance: random.Random) -> bytes:
    """Metrics, names and sizes that lie, in a report that is well-formed otherwise."""
    values = [value for value in NASTY if isinstance(value, int | float | str)]
    kernels = [
        ReportKernel(
            name=str(chance.choice((*values, "gemm"))),
            metrics={name: chance.choice((*values, 5.0)) for name in chance.sample(REPORT_METRICS, 4)},
            ranges=[str(chance.choice(values)) for _ in range(chance.choice((0, 1, 40)))],
        )
        for _ in range(chance.randint(1, 3))
    ]
    lies = chance.sample(("version", "results", "payload", "first_name_index"), chance.choice((0, 0, 1, 2)))
    return report_bytes(*kernels, **{lie: chance.choice((0, 1, 2, 9, 2**31 - 1, 2**32 - 1, 2**63)) for lie in lies})


def change_sqlite(chance: random.Random, contents: bytes) -> bytes:
    database = sqlite3.connect(":memory:")
    database.deserialize(contents)
    tables = [row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    for _ in range(chance.randint(1, 4)):
        table = chance.choice(
            [name for name in tables if name.startswith(("CUPTI_A", "NVTX_E", "StringIds", "TARGET"))]
        )
        column = chance.choice([row[1] for row in database.execute(f'PRAGMA table_info("{table}")')])
        value = chance.choice([v for v in NASTY if not isinstance(v, list | dict)] + [b"\xff\0", 59, 2.5])
        value = value if not isinstance(value, int) or abs(value) < 2**63 else 2**63 - 1
        value = value.encode(errors="replace").decode(errors="replace") if isinstance(value, str) else value
        statement = chance.choice(
            (
                f'UPDATE OR IGNORE "{table}" SET "{column}" = :value',
                f'UPDATE OR IGNORE "{table}" SET "{column}" = :value WHERE rowid % 7 = 1',
                f'ALTER TABLE "{table}" DROP COLUMN "{column}"',
                f'INSERT OR IGNORE INTO "{table}" SELECT * FROM "{table}" LIMIT 3',
                f'ALTER TABLE "{table}" RENAME TO "{table}_"',
            )
        )
        try:
            database.execute(statement, {"value": value} if ":value" in statement else {})
        except sqlite3.Error:
            continue  # the change itself is not allowed
        tables = [row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    database.commit()
    return database.serialize()


def drive_hypothesis(importer: str, count: int, number: int, feed: Callable[[str, bytes], None]) -> None:
    """Files that Hypothesis draws from the grammar of a format."""

    @seed(number)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy(importer))
    def run(file: tuple[str, bytes]) -> None:
        feed(*file)

    run()


def strategy(importer: str) -> st.SearchStrategy[tuple[str, bytes]]:
    text = st.text(max_size=30)
    value = st.recursive(
        st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | text | st.sampled_from(NASTY),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
        max_leaves=6,
    )
    number = st.integers(-(2**64), 2**64).map(str) | st.floats().map(str) | st.sampled_from(NASTY).map(str)
    if importer == "kineto":
        field = st.sampled_from(["ph", "cat", "name", "pid", "tid", "ts", "dur", "args"])
        event = st.tuples(st.sampled_from(KINETO_EVENTS), st.dictionaries(field, value, max_size=3)).map(
            lambda both: {**both[0], **both[1]}
        )
        return st.lists(event | value, min_size=1, max_size=6).map(lambda e: ("drawn.json", kineto_bytes(*e)))
    if importer == "ncu":
        names = st.sampled_from([name for name, _, _ in NCU_METRICS]) | text
        units = st.sampled_from(["byte", "Kbyte", "", "cycle/nsecond", "second"]) | text
        metric = st.tuples(names, units, number)
        return st.tuples(st.lists(metric, max_size=4), text).map(
            lambda both: ("drawn.csv", ncu_bytes(both[1], metrics=tuple(both[0])).replace(b"\x0c", b""))
        )
    if importer == REPORTS:
        metric = st.sampled_from(REPORT_METRICS) | text
        amount = st.integers(-(2**63), 2**64 - 1) | st.floats() | text
        kernel = st.tuples(text, st.dictionaries(metric, amount, max_size=4), st.lists(text, max_size=3)).map(
            lambda parts: ReportKernel(name=parts[0], metrics=parts[1], ranges=parts[2])
        )
        return st.lists(kernel, min_size=1, max_size=4).map(lambda all_: ("drawn.ncu-rep", report_bytes(*all_)))
    if importer == "rocprof":
        row = st.tuples(
            st.integers(-5, 5), text, st.sampled_from(["FETCH_SIZE", "TCC_REQ[0]", "WRITE_SIZE"]) | text, number
        )
        return st.lists(row, min_size=1, max_size=5).map(
            lambda rows: ("drawn.csv", rocprof_v3_bytes(*rows).replace(b"\x0c", b""))
        )
    moment = st.integers(-(2**63), 2**63 - 1)
    cell = st.none() | st.integers(-9, 9) | st.floats() | text | st.binary(max_size=4)
    return st.lists(st.tuples(moment, moment, cell), max_size=4).map(nsys_file)


def nsys_file(rows: list[tuple[int, int, Any]]) -> tuple[str, bytes]:
    """An export whose columns have no types and hold anything."""
    database = sqlite3.connect(":memory:")
    database.executescript(
        "CREATE TABLE StringIds (id, value); CREATE TABLE CUPTI_ACTIVITY_KIND_KERNEL (start, end, deviceId, streamId, "
        "correlationId, globalPid, demangledName); CREATE TABLE CUPTI_ACTIVITY_KIND_RUNTIME (start, end, globalTid, "
        "correlationId, nameId); CREATE TABLE NVTX_EVENTS (start, end, eventType, text, globalTid);"
    )
    for start, end, anything in rows:
        plain = anything.encode(errors="replace").decode() if isinstance(anything, str) else anything
        database.execute("INSERT INTO StringIds VALUES (?, ?)", (start % 9, plain))
        database.execute(
            "INSERT INTO CUPTI_ACTIVITY_KIND_KERNEL VALUES (?, ?, ?, ?, ?, ?, ?)",
            (start, end, plain, plain, start % 5, plain, end % 9),
        )
        database.execute(
            "INSERT INTO CUPTI_ACTIVITY_KIND_RUNTIME VALUES (?, ?, ?, ?, ?)", (start, end, plain, start % 5, plain)
        )
        database.execute("INSERT INTO NVTX_EVENTS VALUES (?, ?, 59, ?, ?)", (start, end, plain, plain))
    database.commit()
    return "drawn.sqlite", database.serialize()


if __name__ == "__main__":
    sys.exit(main())
