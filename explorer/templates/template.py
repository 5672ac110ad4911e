"""`Knob` and `Template`: what a chip template offers, and how a file of this folder becomes one."""

import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

import explorer.templates
from explorer.errors import ExplorationError
from explorer.hardware import FloatArray, Hardware, TextArray
from explorer.technology import Technology
from roofline.chipfile import load_donor
from workloads.hints import known_names

Columns = Mapping[str, NDArray[Any]]
KIB, MIB = 2.0**10, 2.0**20
# Columns of `Hardware` that a template leaves at 0 where it has no such thing.
_ABSENT = (
    *("spare_cores", "fp64_lanes", "register_bytes", "l1_bytes", "spare_l2_bytes", "llc_bytes"),
    *("dram_stacks", "spare_stacks", "launch_s"),
)
_MOST = {"GHz": 20.0, "GB/s": 1e6, "MiB": 1e6, "KiB": 1e5, "us": 1e5, "bytes/clock": 1e7}
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
    def most(self) -> float:
        """More than any chip has, so that a figure beyond it is in another unit: 1.8e9 for a clock in GHz."""
        return _MOST.get(self.unit, float("inf"))

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
                raise ExplorationError(f"template {self.name}: unknown parameter {name!r}; {known_names(name, known)}")
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


def load_template(name: str, constants_of: str | None = None) -> Template:
    """A template by name.

    Args:
        name: of the template.
        constants_of: the shipped chip or the family whose kernel constants its designs take; empty for none, None for
            what the template says. A template whose designs launch kernels as that chip does takes its launch too.

    Raises:
        ExplorationError: there is none of that name.
        ChipError: no such chip or family has constants.
    """
    if name not in list_templates():
        raise ExplorationError(f"unknown template {name!r}; {known_names(name, list_templates())}")
    module = import_module(f"explorer.templates.{name}")
    asked = module.CONSTANTS_OF if constants_of is None else constants_of
    donor = load_donor(asked) if asked else None
    launch_s = getattr(module, "LAUNCH_S", None)
    return Template(
        name=name,
        title=module.TITLE,
        constants_of="" if donor is None else donor.name,
        constants=module.CONSTANTS,
        knobs=module.KNOBS,
        hardware=module.hardware
        if launch_s is None
        else partial(_launched, module.hardware, launch_s if donor is None else donor.launch_s),
        dead=module.dead,
    )


def _launched(
    build: Callable[[Columns, Technology], Hardware], launch_s: float, values: Columns, technology: Technology
) -> Hardware:
    hardware = build(values, technology)
    return replace(hardware, launch_s=np.full(len(hardware), launch_s))


def common_columns(values: Columns) -> dict[str, NDArray[Any]]:
    """Columns of `Hardware` that all templates make alike from knobs of the same names, [D] each; else 0."""
    zero = np.zeros(len(values["name"]))
    return {
        **dict.fromkeys(_ABSENT, zero),
        "name": texts(values, "name"),
        "node": texts(values, "node"),
        "clock_hz": 1e9 * numbers(values, "clock_ghz"),
        **{name: numbers(values, name) for name in ("vector_lanes", "special_lanes", "sampler_lanes")},
        "link_bytes_per_s": 1e9 * numbers(values, "link_gb_per_s"),
        "host_dispatch_s": 1e-6 * numbers(values, "host_dispatch_us"),
    }


def memory_columns(values: Columns, technology: Technology) -> dict[str, NDArray[Any]]:
    """Columns of chips with cores, dies and stacks of DRAM, [D] each."""
    dram, stacks = texts(values, "dram"), numbers(values, "stacks")
    kinds = technology.dram_rows(dram)
    return {
        "cores": numbers(values, "cores"),
        "compute_dies": numbers(values, "compute_dies"),
        "register_bytes": KIB * numbers(values, "register_kib"),
        "dram": dram,
        "dram_stacks": stacks,
        "dram_bytes": stacks * technology.dram_figure("capacity_bytes", kinds),
        "dram_bytes_per_s": stacks * technology.dram_figure("bytes_per_s", kinds),
    }


def array_columns(values: Columns) -> dict[str, NDArray[Any]]:
    """Columns of chips whose cores have systolic arrays, [D] each."""
    arrays, rows, columns = (numbers(values, name) for name in ("arrays", "array_rows", "array_columns"))
    return {
        "matrix_macs": arrays * rows * columns,
        "matrix_units": arrays,
        "array_rows": rows,
        "array_columns": columns,
    }


def dead_memory(values: Columns) -> Reasons:
    """What cannot be built of cores, dies and stacks of DRAM, and why."""
    cores, dies = numbers(values, "cores"), numbers(values, "compute_dies")
    return (
        ("cores is no multiple of compute_dies", np.mod(cores, np.maximum(dies, 1.0)) != 0),
        ("dram is none: weights have nowhere to be; take the template dataflow", texts(values, "dram") == "none"),
    )


def numbers(values: Columns, name: str) -> FloatArray:
    """A knob's column as numbers, [D]."""
    return np.asarray(values[name], dtype=np.float64)


def texts(values: Columns, name: str) -> TextArray:
    """A knob's column as text, [D]."""
    return np.asarray(values[name], dtype=np.str_)
