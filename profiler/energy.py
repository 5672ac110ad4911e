"""`EnergyReadings`: what power and energy sources said while a program ran, and what is unknown about it. No torch."""

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from profiler.errors import TraceError

FloatArray = NDArray[np.float64]
DeviceType = Literal["gpu", "cpu"]
Method = Literal["counter", "power"]
State = Literal[
    "ok",
    "absent",
    "not_supported",
    "permission_denied",
    "driver_gone",
    "device_lost",
    "failed",
    "unresponsive",
    "wrapped",
    "reset",
]
# A source in one of these states is not asked again.
FINAL_STATES: frozenset[str] = frozenset(
    {"absent", "not_supported", "permission_denied", "driver_gone", "device_lost", "unresponsive"}
)
# These happen at one reading, and the source goes on.
_PASSING = frozenset({"wrapped", "reset"})


@dataclass(frozen=True, slots=True, kw_only=True)
class StateChange:
    """A source entered a state; times as in the readings."""

    time_s: float
    state: State
    message: str = ""

    def __post_init__(self) -> None:
        if self.state not in get_args(State):
            raise TraceError(f"energy readings: state must be one of {', '.join(get_args(State))}, got {self.state!r}")


@dataclass(frozen=True, kw_only=True, eq=False)
class SourceReadings:
    """Readings of one source, one entry per attempt; what an attempt did not give is NaN.

    Attributes:
        name: what was read, for example `GPU 0 NVIDIA H100 80GB HBM3`.
        device: `gpu` or `cpu`.
        method: `counter` where the device counts its energy, `power` where only its power was sampled.
        time_s: when, on the clock of the trace's calls, rising.
        energy_j: energy since the first reading, by the device's counter, wraps undone.
        power_w: power that the device told.
        states: changes of state in order; empty where every reading succeeded.
        notes: what a reader must know of this source, one sentence each.
    """

    name: str
    device: DeviceType
    method: Method
    time_s: FloatArray
    energy_j: FloatArray
    power_w: FloatArray
    states: tuple[StateChange, ...] = ()
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.device not in get_args(DeviceType) or self.method not in get_args(Method):
            raise TraceError(f"energy source {self.name!r}: unknown device {self.device!r} or method {self.method!r}")
        lengths = {len(self.time_s), len(self.energy_j), len(self.power_w)}
        if len(lengths) > 1:
            raise TraceError(f"energy source {self.name!r}: columns differ in length: {sorted(lengths)}")
        if not bool((np.diff(self.time_s) >= 0).all()):
            raise TraceError(f"energy source {self.name!r}: times must rise")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SourceReadings):
            return NotImplemented
        return source_to_json(self) == source_to_json(other)

    __hash__ = None  # type: ignore[assignment]  # arrays do not hash

    @property
    def state(self) -> State:
        """The state at the end; a counter that wrapped or was reset goes on."""
        lasting = [change.state for change in self.states if change.state not in _PASSING]
        return lasting[-1] if lasting else "ok"

    @property
    def values(self) -> FloatArray:
        """The column that the energy is taken from."""
        return self.energy_j if self.method == "counter" else self.power_w

    @property
    def period_s(self) -> float | None:
        """Median time between readings that succeeded, None below two."""
        times = self.time_s[np.isfinite(self.values)]
        return float(np.median(np.diff(times))) if len(times) > 1 else None

    @property
    def staleness_s(self) -> float | None:
        """Median time for which the device showed one and the same value, so how old a reading may be.

        It is at least the sampling period, which hides what changes faster, and None where the value never changed.
        """
        finite = np.isfinite(self.values)
        times, values = self.time_s[finite], self.values[finite]
        changes = times[1:][np.diff(values) != 0]
        return float(np.median(np.diff(changes))) if len(changes) > 1 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyReadings:
    """All sources of one capture.

    Attributes:
        sources: each with its readings, or with the state that says why it has none.
        asked_period_s: time between readings that was asked for.
        idle_window_s: (begin, end) of the time before the program in which nothing was run; begin equals end where
            idle power was not measured.
        run_window_s: (begin, end) of the program.
    """

    sources: tuple[SourceReadings, ...]
    asked_period_s: float
    idle_window_s: tuple[float, float]
    run_window_s: tuple[float, float]
    notes: tuple[str, ...] = field(default=())


def readings_to_json(readings: EnergyReadings | None) -> dict[str, Any] | None:
    """Plain values for a file; NaN becomes None."""
    if readings is None:
        return None
    return {
        "sources": [source_to_json(source) for source in readings.sources],
        "asked_period_s": readings.asked_period_s,
        "idle_window_s": list(readings.idle_window_s),
        "run_window_s": list(readings.run_window_s),
        "notes": list(readings.notes),
    }


def source_to_json(source: SourceReadings) -> dict[str, Any]:
    """One source as plain values."""
    return {
        "name": source.name,
        "device": source.device,
        "method": source.method,
        **{
            column: [value if np.isfinite(value) else None for value in getattr(source, column).tolist()]
            for column in ("time_s", "energy_j", "power_w")
        },
        "states": [[change.time_s, change.state, change.message] for change in source.states],
        "notes": list(source.notes),
    }


def readings_from_json(values: dict[str, Any] | None) -> EnergyReadings | None:
    """What `readings_to_json` gave.

    Raises:
        TraceError: a value is not what it must be.
    """
    if values is None:
        return None
    idle_begin_s, idle_end_s = values["idle_window_s"]
    run_begin_s, run_end_s = values["run_window_s"]
    return EnergyReadings(
        sources=tuple(_source_from_json(source) for source in values["sources"]),
        asked_period_s=float(values["asked_period_s"]),
        idle_window_s=(float(idle_begin_s), float(idle_end_s)),
        run_window_s=(float(run_begin_s), float(run_end_s)),
        notes=tuple(values["notes"]),
    )


def _source_from_json(values: dict[str, Any]) -> SourceReadings:
    return SourceReadings(
        name=str(values["name"]),
        device=values["device"],
        method=values["method"],
        **{column: np.array(values[column], dtype=np.float64) for column in ("time_s", "energy_j", "power_w")},
        states=tuple(
            StateChange(time_s=float(time_s), state=state, message=str(message))
            for time_s, state, message in values["states"]
        ),
        notes=tuple(values["notes"]),
    )
