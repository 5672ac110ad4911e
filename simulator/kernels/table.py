"""The table of kernel models: each module beside this one that offers `KINDS` and `plan`."""

import pkgutil
from functools import cache
from importlib import import_module
from typing import Protocol

from profiler.op import KINDS as ALL_KINDS
from simulator import kernels
from simulator.chip_columns import ChipColumns
from simulator.errors import SimulationError
from simulator.op_columns import OpColumns
from simulator.stages import PlanColumns


class KernelModel(Protocol):
    """How ops of some kinds run: a pure function of op and chip columns."""

    def __call__(self, ops: OpColumns, chips: ChipColumns) -> PlanColumns:
        """Plan all these ops on all these chips."""


@cache
def kernel_models() -> dict[str, KernelModel]:
    """The model of every kind; exactly one file offers each.

    Raises:
        SimulationError: a kind has no model, or two.
    """
    models: dict[str, KernelModel] = {}
    for info in pkgutil.iter_modules(kernels.__path__, f"{kernels.__name__}."):
        module = import_module(info.name)
        for kind in getattr(module, "KINDS", ()):
            if kind in models:
                raise SimulationError(f"kind {kind!r} has a second kernel model in {info.name}; keep one")
            models[kind] = module.plan
    missing = set(ALL_KINDS) - set(models)
    if missing:
        raise SimulationError(f"no kernel model under simulator/kernels for: {', '.join(sorted(missing))}")
    return models
