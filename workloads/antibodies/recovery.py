"""Hidden residues filled in by a sampler: how many come out right, how likely the result is, in how many forwards.

Shape suffixes: B draws, L tokens of a chain, H hidden residues, V vocabulary.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from workloads.antibodies.chains import Chain
from workloads.antibodies.network import AntibodyModel
from workloads.errors import WorkloadError
from workloads.samplers.protocol import Generation
from workloads.samplers.registry import Sampler

_ROWS_AT_A_TIME = 40  # chains of one forward of the pseudo-log-likelihood


@dataclass(frozen=True, slots=True, kw_only=True)
class Puzzle:
    """A chain with residues hidden, several draws at a time.

    Attributes:
        chain: the chain.
        hidden: places of the hidden residues in the chain, ascending, per draw.
    """

    chain: Chain
    hidden: tuple[tuple[int, ...], ...]

    @classmethod
    def draw(cls, chain: Chain, count: int, *, draws: int, seed: int = 0) -> "Puzzle":
        """Hide `count` residues at random, `draws` times.

        Raises:
            WorkloadError: fewer than one draw is asked for.
        """
        if draws <= 0:
            raise WorkloadError(f"draws must be > 0, got {draws}")
        return cls(chain=chain, hidden=tuple(chain.hide(count, seed=seed + draw) for draw in range(draws)))

    def pose(self, model: AntibodyModel) -> torch.Tensor:
        """The known tokens `[B, L - H]`, after telling the model where they and the hidden ones behind them stand."""
        length = len(self.chain.residues) + 2
        behind = [[place + 1 for place in places] for places in self.hidden]
        known = [sorted(set(range(length)) - set(places)) for places in behind]
        model.arrange(torch.tensor([[*a, *b] for a, b in zip(known, behind, strict=True)], device=model.device))
        ids = model.encode(self.chain.residues)
        return torch.tensor([[ids[place] for place in places] for places in known], device=model.device)

    def answers(self, model: AntibodyModel) -> torch.Tensor:
        """The hidden residues' token ids, `[B, H]`."""
        ids = model.encode(self.chain.residues)
        return torch.tensor([[ids[place + 1] for place in places] for places in self.hidden], device=model.device)

    def in_framework(self) -> torch.Tensor:
        """Whether each hidden residue lies in the framework, `[B, H]`."""
        framework = self.chain.framework
        return torch.tensor([[framework[place] for place in places] for places in self.hidden])


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """What one sampler setting made of a puzzle.

    Attributes:
        chain: name of the antibody.
        draws: how often residues were hidden.
        hidden: residues hidden in each draw.
        forwards: network evaluations for all draws together, which are one batch.
        framework: hidden residues of the framework, over all draws.
        framework_right: those of them that came out as in the chain.
        loops: hidden residues of the loops, over all draws.
        loops_right: those of them that came out as in the chain.
        log_likelihood: mean over the filled residues of the natural logarithm of each one's probability, given all the
            others; the pseudo-log-likelihood of what was filled in, per residue.
        duration_s: measured time of all draws.
    """

    chain: str
    draws: int
    hidden: int
    forwards: int
    framework: int
    framework_right: int
    loops: int
    loops_right: int
    log_likelihood: float
    duration_s: float


def measure_recovery(model: AntibodyModel, puzzle: Puzzle, sampler: Sampler, options: Mapping[str, object]) -> Recovery:
    """Let a sampler fill in a puzzle and compare with the chain.

    Raises:
        WorkloadError: the sampler takes no such options, or needs a cache.
    """
    run = puzzle_run(model, puzzle, sampler, options)
    start_s = time.perf_counter()
    generation = run()
    duration_s = time.perf_counter() - start_s
    right_BH = (generation.generated == puzzle.answers(model)).cpu()
    framework_BH = puzzle.in_framework()
    scores = [
        pseudo_log_likelihood(model, _in_order(model, tokens), places)
        for tokens, places in zip(_rows(model, generation), puzzle.hidden, strict=True)
    ]
    return Recovery(
        chain=puzzle.chain.name,
        draws=len(puzzle.hidden),
        hidden=len(puzzle.hidden[0]),
        forwards=generation.nfe,
        framework=int(framework_BH.sum()),
        framework_right=int(right_BH[framework_BH].sum()),
        loops=int((~framework_BH).sum()),
        loops_right=int(right_BH[~framework_BH].sum()),
        log_likelihood=sum(scores) / len(scores),
        duration_s=duration_s,
    )


def puzzle_run(
    model: AntibodyModel, puzzle: Puzzle, sampler: Sampler, options: Mapping[str, object]
) -> Callable[[], Generation]:
    """A puzzle ready to be filled in, any number of times."""
    built = sampler.build_options({**options, "gen_length": len(puzzle.hidden[0])})
    prepared = sampler.prepare(model, built)

    def run() -> Generation:
        return sampler.sample(prepared, puzzle.pose(model), built)

    return run


@torch.inference_mode()
def pseudo_log_likelihood(model: AntibodyModel, residues: str, places: Sequence[int]) -> float:
    """Mean of `log p(residue | all others)` over some places of a chain, each masked alone (Salazar et al., 2020).

    Args:
        model: the network.
        residues: the whole chain.
        places: of the residues that are scored, counted from 0.
    """
    model.arrange(None)
    ids_L = torch.tensor(model.encode(residues), device=model.device)
    total = 0.0
    for start in range(0, len(places), _ROWS_AT_A_TIME):
        at_R = torch.tensor(places[start : start + _ROWS_AT_A_TIME], device=model.device) + 1
        tokens_RL = ids_L.repeat(len(at_R), 1)
        row_R = torch.arange(len(at_R), device=model.device)
        tokens_RL[row_R, at_R] = model.mask_id
        log_RV = torch.log_softmax(model(tokens_RL)[row_R, at_R].float(), dim=-1)
        total += float(log_RV.gather(-1, ids_L[at_R][:, None]).sum())
    return total / len(places)


def _rows(model: AntibodyModel, generation: Generation) -> list[torch.Tensor]:
    """Each draw's tokens `[L]` in the order of the chain."""
    assert model.places_BL is not None
    in_order_BL = torch.empty_like(generation.tokens).scatter_(1, model.places_BL, generation.tokens)
    return list(in_order_BL)


def _in_order(model: AntibodyModel, tokens_L: torch.Tensor) -> str:
    return "".join(model.vocabulary[index] for index in tokens_L[1:-1].tolist())
