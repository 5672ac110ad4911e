"""Claims on designs: processes that share a store tell each other what they are evaluating."""

import os
import secrets
import socket
import sqlite3
import time

import numpy as np

from explorer.result import IntArray
from explorer.store_rows import json_list

_LEASE_S = 600.0  # after which a claim of a process that cannot be looked up (another machine's) lapses


class Claims:
    """Claims of this process on designs of one run. Each method must be called within a transaction."""

    def __init__(self, database: sqlite3.Connection, run: int) -> None:
        self._database = database
        self._run = run
        self._host = socket.gethostname()
        self._owner = f"{self._host}:{os.getpid()}:{secrets.token_hex(4)}"

    def take(self, index: IntArray, count: int) -> IntArray:
        """Claim at most `count` of the designs `index`, in order, that are neither saved nor claimed by the living."""
        wanted = json_list(index)
        self._forget_the_dead()
        taken = self._database.execute(
            "SELECT design FROM designs WHERE run = ?1 AND design IN (SELECT value FROM json_each(?2)) "
            "UNION ALL SELECT design FROM claims WHERE run = ?1 AND design IN (SELECT value FROM json_each(?2))",
            (self._run, wanted),
        )
        free = index[~np.isin(index, np.array([row[0] for row in taken], dtype=np.int64))][:count]
        expires_s = time.time() + _LEASE_S
        self._database.executemany(
            "INSERT INTO claims (run, design, owner, expires_s) VALUES (?, ?, ?, ?)",
            ((self._run, design, self._owner, expires_s) for design in free.tolist()),
        )
        return free

    def drop(self, index: IntArray) -> None:
        """Give up the claims of this process on `index`."""
        self._database.execute(
            "DELETE FROM claims WHERE run = ? AND owner = ? AND design IN (SELECT value FROM json_each(?))",
            (self._run, self._owner, json_list(index)),
        )

    def _forget_the_dead(self) -> None:
        now_s = time.time()
        owners = self._database.execute(
            "SELECT owner, max(expires_s) FROM claims WHERE run = ? GROUP BY owner", (self._run,)
        ).fetchall()
        for owner, expires_s in owners:
            if expires_s < now_s or not self._may_live(owner):
                self._database.execute("DELETE FROM claims WHERE run = ? AND owner = ?", (self._run, owner))

    def _may_live(self, owner: str) -> bool:
        """Whether the owner may still run; of another machine's processes nothing is known."""
        host, process, _ = owner.rsplit(":", 2)
        if host != self._host:
            return True
        try:
            os.kill(int(process), 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True
