"""What a program is asked to be: device, dtype, sizes and sampler options, checked."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from workloads.errors import WorkloadError
from workloads.lora import LoraOptions
from workloads.presets import ModelPreset
from workloads.program import Program

DTYPES: dict[str, torch.dtype] = {
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float32": torch.float32,
    "float64": torch.float64,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramRequest:
    """Everything that was asked for; None where the caller left it open."""

    spec: str
    device: torch.device
    dtype: str
    batch: int
    seq_len: int | None
    prompt_length: int | None
    sampler: str | None
    seed: int
    sampler_options: Mapping[str, object]
    weights: Path | None = None
    expert_skew: float | None = None
    lora: LoraOptions | None = None
    merge_lora: bool = False

    def forbid(self, program_kind: str, *names: str) -> None:
        """Refuse options that mean nothing for this kind of program, rather than to ignore them."""
        given = [name for name in names if getattr(self, name) is not None]
        if "sampler" in names:
            given += self.sampler_options
        if given:
            raise WorkloadError(f"program {self.spec!r}: {program_kind} takes no {', '.join(given)}")

    def program(
        self,
        description: str,
        run: Callable[[], object],
        *,
        parameters_count: int | None = None,
        vocab: int | None = None,
        preset: ModelPreset | None = None,
        notes: tuple[str, ...] = (),
    ) -> Program:
        """What was asked for, built; see `Program`."""
        return Program(
            name=self.spec,
            description=description,
            run=run,
            device=str(self.device),
            dtype=self.dtype,
            parameters_count=parameters_count,
            vocab=vocab,
            preset=preset,
            seed=self.seed,
            notes=notes,
        )

    def random_tokens(self, vocab: int, length: int, *, excluded: int | None = None) -> torch.Tensor:
        """Token ids `[batch, length]` on the program's device, the same on every device, without one of them."""
        generator = torch.Generator().manual_seed(self.seed)
        end = vocab if excluded is None else vocab - 1
        tokens = torch.randint(0, end, (self.batch, length), generator=generator)
        if excluded is not None:
            tokens += tokens >= excluded
        return tokens.to(self.device)


def check_device(device: str) -> torch.device:
    """The device of this name, if this machine has it.

    Raises:
        WorkloadError: it has not, or there is no such device.
    """
    try:
        chosen = torch.device(device)
    except RuntimeError:
        chosen = None
    if chosen is None or chosen.type not in ("cpu", "cuda", "meta"):
        raise WorkloadError(f"device must be cpu, cuda, cuda:N or meta, got {device!r}")
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise WorkloadError(f"device {device!r}: PyTorch {torch.__version__} sees no CUDA device; use cpu or meta")
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise WorkloadError(
            f"device {device!r}: PyTorch sees {torch.cuda.device_count()} CUDA device(s), counted from 0"
        )
    return chosen


def check_dtype(dtype: str | None, device: str) -> str:
    """The name of a dtype; None gives float32 on the CPU and bfloat16 elsewhere.

    Raises:
        WorkloadError: it is none of `DTYPES`.
    """
    if dtype is None:
        return "float32" if device == "cpu" else "bfloat16"
    if dtype not in DTYPES:
        raise WorkloadError(f"dtype must be one of {', '.join(DTYPES)}, got {dtype!r}")
    return dtype


def check_positive(name: str, value: int) -> int:
    """The value, if it is above 0.

    Raises:
        WorkloadError: it is not.
    """
    if value <= 0:
        raise WorkloadError(f"{name} must be > 0, got {value}")
    return value
