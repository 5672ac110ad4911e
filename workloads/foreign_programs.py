"""Programs whose networks are not built from a preset: images, antibodies, Hugging Face models and scripts."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import cast

import torch

from workloads.checkpoints import load_into_foreign
from workloads.errors import WorkloadError
from workloads.huggingface import build_from_config
from workloads.markers import phase
from workloads.preset_programs import DEFAULT_SAMPLERS, DEFAULT_SEQ_LEN, check_one_way
from workloads.program import Program
from workloads.program_request import DTYPES, ProgramRequest
from workloads.samplers.registry import load_python_file
from workloads.scripts import check_takes_nothing, is_without_main, run_whole, value_read_on_meta


def image_program(request: ProgramRequest, target: str) -> Program:
    """An image model under one of its schedulers, `image:MODEL@SAMPLER`.

    Raises:
        WorkloadError: its packages are not installed, or an option does not apply.
    """
    request.forbid("an image model", "seq_len", "prompt_length", "weights", "expert_skew", "lora")
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
    return request.program(image.description, image.run, parameters_count=image.parameters_count)


def antibody_program(request: ProgramRequest) -> Program:
    """An antibody whose hidden residues are filled in, `antiberty:CHAIN@SAMPLER`."""
    kind = "an antibody (gen_length says how many residues are hidden)"
    request.forbid(kind, "seq_len", "prompt_length", "weights", "expert_skew", "lora")
    from workloads.antibodies.programs import prepare_antibody  # noqa: PLC0415 - an optional dependency

    target, _, way = request.spec.partition("@")
    check_one_way(request.spec, way, request.sampler)
    antibody = prepare_antibody(
        target.partition(":")[2],
        device=request.device,
        dtype=DTYPES[request.dtype],
        batch=request.batch,
        sampler=way or request.sampler or DEFAULT_SAMPLERS["masked_diffusion"],
        seed=request.seed,
        options=request.sampler_options,
    )
    return request.program(
        antibody.description,
        antibody.run,
        parameters_count=antibody.parameters_count,
        vocab=antibody.vocab,
        notes=antibody.notes,
    )


def hugging_face_program(request: ProgramRequest, target: str) -> Program:
    """One forward of a Hugging Face model built from its `config.json`.

    Raises:
        WorkloadError: the model has too few positions, or takes no token ids.
    """
    request.forbid("a single forward", "prompt_length", "sampler", "expert_skew", "lora")
    path = Path(target)
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

    return request.program(
        f"{type(model).__name__} of {path}: one forward over {request.batch} x {length} tokens",
        run,
        parameters_count=sum(weight.numel() for weight in model.parameters()),
        vocab=vocab,
    )


def script_program(request: ProgramRequest, target: str) -> Program:
    """A function of a Python file, `py:FILE.py:FUNCTION`: `main` where none is named, or the whole of a file without.

    Raises:
        WorkloadError: the file has no such function, or one that takes arguments.
    """
    request.forbid("a script", "seq_len", "prompt_length", "sampler", "weights", "expert_skew", "lora")
    file_text, separator, function_name = target.rpartition(":")
    is_named = bool(separator) and not function_name.endswith(".py")
    if not is_named:
        file_text, function_name = target, "main"
    path = Path(file_text)
    is_whole = not is_named and is_without_main(path)
    function = partial(run_whole, request.spec, path) if is_whole else _script_function(request, path, function_name)

    def run() -> object:
        try:
            with _script_surroundings(path, request):
                return function()
        except (RuntimeError, NotImplementedError) as error:
            meaning = value_read_on_meta(request.spec, path.parent, error) if request.device.type == "meta" else None
            if meaning is None:
                raise
            raise meaning from error

    what = f"all of {path}" if is_whole else f"{function_name}() of {path}"
    return replace(request.program(what, run), dtype=None)  # the script decides


def _script_function(request: ProgramRequest, path: Path, name: str) -> Callable[[], object]:
    """A function of a file that takes no arguments."""
    with _script_surroundings(path, request):
        module = load_python_file(path)
    function = getattr(module, name, None)
    if not callable(function):
        names = [each for each, value in vars(module).items() if callable(value) and not each.startswith("_")]
        raise WorkloadError(
            f"program {request.spec!r}: {path} has no function {name!r}; it has: {', '.join(names) or 'none'}"
        )
    check_takes_nothing(request.spec, function)
    return cast("Callable[[], object]", function)


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
