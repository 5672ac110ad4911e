"""Fills a disk with a store, then reads it; run as a program by a test, on a small disk of its own."""

import sys
from pathlib import Path

import numpy as np
from explorer_samples import CHIPS, chips

from explorer.errors import ExplorationError
from explorer.search import explore, propose
from explorer.store import Store


def fill(path):
    try:
        with Store(path) as store:
            run = store.run("key", CHIPS, claim_designs=100)
            for _ in explore(CHIPS, chips, propose("grid", CHIPS, block=100), memory=run):
                pass
    except ExplorationError as error:
        print(error)


def read(path):
    with Store(path, read_only=True) as store:
        found, result = store.find_run("key", CHIPS).load()
    print(f"{len(found)} designs, right: {bool((result.costs == chips(CHIPS.decode(found)).costs).all())}")


def main(folder):
    fill(folder / "first.db")
    read(folder / "first.db")
    for path in folder.glob("first.db*"):
        path.unlink()
    with Store(folder / "second.db") as store:
        store.run("key", CHIPS).save(np.arange(100), chips(CHIPS.decode(np.arange(100))))
    with (folder / "other").open("wb", buffering=0) as other:
        try:
            while other.write(b"x" * 4096):
                pass
        except OSError as error:
            print(error.strerror)
    fill(folder / "second.db")
    read(folder / "second.db")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
