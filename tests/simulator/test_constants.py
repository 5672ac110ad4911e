import pytest

from simulator.errors import SimulationError
from simulator.kernels.constants import Constant


def test_a_start_outside_the_range_is_refused():
    with pytest.raises(SimulationError, match="'t0_s': start 3 must lie between 1 and 2"):
        Constant(name="t0_s", low=1.0, high=2.0, start=3.0, unit="s", meaning="fixed cost")
