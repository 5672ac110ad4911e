"""The claims of the literature, each with a verdict and the sentences that bear it, all from the study's figures."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import answers
import evidence

from reports.formatting import format_count, format_factor, format_number, format_ratio

_MOST = 0.5  # of the designs: more than that, and "most" of them do
HOLDS, PARTLY, FAILS = "holds", "holds in part", "does not hold"
Row = dict[str, object]


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What is claimed, whether it is so, and why.

    Attributes:
        claim: in a sentence.
        verdict: `holds`, `holds in part` or `does not hold`.
        reasons: sentences with their figures.
    """

    claim: str
    verdict: str
    reasons: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """All of it in one paragraph."""
        return f"\u201c{self.claim}\u201d {self.verdict.capitalize()}. {' '.join(self.reasons)}"


def claims(found: answers.Answers) -> list[Claim]:
    """All claims, in the order of the report."""
    return [autoregression(found), denoising(found), drift(found), steps(found)]


def autoregression(found: answers.Answers) -> Claim:
    """Memory binds decoding whatever the chip: over batches, contexts and experts."""
    rows = series(found, evidence.DENSE_AR, evidence.BATCH)
    first = rows[0]
    reasons = [
        f"At batch {format_count(first['batch'])} memory binds most of the time on "
        f"{format_ratio(first['memory_designs'])} of the designs and compute on "
        f"{format_ratio(first['compute_designs'])}; on the others cores wait for operands on the chip or latencies. "
        f"With kernels at the peaks of every design memory would bind on {format_ratio(first['roofline_designs'])}."
    ]
    ends = next((row for row in rows if row["memory_designs"] <= _MOST), None)
    if ends is not None:
        reasons.append(f"From batch {format_count(ends['batch'])} on memory no longer binds on most designs")
        computes = next((row for row in rows if row["compute_designs"] > _MOST), None)
        reasons[-1] += (
            "." if computes is None else f", and from batch {format_count(computes['batch'])} on compute does."
        )
    ideal = next((row for row in rows if row["roofline_designs"] <= _MOST), None)
    if ideal is not None:
        reasons.append(f"With such kernels that comes at batch {format_count(ideal['batch'])}.")
    experts = series(found, evidence.EXPERTS_AR, evidence.BATCH)
    if experts:
        reasons.append(_at_most(experts, "In a network of experts"))
    long = series(found, evidence.DENSE_AR, evidence.CONTEXT)
    if long:
        reasons.append(_over_contexts(long))
    is_bound = [row["memory_designs"] > _MOST for row in rows]
    return Claim(
        claim="Autoregressive decoding is bound by memory, whatever the chip.",
        verdict=HOLDS if all(is_bound) else PARTLY if is_bound[0] else FAILS,
        reasons=tuple(reasons),
    )


def denoising(found: answers.Answers) -> Claim:
    """Compute binds denoising: the workloads of the space, and blocks of dense models and of experts."""
    rows = [row for row in found.bound if row["designs"] and row["paradigm"] != "autoregressive"]
    computes = [row for row in rows if row["compute_designs"] > _MOST]
    others = [row for row in rows if row not in computes]
    reasons = [
        f"Compute binds most of the time on most designs in {format_count(len(computes))} of "
        f"{format_count(len(rows))} denoising workloads ({listed([str(row['workload']) for row in computes])})."
    ]
    if others:
        told = [
            f"{row['workload']} (memory on {format_ratio(row['bound_designs'])}, compute on "
            f"{format_ratio(row['compute_designs'])} of the designs)"
            for row in others
        ]
        reasons.append(f"Not in {listed(told)}.")
    experts = series(found, evidence.EXPERTS_BLOCK, evidence.BATCH)
    dense = {row["batch"]: row for row in series(found, evidence.DENSE_BLOCK, evidence.BATCH)}
    for row in experts[-1:]:
        reasons.append(
            f"Blocks of a network of experts reach more weights with every token: at batch "
            f"{format_count(row['batch'])} memory still binds on {format_ratio(row['memory_designs'])} of the designs, "
            f"where it binds a dense network on {format_ratio(dense[row['batch']]['memory_designs'])}."
        )
    long = series(found, evidence.DENSE_BLOCK, evidence.CONTEXT)
    if long:
        reasons.append(_over_contexts(long))
    verdict = HOLDS if len(computes) == len(rows) else PARTLY if computes else FAILS
    return Claim(claim="Denoising reaches the regime that compute binds.", verdict=verdict, reasons=tuple(reasons))


def drift(found: answers.Answers) -> Claim:
    """GPUs have moved toward what autoregression asks for: FLOPs per byte, and both kinds of work against the best."""
    first, last = found.gpus[0], found.gpus[-1]
    fastest = {row["for"]: row for row in found.best if row["objective"] == answers.OBJECTIVES[0]}
    ridges = [f"{row['chip']} {format_number(row['ridge'])}" for row in found.gpus]
    reasons = [
        f"FLOPs per byte of bandwidth: {listed(ridges)}; the fastest design for autoregression has "
        f"{format_number(fastest['autoregression']['ridge'])}, that for denoising "
        f"{format_number(fastest['denoising']['ridge'])}.",
        f"From {first['chip']} to {last['chip']} autoregression became "
        f"{format_factor(found.gpu_gains['autoregression'])} as fast and denoising "
        f"{format_factor(found.gpu_gains['denoising'])}, over the workloads that both hold.",
    ]
    falls = [later["ridge"] < former["ridge"] for former, later in pairwise(found.gpus)]
    favors = found.gpu_gains["autoregression"] > found.gpu_gains["denoising"]
    toward = [last["ridge"] < first["ridge"], favors]
    verdict = HOLDS if all(toward) else PARTLY if any(toward) else FAILS
    if any(falls) and not all(falls):
        steps_down = [
            f"{former['chip']} to {later['chip']}"
            for (former, later), falling in zip(pairwise(found.gpus), falls, strict=True)
            if falling
        ]
        reasons.append(f"FLOPs per byte fell from {listed(steps_down)} alone.")
    return Claim(claim="GPUs have drifted toward autoregression.", verdict=verdict, reasons=tuple(reasons))


def steps(found: answers.Answers) -> Claim:
    """Fewer steps cost less and score less; caches and thresholds cost less and score nearly the same."""
    rows = {str(row["workload"]): row for row in found.quality}
    base = found.quality[0]
    reasons = [
        f"{name} takes {format_ratio(row['h100_part'])} of the time of {base['workload']} on an H100 and is published "
        f"at {format_ratio(row['quality'])}, that at {format_ratio(base['quality'])}{_of_series(row, base)}."
        for name, row in rows.items()
        if row is not base
    ]
    cheaper = [row for row in found.quality[1:] if row["h100_s"] < base["h100_s"]]
    worse = [row for row in cheaper if base["quality"] - row["quality"] > answers.SAME_QUALITY]
    verdict = HOLDS if len(worse) == len(cheaper) else PARTLY if worse else FAILS
    if verdict == PARTLY:
        reasons.append("What a cache saves costs next to no quality; what fewer steps save does.")
    return Claim(claim="Steps buy quality.", verdict=verdict, reasons=tuple(reasons))


def _of_series(row: Row, base: Row) -> str:
    same = str(row["source"]).partition(",")[0] == str(base["source"]).partition(",")[0]
    return "" if same else " (of another series of measurements)"


def series(found: answers.Answers, name: str, axis: str) -> list[Row]:
    """Steps of one series that some design holds, in order."""
    return [row for row in found.steps if row["series"] == name and row["axis"] == axis and row["designs"]]


def _at_most(rows: Sequence[Row], what: str) -> str:
    first, last = rows[0], rows[-1]
    return (
        f"{what} memory binds on {format_ratio(first['memory_designs'])} of the designs at batch "
        f"{format_count(first['batch'])}, where latencies come first, and on "
        f"{format_ratio(last['memory_designs'])} at batch {format_count(last['batch'])}."
        if first["memory_designs"] < last["memory_designs"]
        else f"{what} memory binds on {format_ratio(first['memory_designs'])} of the designs at batch "
        f"{format_count(first['batch'])} and on {format_ratio(last['memory_designs'])} at batch "
        f"{format_count(last['batch'])}."
    )


def _over_contexts(rows: Sequence[Row]) -> str:
    """Memory's part at the shortest and the longest context, with today's kernels and at the roofline."""
    first, last = rows[0], rows[-1]
    ideal = f"{format_ratio(first['roofline_designs'])} and {format_ratio(last['roofline_designs'])}"
    told = (
        f"On the {format_count(last['designs'])} designs that hold {format_count(last['batch'])} sequences of "
        f"{format_count(last['context'])} tokens, memory binds on {format_ratio(first['memory_designs'])} with "
        f"{format_count(first['context'])} tokens and on {format_ratio(last['memory_designs'])} with all of them; with "
        f"kernels at the peaks on {ideal}."
    )
    if last["memory_designs"] >= last["roofline_designs"] - _MOST:
        return told
    return (
        f"{told} The kernels are those of an H100: on faster memory the rows of an attention tile, few of them filled, "
        "bind instead, which kernels made for such a chip would avoid."
    )


def listed(texts: Sequence[str]) -> str:
    """Texts as a list in a sentence.

    >>> listed(["a", "b", "c"])
    'a, b and c'
    """
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}"
