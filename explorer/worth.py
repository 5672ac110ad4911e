"""What a change of a design buys each workload: one more stack of memory, 20 % more matrix units, a sampling unit."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from explorer.designs import Design, Judged, Knobs, build, find_knob, judge, knob_value
from explorer.errors import ExplorationError
from explorer.evaluator import Evaluator
from explorer.hardware import FloatArray
from explorer.parameters import ParameterSpace
from explorer.templates.template import Knob, Template

_MORE = 1.2  # 20 % more of what comes in small parts
_SAMPLER_LANES = 32.0  # of a sampling unit where the space names none, as in the space of the denoising chip
_CACHES = ("l2_mib", "scratchpad_mib", "sram_mib")
_MULTIPLES = {"matrix_macs": "matrix_units", "cores": "compute_dies"}  # each must be a whole number of times the other


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One knob of a design set to another value, all else equal.

    Attributes:
        knob: that changes.
        before: its value in the design.
        after: its value when changed.
    """

    knob: str
    before: float | str
    after: float | str

    @property
    def label(self) -> str:
        """As people read it.

        >>> Change(knob="stacks", before=5.0, after=6.0).label
        'stacks 5 to 6'
        """
        shown = [value if isinstance(value, str) else f"{value:g}" for value in (self.before, self.after)]
        return f"{self.knob} {shown[0]} to {shown[1]}"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Worth:
    """What changes of a design are worth.

    Attributes:
        design: around which.
        changes: [C].
        judged: of the design and then of each changed design, D = 1 + C.
    """

    design: Design
    changes: tuple[Change, ...]
    judged: Judged

    def relative(self, figure: str) -> FloatArray:
        """A figure of the changed designs over the design's, less one: [W, C], or [C] of what a design takes."""
        values: FloatArray = getattr(self.judged, figure)
        change: FloatArray = values[..., 1:] / values[..., :1] - 1.0
        return change


def weigh(design: Design, changes: Sequence[Change], evaluator: Evaluator) -> Worth:
    """Cost every workload on a design and on each of its changes.

    Raises:
        ExplorationError: there is no change, or one cannot be built.
    """
    if design.knobs is None:
        raise ExplorationError(f"{design.label} is a known chip, whose knobs cannot be turned; give knobs instead")
    if not changes:
        raise ExplorationError("no change to weigh: give --change stacks+1, or a space that varies something")
    many = [design.knobs, *({**design.knobs, change.knob: change.after} for change in changes)]
    return Worth(design=design, changes=tuple(changes), judged=judge(build(many, evaluator), evaluator))


def read_change(text: str, knobs: Knobs, template: Template) -> Change:
    """A change from `stacks+1`, `matrix_macs*1.2` or `dram=hbm4`.

    >>> from explorer.templates.template import load_template
    >>> read_change("matrix_macs*1.2", {}, load_template("gpu"))
    Change(knob='matrix_macs', before=2048, after=2456.0)

    Raises:
        ExplorationError: another form, an unknown knob, a value that cannot be.
    """
    sign = next((sign for sign in "=*+" if sign in text), "")
    name, _, value = (part.strip() for part in text.partition(sign or "="))
    if not sign or not name or not value:
        raise ExplorationError(f"change {text!r} must be KNOB+AMOUNT, KNOB*FACTOR or KNOB=VALUE, such as stacks+1")
    knob = find_knob(template, name)
    before = knobs.get(name, knob.default)
    if sign == "=":
        after = knob_value(knob, value)
    elif isinstance(before, str):
        raise ExplorationError(f"change {text!r}: {name} is a name; give {name}=VALUE")
    elif sign == "+":
        after = _number(before) + float(knob_value(replace(knob, default=1.0), value))
    else:
        factor = float(knob_value(replace(knob, default=1.0), value))
        after = _more(knob, _number(before), factor, knobs, template)
    if isinstance(after, float) and knob.is_count and after % 1:
        raise ExplorationError(f"change {text!r}: {name} must be a whole number, got {after:g}")
    return Change(knob=name, before=before, after=after)


def usual_changes(knobs: Knobs, template: Template, space: ParameterSpace) -> list[Change]:
    """What architects ask first: a stack, 20 % more matrix units, clock and cores, a step of cache, a sampling unit.

    Then one step up of whatever else the space varies, and the other names of what has names.

    Args:
        knobs: of the design, those that are not the template's defaults.
        template: of the design.
        space: a knob that it varies takes its next value there.
    """
    known = {knob.name: knob for knob in template.knobs}
    values = {name: knobs.get(name, knob.default) for name, knob in known.items()}
    varied = {parameter.name: parameter.values for parameter in space.parameters if parameter.name in known}
    asked: dict[str, list[float | str]] = {}
    if "stacks" in known:
        asked["stacks"] = [_number(values["stacks"]) + 1.0]
    for name in ("matrix_macs" if "matrix_macs" in known else "arrays", "clock_ghz", "cores"):
        if name in known:
            asked[name] = [_more(known[name], _number(values[name]), _MORE, knobs, template)]
    for name in (name for name in _CACHES if name in known):
        present = _number(values[name])
        asked[name] = [next(iter(_next(varied.get(name, ()), present)), _MORE * present)]
    if "sampler_lanes" in known:
        present = _number(values["sampler_lanes"])
        more = max(2 * present, _SAMPLER_LANES)
        asked["sampler_lanes"] = [next(iter(_next(varied.get("sampler_lanes", ()), present)), more)]
    for name, choices in varied.items():
        if isinstance(values[name], str):
            asked[name] = [str(choice) for choice in choices if choice != values[name]]
        elif name not in asked:
            asked[name] = [*_next(choices, _number(values[name]))]
    return [
        Change(knob=name, before=values[name], after=after)
        for name, several in asked.items()
        for after in several
        if after != values[name]
    ]


def _more(knob: Knob, before: float, factor: float, knobs: Knobs, template: Template) -> float:
    """So many times a knob, in the steps that it comes in; at least one step where the factor asks for more."""
    if not isinstance(knob.default, int):
        return before * factor
    divisor = _MULTIPLES.get(knob.name, "")
    defaults = {each.name: each.default for each in template.knobs}
    step = _number(knobs.get(divisor, defaults[divisor])) if divisor in defaults else 1.0
    stepped = float(step * np.round(before * factor / step))
    return stepped if factor <= 1 or stepped > before else before + step


def _next(choices: Sequence[float | str | bool], present: float) -> list[float]:
    """The least value above the present one, if there is any."""
    above = [float(choice) for choice in choices if not isinstance(choice, str) and choice > present]
    return [min(above)] if above else []


def _number(value: float | str) -> float:
    return float(value)
