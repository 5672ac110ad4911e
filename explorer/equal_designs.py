"""Two designs made equal: one knob of the second is scaled until both take the same area, power or bill."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from explorer.area import die_area
from explorer.designs import Design, Judged, build, find_knob, judge
from explorer.errors import ExplorationError
from explorer.evaluator import Evaluator
from explorer.hardware import FloatArray, Hardware
from explorer.package import package_of
from explorer.technology import Technology

EQUAL: Mapping[str, str] = {"area": "mm2 of compute dies", "power": "W of TDP", "bill": "US$ of materials"}
_FIGURES = {"area": "area_mm2", "power": "tdp_w", "bill": "bill_usd"}
_RANGE = 16  # values up to so many times the present one or the template's are tried
_STEPS_PER_UNIT = 100  # knobs that are no whole numbers are scaled in hundredths
_SLACK = 0.005  # an end of the range that is so near counts as reached
_MOST_DIE_MM2 = 20_000.0  # no larger die is tried: a wafer of 300 mm yields three of them


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scaled:
    """What was scaled to make two designs equal.

    Attributes:
        knob: of the second design.
        before: its value as given.
        after: its value when scaled.
        equal: `area`, `power` or `bill`.
        target: what the first design takes.
        reached: what the second takes after scaling: as near as a step of the knob allows.
    """

    knob: str
    before: float
    after: float
    equal: str
    target: float
    reached: float

    @property
    def residual(self) -> float:
        """How far the two still are apart, reached over target, less one."""
        return self.reached / self.target - 1.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EqualDesigns:
    """Two designs, and what each workload costs on both; columns of `judged` are A and B.

    Attributes:
        a: the first design.
        b: the second as scaled.
        scaled: what was scaled, None where both are taken as given.
        judged: figures of both, D = 2.
    """

    a: Design
    b: Design
    scaled: Scaled | None
    judged: Judged


def match(a: Design, b: Design, evaluator: Evaluator, *, equal: str, knob: str) -> tuple[Design, Design, Scaled | None]:
    """Scale a knob of B until it takes what A takes.

    Args:
        a: the design that stays as it is.
        b: the one that is scaled; a known chip has no knobs and cannot be.
        evaluator: of the space; its workloads do not matter.
        equal: `area`, `power`, `bill`, or `none` to take both as given.
        knob: of B, what to scale.

    Returns:
        (A, B as scaled, what was scaled; None where both are taken as given).

    Raises:
        ExplorationError: unknown words, or no value of the knob makes them equal.
    """
    if equal not in (*EQUAL, "none"):
        raise ExplorationError(f"unknown {equal!r}: designs are made equal in {', '.join(EQUAL)}, or none")
    if equal == "none":
        return a, b, None
    scaled = scale_to(b, evaluator, target=taken(a.hardware, evaluator.technology, equal), equal=equal, knob=knob)
    assert b.knobs is not None
    knobs = {**b.knobs, knob: scaled.after}
    label = f"{b.label}; {knob} scaled to {scaled.after:g}"
    return a, Design(label=label, knobs=knobs, hardware=build((knobs,), evaluator)), scaled


def compare(a: Design, b: Design, scaled: Scaled | None, evaluator: Evaluator) -> EqualDesigns:
    """Cost every workload on both designs."""
    pairs = {name: (getattr(a.hardware, name), getattr(b.hardware, name)) for name in Hardware.__slots__}
    both = Hardware(**{name: np.concatenate(pair) for name, pair in pairs.items()})
    return EqualDesigns(a=a, b=b, scaled=scaled, judged=judge(both, evaluator))


def scale_to(design: Design, evaluator: Evaluator, *, target: FloatArray, equal: str, knob: str) -> Scaled:
    """The value of a knob that brings a design nearest to a target, in ratio; every value in reach is tried at once.

    Args:
        design: by its knobs; a known chip has none.
        evaluator: whose template and technology it is built with.
        target: what the design is to take, one value, in the unit of `EQUAL[equal]`.
        equal: a key of `EQUAL`.
        knob: what is scaled; its default must be a number.

    Raises:
        ExplorationError: the knob cannot be scaled, does not change what is made equal, or no value in reach does it.
    """
    if design.knobs is None:
        raise ExplorationError(
            f"{design.label} is a known chip, whose {knob} cannot be scaled; give B by its knobs, or compare with none"
        )
    default = find_knob(evaluator.template, knob).default
    if isinstance(default, str):
        raise ExplorationError(f"{knob} is a name and cannot be scaled; choose a knob that is a number")
    before = float(design.knobs.get(knob, default))
    tried = _values(default, before)
    hardware, tried = _buildable(design, evaluator, knob, tried)
    found = taken(hardware, evaluator.technology, equal)
    unit, wanted = EQUAL[equal], float(target[0])
    if found.max() <= found.min() * (1 + 1e-9):
        raise ExplorationError(f"scaling {knob} does not change {unit} of {design.label}")
    row = int(np.argmin(np.abs(np.log(found / wanted))))
    if not found.min() / (1 + _SLACK) <= wanted <= found.max() * (1 + _SLACK):
        raise ExplorationError(
            f"no {knob} from {tried.min():g} to {tried.max():g} brings {design.label} to {wanted:.4g} {unit}; "
            f"the nearest, {tried[row]:g}, takes {found[row]:.4g}"
        )
    return Scaled(
        knob=knob, before=before, after=float(tried[row]), equal=equal, target=wanted, reached=float(found[row])
    )


def taken(hardware: Hardware, technology: Technology, equal: str) -> FloatArray:
    """What designs take of what is made equal, [D]."""
    return package_of(hardware, technology).figures()[_FIGURES[equal]]


def _values(default: float, before: float) -> FloatArray:
    """Values to try: whole numbers, or hundredths of a knob that is none."""
    step = 1.0 if isinstance(default, int) else 1.0 / _STEPS_PER_UNIT
    return step * np.arange(1.0, np.ceil(_RANGE * max(default, before) / step) + 1.0)


def _buildable(design: Design, evaluator: Evaluator, knob: str, tried: FloatArray) -> tuple[Hardware, FloatArray]:
    """Designs with each value that can be built, and those values."""
    assert design.knobs is not None
    columns = {name: np.full(len(tried), value) for name, value in design.knobs.items()} | {knob: tried}
    filled = evaluator.template.fill(columns)
    alive = np.ones(len(tried), dtype=np.bool_)
    for _, holds in evaluator.template.dead(filled):
        alive &= ~holds
    hardware = evaluator.template.hardware(
        {name: column[alive] for name, column in filled.items()}, evaluator.technology
    )
    small = die_area(hardware, evaluator.technology).die_mm2 < _MOST_DIE_MM2
    if not small.any():
        raise ExplorationError(f"no {knob} up to {tried.max():g} makes a design of {design.label} that can be built")
    return hardware.take(np.flatnonzero(small)), tried[alive][small]
