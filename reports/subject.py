"""`Subject`: one program on one chip, as a report compares them."""

import re
from dataclasses import dataclass
from typing import Literal, get_args

from profiler.traces import Trace
from reports.errors import ReportError
from roofline.chip import Chip
from roofline.chipfile import list_chips, load_chip
from simulator.result import SimulationResult

Paradigm = Literal["autoregressive", "diffusion", "other"]
PARADIGMS: tuple[Paradigm, ...] = get_args(Paradigm)
UNNAMED_DEVICE = "a device that the trace does not name"


# Words that tell variants of one model apart: a chip and a device that differ in one of them are not the same.
_VARIANTS = frozenset({"pcie", "nvl", "sxm", "sxm4", "sxm5", "ti", "super", "laptop"})
_MEMORY_SIZE = re.compile(r"(\d+) ?(GB|GiB)\b")
_MEMORY = re.compile(r" \(\d+ GiB\)$")  # what importers put behind a name that does not tell it


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """One program on one chip.

    Attributes:
        label: unique within a report; what a reader calls it, for example `LLaDA-8B, 1,024 positions`.
        trace: what ran.
        chip: what it is held against.
        paradigm: how it generates.
        simulation: of this trace on this chip, None where nobody simulated it.
        measured_on_chip: whether the trace's measured times were taken on this chip, so that they may stand under its
            roofline; None judges by the name of the device. Other measured times are shown beside the name of the
            device that they belong to.
        tokens: tokens that it generated, None where that means nothing or nobody knows.
        nfe: network evaluations, the prefill counted; None where nobody knows.
        notes: what a reader must know, one sentence each.
    """

    label: str
    trace: Trace
    chip: Chip
    paradigm: Paradigm = "other"
    simulation: SimulationResult | None = None
    measured_on_chip: bool | None = None
    tokens: int | None = None
    nfe: int | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.label:
            raise ReportError("subject: label must not be empty")
        if not len(self.trace.calls):
            raise ReportError(f"subject {self.label!r}: its trace {self.trace.name!r} has no calls")
        if self.paradigm not in PARADIGMS:
            raise ReportError(
                f"subject {self.label!r}: paradigm must be one of {', '.join(PARADIGMS)}, got {self.paradigm!r}"
            )
        for name, value in (("tokens", self.tokens), ("nfe", self.nfe)):
            if value is not None and value < 1:
                raise ReportError(f"subject {self.label!r}: {name} must be >= 1 or None, got {value}")
        if self.simulation is not None:
            self._check_simulation(self.simulation)

    def _check_simulation(self, simulation: SimulationResult) -> None:
        if simulation.chip != self.chip.name:
            raise ReportError(
                f"subject {self.label!r}: simulated on chip {simulation.chip!r}, but its chip is {self.chip.name!r}"
            )
        calls, ops = len(simulation.op), len(simulation.op_kinds)
        if (calls, ops) != (len(self.trace.calls), len(self.trace.ops)):
            raise ReportError(
                f"subject {self.label!r}: the simulation has {calls} calls of {ops} ops, the trace "
                f"{len(self.trace.calls)} of {len(self.trace.ops)}; simulate this trace and this view of it"
            )

    @property
    def is_measured_here(self) -> bool:
        """Whether there are measured times, and of this chip."""
        if not self.trace.is_measured:
            return False
        if self.measured_on_chip is not None:
            return self.measured_on_chip
        return is_same_device(self.trace.provenance.device, self.chip)

    @property
    def measured_on(self) -> str:
        """Device that the measured times belong to, empty where nothing was measured."""
        if not self.trace.is_measured:
            return ""
        return self.trace.provenance.device or UNNAMED_DEVICE


def is_same_device(device: str, chip: Chip) -> bool:
    """Whether the name that a driver gives a device is that of this chip.

    It is where it equals the chip's title (that of a calibrated machine goes on behind the name), or holds the model
    (the parts of the chip's name up to the first with a digit, such as `h100` or `rtx-a6000`) as words, and names no
    variant that the chip's name and title do not name. A name with another size of memory is that of another board.
    """
    named, words, known = _MEMORY.sub("", device).strip(), _words(device), _words(f"{chip.name} {chip.title}")
    if not _may_hold(device, chip.main_memory.capacity_bytes):
        return False
    if named and (chip.title in (device, named) or (chip.is_measured and chip.title.startswith(named))):
        return True
    model = re.match(r"([a-z]+-)*[a-z]*\d[a-z0-9]*", chip.name.lower())
    is_model = model is not None and _words(model[0]) <= words
    return is_model and not (words & _VARIANTS) - known


def _may_hold(device: str, capacity_bytes: float) -> bool:
    """Whether the memory that a device's name tells, if any, is about this capacity; names mix GB and GiB."""
    sizes = [float(size) * (2**30 if unit == "GiB" else 1e9) for size, unit in _MEMORY_SIZE.findall(device)]
    return not sizes or any(abs(size / capacity_bytes - 1.0) < 0.25 for size in sizes)


def chip_of(trace: Trace) -> str | None:
    """The shipped chip that the trace's times or counters belong to, None where it has none or none is that device."""
    if not (trace.is_measured or trace.is_counted):
        return None
    return next((name for name in list_chips() if is_same_device(trace.provenance.device, load_chip(name))), None)


def _words(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"[a-z0-9]+", text.lower()))
