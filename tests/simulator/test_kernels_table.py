import pkgutil
from importlib import import_module

import numpy as np
import pytest

from profiler.op import KINDS
from simulator import kernels
from simulator.chip_columns import ChipColumns
from simulator.kernels.table import kernel_models
from simulator.op_columns import OpColumns
from simulator.stages import PLAN_FIELDS


def test_every_kind_has_exactly_one_model_and_every_file_with_a_plan_offers_one():
    models = kernel_models()
    assert set(models) == set(KINDS)
    names = [f"{kernels.__name__}.{info.name}" for info in pkgutil.iter_modules(kernels.__path__)]
    assert {model.__module__ for model in models.values()} == {n for n in names if hasattr(import_module(n), "plan")}


@pytest.mark.parametrize("kind", KINDS)
def test_model_plans_every_op_on_every_chip(build, kind):
    ops = OpColumns.from_ops([build.any_op(kind, *sizes) for sizes in ((1, 1, 1), (0, 5, 7), (300, 200, 100))])
    chips = ChipColumns.from_chips([build.chip(), build.chip(cores=3, links=(), matrix_macs=())])
    planned = kernel_models()[kind](ops, chips)
    for name in PLAN_FIELDS:
        column = getattr(planned, name)
        if name in ("level_efficiency", "smooth_max_p", "launch_s") and np.isnan(column).all():
            continue  # left to the chip
        assert column.shape == ((chips.levels, 3, 2) if name in ("traffic_bytes", "level_efficiency") else (3, 2)), name
        assert np.isfinite(column).all() or name == "smooth_max_p", name
        assert (column >= 0).all(), name
    assert (planned.cores_used <= chips.cores).all()
    assert (planned.waves <= np.maximum(planned.tiles, 1)).all()
