"""Small blocks that move the states of Mamba-2 one position on: counted by hand, and beside what others measured."""

import numpy as np
import pandas as pd
import pytest

from reports import serving_steps
from reports.state_updates import update_blocks_s
from roofline.chipfile import load_chip
from simulator.op_columns import OpColumns
from simulator.op_frame import ops_from_frame
from simulator.plans import plan_columns


def one_position(heads: int, **changes: int | str) -> OpColumns:
    """So many heads, of all sequences, of 64 channels and 128 states in float32."""
    row = {"kind": "scan", "dtype": "bfloat16", "rows": heads * 64, "state": 128, "head_dim": 64, "groups": 8}
    return ops_from_frame(pd.DataFrame([{**row, "columns": 1, "state_dtype": "float32", **changes}]))


@pytest.mark.parametrize(("state", "channels"), [(8, 32), (16, 32), (32, 16), (64, 8), (65, 4), (128, 4), (256, 4)])
def test_a_block_has_more_channels_of_short_states(state: int, channels: int) -> None:
    """1,000 heads are 64,000 channels; 132 cores share the blocks, 344 clocks each at 1.83 GHz."""
    blocks = 64_000 / channels
    expected_s = np.ceil(blocks / 132) * 344 / 1.83e9
    assert update_blocks_s(one_position(1000, state=state), load_chip("h100-sxm")).item() == pytest.approx(expected_s)


@pytest.mark.parametrize("other", [{"head_dim": 1}, {"columns": 2}, {"chunk": 128}, {"state": 0}])
def test_only_updates_of_mamba_2_have_such_blocks(other: dict[str, int]) -> None:
    assert update_blocks_s(one_position(1000, **other), load_chip("h100-sxm")).item() == 0


def test_blocks_and_not_bytes_bind_an_h200() -> None:
    """vllm-project/vllm pull request 44251, float32 states, by sequences times heads; 0.8 us of setup beside."""
    chip = load_chip("h200-sxm")
    for heads, measured_us in ((512, 12.74), (1024, 23.85), (4096, 94.81), (8192, 188.20)):
        ops = one_position(heads)
        blocks_s = update_blocks_s(ops, chip).item()
        assert 1e6 * blocks_s + 0.79 == pytest.approx(measured_us, rel=0.02)
        assert blocks_s > plan_columns(ops, [chip]).plan(0).memory_s


def test_larger_blocks_saved_a_b200_part_of_what_small_ones_cost() -> None:
    """Pull request 32873: a hybrid's step was 64 / 6629.13 - 64 / 7089.46 s and 384 / 15782.67 - 384 / 18111.69 s
    shorter with its 23 layers of 64 heads; nothing is to be gained beyond the bandwidth."""
    chip = load_chip("b200-sxm")
    for sequences, saved_s in ((64, 0.627e-3), (384, 3.129e-3)):
        ops = one_position(64 * sequences, sequences=sequences)
        cost_s = 23 * (update_blocks_s(ops, chip).item() - plan_columns(ops, [chip]).plan(0).memory_s)
        assert 0.4 * cost_s < saved_s < cost_s


def test_a_step_takes_no_less_than_its_blocks() -> None:
    """Nemotron Nano 9B: 27 layers of 128 heads of 80 channels are 20 blocks a head; 148 cores at 1.8557 GHz."""
    cost = serving_steps._decode_costs("nemotron-nano-9b-v2", "b200-sxm", 256, 100, None, "float32")["states"]
    blocks_s = 27 * np.ceil(256 * 128 * 20 / 148) * 344 / 1.8557e9
    times_s = np.broadcast_to(cost.time_s, len(serving_steps._CLOCKS))
    assert blocks_s < times_s[-1] < 1.2 * blocks_s
    assert times_s[0] > blocks_s / serving_steps._CLOCKS[0]
