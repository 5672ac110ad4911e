"""Which constants predict which family of kernels, and which section of a chip's calibration holds them."""

from dataclasses import dataclass
from importlib import import_module

from simulator.errors import SimulationError
from simulator.kernels.constants import Constant

_MODULES: dict[str, tuple[str, str]] = {  # family of kernels: (module of its model, scope of its constants)
    "gemm": ("gemm", "gemm"),
    "moe": ("moe", "moe"),
    "mamba2": ("conv", "conv"),
    "delta_rule": ("scan", "scan"),
    **dict.fromkeys(("all_reduce", "all_gather", "reduce_scatter"), ("collective", "collective")),
    "alltoall": ("collective", "collective.alltoall"),
    **dict.fromkeys(("elementwise", "mixing"), ("elementwise", "elementwise")),
    "row_scale": ("rows", "rows"),
    "topk": ("vocabulary", "topk"),
    "attention_prefill": ("attention", "attention.prefill"),
    "attention_decode": ("attention", "attention.decode"),
    "attention_bidirectional": ("attention", "attention.bidirectional"),
}
_SHARED = {"bfloat16", "float16", "float32"}  # types whose constants stand in the family's own scope


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """What a fit of one family and dtype may move.

    Attributes:
        scope: section of the calibration.
        constants: the constants.
    """

    scope: str
    constants: tuple[Constant, ...]


def family(op: str, dtype: str) -> Family:
    """Constants of a family of kernels: all for its 16-bit types, those that belong to the type for another.

    Raises:
        SimulationError: there is no such family.
    """
    if op not in _MODULES:
        raise SimulationError(f"op must be one of {', '.join(_MODULES)}, got {op!r}")
    stem, scope = _MODULES[op]
    constants: tuple[Constant, ...] = import_module(f"simulator.kernels.{stem}").CONSTANTS
    if op == "alltoall":  # one hop, and nothing reduces on the way
        constants = tuple(constant for constant in constants if not constant.name.startswith(("base", "switch")))
    if dtype in _SHARED:
        return Family(scope=scope, constants=tuple(c for c in constants if not c.of_narrow_types))
    return Family(scope=f"{scope}.{dtype}", constants=tuple(c for c in constants if c.of_dtype) or constants)


def section_of(op: str) -> str:
    """Section of a chip's calibration that predicts a family of kernels; empty where the chip's general one does."""
    return _MODULES[op][1] if op in _MODULES else ""


def constants_of_section(section: str) -> dict[str, Constant]:
    """Constants, by name, that a section of a chip's calibration may hold; none where no model owns the section."""
    owner = section.removeprefix("eager.").partition(".")[0]
    stems = {stem for stem, scope in _MODULES.values() if scope.partition(".")[0] == owner}
    return {
        constant.name: constant
        for stem in sorted(stems)
        for constant in import_module(f"simulator.kernels.{stem}").CONSTANTS
    }
