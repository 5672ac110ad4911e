"""Operating points as frames: one row per point and chip, one row per point and cost, frontiers, published points."""

from collections.abc import Hashable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from reports.errors import ReportError
from reports.formatting import format_factor, format_ratio
from reports.frames import columns_of, frame_of
from reports.pareto import OperatingPoint

POINT_COLUMNS = columns_of(
    text="model sampler knobs paradigm origin chip unknown_ops",
    number="problems solved accuracy accuracy_low accuracy_high batch forwards tokens_per_forward flops bytes "
    "measured_s measured_spread_s simulated_s energy_j",
)
# Cost: what it is, and whether it depends on the chip.
COSTS: dict[str, tuple[str, bool]] = {
    "forwards": ("network evaluations per batch, counted", False),
    "flops": ("FLOPs per problem, counted", False),
    "bytes": ("bytes moved per problem, counted", False),
    "measured_s": ("time per problem, measured on this CPU", False),
    "simulated_s": ("time per problem, simulated", True),
    "energy_j": ("energy per problem, simulated", True),
}
_PUBLISHED_NEEDED = ("source", "model", "method", "task", "tpf", "quality", "quality_unit")
_PERCENT_UNITS = ("acc %", "score", "avg score")


def points_table(points: Sequence[OperatingPoint]) -> pd.DataFrame:
    """One row per point and chip, with `POINT_COLUMNS`; costs are per problem."""
    rows = []
    for point in points:
        low, high = point.interval
        shared = {
            "model": point.setting.model,
            "sampler": Path(point.setting.sampler).stem,
            "knobs": point.setting.knobs,
            "paradigm": point.setting.paradigm,
            "origin": "own" if point.setting.is_own else "shipped",
            "unknown_ops": ", ".join(point.unknown_ops),
            "problems": point.problems,
            "solved": point.solved,
            "accuracy": point.accuracy,
            "accuracy_low": low,
            "accuracy_high": high,
            "batch": point.batch,
            "forwards": point.forwards,
            "tokens_per_forward": point.tokens_per_forward,
            "flops": point.flops,
            "bytes": point.bytes,
            "measured_s": point.measured_s,
            "measured_spread_s": point.spread_s,
        }
        rows += [
            {**shared, "chip": cost.chip, "simulated_s": cost.simulated_s, "energy_j": cost.energy_j}
            for cost in point.chips
        ]
    return frame_of(rows, POINT_COLUMNS)


def costs_table(points: pd.DataFrame) -> pd.DataFrame:
    """One row per point and cost: `cost`, `chip` (empty where none matters), `value`, `is_frontier`, `series`."""
    first_chip = points[points["chip"] == points["chip"].iloc[0]]
    parts = []
    for cost, (_, depends_on_chip) in COSTS.items():
        for chip, rows in points.groupby("chip", sort=False) if depends_on_chip else (("", first_chip),):
            known = rows[rows[cost].notna()]
            parts.append(
                known.assign(
                    cost=cost, chip=chip, value=known[cost], is_frontier=frontier(known[cost], known["accuracy"])
                )
            )
    table: pd.DataFrame = pd.concat(parts, ignore_index=True)
    table["series"] = table["model"] + " / " + table["sampler"]
    return table


def frontier(cost: pd.Series, quality: pd.Series) -> list[bool]:
    """Which points no other one beats: none is at most as expensive and at least as good, and better in one of both.

    >>> frontier(pd.Series([1.0, 2.0, 3.0]), pd.Series([0.5, 0.4, 0.9]))
    [True, False, True]
    """
    costs, qualities = cost.to_numpy(), quality.to_numpy()
    return [
        not bool(
            np.any(
                (costs <= costs[i]) & (qualities >= qualities[i]) & ((costs < costs[i]) | (qualities > qualities[i]))
            )
        )
        for i in range(len(costs))
    ]


def verdicts(costs: pd.DataFrame) -> pd.DataFrame:
    """Per cost and chip: the best autoregressive point against the cheapest diffusion point that is as accurate.

    `ratio` is diffusion's cost over autoregression's: below 1 diffusion wins. Unknown where no diffusion setting is as
    accurate; then `best_accuracy` says how far they came.
    """
    rows = []
    for (cost, chip), part in costs.groupby(["cost", "chip"], sort=False):
        regressive = part[part["paradigm"] == "autoregressive"].sort_values(
            ["accuracy", "value"], ascending=[False, True]
        )
        diffusion = part[part["paradigm"] == "diffusion"]
        if regressive.empty or diffusion.empty:
            continue
        reference = regressive.iloc[0]
        equal = diffusion[diffusion["accuracy"] >= reference["accuracy"]].sort_values("value", kind="stable")
        winner = equal.iloc[0] if len(equal) else None
        rows.append(
            {
                "cost": cost,
                "chip": chip,
                "reference_accuracy": reference["accuracy"],
                "reference_value": reference["value"],
                "best_accuracy": diffusion["accuracy"].max(),
                "winner": "" if winner is None else f"{winner['series']} ({winner['knobs']})",
                "winner_accuracy": None if winner is None else winner["accuracy"],
                "ratio": None if winner is None else winner["value"] / reference["value"],
            }
        )
    columns = columns_of(
        text="cost chip winner", number="reference_accuracy reference_value best_accuracy winner_accuracy ratio"
    )
    return frame_of(rows, columns)


def verdict_sentences(table: pd.DataFrame) -> tuple[str, ...]:
    """The verdicts as sentences, one per cost and chip."""
    return tuple(_sentence(row) for row in table.to_dict("records"))


def _sentence(row: dict[Hashable, Any]) -> str:
    title = COSTS[row["cost"]][0] + (f" on {row['chip']}" if row["chip"] else "")
    reference = format_ratio(row["reference_accuracy"])
    if np.isnan(row["ratio"]):
        best = format_ratio(row["best_accuracy"])
        return f"{title}: no diffusion setting is as accurate as autoregression's {reference} (best {best})."
    word = "diffusion wins" if row["ratio"] < 1 else "diffusion loses"
    return (
        f"{title}: {word}: {row['winner']} costs {format_factor(row['ratio'])} autoregression, at "
        f"{format_ratio(row['winner_accuracy'])} against {reference}."
    )


def shipped_published() -> pd.DataFrame:
    """The published points that ship with Roofscape: GSM8K scores of 8B models, entered by hand from the sources."""
    with resources.as_file(resources.files("reports") / "published_quality.csv") as path:
        return read_published(path)


def read_published(path: Path) -> pd.DataFrame:
    """Published operating points: rows with tokens per forward and a quality in percent, as `accuracy` 0-1.

    Raises:
        ReportError: the file cannot be read, lacks a column, or has no such row.
    """
    try:
        table = pd.read_csv(path)
    except (OSError, ValueError) as error:  # pandas' parser errors are ValueErrors
        raise ReportError(f"published points {path}: cannot be read ({' '.join(str(error).split())})") from None
    lacking = [name for name in _PUBLISHED_NEEDED if name not in table]
    if lacking:
        raise ReportError(
            f"published points {path}: lack the column {lacking[0]}; needed: {', '.join(_PUBLISHED_NEEDED)}"
        )
    for name in ("tpf", "quality"):
        table[name] = pd.to_numeric(table[name], errors="coerce")
    usable = table[(table["tpf"] > 0) & table["quality"].between(0, 100) & table["quality_unit"].isin(_PERCENT_UNITS)]
    if usable.empty:
        raise ReportError(f"published points {path}: no row has tokens per forward (tpf) and a quality in percent")
    return pd.DataFrame(
        {
            "source": _cited(usable),
            "series": (usable["model"].astype(str) + " / " + usable["method"].astype(str)).astype(object),
            "task": usable["task"].astype(object),
            "tokens_per_forward": usable["tpf"],
            "accuracy": usable["quality"] / 100,
        }
    ).reset_index(drop=True)


def _cited(table: pd.DataFrame) -> "pd.Series[Any]":
    """Source of each row, with the paper or address that the optional column `reference` gives."""
    source = table["source"].astype(str)
    if "reference" in table:
        source = source + table["reference"].map(lambda reference: "" if pd.isna(reference) else f" ({reference})")
    return source.astype(object)
