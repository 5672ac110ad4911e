"""Finds error bands from measured tables: from the rows that fits may see, checked on those held out."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from roofline.chip_families import with_constants_of
from roofline.chipfile import load_chip
from simulator.bands import COVERAGE, DATASHEET, FAMILY, FOREIGN, OWN, Band
from simulator.op_columns import FloatArray, IntArray
from simulator.size_classes import in_order
from simulator.validation.scores import predict_s
from simulator.validation.tables import MeasuredTable

_TAILS = (50.0 * (1.0 - COVERAGE), 50.0 * (1.0 + COVERAGE))  # percentiles
_LEAST_ROWS = 40  # fewer say nothing of a 90 % band
_MOVED_ROWS = 2000  # rows of each table that moved constants are tried on


def own_bands(
    table: MeasuredTable, predicted_s: FloatArray, more: Sequence[tuple[MeasuredTable, FloatArray]] = ()
) -> list[Band]:
    """Bands of all rows and of each size class, with the coverage of the rows held out.

    Args:
        table: measured rows.
        predicted_s: prediction of each, [rows].
        more: further tables of such kernels and their predictions; every table weighs alike, however many rows it has.
    """
    pairs = [(table, predicted_s), *more]
    ratio = np.concatenate([each.measured_s / seconds for each, seconds in pairs])
    held_out = np.concatenate([each.held_out for each, _ in pairs])
    classes = np.concatenate([each.size_class for each, _ in pairs])
    source = np.repeat(np.arange(len(pairs)), [len(each) for each, _ in pairs])
    bands = []
    for name in ("all", *in_order(table.op, classes.tolist())):
        chosen = np.ones(len(ratio), dtype=np.bool_) if name == "all" else classes == name
        seen, held = chosen & ~held_out, chosen & held_out
        if seen.sum() >= _LEAST_ROWS:
            band = _band(table, OWN, name, ratio[seen], _alike(source[seen]))
            inside = (ratio[held] >= band.low_ratio) & (ratio[held] <= band.high_ratio)
            coverage = round(float(np.average(inside, weights=_alike(source[held]))), 4) if held.any() else None
            bands.append(replace(band, coverage=coverage))
    return bands


def _alike(source: IntArray) -> FloatArray:
    """Weights of rows, [rows], by which every table counts alike."""
    weights: FloatArray = 1.0 / np.bincount(source)[source]
    return weights


def moved_bands(tables: Sequence[MeasuredTable]) -> list[Band]:
    """Bands of predictions with the constants of another chip, within one family of chips and across families.

    Args:
        tables: of one op and dtype, measured on several chips.
    """
    ratios: dict[tuple[str, str, str], list[FloatArray]] = {}
    chips = [load_chip(table.chip) for table in tables]
    for chip, table in zip(chips, tables, strict=True):
        sample = _sample(table)
        for donor in chips:
            if donor.name == chip.name:
                continue
            basis = FAMILY if donor.family == chip.family else FOREIGN
            predicted_s = predict_s(sample, with_constants_of(chip, donor))
            ratios.setdefault((basis, table.op, table.dtype), []).append(sample.measured_s / predicted_s)
    return [
        _band(replace(tables[0], chip="*"), basis, "all", np.concatenate(found), np.ones(sum(map(len, found))))
        for (basis, _, _), found in ratios.items()
    ]


def datasheet_bands(tables: Sequence[MeasuredTable]) -> list[Band]:
    """The band of predictions without any constants, at the rates of the chip's file.

    Args:
        tables: of one op and dtype, measured on one chip or several.
    """
    found = []
    for table in tables:
        sample, bare = _sample(table), replace(load_chip(table.chip), calibration=())
        found.append(sample.measured_s / predict_s(sample, bare))
    weights = _alike(np.repeat(np.arange(len(found)), list(map(len, found))))
    return [_band(replace(tables[0], chip="*"), DATASHEET, "all", np.concatenate(found), weights)]


def _sample(table: MeasuredTable) -> MeasuredTable:
    """Rows that fits may see, evenly from all of them."""
    seen = np.flatnonzero(~table.held_out)
    return table.take(seen[:: max(1, len(seen) // _MOVED_ROWS)])


def _band(table: MeasuredTable, basis: str, size_class: str, ratio: FloatArray, weights: FloatArray) -> Band:
    if np.ptp(weights) > 0:
        low, high = np.percentile(ratio, _TAILS, weights=weights, method="inverted_cdf")
    else:
        low, high = np.percentile(ratio, _TAILS)
    return Band(
        chip=table.chip,
        basis=basis,
        op=table.op,
        dtype=table.dtype,
        size_class=size_class,
        low_ratio=round(min(float(low), 1.0), 4),  # a prediction lies inside its own band
        high_ratio=round(max(float(high), 1.0), 4),
        rows=len(ratio),
    )
