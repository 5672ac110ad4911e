"""`Knob` and `Template`: what a chip template offers, and how a file of this folder becomes one."""

import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

import explorer.templates
from explorer.errors import ExplorationError
from explorer.hardware import FloatArray, Hardware, TextArray
from explorer.technology import Technology

Columns = Mapping[str, NDArray[Any]]
Reasons = tuple[tuple[str, NDArray[np.bool_]], ...]


@dataclass(frozen=True, slots=True)
class Knob:
    """A parameter of a template.

    Attributes:
        name: key in a space file.
        default: its value where a space does not vary it.
        unit: of it, empty for a count or a ratio.
        meaning: one line.
    """

    name: str
    default: float | str
    unit: str
    meaning: str

    @property
    def may_be_zero(self) -> bool:
        """Whether a chip can do without."""
        return self.default == 0 or self.name in ("fp64_lanes", "l2_mib", "link_gb_per_s", "spare_ratio")

    @property
    def is_count(self) -> bool:
        """Whether it counts things, of which there are whole numbers only."""
        return isinstance(self.default, int) and not self.unit


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """A kind of chip.

    Attributes:
        name: the file's name.
        title: one line.
        constants_of: the shipped chip whose kernel constants its designs take; empty for none.
        constants: further constants (name, value) that its designs take.
        knobs: its parameters.
        hardware: from columns of knobs, [D], to what they build.
        dead: from columns of knobs to (reason, which designs cannot be built for it).
    """

    name: str
    title: str
    constants_of: str
    constants: tuple[tuple[str, float], ...]
    knobs: tuple[Knob, ...]
    hardware: Callable[[Columns, Technology], Hardware]
    dead: Callable[[Columns], Reasons]

    def fill(self, given: Columns, count: int = 1) -> dict[str, NDArray[Any]]:
        """Columns of every knob, [D]: those given, and the defaults.

        Args:
            given: columns of some knobs.
            count: how many designs, where none is given.

        Raises:
            ExplorationError: a knob that the template does not have, or a value of the wrong kind.
        """
        known = {knob.name: knob for knob in self.knobs}
        lengths = {len(column) for column in given.values()}
        count = lengths.pop() if lengths else count
        for name, column in given.items():
            if name == "name":
                continue
            if name not in known:
                near = get_close_matches(name, known, n=1)
                hint = f"did you mean {near[0]!r}? " if near else ""
                raise ExplorationError(
                    f"template {self.name}: unknown parameter {name!r}; {hint}known: {', '.join(known)}"
                )
            is_text = isinstance(known[name].default, str)
            if is_text != (np.asarray(column).dtype.kind in "UO"):
                kind = "text" if is_text else "a number"
                raise ExplorationError(f"template {self.name}: {name} must be {kind}, got {column[0]!r}")
        filled = {knob.name: np.asarray(given.get(knob.name, np.full(count, knob.default))) for knob in self.knobs}
        names = given.get("name", np.array([f"design-{i}" for i in range(count)]))
        return {**filled, "name": np.asarray(names)}


def list_templates() -> tuple[str, ...]:
    """Names of the templates: the files of this folder."""
    names = (module.name for module in pkgutil.iter_modules(explorer.templates.__path__))
    return tuple(sorted(name for name in names if name != "template"))


def load_template(name: str) -> Template:
    """A template by name.

    Raises:
        ExplorationError: there is none of that name.
    """
    if name not in list_templates():
        raise ExplorationError(f"unknown template {name!r}; known: {', '.join(list_templates())}")
    module = import_module(f"explorer.templates.{name}")
    return Template(
        name=name,
        title=module.TITLE,
        constants_of=module.CONSTANTS_OF,
        constants=module.CONSTANTS,
        knobs=module.KNOBS,
        hardware=module.hardware,
        dead=module.dead,
    )


def numbers(values: Columns, name: str) -> FloatArray:
    """A knob's column as numbers, [D]."""
    return np.asarray(values[name], dtype=np.float64)


def texts(values: Columns, name: str) -> TextArray:
    """A knob's column as text, [D]."""
    return np.asarray(values[name], dtype=np.str_)
