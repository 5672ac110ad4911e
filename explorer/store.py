"""A store of evaluated designs on disk: one SQLite file that survives being killed and that processes may share."""

import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from explorer.errors import ExplorationError
from explorer.parameters import ParameterSpace
from explorer.result import IntArray, Result, join
from explorer.store_claims import Claims
from explorer.store_rows import from_rows, json_list, to_rows

SCHEMA_VERSION = 1
_APPLICATION_ID = 0x526F6F66  # "Roof": tells our files from other SQLite files
_BUSY_S = 60.0
_POLL_S = 0.05
_SMALLEST_FREE_BYTES = 65_536  # SQLite needs half of it for the index of its log
_CLAIM_DESIGNS = 1024
_TABLES = """
CREATE TABLE runs (
    run INTEGER PRIMARY KEY, key TEXT UNIQUE NOT NULL, description TEXT NOT NULL, created TEXT NOT NULL
);
CREATE TABLE designs (
    run INTEGER NOT NULL REFERENCES runs, design INTEGER NOT NULL, parameters TEXT NOT NULL, feasible INTEGER NOT NULL,
    reason TEXT NOT NULL, violation REAL, costs TEXT NOT NULL, metrics TEXT NOT NULL, PRIMARY KEY (run, design)
) WITHOUT ROWID;
CREATE TABLE claims (
    run INTEGER NOT NULL REFERENCES runs, design INTEGER NOT NULL, owner TEXT NOT NULL, expires_s REAL NOT NULL,
    PRIMARY KEY (run, design)
) WITHOUT ROWID;
"""


class Store:
    """An open store; use it in a `with` block. It must lie on a local disk (SQLite's write-ahead log shares memory).

    Args:
        path: of the file; a new one is made unless `read_only`.
        read_only: refuse to write, and need no right to.
    """

    def __init__(self, path: str | Path, *, read_only: bool = False) -> None:
        self.path = Path(path)
        if read_only and not self.path.is_file():
            raise ExplorationError(f"there is no store {self.path}; a search makes one")
        with self.explained():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.database = self._connect("mode=ro" if read_only else "mode=rwc")
        try:
            with self.explained():
                self._prepare(read_only)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "Store":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; what is saved stays."""
        self.database.close()

    def runs(self) -> list[tuple[str, str, str, int]]:
        """Key, description, time of creation (UTC) and number of saved designs of each run."""
        with self.explained():
            return self.database.execute(
                "SELECT key, description, created, (SELECT count(*) FROM designs WHERE designs.run = runs.run) "
                "FROM runs ORDER BY run"
            ).fetchall()

    def run(
        self, key: str, space: ParameterSpace, *, description: str = "", claim_designs: int = _CLAIM_DESIGNS
    ) -> "StoredRun":
        """The run of this key, a new one where the store has none.

        Args:
            key: from `explorer.run_key`.
            space: of its designs.
            description: for people who look into the store.
            claim_designs: how many designs one process takes at a time; fewer share small batches better.
        """
        with self.transaction():
            self.database.execute(
                "INSERT OR IGNORE INTO runs (key, description, created) VALUES (?, ?, ?)",
                (key, description, datetime.now(UTC).isoformat(timespec="seconds")),
            )
        return self.find_run(key, space, claim_designs=claim_designs)

    def find_run(self, key: str, space: ParameterSpace, *, claim_designs: int = _CLAIM_DESIGNS) -> "StoredRun":
        """The run of this key, to read it.

        Raises:
            ExplorationError: the store has no such run.
        """
        with self.explained():
            row = self.database.execute("SELECT run FROM runs WHERE key = ?", (key,)).fetchone()
        if row is None:
            known = ", ".join(run[0][:12] for run in self.runs()) or "none"
            raise ExplorationError(f"store {self.path} has no run {key[:12]!r}; known: {known}")
        return StoredRun(self, int(row[0]), space, claim_designs)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing, and alone: other processes wait."""
        with self.explained():
            self.database.execute("BEGIN IMMEDIATE")
            try:
                yield
                self.database.execute("COMMIT")
            except BaseException:
                if self.database.in_transaction:
                    self.database.execute("ROLLBACK")
                raise

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Turns errors of the disk and of SQLite into one line."""
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            text = str(error)
            if isinstance(error, OSError):
                text = error.strerror or text
            if "disk is full" in text or "No space left" in text or ("I/O" in text and self._is_disk_full()):
                raise ExplorationError(
                    f"store {self.path}: the disk is full; what was saved before stays readable: "
                    "free space and run the same command to go on"
                ) from error
            if "not a database" in text or "malformed" in text:
                raise ExplorationError(f"store {self.path} is not a store of designs: {text}") from error
            if "locked" in text:
                raise ExplorationError(f"store {self.path}: another process held it for {_BUSY_S:.0f} s") from error
            raise ExplorationError(f"store {self.path} cannot be used: {text}") from error

    def _is_disk_full(self) -> bool:
        folder = self.path.parent
        return folder.is_dir() and shutil.disk_usage(folder).free < _SMALLEST_FREE_BYTES

    def _connect(self, mode: str) -> sqlite3.Connection:
        return sqlite3.connect(
            f"{self.path.resolve().as_uri()}?{mode}", uri=True, timeout=_BUSY_S, isolation_level=None
        )

    def _prepare(self, read_only: bool) -> None:
        if read_only:
            try:
                self.database.execute("SELECT count(*) FROM sqlite_master")
            except sqlite3.OperationalError as error:  # no room or no right to put the log's index beside the file
                if "locked" in str(error):
                    raise
                log = self.path.with_name(f"{self.path.name}-wal")
                if log.exists() and log.stat().st_size:
                    raise
                self.database.close()
                self.database = self._connect("mode=ro&immutable=1")
        else:
            self._write_ahead()
            self.database.execute(
                "PRAGMA synchronous = NORMAL"
            )  # safe against kill; power loss may cost the last batch
            self._create()
        self.database.execute("BEGIN")  # one look at all three, while another process may be making the store
        questions = ("PRAGMA application_id", "PRAGMA user_version", "SELECT count(*) FROM sqlite_master")
        application, version, tables = (self.database.execute(question).fetchone()[0] for question in questions)
        self.database.execute("COMMIT")
        if application != _APPLICATION_ID:
            if not tables:
                raise ExplorationError(f"store {self.path} is still empty: the search that makes it has just begun")
            raise ExplorationError(f"store {self.path} is a database of another program; give another path")
        if version != SCHEMA_VERSION:
            raise ExplorationError(
                f"store {self.path} has schema version {version}, known is {SCHEMA_VERSION}; give another path"
            )

    def _write_ahead(self) -> None:
        """Keep a write-ahead log. SQLite does not wait for one who writes to a file that has none yet, so we do."""
        deadline_s = time.monotonic() + _BUSY_S
        while True:
            try:
                self.database.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > deadline_s:
                    raise
            time.sleep(_POLL_S)

    def _create(self) -> None:
        self.database.execute("BEGIN IMMEDIATE")
        try:
            if not self.database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                for statement in _TABLES.split(";")[:-1]:
                    self.database.execute(statement)
                self.database.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
                self.database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            self.database.execute("COMMIT")
        except BaseException:
            if self.database.in_transaction:
                self.database.execute("ROLLBACK")
            raise


class StoredRun:
    """The designs of one run; a memory for `explorer.search.explore`."""

    def __init__(self, store: Store, run: int, space: ParameterSpace, claim_designs: int) -> None:
        if claim_designs < 1:
            raise ExplorationError(f"a process must claim at least 1 design at a time, got {claim_designs}")
        self._store = store
        self._run = run
        self._space = space
        self._claim_designs = claim_designs
        self._claims = Claims(store.database, run)

    def done(self) -> IntArray:
        """Numbers of the designs that are saved, ascending."""
        with self._store.explained():
            rows = self._store.database.execute(
                "SELECT design FROM designs WHERE run = ? ORDER BY design", (self._run,)
            )
            return np.array([row[0] for row in rows], dtype=np.int64)

    def load(self, index: IntArray | None = None) -> tuple[IntArray, Result | None]:
        """Which of the designs `index` (all without it) are saved, ascending, and their results; None for none."""
        query = "SELECT design, violation, reason, costs, metrics FROM designs WHERE run = ?"
        values: tuple[object, ...] = (self._run,)
        if index is not None:
            query += " AND design IN (SELECT value FROM json_each(?))"
            values = (self._run, json_list(index))
        with self._store.explained():
            rows = self._store.database.execute(query + " ORDER BY design", values).fetchall()
        return np.array([row[0] for row in rows], dtype=np.int64), from_rows([row[1:] for row in rows])

    def save(self, index: IntArray, result: Result) -> None:
        """Keep results, all of them or (on an error) none, and give up the claim on their designs.

        Raises:
            ExplorationError: the disk is full, or the store cannot be written.
        """
        rows = to_rows(self._run, index, self._space.decode(index), result)
        with self._store.transaction():
            self._store.database.executemany(
                "INSERT OR IGNORE INTO designs (run, design, parameters, feasible, reason, violation, costs, metrics) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                rows,
            )
            self._claims.drop(index)

    def complete(self, index: IntArray, compute: Callable[[IntArray], Result]) -> tuple[Result, NDArray[np.bool_]]:
        """Results of `index` [D]: saved ones, those computed (and saved) here, those that others add meanwhile.

        Returns:
            The results in the order of `index`, and a mask [D] of those computed here.
        """
        found, known = self.load(index)
        pieces = [] if known is None else [(found, known)]
        open_designs = index[~np.isin(index, found)]
        computed = np.zeros(len(index), dtype=bool)
        while len(open_designs):
            with self._store.transaction():
                mine = self._claims.take(open_designs, self._claim_designs)
            if len(mine):
                pieces.append((mine, self._compute(mine, compute)))
                computed |= np.isin(index, mine)
                open_designs = open_designs[~np.isin(open_designs, mine)]
                continue
            others, theirs = self.load(open_designs)
            if theirs is None:
                time.sleep(_POLL_S)
                continue
            pieces.append((others, theirs))
            open_designs = open_designs[~np.isin(open_designs, others)]
        numbers = np.concatenate([piece[0] for piece in pieces])
        order = np.argsort(numbers, kind="stable")
        rows = order[np.searchsorted(numbers[order], index)]
        return join([piece[1] for piece in pieces]).take(rows), computed

    def _compute(self, index: IntArray, compute: Callable[[IntArray], Result]) -> Result:
        try:
            result = compute(index)
            self.save(index, result)
        except BaseException:
            with suppress(ExplorationError), self._store.transaction():  # on a full disk even this may fail
                self._claims.drop(index)
            raise
        return result
