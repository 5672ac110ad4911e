"""Regimes of attention fitted together: shared constants are found once, and what is worth nothing is left out."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from reports.cli import app
from reports.errors import ReportError
from roofline.chipfile import load_chip
from simulator.errors import SimulationError
from simulator.kernels.attention_constants import ABSENT, CONSTANTS, SHARED
from simulator.validation.joint_fit import REGIMES, fit_together, free_constants
from simulator.validation.scores import predict_s
from simulator.validation.tables import measured_table


def made_table(chip, op, **columns):
    """Rows of one regime, measured on a chip that does what the model says."""
    frame = pd.DataFrame({"kind": "attention", "dtype": "bfloat16", "heads": 32, "head_dim": 128, **columns})
    frame = frame.assign(measured_s=1.0, weight_copies=1, kv_heads=8, causal=1, stores_kv=1)
    table = measured_table(
        frame, chip=chip, op=op, dtype="bfloat16", backend="made", keys=("batch", "keys"), source="made"
    )
    return replace(table, measured_s=predict_s(table, chip))


def made_tables(chip):
    grid = np.array([(batch, keys) for batch in (1, 2, 3, 5, 8, 16, 32) for keys in np.geomspace(16, 30_000, 12)])
    batch, keys = grid.astype(int).T
    decode = made_table(chip, "attention_decode", batch=batch, queries=1, keys=keys)
    few = np.minimum(keys, 4096)
    return [made_table(chip, "attention_prefill", batch=batch, queries=few, keys=few), decode]


def test_what_belongs_to_the_chip_is_free_once_and_the_rest_in_each_regime():
    names = [name for name, _ in free_constants(REGIMES)]
    assert len(names) == len(set(names))
    assert [name for name in names if name.count(".") == 1] == [
        f"attention.{constant.name}" for constant in CONSTANTS if constant.name in SHARED
    ]
    assert "attention.decode.tile_clocks" in names
    assert "attention.prefill.split_s" not in names
    assert names.count("attention.decode.held_ratio") == 0
    own = sum(len([c for c in CONSTANTS if c.name not in ABSENT[op] | SHARED]) for op in REGIMES)
    assert len(names) == len(SHARED) + own


@pytest.mark.slow
def test_constants_that_made_the_tables_of_two_regimes_are_found():
    chip = load_chip("a100-sxm-80gb")
    true = {
        "attention.cache_efficiency": 0.4,
        "attention.held_ratio": 0.6,
        "attention.prefill.setup_s": 3e-6,
        "attention.prefill.tile_clocks": 3000.0,
        "attention.prefill.memory_efficiency": 0.8,
        "attention.decode.setup_s": 3e-6,
        "attention.decode.tile_clocks": 2000.0,
        "attention.decode.memory_efficiency": 0.8,
        "attention.split_s": 5e-6,
    }
    others = tuple(each for each in chip.calibration if not each[0].startswith("attention"))
    generation = ("attention.generation", 2.0)
    made = made_tables(replace(chip, calibration=(*others, generation, *true.items())))
    start = tuple((name, value * (1.3 if "efficiency" not in name else 0.85)) for name, value in true.items())
    found = fit_together(made, replace(chip, calibration=(*others, generation, *start)), rows=150)
    values = dict(found.constants)
    assert all(each.mape_percent < 2.0 for each in found.after)
    assert all(old.mape_percent > 5.0 for old in found.before)
    assert values["attention.decode.memory_efficiency"] == pytest.approx(0.8, rel=0.03)
    assert values["attention.decode.setup_s"] == pytest.approx(3e-6, rel=0.1)
    # Nothing of what made the tables pads, slows down or takes longer for a first tile.
    assert not {name.rpartition(".")[2] for name in values} & {"pad_s", "sustained_slowdown", "first_tile_ratio"}
    assert dict(found.chip.calibration)["attention.generation"] == 2.0
    assert "together with the other regimes" in dict(found.chip.sources)["calibration.attention.decode"]


def test_too_few_rows_are_refused():
    chip = load_chip("a100-sxm-80gb")
    tables = made_tables(chip)
    with pytest.raises(SimulationError, match="rows are too few to fit"):
        fit_together(tables, chip, rows=8)


@pytest.mark.parametrize("option", ["--table", "--constants-of"])
def test_the_command_says_what_a_fit_of_all_regimes_does_not_take(tmp_path, option):
    done = CliRunner().invoke(app, ["fit", "--op", "attention", option, "any", "-o", str(tmp_path / "chip.toml")])
    assert isinstance(done.exception, ReportError)
    assert f"--op attention takes no {option}: fit one regime" in str(done.exception)
