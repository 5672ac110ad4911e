"""Many workers give what one gives, also when some die."""

import sys

import numpy as np
import pytest
from explorer_samples import CHIPS, DyingOnce, chips, die, refuse

from explorer.errors import ExplorationError
from explorer.parallel import evaluator


def assert_same(result, expected):
    np.testing.assert_array_equal(result.costs, expected.costs)
    np.testing.assert_array_equal(result.violation, expected.violation)
    assert result.reason.tolist() == expected.reason.tolist()
    np.testing.assert_array_equal(result.metrics["area_mm2"], expected.metrics["area_mm2"])


@pytest.mark.slow
def test_processes_give_the_rows_of_one_process_in_order():
    with evaluator(chips, processes=2) as evaluate:
        for count in (1, 17, 1000):
            designs = CHIPS.decode(CHIPS.sobol(count, seed=count))
            assert_same(evaluate(designs), chips(designs))


@pytest.mark.slow
def test_a_worker_that_dies_is_replaced_and_its_designs_are_evaluated(tmp_path, caplog):
    designs = CHIPS.decode(CHIPS.sobol(200, seed=0))
    with evaluator(DyingOnce(tmp_path / "died"), processes=2) as evaluate:
        assert_same(evaluate(designs), chips(designs))
    assert (tmp_path / "died").exists()
    assert "a worker process died; its designs are evaluated again" in caplog.text


@pytest.mark.slow
def test_workers_that_always_die_are_one_line():
    with (
        pytest.raises(ExplorationError, match=r"worker processes died 2 times .* use fewer with --processes N"),
        evaluator(die, processes=2, retries=1) as evaluate,
    ):
        evaluate(CHIPS.decode(np.arange(4)))


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_errors_of_workers_arrive_as_they_are(processes):
    with pytest.raises(ExplorationError, match=r"^no such chip$"), evaluator(refuse, processes=processes) as evaluate:
        evaluate(CHIPS.decode(np.arange(4)))


def test_one_process_is_this_one():
    with evaluator(chips, processes=1) as evaluate:
        assert evaluate is chips


@pytest.mark.parametrize(
    ("options", "line"),
    [({"engine": "dask"}, "unknown engine 'dask'; known: local, ray"), ({"processes": 0}, "must be at least 1, got 0")],
)
def test_unknown_engines_are_one_line(options, line):
    with pytest.raises(ExplorationError, match=line), evaluator(chips, **options):
        pass


def test_without_ray_its_engine_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ExplorationError, match="needs ray: pip install"), evaluator(chips, engine="ray"):
        pass
