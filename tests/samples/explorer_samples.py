"""Made-up spaces small enough to enumerate, and a search of one that a test can run as a program and kill."""

import math
import os
import sys
import time
from pathlib import Path

import numpy as np

from explorer.archive import Archive
from explorer.errors import ExplorationError
from explorer.parameters import Parameter, ParameterSpace
from explorer.result import Result
from explorer.run_key import run_key
from explorer.search import explore, propose
from explorer.store import Store

KINDS = {"none": 0.9, "small": 0.2, "right": 0.0, "large": 0.5, "huge": 1.2}
DRAM = {"hbm3": (8.2e11, 4.0, 11, 250), "hbm3e": (1.2e12, 3.6, 12, 400), "gddr7": (2.6e11, 6.5, 9, 60)}

# 20,000 designs of which the 100 of one choice of x, y and kind are the front: DTLZ2 (Deb and others 2002) with g from
# a small bowl and a table. Even sampling rarely meets it.
SPHERE = ParameterSpace(
    parameters=(
        Parameter.range("a", 0.0, 1.0, steps=10),
        Parameter.range("b", 0.0, 1.0, steps=10),
        Parameter.range("x", 0.0, 1.0, steps=5),
        Parameter.range("y", 0.0, 1.0, steps=8),
        Parameter(name="kind", values=tuple(KINDS)),
    )
)


def sphere(designs):
    kind = np.array([KINDS[name] for name in designs["kind"]])
    radius = 1 + 2 * ((designs["x"] - 0.25) ** 2 + (designs["y"] - 3 / 7) ** 2 + kind)
    a, b = designs["a"] * np.pi / 2, designs["b"] * np.pi / 2
    costs = np.column_stack([np.cos(a) * np.cos(b), np.cos(a) * np.sin(b), np.sin(a)]) * radius[:, None]
    return Result(costs=costs, violation=np.zeros(len(kind)), metrics={"radius": radius})


# 18,000 designs like chips: time of a step, energy and price, with the die at most as large as a reticle.
CHIPS = ParameterSpace(
    parameters=(
        Parameter.range("cores", 32, 256, steps=8),
        Parameter(name="macs", values=(256, 512, 1024, 2048, 4096)),
        Parameter.range("clock_hz", 1.0e9, 2.0e9, steps=5),
        Parameter.range("sram_mb", 16, 512, steps=6, log=True),
        Parameter.range("stacks", 2, 10, step=2),
        Parameter(name="dram", values=tuple(DRAM)),
    )
)


def chips(designs):
    cores, macs, clock_ghz = designs["cores"], designs["macs"], designs["clock_hz"] / 1e9
    bandwidth, pj_per_bit, phy_mm2, price = np.array([DRAM[name] for name in designs["dram"]]).T
    moved = 16e9 * (1 + 0.5 * np.exp(-designs["sram_mb"] / 60))
    work = 1e12 * (1 + macs / 8192)
    compute_s = work / (2 * cores * macs * clock_ghz * 1e9)
    memory_s = moved / (bandwidth * designs["stacks"])
    time_s = np.maximum(compute_s, memory_s) + 0.15 * np.minimum(compute_s, memory_s)
    area = cores * (0.7 + macs / 1100 * clock_ghz**0.3) + designs["sram_mb"] * 0.45 + designs["stacks"] * phy_mm2 + 60
    volts = 0.7 + 0.25 * (clock_ghz - 1) ** 1.5
    energy_j = work * 0.4e-12 * volts**2 + moved * 8e-12 * pj_per_bit + time_s * (40 + 0.12 * area * volts)
    dollars = area * 0.35 * np.exp(area / 1000) + designs["stacks"] * price + 200
    return Result(
        costs=np.column_stack([time_s, energy_j, dollars]),
        violation=np.maximum(area - 814, 0),
        reason=np.where(area > 814, "die over the reticle", ""),
        metrics={"area_mm2": area},
    )


class DyingOnce:
    """The chips, but the process that evaluates the first designs dies, once for each path."""

    def __init__(self, path):
        self.path = path

    def __call__(self, designs):
        if not self.path.exists():
            self.path.touch()
            die(designs)
        return chips(designs)


def die(_):
    os._exit(9)


def refuse(_):
    raise ExplorationError("no such chip")


def search(store_path, log_path, designs, *, hold_at=math.inf, other=None):
    """Search the chips by NSGA-II into a store; each design that is evaluated goes into a log as a line.

    Args:
        store_path: of the store.
        log_path: of the log.
        designs: how many.
        hold_at: with so many lines in the log it stops, before what it evaluated is saved, and waits to be killed.
        other: log of another search, which is waited for before anything is saved.
    """

    def evaluate(columns):
        result = chips(columns)
        with Path(log_path).open("a", encoding="utf-8") as log:
            log.writelines(
                f"{CHIPS.index_of({name: c[row].item() for name, c in columns.items()})}\n"
                for row in range(len(result))
            )
        while count_lines(log_path) >= hold_at or (other is not None and not Path(other).exists()):
            time.sleep(0.02)
        return result

    archive = Archive()
    with Store(store_path) as store:
        run = store.run(run_key(CHIPS, {}), CHIPS, claim_designs=16)
        for batch in explore(CHIPS, evaluate, propose("nsga2", CHIPS, designs=designs, seed=3), memory=run):
            archive.add(batch.index, batch.result)
    return archive


def count_lines(log_path):
    return Path(log_path).read_bytes().count(b"\n") if Path(log_path).exists() else 0


if __name__ == "__main__":
    store, log, count, *more = sys.argv[1:]
    changes = {"hold_at": int(more[1])} if more[:1] == ["hold_at"] else {"other": more[1]} if more else {}
    print(search(store, log, int(count), **changes).index.tolist())
