"""Steps of serving predicted: every running sequence decodes one token, and prompts that arrived are prefilled as well.

A step is put together of captures: what mixes tokens (attention, convolutions, scans) and the choice of tokens at the
batch; everything else at the rows of batch and prompts together; mixing of a prompt. Steps without a prompt are one
graph. Others are cut into pieces, and beyond the largest captured size there are no graphs at all; there the host
issues kernels while the device works, and the slower of the two counts.
"""

from dataclasses import dataclass, replace
from functools import cache, partial
from math import ceil

import numpy as np
import numpy.typing as npt

from profiler.op import Op
from profiler.serving_view import serving_view
from profiler.state_layers import state_layers
from profiler.traces import Trace
from reports.arriving_prompts import median_prompt_tokens, prompt_steps
from reports.state_updates import update_blocks_s
from reports.whole_generations import captured
from reports.whole_model_figures import MeasuredModel
from roofline.chipfile import load_chip
from simulator.clocks import at_clock, held_ratio
from simulator.energy import op_energy, static_w
from simulator.host import Mode, dispatch_of, host_issue
from simulator.op_columns import OpColumns
from simulator.power_limit import LEAST_CLOCK, kept_limit_w
from simulator.timeline import prepare
from workloads.architecture import MIXES_ATTENTION, MIXES_STATE
from workloads.decode_step import build_decode_step
from workloads.mixture_of_experts import AssumedRouting
from workloads.presets import ModelPreset, load_preset
from workloads.programs import resolve_program
from workloads.samplers.choosing import FilterOptions
from workloads.samplers.registry import convert_options

BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float64]

_CLOCKS = np.linspace(LEAST_CLOCK, 1.0, 17)  # parts of the full clock at which costs are known; straight in between
_ROUTING = AssumedRouting(independent=True)
_PART_OF_KIND = {"attention": "attention", "conv": "states", "scan": "states"}  # go with sequences, not with rows
_KERNELS_OF: tuple[Mode, Mode] = ("eager", "graph")  # PyTorch's own kernels, those of a compiler
_LIBRARY_KINDS = ("pointwise", "copy", "reduction")  # PyTorch's own kernels, where no compiler sees them
_PARTS = ("attention", "states", "vocabulary", "rows")

# vLLM 0.11.1. `max_cudagraph_capture_size`: steps of more tokens run without graphs (config/vllm.py).
_CAPTURED_TOKENS = 512
# Operations on tensors in which the metadata of one group of Mamba-2 layers is built for a step with a prompt
# (Mamba2AttentionMetadataBuilder.build and compute_causal_conv1d_metadata, v1/attention/backends), counted in the code.
_METADATA_DISPATCHES = 34


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Time on the chip, dynamic energy and the host's time for issuing them, of some kernels.

    Attributes:
        time_s: time on the chip, back to back, at each of some clocks, or one for all of them.
        dynamic_j: energy without static power, likewise.
        pieces_s: host time in pieces, where graphs are captured.
        singly_s: host time without graphs.
    """

    time_s: FloatArray | float = 0.0
    dynamic_j: FloatArray | float = 0.0
    pieces_s: float = 0.0
    singly_s: float = 0.0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(
            time_s=self.time_s + other.time_s,
            dynamic_j=self.dynamic_j + other.dynamic_j,
            pieces_s=self.pieces_s + other.pieces_s,
            singly_s=self.singly_s + other.singly_s,
        )

    def longer(self, count: float) -> "Cost":
        """The cost of the same kernels for so many times as much work."""
        return replace(self, time_s=self.time_s * count, dynamic_j=self.dynamic_j * count)


def predict_serving(one: MeasuredModel) -> tuple[float, float, float]:
    """Time of the median step, joules per token and power of the mean step, at the clock that the mean step leaves.

    Regulators average over more than a step of decoding, so all kinds of steps run at one clock.
    """
    arriving = one.batch / one.output  # in a steady state, each step's end frees as many places as prompts arrive
    median = step_cost(one, median_prompt_tokens(arriving, one.prompt))
    mean_s, dynamic_j = np.zeros(len(_CLOCKS)), np.zeros(len(_CLOCKS))
    for share, tokens in prompt_steps(arriving, one.prompt):
        kind = step_cost(one, tokens)
        mean_s += share * kind.time_s
        dynamic_j += share * kind.dynamic_j
    chip = load_chip(one.chip)
    power_w: FloatArray = np.asarray(static_w(chip, _CLOCKS) + dynamic_j / mean_s)
    limit_w = kept_limit_w(chip)
    clock = 1.0 if limit_w is None or not power_w[-1] > limit_w else float(np.interp(limit_w, power_w, _CLOCKS))
    at_clocks = (np.broadcast_to(median.time_s, len(_CLOCKS)), mean_s, power_w)
    median_s, step_s, drawn_w = (float(np.interp(clock, _CLOCKS, each)) for each in at_clocks)
    return median_s, drawn_w * step_s / one.batch, drawn_w


def step_cost(one: MeasuredModel, tokens: float) -> Cost:
    """A step that computes so many tokens of prompts: the device's time with what the host makes it wait."""
    decoding = _decode_costs(one.model, one.chip, one.batch, one.context, one.sampling, one.state_dtype)
    batch = decoding["attention"] + decoding["states"] + decoding["vocabulary"]
    if tokens < 1:
        return batch + decoding["rows"]
    rows = _decode_costs(one.model, one.chip, round(one.batch + tokens), 1, None, None)["rows"]
    device = batch + rows + _mixed_prompts(one, tokens)
    waits_s = metadata_s(load_preset(one.model), one.chip)
    return replace(device, time_s=waits_s + np.maximum(device.time_s, issue_s(one, tokens, device)))


def issue_s(one: MeasuredModel, tokens: float, cost: Cost) -> float:
    """The host's time for issuing such a step: in pieces, or singly where it has more tokens than are captured."""
    return cost.pieces_s if one.batch + tokens <= _CAPTURED_TOKENS else cost.singly_s


def _mixed_prompts(one: MeasuredModel, tokens: float) -> Cost:
    """Mixing so many tokens of prompts.

    One kernel attends for them and for the sequences that decode, so they add to its work alone. Convolutions and
    scans are kernels of their own, of one prompt where it has fewer tokens than a mean one, else of mean ones at once.
    """
    mean = _prompt_costs(one.model, one.chip, one.prompt)
    attention = replace(mean["attention"].longer(tokens / one.prompt), pieces_s=0.0, singly_s=0.0)
    if load_preset(one.model).state_space is None:
        return attention
    length = min(round(tokens), one.prompt)
    return attention + _prompt_costs(one.model, one.chip, length)["states"].longer(tokens / length)


def metadata_s(preset: ModelPreset, chip: str) -> float:
    """Time in which the device waits for a step with a prompt, since the host reads from it before it issues anything.

    vLLM builds the lengths of the convolutions' parts on the host, from a tensor on the device
    (`compute_causal_conv1d_metadata`), so asynchronous scheduling cannot hide what follows: the metadata of all groups
    of layers with a state. Groups hold as many layers as the rarer of their kind and attention has.
    """
    letters = [preset.letter(layer) for layer in range(preset.layers)]
    with_state = sum(letter in MIXES_STATE for letter in letters)
    if not with_state:
        return 0.0
    attending = sum(letter in MIXES_ATTENTION for letter in letters)
    groups = ceil(with_state / min(with_state, attending or with_state))
    return groups * _METADATA_DISPATCHES * dispatch_of(load_chip(chip))


@cache
def _decode_costs(
    model: str,
    chip: str,
    batch: int,
    context: int,
    sampling: tuple[tuple[str, float], ...] | None,
    state_dtype: str | None,
) -> dict[str, Cost]:
    """Costs of a step of decoding: the network as vLLM compiles it, the choice of tokens kernel by kernel."""
    options = None
    if sampling is not None:
        given = {"gen_length": 1, **dict(sampling)}
        options = FilterOptions(**convert_options(FilterOptions, given, f"sampling of {model}"))
    run = build_decode_step(
        model,
        batch=batch,
        context=context,
        options=options,
        state_dtype=state_dtype,
        routing=_ROUTING,
        uncompiled_mixers=True,
    )
    trace = captured(model, run)
    parts = _split(trace, model, chip, "decode")
    if options is not None:
        parts["vocabulary"] += _split(trace, model, chip, "sample")["vocabulary"]
    return parts


@cache
def _prompt_costs(model: str, chip: str, length: int) -> dict[str, Cost]:
    """Costs of a prompt alone."""
    program = resolve_program(f"{model}@forward", device="meta", seq_len=length)
    return _split(captured(model, program.run), model, chip)


def _split(trace: Trace, model: str, chip: str, phase: str | None = None) -> dict[str, Cost]:
    """Costs of what mixes tokens, of what works on the vocabulary, and of the rest, which works on rows.

    Args:
        trace: eager; `sample` stays so, all else runs as an engine has it.
        model: preset, for its vocabulary.
        chip: what it runs on.
        phase: that is counted; None for all.
    """
    hidden = partial(_is_inside, tuple(state_layers(trace)))
    view = trace if phase == "sample" else serving_view(trace, uncompiled=hidden)
    of_call = view.calls.op
    is_library = np.array([op.kind in _LIBRARY_KINDS for op in view.ops], dtype=np.bool_)[of_call]
    in_layer = np.array([hidden(path) for path in view.modules], dtype=np.bool_)[view.calls.module]
    time_s, joules = _device_costs(view, chip, in_layer & is_library)
    pieces_s = _host_s(view, chip, "eager" if phase == "sample" else "piecewise", in_layer)
    columns = {"time_s": time_s, "dynamic_j": joules, "pieces_s": pieces_s}
    columns["singly_s"] = _host_s(view, chip, "eager", in_layer)
    counted = np.ones(len(of_call), dtype=np.bool_)
    if phase is not None:
        counted = view.calls.phase == view.phases.index(phase)
    part_of_call = np.array([_part(op, load_preset(model).vocab) for op in view.ops])[of_call]
    calls = {part: counted & (part_of_call == part) for part in _PARTS}
    return {
        part: Cost(**{name: values[..., chosen].sum(axis=-1) for name, values in columns.items()})
        for part, chosen in calls.items()
    }


def _part(op: Op, vocab: int) -> str:
    """Which part of a step an op belongs to."""
    wide = op.kind != "gather" and any(vocab in operand.shape for operand in (*op.inputs, *op.outputs))
    return _PART_OF_KIND.get(op.kind, "vocabulary" if wide else "rows")


def _is_inside(layers: tuple[str, ...], path: str) -> bool:
    """Whether a module is one of the layers or within one; vLLM up to 0.11 hides these from its compiler."""
    return any(path == layer or path.startswith(f"{layer}.") for layer in layers)


def _device_costs(view: Trace, chip: str, is_library: BoolArray) -> tuple[FloatArray, FloatArray]:
    """(time, joules) of each call alone at each clock, [clocks, calls]; NaN joules on a chip without energy constants.

    Calls that PyTorch's own kernels run take the constants of eager programs, though a graph may replay them. States
    of Mamba-2 move on in no less time than this version's blocks take. A power limit holds for the step as a whole,
    not here.
    """
    loaded, of_call = load_chip(chip), view.calls.op
    time_s, joules = np.empty((len(_CLOCKS), len(of_call))), np.full((len(_CLOCKS), len(of_call)), np.nan)
    plans = [prepare(view, loaded, mode, 0.0, 1.0).table for mode in _KERNELS_OF]
    held = [held_ratio(table) for table in plans]
    blocks_s = update_blocks_s(OpColumns.from_ops(view.ops), loaded)[of_call]
    for row, ratio in enumerate(_CLOCKS.tolist()):
        slower = [at_clock(table, ratio, own) for table, own in zip(plans, held, strict=True)]
        kernel_s = np.where(is_library, *(table.duration_s[of_call, 0] for table in slower))
        time_s[row] = np.maximum(kernel_s, blocks_s / ratio)
        energies = [op_energy(table, clock_ratio=ratio) for table in slower]
        known_j = [energy.total_j[of_call] for energy in energies if not isinstance(energy, str)]
        if len(known_j) == len(slower):
            joules[row] = np.where(is_library, *known_j)
    return time_s, joules


def _host_s(view: Trace, chip: str, mode: Mode, in_layer: BoolArray) -> FloatArray:
    """Host time for each call, [calls]."""
    issue = host_issue(view, OpColumns.from_ops(view.ops), mode, dispatch_of(load_chip(chip)), uncompiled=in_layer)
    return issue.first_s + issue.rest_s
