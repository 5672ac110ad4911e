"""Fits all regimes of attention at once: what is one thing of a chip takes one value for all of them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from roofline.chip import Chip
from simulator.errors import SimulationError
from simulator.kernels.attention_constants import ABSENT, CONSTANTS, SHARED
from simulator.kernels.constants import Constant
from simulator.op_columns import FloatArray
from simulator.validation.families import section_of
from simulator.validation.fitting import search
from simulator.validation.scores import Score, predict_s, score
from simulator.validation.tables import MeasuredTable

FAMILY = "attention"
REGIMES: tuple[str, ...] = tuple(ABSENT)
# What a fit may do without, in the order in which that is tried: shapes of the model before times of kernels. What is
# left out is worth less than this part of the times, the others fitted again.
_EXPENDABLE: tuple[str, ...] = (
    *("softmax_overlap_p", "lockstep_blocks", "first_tile_ratio", "block_clocks", "tail_ratio"),
    *("pad_s", "sustained_slowdown", "store_token_s", "split_s"),
)
_LEAST_WORTH = 5e-4
_TRIAL_ROWS, _TRIAL_EVALUATIONS = 400, 6

Free = tuple[tuple[str, Constant], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class JointFit:
    """A fitted chip and how far it is from the rows that it has not seen.

    Attributes:
        chip: the chip with the constants found, and their sources.
        constants: (full name, value) found, without those that are worth nothing.
        before: errors on the held-out rows with the constants that the chip had, one a table.
        after: errors on them now.
        rows: rows that the fit saw, of all tables.
    """

    chip: Chip
    constants: tuple[tuple[str, float], ...]
    before: tuple[Score, ...]
    after: tuple[Score, ...]
    rows: int


def free_constants(ops: Sequence[str]) -> Free:
    """Full names of what a fit of these regimes may move, and what they stand for; shared constants come first."""
    there = {op: [constant for constant in CONSTANTS if constant.name not in ABSENT[op]] for op in ops}
    shared = [each for each in CONSTANTS if each.name in SHARED and any(each in there[op] for op in ops)]
    own = [(op, each) for op in ops for each in there[op] if each.name not in SHARED]
    return (
        *((f"{FAMILY}.{constant.name}", constant) for constant in shared),
        *((f"{section_of(op)}.{constant.name}", constant) for op, constant in own),
    )


def fit_together(tables: Sequence[MeasuredTable], chip: Chip, *, rows: int = 1500, seed: int = 0) -> JointFit:
    """Fit the constants of every regime that has a table, as `fitting.fit` does those of one.

    Args:
        tables: one for each of some `REGIMES`.
        chip: where to start, and what the tables were measured on.
        rows: how many rows of each table the fit looks at, drawn at random.
        seed: of that draw.

    Raises:
        SimulationError: there are fewer than two rows for each constant.
    """
    free = free_constants([table.op for table in tables])
    samples = [table.sample(rows, seed) for table in tables]
    seen = sum(map(len, samples))
    if seen < 2 * len(free):
        raise SimulationError(f"{FAMILY}: {seen} rows are too few to fit {len(free)} constants")
    bare = _without(chip, free)
    starts = [[_start(chip, name, constant) for name, constant in free], [constant.start for _, constant in free]]
    found = _search(samples, bare, free, starts)
    free, found = _needed([table.sample(_TRIAL_ROWS, seed) for table in tables], bare, free, found)
    values = [float(f"{value:.4g}") for value in _search(samples, bare, free, [found])]
    fitted = with_values(bare, free, values)
    held = [table.half(held_out=True) for table in tables]
    before, after = ([score(each, predict_s(each, some)) for each in held] for some in (chip, fitted))
    return JointFit(
        chip=_with_sources(fitted, tables, samples, after),
        constants=tuple((name, value) for (name, _), value in zip(free, values, strict=True)),
        before=tuple(before),
        after=tuple(after),
        rows=seen,
    )


def logs_of(samples: Sequence[MeasuredTable], chip: Chip) -> FloatArray:
    """ln(predicted / measured) of the rows of all samples."""
    return np.concatenate([np.log(predict_s(sample, chip) / sample.measured_s) for sample in samples])


def with_values(chip: Chip, free: Free, values: Sequence[float] | FloatArray) -> Chip:
    """The chip with these constants, which it has not got."""
    added = tuple((name, float(value)) for (name, _), value in zip(free, values, strict=True))
    return replace(chip, calibration=chip.calibration + added)


def _without(chip: Chip, free: Free) -> Chip:
    """The chip without what the regimes may have, in their sections or in that of all."""
    sections = {FAMILY, *(name.rpartition(".")[0] for name, _ in free)}
    known = {constant.name for constant in CONSTANTS}
    kept = [
        (name, value)
        for name, value in chip.calibration
        if not (name.rpartition(".")[0] in sections and name.rpartition(".")[2] in known)
    ]
    return replace(chip, calibration=tuple(kept))


def _start(chip: Chip, name: str, constant: Constant) -> float:
    """The chip's own value, that of its regimes on average where they have it apart, or the constant's start."""
    own = dict(chip.calibration)
    values = [own[each] for each in (name, *(f"{section_of(op)}.{constant.name}" for op in REGIMES)) if each in own]
    return values[0] if name in own else float(np.exp(np.mean(np.log(values)))) if values else constant.start


def _search(
    samples: Sequence[MeasuredTable],
    bare: Chip,
    free: Free,
    starts: Sequence[Sequence[float]],
    evaluations: int = 40,
) -> list[float]:
    found = search(
        lambda values: logs_of(samples, with_values(bare, free, values)),
        [constant for _, constant in free],
        starts,
        evaluations=evaluations,
    )
    return [float(value) for value in found]


def _needed(
    samples: Sequence[MeasuredTable], bare: Chip, free: Free, values: Sequence[float]
) -> tuple[Free, list[float]]:
    """The constants without those of `_EXPENDABLE` that are worth nothing, and values of what is left."""

    def tried(some: Free, start: Sequence[float]) -> tuple[float, list[float]]:
        found = _search(samples, bare, some, [start], _TRIAL_EVALUATIONS)
        chip = with_values(bare, some, found)
        parts = [np.abs(np.expm1(logs_of([sample], chip))).mean() for sample in samples]
        return float(np.mean(parts)), found

    error, kept = tried(free, values)
    for expendable in _EXPENDABLE:
        for name in [name for name, constant in free if constant.name == expendable]:
            others = [i for i, (each, _) in enumerate(free) if each != name]
            without = tuple(free[i] for i in others)
            error_without, found = tried(without, [kept[i] for i in others])
            if error_without - error < _LEAST_WORTH:
                free, kept, error = without, found, min(error, error_without)
    return free, kept


def _with_sources(
    chip: Chip, tables: Sequence[MeasuredTable], samples: Sequence[MeasuredTable], after: Sequence[Score]
) -> Chip:
    sources = dict(chip.sources)
    for table, sample, each in zip(tables, samples, after, strict=True):
        sources[f"calibration.{section_of(table.op)}"] = (
            f"fitted by `roofscape fit --op {FAMILY}`, together with the other regimes, to {len(sample)} of the "
            f"{int((~table.held_out).sum())} rows of {table.source} ({table.backend}) whose keys have an even CRC-32: "
            f"{each.mape_percent:.1f} % mean absolute error on the {each.rows} rows held out"
        )
    return replace(chip, sources=tuple(sources.items()))
