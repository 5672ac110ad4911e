"""Results as rows of the store and back; numbers keep every bit."""

import json
import math
from collections.abc import Iterator, Sequence

import numpy as np

from explorer.parameters import Columns
from explorer.result import IntArray, Result

Row = tuple[float | None, str, str, str]
"""violation, reason, costs, metrics"""


def to_rows(
    run: int, index: IntArray, designs: Columns, result: Result
) -> Iterator[tuple[int, int, str, int, str, float | None, str, str]]:
    """One row a design: run, design, parameters, feasible, reason, violation, costs, metrics; NaN becomes null."""
    names, metrics = tuple(designs), tuple(result.metrics)
    parameters = _by_row([designs[name].tolist() for name in names], len(index))
    figures = _by_row([np.asarray(result.metrics[name], dtype=np.float64).tolist() for name in metrics], len(index))
    columns = zip(
        index.tolist(),
        parameters,
        result.feasible.tolist(),
        result.reason.tolist(),
        result.violation.tolist(),
        result.costs.tolist(),
        figures,
        strict=True,
    )
    for design, values, feasible, reason, violation, costs, row in columns:
        yield (
            run,
            design,
            json.dumps(dict(zip(names, values, strict=True))),
            int(feasible),
            reason,
            None if math.isnan(violation) else violation,
            json.dumps(_no_nan(costs)),
            json.dumps(dict(zip(metrics, _no_nan(row), strict=True))),
        )


def from_rows(rows: Sequence[Row]) -> Result | None:
    """The result that rows were made of; None for no rows."""
    if not rows:
        return None
    metrics = json.loads(f"[{','.join(row[3] for row in rows)}]")
    return Result(
        costs=np.array(json.loads(f"[{','.join(row[2] for row in rows)}]"), dtype=np.float64),
        violation=np.array([row[0] for row in rows], dtype=np.float64),
        reason=np.array([row[1] for row in rows], dtype=str),
        metrics={name: np.array([row[name] for row in metrics], dtype=np.float64) for name in metrics[0]},
    )


def json_list(index: IntArray) -> str:
    """Whole numbers as a JSON list, which SQLite takes as one value.

    >>> json_list(np.array([1, 2]))
    '[1, 2]'
    """
    return json.dumps(index.tolist())


def _by_row(columns: Sequence[list[object]], count: int) -> list[tuple[object, ...]]:
    return list(zip(*columns, strict=True)) if columns else [()] * count


def _no_nan(values: Sequence[object]) -> list[object]:
    return [None if isinstance(value, float) and math.isnan(value) else value for value in values]
