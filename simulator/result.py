"""`SimulationResult`: when each call ran, what each resource did, and what it cost."""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pandas as pd

from profiler.provenance import Provenance
from simulator.op_columns import FloatArray, IntArray

NOT_VALIDATED = "no band yet: not validated against measurements"


@dataclass(frozen=True, kw_only=True, eq=False)
class SimulationResult:
    """What one trace costs on one chip; equal when computed again from the same input.

    A call's duration holds its launch; `duration_s` of an op is that of one call alone on the chip.

    Attributes:
        trace: name of the trace.
        chip: name of the chip.
        engine: `analytic` or `event`.
        mode: `graph` (launches back to back), `eager` (the host dispatches each call) or `piecewise` (it dispatches
            attention, layers with a state, and what lies between as one).
        makespan_s: from the first dispatch to the end of the last call.
        start_s: [calls] when the device takes each call up.
        duration_s: [calls] until it is done.
        op: [calls] index of its op.
        phase: [calls] index into `phases`.
        step: [calls] step number, -1 where none was open.
        stream: [calls] device stream.
        phases: names.
        op_names: of the ops.
        op_kinds: of the ops.
        op_duration_s: [ops] one call alone on the chip.
        op_bound_s: [ops] roofline bound of one call.
        op_energy_j: [ops] dynamic energy of one call, None where unknown.
        busy_s: (resource, seconds at its peak rate, of all calls): `matrix`, `vector`, `special`, each memory, `link`,
            `launch`, `host`.
        energy_j: all energy, None where unknown.
        energy_parts_j: (part, joules): `matrix`, `vector`, each memory, `static`.
        energy_reason: why the energy is unknown, else empty.
        energy_low_j: lower end of the 90 % band of all energy, None where not validated.
        energy_high_j: upper end.
        energy_band_basis: what that band rests on.
        low_s: lower end of the makespan's error band, None where not validated.
        high_s: upper end.
        band_reason: why there is no band, else empty.
        band_basis: what the band rests on, one line for each kind of kernel.
        notes: what a reader must know: incomplete ops, defaults used.
        provenance: how this was made; without a time of day, so that equal input gives equal bytes.
    """

    trace: str
    chip: str
    engine: str
    mode: str
    makespan_s: float
    start_s: FloatArray
    duration_s: FloatArray
    op: IntArray
    phase: IntArray
    step: IntArray
    stream: IntArray
    phases: tuple[str, ...]
    op_names: tuple[str, ...]
    op_kinds: tuple[str, ...]
    op_duration_s: FloatArray
    op_bound_s: FloatArray
    op_energy_j: FloatArray | None
    busy_s: tuple[tuple[str, float], ...]
    energy_j: float | None
    energy_parts_j: tuple[tuple[str, float], ...]
    energy_reason: str = ""
    energy_low_j: float | None = None
    energy_high_j: float | None = None
    energy_band_basis: tuple[str, ...] = ()
    low_s: float | None = None
    high_s: float | None = None
    band_reason: str = NOT_VALIDATED
    band_basis: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    provenance: Provenance

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SimulationResult):
            return NotImplemented
        for column in fields(self):
            mine, theirs = getattr(self, column.name), getattr(other, column.name)
            if isinstance(mine, np.ndarray):
                if not isinstance(theirs, np.ndarray) or not np.array_equal(mine, theirs, equal_nan=True):
                    return False
            elif isinstance(theirs, np.ndarray) or mine != theirs:
                return False
        return True

    __hash__ = None  # type: ignore[assignment]  # arrays do not hash

    @property
    def utilization(self) -> tuple[tuple[str, float], ...]:
        """(resource, part of the makespan that it works at its peak rate), 0-1; 0 in an empty run."""
        if self.makespan_s <= 0:
            return tuple((name, 0.0) for name, _ in self.busy_s)
        return tuple((name, busy / self.makespan_s) for name, busy in self.busy_s)

    @property
    def bound_s(self) -> float:
        """Roofline bound of all calls one after another."""
        return float(self.op_bound_s[self.op].sum())

    @property
    def average_power_w(self) -> float | None:
        """Energy over makespan, None where unknown."""
        if self.energy_j is None or self.makespan_s <= 0:
            return None
        return self.energy_j / self.makespan_s

    def to_frame(self) -> pd.DataFrame:
        """One row per call."""
        return pd.DataFrame(
            {
                "kind": _labels(self.op, self.op_kinds),
                "name": _labels(self.op, self.op_names),
                "phase": _labels(self.phase, self.phases),
                "step": self.step,
                "stream": self.stream,
                "op": self.op,
                "start_s": self.start_s,
                "duration_s": self.duration_s,
                "bound_s": self.op_bound_s[self.op],
                "dynamic_energy_j": np.nan if self.op_energy_j is None else self.op_energy_j[self.op],
            }
        )

    def summary(self, by: tuple[str, ...] = ("phase", "kind")) -> pd.DataFrame:
        """Calls, time, bound and dynamic energy by some of phase, kind, name, step and stream; longest first.

        `efficiency` is bound over time; unknown energy is NaN.
        """
        grouped = self.to_frame().groupby(list(by), observed=True, sort=True)
        table = grouped.agg(
            calls=("op", "size"),
            duration_s=("duration_s", "sum"),
            bound_s=("bound_s", "sum"),
            dynamic_energy_j=("dynamic_energy_j", lambda joules: joules.sum(min_count=1)),
        ).reset_index()
        table["efficiency"] = table["bound_s"] / table["duration_s"]
        return table.sort_values("duration_s", ascending=False, kind="stable").reset_index(drop=True)

    def to_json(self) -> dict[str, Any]:
        """The result without its per-call columns, ready for `json.dumps`; unknown is null beside its reason."""
        return {
            "trace": self.trace,
            "chip": self.chip,
            "engine": self.engine,
            "mode": self.mode,
            "calls": len(self.op),
            "makespan_s": self.makespan_s,
            "bound_s": self.bound_s,
            "low_s": self.low_s,
            "high_s": self.high_s,
            "band_reason": self.band_reason,
            "band_basis": list(self.band_basis),
            "busy_s": dict(self.busy_s),
            "utilization": dict(self.utilization),
            "energy_j": self.energy_j,
            "energy_low_j": self.energy_low_j,
            "energy_high_j": self.energy_high_j,
            "energy_band_basis": list(self.energy_band_basis),
            "energy_parts_j": dict(self.energy_parts_j),
            "energy_reason": self.energy_reason,
            "average_power_w": self.average_power_w,
            "notes": list(self.notes),
            "packages": dict(self.provenance.packages),
        }


def _labels(codes: IntArray, names: tuple[str, ...]) -> "pd.Categorical[str]":
    """Codes as a categorical; names may repeat, a categorical's may not."""
    unique = tuple(dict.fromkeys(names))
    position = {name: i for i, name in enumerate(unique)}
    recoded = np.array([position[name] for name in names], dtype=np.int64)
    return pd.Categorical.from_codes(recoded[codes] if len(codes) else codes, categories=pd.Index(unique, dtype=object))
