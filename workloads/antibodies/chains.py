"""Public antibody sequences with their regions, and how residues are hidden in them; needs no torch."""

import random
from dataclasses import dataclass

from workloads.errors import WorkloadError

RESIDUES = "ACDEFGHIKLMNPQRSTVWY"


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """The variable region of a heavy chain.

    Attributes:
        name: of the antibody.
        residues: one letter each.
        loops: the three complementarity-determining regions by Kabat's definition; the rest is framework.
        source: where the sequence is published.
    """

    name: str
    residues: str
    loops: tuple[str, str, str]
    source: str

    def __post_init__(self) -> None:
        for text in (self.residues, *self.loops):
            unknown = set(text) - set(RESIDUES)
            if unknown or not text:
                raise WorkloadError(
                    f"chain {self.name!r}: residues may be {RESIDUES}, got {min(unknown, default='')!r}"
                )
        for loop in self.loops:
            if self.residues.count(loop) != 1:
                raise WorkloadError(
                    f"chain {self.name!r}: loop {loop} must occur once, got {self.residues.count(loop)}"
                )

    @property
    def framework(self) -> tuple[bool, ...]:
        """Whether each residue lies outside the loops."""
        inside: set[int] = set()
        for loop in self.loops:
            start = self.residues.index(loop)
            inside.update(range(start, start + len(loop)))
        return tuple(place not in inside for place in range(len(self.residues)))

    def hide(self, count: int, *, seed: int) -> tuple[int, ...]:
        """Places of `count` residues drawn at random, ascending.

        Raises:
            WorkloadError: the chain has fewer.
        """
        if not 0 < count <= len(self.residues):
            raise WorkloadError(f"chain {self.name!r}: hides 1 to {len(self.residues)} residues, got {count}")
        return tuple(sorted(random.Random(f"{self.name} {seed}").sample(range(len(self.residues)), count)))


CHAINS = {
    chain.name: chain
    for chain in (
        Chain(
            name="trastuzumab",
            residues="EVQLVESGGGLVQPGGSLRLSCAASGFNIKDTYIHWVRQAPGKGLEWVARIYPTNGYTRYADSVKGRFTISADTSKNTAYLQMNSLRAEDTAVYYCSR"
            "WGGDGFYAMDYWGQGTLVTVSS",
            loops=("DTYIH", "RIYPTNGYTRYADSVKG", "WGGDGFYAMDY"),
            source="PDB 1N8Z, heavy chain, residues 1-120 (Cho et al., Nature 421, 2003); DrugBank DB00072",
        ),
        Chain(
            name="adalimumab",
            residues="EVQLVESGGGLVQPGRSLRLSCAASGFTFDDYAMHWVRQAPGKGLEWVSAITWNSGHIDYADSVEGRFTISRDNAKNSLYLQMNSLRAEDTAVYYCAK"
            "VSYLSTASSLDYWGQGTLVTVSS",
            loops=("DYAMH", "AITWNSGHIDYADSVEG", "VSYLSTASSLDY"),
            source="PDB 3WD5, heavy chain, residues 1-121 (Hu et al., J. Biol. Chem. 288, 2013); DrugBank DB00051",
        ),
    )
}


def find_chain(name: str) -> Chain:
    """A chain by its antibody's name.

    Raises:
        WorkloadError: it is not known.
    """
    if name not in CHAINS:
        raise WorkloadError(f"unknown antibody {name!r}; known: {', '.join(CHAINS)}")
    return CHAINS[name]
