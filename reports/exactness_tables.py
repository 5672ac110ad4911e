"""Exactness as a frame: one row per sampler and number of steps, and the closed form beside them."""

from collections.abc import Sequence

import pandas as pd

from reports.frames import columns_of, frame_of
from workloads.exactness_study import GEN_LENGTH, CasePoint, make_oracle, masked_error
from workloads.oracle import MarkovOracle

EXACTNESS_COLUMNS = columns_of(
    text="series basis sampler knobs noise", number="steps nfe draws total_variation noise_floor chi_square degrees"
)
CLOSED_FORM = "ancestral sampling, absorbing: closed form"


def exactness_table(points: Sequence[CasePoint]) -> pd.DataFrame:
    """One row per point, `basis` drawn, and where there are any the closed form at the same numbers of steps."""
    rows: list[dict[str, object]] = []
    for found in points:
        point = found.point
        rows.append(
            {
                "series": found.case.label,
                "basis": "drawn",
                "sampler": point.sampler,
                "knobs": ", ".join(f"{name}={value}" for name, value in found.case.options) or "defaults",
                "noise": found.case.noise,
                "steps": point.steps,
                "nfe": point.nfe,
                "draws": point.draws,
                "total_variation": point.total_variation,
                "noise_floor": point.noise_floor,
                "chi_square": point.chi_square,
                "degrees": point.degrees,
            }
        )
    return frame_of([*rows, *_closed_form(sorted({found.point.steps for found in points}))], EXACTNESS_COLUMNS)


def _closed_form(steps: Sequence[int]) -> list[dict[str, object]]:
    oracle = make_oracle("absorbing")
    if not isinstance(oracle, MarkovOracle):
        return []
    return [
        {
            **dict.fromkeys(EXACTNESS_COLUMNS),
            "series": CLOSED_FORM,
            "basis": "closed form",
            "sampler": "",
            "knobs": "",
            "noise": "absorbing",
            "steps": count,
            "total_variation": masked_error(oracle, count, GEN_LENGTH),
        }
        for count in steps
    ]


def exactness_sentences(table: pd.DataFrame) -> tuple[str, ...]:
    """What the points say, one sentence per sampler."""
    sentences = []
    for series, rows in table[table["basis"] == "drawn"].groupby("series", sort=False):
        first, last = rows.iloc[0], rows.iloc[-1]
        ends = "only chance is left" if last["total_variation"] < 1.5 * last["noise_floor"] else "it is not exact yet"
        sentences.append(
            f"{series}: total variation {first['total_variation']:.3f} at {first['steps']:.0f} and "
            f"{last['total_variation']:.3f} at {last['steps']:.0f} steps ({last['nfe']:.0f} evaluations); {ends}."
        )
    return tuple(sentences)
