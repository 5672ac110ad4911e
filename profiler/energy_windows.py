"""Energy of time windows: a counter's differences where there is one, else the integral of sampled power."""

from dataclasses import dataclass

import numpy as np

from profiler.energy import EnergyReadings, FloatArray, SourceReadings

# A window may stick out of the readings by this share of itself before its energy counts as unknown.
_UNCOVERED = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowEnergy:
    """Energy of windows of one source, [windows] in each.

    Attributes:
        energy_j: over the window; NaN where readings cover only a part of it.
        uncertainty_j: it is off by at most this, as the edges of a window fall between two readings and a reading may
            be stale. It leaves out the error of the sensor itself.
        covered_j: over that part of the window for which there are readings.
        coverage: share of the window for which there are readings.
    """

    energy_j: FloatArray
    uncertainty_j: FloatArray
    covered_j: FloatArray
    coverage: FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyCurve:
    """Energy since the first reading as a function of time; grows nowhere where the energy is unknown.

    Attributes:
        time_s: knots, rising.
        known_j: energy up to each knot, unknown stretches left out.
        covered_s: time up to each knot, unknown stretches left out.
        reach_s: how far in time an edge may be off: the longest of sampling period and staleness.
    """

    time_s: FloatArray
    known_j: FloatArray
    covered_s: FloatArray
    reach_s: float


def energy_curve(source: SourceReadings) -> EnergyCurve:
    """The curve of one source.

    A counter goes on counting while nobody reads it, so failed readings leave no hole, but a reset does. Power is
    integrated by trapezoids; a failed reading makes the stretch on both sides of it unknown.
    """
    time_s, values = source.time_s, source.values
    if source.method == "counter":
        broken = np.array([change.time_s for change in source.states if change.state == "reset"])
        finite = np.isfinite(values)
        time_s, values = time_s[finite], values[finite]
        steps_j = np.diff(values)
        steps_j[np.isin(time_s[1:], broken)] = np.nan
    else:
        steps_j = 0.5 * (values[1:] + values[:-1]) * np.diff(time_s)
    known = np.isfinite(steps_j)
    steps_s = np.diff(time_s)

    def running(steps: FloatArray) -> FloatArray:
        return np.concatenate([[0.0], np.cumsum(np.where(known, steps, 0.0))]) if len(time_s) else np.empty(0)

    reach_s = max(source.period_s or 0.0, source.staleness_s or 0.0)
    return EnergyCurve(time_s=time_s, known_j=running(steps_j), covered_s=running(steps_s), reach_s=reach_s)


def window_energy(source: SourceReadings, begin_s: FloatArray, end_s: FloatArray) -> WindowEnergy:
    """Energy of each window.

    Args:
        source: readings.
        begin_s: [windows], on the clock of the readings.
        end_s: [windows].
    """
    curve = energy_curve(source)
    if len(curve.time_s) < 2:
        nothing = np.zeros(len(begin_s))
        unknown = np.full(len(begin_s), np.nan)
        return WindowEnergy(energy_j=unknown, uncertainty_j=unknown, covered_j=nothing, coverage=nothing)

    def at(times_s: FloatArray, values: FloatArray) -> FloatArray:
        return np.interp(times_s, curve.time_s, values)

    def edge_j(times_s: FloatArray) -> FloatArray:
        here = at(times_s, curve.known_j)
        later, earlier = at(times_s + curve.reach_s, curve.known_j), at(times_s - curve.reach_s, curve.known_j)
        return np.maximum(later - here, here - earlier)

    covered_j = at(end_s, curve.known_j) - at(begin_s, curve.known_j)
    length_s = end_s - begin_s
    covered_s = at(end_s, curve.covered_s) - at(begin_s, curve.covered_s)
    inside = (begin_s >= curve.time_s[0]) & (begin_s <= curve.time_s[-1])
    coverage = np.where(length_s > 0, covered_s / np.where(length_s > 0, length_s, 1.0), inside.astype(np.float64))
    complete = coverage >= 1.0 - _UNCOVERED
    return WindowEnergy(
        energy_j=np.where(complete, covered_j, np.nan),
        uncertainty_j=np.where(complete, edge_j(begin_s) + edge_j(end_s), np.nan),
        covered_j=covered_j,
        coverage=coverage,
    )


def idle_power_w(readings: EnergyReadings, source: SourceReadings) -> float | None:
    """Mean power before the program ran, None where it was not measured or not read all the time."""
    begin_s, end_s = readings.idle_window_s
    if end_s <= begin_s:
        return None
    idle_j = window_energy(source, np.array([begin_s]), np.array([end_s])).energy_j[0]
    return float(idle_j) / (end_s - begin_s) if np.isfinite(idle_j) else None
