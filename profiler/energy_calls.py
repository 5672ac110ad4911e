"""Puts measured energy onto a trace: per call, phase and step, with idle power and uncertainty beside it."""

from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from profiler.energy import DeviceType, EnergyReadings, FloatArray, SourceReadings
from profiler.energy_windows import idle_power_w, window_energy
from profiler.traces import IntArray, Trace

BETWEEN = "(between calls)"
WHOLE = "(whole run)"
_COLUMNS = (
    "source device method phase step windows duration_s energy_j uncertainty_j average_power_w idle_w above_idle_j "
    "coverage"
).split()


def with_energy(trace: Trace, readings: EnergyReadings, device: DeviceType) -> Trace:
    """The trace with its readings, the energy of each call, and notes on the state of each source.

    A call's energy is what all sources of its device used while it ran. Calls are mostly far shorter than the sampling
    period: the figure then is the mean power around a call times its duration, good for sums over many calls and no
    measurement of a single one.

    Args:
        trace: timed or not.
        readings: on the clock of the trace's calls.
        device: that the program ran on, whose sources count for the calls.
    """
    energy_j = np.full(len(trace.calls), np.nan)
    used = [source for source in readings.sources if source.device == device and source.period_s is not None]
    if used and trace.is_measured:
        begin_s = trace.calls.start_s
        per_source = [window_energy(source, begin_s, begin_s + trace.calls.duration_s).energy_j for source in used]
        energy_j = np.sum(per_source, axis=0)
    notes = (*trace.provenance.notes, *energy_notes(trace, readings, device))
    return replace(
        trace,
        energy=readings,
        calls=replace(trace.calls, energy_j=energy_j),
        provenance=replace(trace.provenance, notes=notes),
    )


def energy_notes(trace: Trace, readings: EnergyReadings, device: DeviceType) -> tuple[str, ...]:
    """One sentence per source and on what the energy of calls is worth."""
    notes = [describe_source(source) for source in readings.sources]
    used = [source for source in readings.sources if source.device == device and source.period_s is not None]
    if not used:
        notes.append(f"energy of calls is unknown: no source of the {device.upper()} that the program ran on was read")
    elif not trace.is_measured:
        notes.append("energy of calls is unknown: nothing was timed")
    else:
        reach_s = max(max(source.period_s or 0.0, source.staleness_s or 0.0) for source in used)
        call_s = float(np.nanmedian(trace.calls.duration_s))
        notes.append(
            f"energy of a call is the mean power around it times its duration: a reading every {1e3 * reach_s:.3g} ms "
            f"at best, against {1e6 * call_s:.3g} us of the median call"
        )
    return tuple(notes)


def describe_source(source: SourceReadings) -> str:
    """Name, method, period, staleness, state and notes of a source in one sentence."""
    parts = [f"energy of {source.name}: "]
    if source.period_s is None:
        parts.append("not measured")
    else:
        method = "counter" if source.method == "counter" else "integral of sampled power"
        parts.append(f"{method}, read every {1e3 * source.period_s:.3g} ms")
        stale_s = source.staleness_s
        parts.append(f", renewed every {1e3 * stale_s:.3g} ms" if stale_s else ", never seen to change")
    for change in source.states:
        message = f" ({change.message})" if change.message else ""
        parts.append(f"; {change.state.replace('_', ' ')} at {change.time_s:.3f} s{message}")
    parts += [f"; {note}" for note in source.notes]
    return "".join(parts)


def energy_frame(trace: Trace, by: str = "phase") -> pd.DataFrame:
    """Measured energy of each source, one row per phase or step, then what fell between the calls and the whole run.

    A row's time begins with the first call of a stretch of calls of one phase (and step) and ends with its last, so
    host time inside it counts. Columns: source, device, method, phase, step (-1 for none or several), windows (number
    of stretches), duration_s, energy_j, uncertainty_j (at most), average_power_w, idle_w, above_idle_j (energy_j less
    idle_w over duration_s), coverage. Unknown figures are NaN.

    Args:
        trace: one with energy readings; without any the frame is empty.
        by: `phase`, `step` or `trace` for the whole run only.
    """
    if trace.energy is None:
        return pd.DataFrame(columns=_COLUMNS)
    frames = [_source_frame(trace, trace.energy, source, by) for source in trace.energy.sources]
    return pd.concat([frame[_COLUMNS] for frame in frames], ignore_index=True)


def _source_frame(trace: Trace, readings: EnergyReadings, source: SourceReadings, by: str) -> pd.DataFrame:
    idle_w = idle_power_w(readings, source)
    run_s = np.array([readings.run_window_s])
    frame = _sums(source, run_s[:, 0], run_s[:, 1], np.zeros(1, dtype=np.int64)).assign(phase=WHOLE, step=-1)
    if by != "trace" and trace.is_measured:
        first, begin_s, end_s = _stretches(trace, by)
        step = trace.calls.step[first] if by == "step" else np.full(len(first), -1)
        keys = pd.MultiIndex.from_arrays([trace.calls.phase[first], step])
        group, distinct = keys.factorize()
        parts = _sums(source, begin_s, end_s, group)
        parts = parts.assign(phase=[trace.phases[i] for i, _ in distinct], step=[i for _, i in distinct])
        frame = pd.concat([parts, _rest(frame, parts), frame], ignore_index=True)
    idle = np.nan if idle_w is None else idle_w
    return frame.assign(
        source=source.name,
        device=source.device,
        method=source.method,
        average_power_w=frame["energy_j"] / frame["duration_s"].where(frame["duration_s"] > 0),
        idle_w=idle,
        above_idle_j=frame["energy_j"] - idle * frame["duration_s"],
    )


def _stretches(trace: Trace, by: str) -> tuple[IntArray, FloatArray, FloatArray]:
    """(first call, begin, end) of each stretch of neighboring timed calls of one phase, and of one step if asked."""
    calls = trace.calls
    timed = np.flatnonzero(np.isfinite(calls.start_s) & np.isfinite(calls.duration_s))
    changes: NDArray[np.bool_] = np.diff(calls.phase[timed]) != 0
    if by == "step":
        changes |= np.diff(calls.step[timed]) != 0
    heads = np.concatenate([[0], np.flatnonzero(changes) + 1])
    ends_s = np.maximum.reduceat(calls.start_s[timed] + calls.duration_s[timed], heads)
    return timed[heads], calls.start_s[timed][heads], ends_s


def _sums(source: SourceReadings, begin_s: FloatArray, end_s: FloatArray, group: IntArray) -> pd.DataFrame:
    """Windows, seconds and joules of each group of windows; `group` [windows] counts from 0."""
    energy = window_energy(source, begin_s, end_s)
    length_s = end_s - begin_s
    duration_s = np.bincount(group, weights=length_s)
    covered_s = np.bincount(group, weights=energy.coverage * length_s)
    return pd.DataFrame(
        {
            "windows": np.bincount(group),
            "duration_s": duration_s,
            "energy_j": np.bincount(group, weights=energy.energy_j),
            "uncertainty_j": np.bincount(group, weights=energy.uncertainty_j),
            "coverage": np.divide(covered_s, duration_s, out=np.full(len(duration_s), np.nan), where=duration_s > 0),
        }
    )


def _rest(whole: pd.DataFrame, parts: pd.DataFrame) -> pd.DataFrame:
    """What the whole run used beside its parts; unknown where one of them is."""
    left = whole[["duration_s", "energy_j"]] - parts[["duration_s", "energy_j"]].sum(skipna=False)
    uncertainty_j = whole["uncertainty_j"] + parts["uncertainty_j"].sum(skipna=False)
    coverage = left["energy_j"].where(left["energy_j"].isna(), 1.0)
    return left.assign(windows=0, uncertainty_j=uncertainty_j, coverage=coverage, phase=BETWEEN, step=-1)
