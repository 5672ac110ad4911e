"""Single designs, by their knobs or as known chips, and what they cost on every workload of a space."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite

import numpy as np

from explorer.errors import ExplorationError
from explorer.evaluate import run_costs
from explorer.evaluator import Evaluator
from explorer.hardware import FloatArray, Hardware
from explorer.known import known_chip
from explorer.package import package_of
from explorer.templates.template import Knob, Template
from workloads.hints import known_names

Knobs = Mapping[str, float | str]
MOSTLY = 0.5  # of the kernels' time: what takes more than that binds a workload


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Design:
    """One design that somebody named.

    Attributes:
        label: as it was given.
        knobs: every knob of the template that is not its default; None for a known chip, which no template made.
        hardware: what stands on the package, one row.
    """

    label: str
    knobs: Knobs | None
    hardware: Hardware


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Judged:
    """What designs take and what each operating point of each workload costs on them.

    Attributes:
        workloads: names, with the operating point where there are several, [W].
        units: `token` or `image`, [W].
        area_mm2: silicon of all compute dies, [D].
        tdp_w: power of a large product, [D].
        bill_usd: bill of materials, [D].
        broken: which limits of the space a design breaks, empty where none, [D].
        seconds: of a unit, [W, D]; NaN where main memory does not hold the workload, here and below.
        joules: of a unit, static power included, [W, D].
        usd_per_million: dollars of a million units, [W, D].
        memory_part: part of the kernels' time in which memory binds, [W, D].
        compute_part: part in which the units do, [W, D].
    """

    workloads: tuple[str, ...]
    units: tuple[str, ...]
    area_mm2: FloatArray
    tdp_w: FloatArray
    bill_usd: FloatArray
    broken: tuple[str, ...]
    seconds: FloatArray
    joules: FloatArray
    usd_per_million: FloatArray
    memory_part: FloatArray
    compute_part: FloatArray


def read_design(text: str, evaluator: Evaluator) -> Design:
    """A design from a known chip's name, or from `cores=132,stacks=5`: the rest is as the space fixes it, or default.

    Raises:
        ExplorationError: an unknown chip or knob, a value that cannot be, a combination that cannot be built.
    """
    if text.strip() and "=" not in text:
        chip = known_chip(text.strip())
        return Design(label=text.strip(), knobs=None, hardware=chip)
    knobs = {**evaluator.fixed, **read_knobs(text, evaluator.template)}
    return Design(
        label=text.strip() or "the design that the space fixes", knobs=knobs, hardware=build((knobs,), evaluator)
    )


def read_knobs(text: str, template: Template) -> dict[str, float | str]:
    """Values of knobs from `cores=132,stacks=5`.

    Raises:
        ExplorationError: a part is no knob with a value, or stands there twice.

    >>> from explorer.templates.template import load_template
    >>> read_knobs("cores=132, dram=hbm4", load_template("gpu"))
    {'cores': 132.0, 'dram': 'hbm4'}
    """
    found: dict[str, float | str] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals:
            raise ExplorationError(f"design: {part!r} must be a knob and its value, such as cores=132")
        if name in found:
            raise ExplorationError(f"design: {name} is given twice")
        found[name] = knob_value(find_knob(template, name), value)
    return found


def find_knob(template: Template, name: str) -> Knob:
    """A knob of a template by name.

    Raises:
        ExplorationError: the template has no such knob.
    """
    known = {knob.name: knob for knob in template.knobs}
    if name not in known:
        raise ExplorationError(f"template {template.name} has no knob {name!r}; {known_names(name, known)}")
    return known[name]


def knob_value(knob: Knob, text: str) -> float | str:
    """The value of a knob from text, checked.

    Raises:
        ExplorationError: it is no number that the knob can take.
    """
    if isinstance(knob.default, str):
        return text
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    least = "at least 0" if knob.may_be_zero else "above 0"
    if not isfinite(value) or value < 0 or (value == 0 and not knob.may_be_zero):
        raise ExplorationError(f"design: {knob.name} must be a finite number {least}, got {text!r}")
    if knob.is_count and value % 1:
        raise ExplorationError(f"design: {knob.name} must be a whole number, got {text!r}")
    if value > knob.most:
        raise ExplorationError(f"design: {knob.name} is in {knob.unit}: at most {knob.most:g}, got {text!r}")
    return value


def build(many: Sequence[Knobs], evaluator: Evaluator) -> Hardware:
    """What designs build, given knobs by knobs, [D].

    Raises:
        ExplorationError: a combination that cannot be built, with the reason.
    """
    names = dict.fromkeys(name for knobs in many for name in knobs)
    defaults = {knob.name: knob.default for knob in evaluator.template.knobs}
    columns = {name: np.array([knobs.get(name, defaults[name]) for knobs in many]) for name in names}
    filled = evaluator.template.fill(columns, len(many))
    for reason, holds in evaluator.template.dead(filled):
        if holds.any():
            shown = ", ".join(f"{name}={value}" for name, value in many[int(np.argmax(holds))].items())
            raise ExplorationError(f"design {shown}: cannot be built: {reason}")
    return evaluator.template.hardware(filled, evaluator.technology)


def judge(hardware: Hardware, evaluator: Evaluator) -> Judged:
    """Area, power, bill, and the cost of every operating point of every workload on designs.

    Limits of the space are looked at but stop nothing: whoever names a design wants to know.
    """
    package = package_of(hardware, evaluator.technology)
    points = [(job.name, label, workload, len(job.points)) for job in evaluator.jobs for label, workload in job.points]
    costs = run_costs(
        [workload for *_, workload, _ in points],
        hardware,
        package.power,
        calibration=evaluator.calibration,
        mode=evaluator.mode,
    )
    units = np.array([workload.units for *_, workload, _ in points])[:, None]
    seconds = costs.run_s / units
    own = package.figures()
    _, parts = evaluator.goals.violation(own)
    return Judged(
        workloads=tuple(f"{name}, {label}" if several > 1 else name for name, label, _, several in points),
        units=tuple(workload.unit for *_, workload, _ in points),
        area_mm2=own["area_mm2"],
        tdp_w=own["tdp_w"],
        bill_usd=own["bill_usd"],
        broken=tuple("; ".join(text for text, excess in parts if excess[d] > 0) for d in range(len(hardware))),
        seconds=seconds,
        joules=costs.run_j / units,
        usd_per_million=package.cost.usd_per_million(1.0 / seconds),
        memory_part=costs.memory_part,
        compute_part=costs.compute_part,
    )


def binds(memory_part: float, compute_part: float) -> str:
    """What takes most of the kernels' time.

    >>> binds(0.9, 0.05), binds(0.2, 0.7), binds(0.4, 0.3), binds(float("nan"), float("nan"))
    ('memory', 'compute', 'latencies', 'does not fit')
    """
    if not isfinite(memory_part):
        return "does not fit"
    if memory_part > MOSTLY:
        return "memory"
    return "compute" if compute_part > MOSTLY else "latencies"
