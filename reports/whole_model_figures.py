"""Whole models that others measured: the figures that ship in `whole_models.toml`, read and checked."""

import tomllib
from dataclasses import MISSING, dataclass, field, fields
from importlib import resources
from typing import Any, Literal, get_args

from reports.errors import ReportError

ProgramKind = Literal["decode_step", "denoise_step", "text_step", "forward"]
SCHEMA_VERSION = 1
_FILE = "whole_models.toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredModel:
    """One measured step of a whole model.

    Attributes:
        model: preset, of text or images.
        program: what a step is.
        chip: chip that it ran on.
        source: where the figures come from.
        batch: sequences or images side by side.
        latency_s: measured time of a step; of decoding the median one.
        task: what the model was asked, where a source holds several.
        joules_per_output: measured joules per token, or per image; None where not measured.
        power_w: measured mean board power.
        p90_s: measured time that nine of ten steps of decoding stay within.
        waits: the published figures show that the device waits for its host.
        context: mean number of tokens that a sequence attends to.
        prompt: mean number of tokens of a prompt that are computed, those shared with prompts before left out.
        output: tokens of an answer.
        steps: denoising steps of an image.
        sampling: how a token is presumed to be chosen: options of `FilterOptions`.
        state_dtype: of recurrent states, where it is not that of the weights.
        sampler: that denoises text.
        options: of that sampler, or of the image program, without its steps.
        forwards: network evaluations of the whole answer, where steps differ in cost.
        text: tokens of the answer that are text; blocks behind them hold ends of text alone. 0 for all.
    """

    model: str
    program: ProgramKind
    chip: str
    source: str
    batch: int
    latency_s: float
    task: str = ""
    joules_per_output: float | None = None
    power_w: float | None = None
    p90_s: float | None = None
    waits: bool = False
    context: int = 0
    prompt: int = 0
    output: int = 0
    steps: int = 0
    sampling: tuple[tuple[str, float], ...] = field(default=())
    state_dtype: str | None = None
    sampler: str = ""
    options: tuple[tuple[str, object], ...] = field(default=())
    forwards: int = 0
    text: int = 0

    def __post_init__(self) -> None:
        where = f"measured model {self.model!r}"
        if self.program not in get_args(ProgramKind):
            raise ReportError(f"{where}: program must be one of {', '.join(get_args(ProgramKind))}: {self.program!r}")
        needed = {
            "decode_step": ("context", "prompt", "output"),
            "denoise_step": ("steps",),
            "text_step": ("output",),
            "forward": ("prompt",),
        }
        for name in ("batch", "latency_s", *needed[self.program]):
            if not getattr(self, name) > 0:
                raise ReportError(f"{where}: {name} must be > 0, got {getattr(self, name)}")
        if self.program == "text_step" and not self.sampler:
            raise ReportError(f"{where}: a text_step needs a sampler")


def read_measured_models(text: str | None = None) -> tuple[MeasuredModel, ...]:
    """The shipped figures, or those of a text in the same form.

    Raises:
        ReportError: a key is unknown or missing, or a value cannot be.
    """
    given = resources.files("reports").joinpath(_FILE).read_text(encoding="utf-8") if text is None else text
    table = tomllib.loads(given)
    if table.get("schema") != SCHEMA_VERSION:
        raise ReportError(f"{_FILE}: schema must be {SCHEMA_VERSION}, got {table.get('schema')!r}")
    return tuple(_measured(entry, table["sources"]) for entry in table["measured"])


def _measured(entry: dict[str, Any], sources: dict[str, str]) -> MeasuredModel:
    allowed = {f.name for f in fields(MeasuredModel)}
    needed = {f.name for f in fields(MeasuredModel) if f.default is MISSING and f.default_factory is MISSING}
    if set(entry) - allowed or needed - set(entry) or entry["source"] not in sources:
        raise ReportError(
            f"{_FILE}: a measured model takes {', '.join(sorted(allowed))}; needs {', '.join(sorted(needed))} "
            f"and a source of {', '.join(sources)}; got {', '.join(sorted(entry))}"
        )
    made = {**entry, "source": sources[entry["source"]]}
    made |= {name: tuple(entry.get(name, {}).items()) for name in ("sampling", "options")}
    return MeasuredModel(**made)
