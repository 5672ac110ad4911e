"""Antibody programs: a chain of which a sampler fills in hidden residues, ready to run."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from workloads.antibodies.chains import find_chain
from workloads.antibodies.network import load_antibody_model
from workloads.antibodies.recovery import Puzzle, puzzle_run
from workloads.packaged import ANTIBERTY
from workloads.samplers.registry import load_sampler

DEFAULT_CHAIN = "trastuzumab"
DEFAULT_HIDDEN = 36  # three tenths of a variable region


@dataclass(frozen=True, slots=True, kw_only=True)
class AntibodyProgram:
    """What an antibody program is made of; see `workloads.programs.Program`."""

    description: str
    run: Callable[[], object]
    parameters_count: int
    vocab: int
    notes: tuple[str, ...]


def prepare_antibody(
    chain: str,
    *,
    device: torch.device,
    dtype: torch.dtype,
    batch: int,
    sampler: str,
    seed: int,
    options: Mapping[str, object],
) -> AntibodyProgram:
    """Load the network and hide residues; `gen_length` of the options says how many.

    Args:
        chain: name of a chain, or empty for the usual one.
        device: where the network runs.
        dtype: of its weights and activations.
        batch: how often residues are hidden, each time others.
        sampler: name or file of a sampler of masked diffusion.
        seed: of what is hidden and of sampling.
        options: of the sampler, by name.

    Raises:
        WorkloadError: the package is not installed, or the chain, sampler or an option is not known.
    """
    found, loaded = find_chain(chain or DEFAULT_CHAIN), load_sampler(sampler)
    built = loaded.build_options({"gen_length": DEFAULT_HIDDEN, "seed": seed, **options})
    puzzle = Puzzle.draw(found, built.gen_length, draws=batch, seed=seed)
    model = load_antibody_model(ANTIBERTY.find("antiberty"), device=device, dtype=dtype)
    left_out = ", ".join(model.left_out)
    return AntibodyProgram(
        description=(
            f"antiberty: {batch} x {built.gen_length} of {len(found.residues)} residues of {found.name} filled in by "
            f"{loaded.name}"
        ),
        run=puzzle_run(model, puzzle, loaded, {"seed": seed, **options}),
        parameters_count=sum(weight.numel() for weight in model.parameters()),
        vocab=len(model.vocabulary),
        notes=(f"antiberty runs as BertForMaskedLM; left out: {left_out}",) if left_out else (),
    )
