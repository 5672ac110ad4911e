"""Which settings `roofscape pareto` sweeps: the usual knobs of each shipped model, and a user's own sampler."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

from reports.errors import ReportError
from reports.pareto import Setting, knob_grid
from workloads.hints import known_names
from workloads.samplers.registry import list_samplers, load_sampler
from workloads.trained.catalog import trained_models


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """A model, a sampler, and the values of each knob; every combination is run."""

    model: str
    sampler: str
    knobs: Mapping[str, Sequence[object]]


# The answer has 16 tokens, so 16 steps are one token per step.
DEFAULT_SWEEPS = (
    Sweep(model="sudoku-ar", sampler="autoregressive", knobs={"temperature": (0.0, 1.0)}),
    Sweep(model="sudoku-masked", sampler="llada", knobs={"steps": (1, 2, 4, 8, 16)}),
    Sweep(model="sudoku-masked", sampler="llada", knobs={"block_length": (4,), "steps": (4, 8, 16)}),
    Sweep(model="sudoku-masked", sampler="llada", knobs={"steps": (16,), "remasking": ("random",)}),
    Sweep(
        model="sudoku-masked",
        sampler="fast_dllm",
        knobs={"cache": ("none", "dual"), "threshold": (0.5, 0.7, 0.9, 0.99)},
    ),
    Sweep(model="sudoku-masked", sampler="mdlm", knobs={"steps": (4, 8, 16, 32)}),
    Sweep(
        model="sudoku-block",
        sampler="sdar",
        knobs={"block_length": (4,), "temperature": (0.0,), "threshold": (0.5, 0.7, 0.9, 0.99)},
    ),
    Sweep(
        model="sudoku-block",
        sampler="sdar",
        knobs={
            "block_length": (4,),
            "temperature": (0.0,),
            "strategy": ("low_confidence_static",),
            "steps_per_block": (1, 2, 4),
        },
    ),
    Sweep(model="sudoku-block", sampler="bd3lm", knobs={"block_length": (4,)}),
    Sweep(model="sudoku-uniform", sampler="udlm", knobs={"steps": (8, 16, 32)}),
    Sweep(
        model="sudoku-uniform",
        sampler="udlm",
        knobs={"routing": ("confidence",), "temperature": (0.0,), "steps": (2, 4, 8, 16)},
    ),
)
# What an own sampler is swept over if it has these options and the user names no values.
_USUAL_KNOBS: dict[str, Sequence[object]] = {"steps": (2, 4, 8, 16), "threshold": (0.5, 0.7, 0.9, 0.99)}
_USUAL_MODEL = "sudoku-masked"


def default_settings(models: Sequence[str] | None = None) -> tuple[Setting, ...]:
    """The usual sweep over the shipped models, or over some of them.

    Raises:
        ReportError: a model is not shipped.
    """
    shipped, samplers = trained_models(), {listing.name for listing in list_samplers()}
    for model in models or ():
        if model not in shipped:
            raise ReportError(f"unknown trained model {model!r}; {known_names(model, shipped)}")
    return tuple(
        Setting(model=sweep.model, sampler=sweep.sampler, options=options)
        for sweep in DEFAULT_SWEEPS
        if sweep.model in (models or shipped) and sweep.sampler in samplers
        for options in knob_grid(sweep.knobs)
    )


def own_settings(text: str) -> tuple[Setting, ...]:
    """Settings of one sampler from `[MODEL@]SAMPLER[:key=value/value,key=value]`; a sampler is a name or a file.

    Without values it is swept over its steps and thresholds, as far as it has them.

    Raises:
        ReportError: the text cannot be read.
    """
    model, at, rest = text.rpartition("@")
    name, _, knob_text = rest.partition(":")
    if not name or (at and model not in trained_models()):
        raise ReportError(
            f"--sampler must be (MODEL@)SAMPLER(:key=value/value,...) with a model of {', '.join(trained_models())}, "
            f"got {text!r}"
        )
    sampler = load_sampler(name)
    knobs = (
        _read_knobs(knob_text) if knob_text else _usual_knobs({field.name for field in fields(sampler.options_type)})
    )
    return tuple(
        Setting(model=model or _USUAL_MODEL, sampler=name, options=options, is_own=True) for options in knob_grid(knobs)
    )


def _read_knobs(text: str) -> dict[str, Sequence[object]]:
    knobs: dict[str, Sequence[object]] = {}
    for part in text.split(","):
        key, separator, values = part.partition("=")
        if not (key.strip() and separator and values):
            raise ReportError(f"--sampler: options must be key=value or key=value/value, got {part!r}")
        knobs[key.strip()] = tuple(values.split("/"))
    return knobs


def _usual_knobs(names: set[str]) -> dict[str, Sequence[object]]:
    """One knob only: several together would exclude each other in most samplers."""
    return next(({name: values} for name, values in _USUAL_KNOBS.items() if name in names), {})
