"""Findings: plain sentences with figures, each computed from the tables."""

import pandas as pd

from reports.formatting import (
    format_bytes,
    format_count,
    format_factor,
    format_flops,
    format_intensity,
    format_joules,
    format_ratio,
    format_seconds,
    shorten,
)
from reports.frames import ratio
from reports.subject import UNNAMED_DEVICE
from reports.tables import Tables

# Phases with a smaller share of a subject's bound are set-up work and get no sentence.
_MAIN_SHARE = 0.02
_SHOWN_NAMES = 8
_SHOWN_KINDS = 4
_NAME_LIMIT = 60


def phase_findings(tables: Tables) -> tuple[str, ...]:
    """One sentence per subject and main phase: intensity, what binds it, and what its bytes are.

    A subject whose phases have no names of their own gets one sentence as a whole.
    """
    phases = tables.phases
    share = phases["bound_s"] / phases.groupby("subject")["bound_s"].transform("sum")
    named = phases[(share >= _MAIN_SHARE) & ~phases["phase"].str.startswith("(")]
    sentences = []
    for _, whole in tables.summary.iterrows():
        rows = named[named["subject"] == whole["subject"]]
        sentences += [_phase_sentence(row) for _, row in rows.iterrows()]
        if not len(rows):
            sentences.append(_intensity_sentence(f"{whole['subject']} as a whole", whole, whole["bytes"]))
    return tuple(sentences)


def _phase_sentence(row: pd.Series) -> str:
    step = "step" if row["steps"] > 1 else "phase"
    return _intensity_sentence(f"One {row['phase']} {step} of {row['subject']}", row, row["bytes_per_step"])


def _intensity_sentence(what: str, row: pd.Series, moved_bytes: float) -> str:
    inside = f"one {what.removeprefix('One ')}" if what.startswith("One ") else what
    if pd.isna(row["intensity"]) and pd.isna(moved_bytes):
        return f"Nothing is known of the FLOPs and bytes of {inside}."
    sentence = f"{what} has {format_intensity(row['intensity'])} on {row['chip']}: {bound_text(str(row['bound_by']))}; "
    if row["unknown_calls"] > 0:
        known = f"{format_count(row['calls'] - row['unknown_calls'])} of {format_count(row['calls'])} calls"
        sentence = f"What is known of {inside}, {known}," + sentence.removeprefix(what)
    if row["origin"].startswith("import"):
        return f"{sentence}it moves {format_bytes(moved_bytes)} (the trace does not record which bytes are weights)."
    sentence += f"weights are {format_ratio(row['weights_share'])} of its {format_bytes(moved_bytes)}"
    if row["kv_cache_share"] > 0:
        sentence += f", the KV cache {format_ratio(row['kv_cache_share'])}"
    return f"{sentence}."


def bound_text(bound_by: str) -> str:
    """What binds, in words.

    >>> bound_text("compute"), bound_text("hbm")
    ('compute-bound', 'memory-bound (hbm)')
    """
    words = {
        "compute": "compute-bound",
        "vector": "compute-bound (vector units)",
        "none": "nothing takes time",
        "unknown": "its bound is unknown",
    }
    return words.get(bound_by, f"memory-bound ({bound_by})")


def paradigm_findings(tables: Tables) -> tuple[str, ...]:
    """How one token and one forward of diffusion compare with those of autoregressive decoding, on each chip."""
    sentences: list[str] = []
    for chip, group in tables.summary.groupby("chip", sort=False):
        pairs = [
            group[(group["paradigm"] == name) & group["tokens"].notna()] for name in ("autoregressive", "diffusion")
        ]
        if all(len(rows) for rows in pairs):
            sentences += _pair_sentences(str(chip), pairs[0].iloc[0], pairs[1].iloc[0])
    return tuple(sentences)


def _pair_sentences(chip: str, autoregressive: pd.Series, diffusion: pd.Series) -> list[str]:
    sentences = []
    times = [ratio(row["simulated_s"], row["tokens"]) for row in (autoregressive, diffusion)]
    if None not in times:
        text = (
            f"Per generated token on {chip}, simulated: {diffusion['subject']} takes {format_seconds(times[1])}; "
            f"{autoregressive['subject']} takes {format_seconds(times[0])} (diffusion over autoregressive: "
            f"{format_factor(ratio(times[1], times[0]))})"
        )
        joules = [row["j_per_token"] for row in (autoregressive, diffusion)]
        if not any(pd.isna(each) for each in joules):
            text += f", with {format_joules(joules[1])} against {format_joules(joules[0])}"
        sentences.append(f"{text}.")
    flops = [ratio(row["flops"], row["nfe"]) for row in (autoregressive, diffusion)]
    if None not in flops:
        sentences.append(
            f"One network evaluation costs {format_flops(flops[1])} in {diffusion['subject']} and "
            f"{format_flops(flops[0])} on average in {autoregressive['subject']}, which generate "
            f"{ratio(diffusion['tokens'], diffusion['nfe']):.3g} and "
            f"{ratio(autoregressive['tokens'], autoregressive['nfe']):.3g} tokens with each."
        )
    return sentences


def measured_findings(tables: Tables) -> tuple[str, ...]:
    """What was measured, beside what was simulated for the same chip and the bound."""
    sentences = []
    for _, row in tables.summary[tables.summary["measured_s"].notna()].iterrows():
        text = f"{row['subject']} was measured at {format_seconds(row['measured_s'])} on {row['measured_on']}"
        if not row["measured_here"]:
            is_not = "which may not be" if row["measured_on"] == UNNAMED_DEVICE else "which is not"
            sentences.append(f"{text}, {is_not} {row['chip']}, the chip that it is held against here.")
            continue
        if row["unknown_calls"] > 0 or pd.isna(row["efficiency"]):
            sentences.append(
                f"{text}; {format_count(row['unknown_calls'])} of its {format_count(row['calls'])} calls have unknown "
                "FLOPs or bytes, so neither its bound nor its simulation compares with that."
            )
            continue
        text += f", where the roofline of {row['chip']} needs {format_ratio(row['efficiency'])} of that time"
        if not pd.isna(row["simulated_s"]):
            factor = ratio(row["simulated_s"], row["measured_s"])
            text += (
                f"; simulated in {row['mode']} mode it takes {format_seconds(row['simulated_s'])} "
                f"({format_factor(factor)} the measured)"
            )
        sentences.append(f"{text}.{_gap(tables, str(row['subject']))}")
    return tuple(sentences)


def _gap(tables: Tables, subject: str) -> str:
    """Which kinds of operation the time above the bound is of, the most first; empty where there is none."""
    points = tables.points[(tables.points["subject"] == subject) & (tables.points["grouping"] == "kind")]
    times = points.pivot_table(index="label", columns="basis", values="duration_s", aggfunc="sum")
    above_s = (times["measured"] - times["bound"]).sort_values(ascending=False, kind="stable")
    total_s = float(above_s.sum())
    if not total_s > 0:
        return ""
    shares = (f"{kind} {format_ratio(gap_s / total_s)}" for kind, gap_s in above_s.items() if gap_s > 0)
    return f" Of the {format_seconds(total_s)} above the roofline: {', '.join(list(shares)[:_SHOWN_KINDS])}."


def unknown_findings(tables: Tables) -> tuple[str, ...]:
    """What nobody knows, named; and how many kernels stay unexplained."""
    sentences = []
    for subject, rows in tables.unknown.groupby("subject", sort=False):
        names = [shorten(name, _NAME_LIMIT) for name in dict.fromkeys(rows["label"])]
        shown = ", ".join(names[:_SHOWN_NAMES]) + (
            f" and {len(names) - _SHOWN_NAMES} more" if names[_SHOWN_NAMES:] else ""
        )
        sentences.append(
            f"{subject}: {format_count(rows['calls'].sum())} calls of {len(names)} operations have unknown FLOPs or "
            f"bytes, so totals and bounds leave them out: {shown}."
        )
    if not len(tables.unknown):
        sentences.append("Every operation of every trace has known FLOPs and bytes.")
    for _, row in tables.kernel_totals.iterrows():
        sentences.append(_kernels_sentence(row))
        if copies := host_copies_text(row["host_copy_count"], row["host_copy_s"], row["busy_s"]):
            sentences.append(f"{row['subject']}: {copies}.")
    return tuple(sentences)


def host_copies_text(count: int, copies_s: float | None, whole_s: float | None) -> str:
    """What to know of copies between host and device, empty where they are a hundredth of the whole time or less."""
    if not (copies_s and whole_s and copies_s > 0.01 * whole_s):
        return ""
    return (
        f"copies between host and device ({format_count(count)}) took {format_seconds(copies_s)}; their bound is that "
        "of the device's memory alone, since no chip file holds the link to the host"
    )


def _kernels_sentence(row: pd.Series) -> str:
    """How many kernels there are, and how long they took as far as that is known."""
    kernels = f"{row['subject']}: {format_count(row['kernel_count'])} kernels"
    unexplained = f"{format_count(row['unexplained_count'])} of them"
    if pd.isna(row["kernel_s"]):
        return f"{kernels} of unknown times; {unexplained} are explained by no operation."
    text = f"{kernels} took {format_seconds(row['kernel_s'])}"
    if not pd.isna(row["busy_s"]):
        text += f" and kept the device busy for {format_seconds(row['busy_s'])} with the copies"
    text += f"; {unexplained} ({format_seconds(row['unexplained_s'])}) are explained by no operation."
    if pd.isna(row["gemm_explained_ratio"]):
        return text
    share = format_ratio(row["gemm_explained_ratio"])
    return f"{text} Operations with shapes and FLOPs explain {share} of the time of GEMM kernels."


def band_findings(tables: Tables) -> tuple[str, ...]:
    """How far simulated figures may be trusted."""
    sentences = []
    simulated = tables.summary[tables.summary["simulated_s"].notna()]
    for band in dict.fromkeys(simulated["band"].astype(str)):
        rows = simulated[simulated["band"] == band]
        if band:
            subjects = "all programs" if len(rows) == len(tables.summary) else ", ".join(rows["subject"])
            sentences.append(f"Simulated times of {subjects} carry {band}.")
    is_empty = simulated["unknown_calls"] == simulated["calls"]  # a simulation of launches alone
    for _, row in simulated[simulated["simulated_low_s"].notna() & ~is_empty].iterrows():
        low, high = format_seconds(row["simulated_low_s"]), format_seconds(row["simulated_high_s"])
        text = f"{row['subject']}: simulated {format_seconds(row['simulated_s'])}, between {low} and {high}"
        if row["unknown_calls"] > 0:
            text += f", without what is unknown of {format_count(row['unknown_calls'])} calls"
        sentences.append(f"{text}.")
    return tuple(sentences)
