"""What vLLM 0.11.1 takes to move the states of Mamba-2 one position on, beyond the bytes that they have.

Its Triton kernel (`selective_state_update` of mamba_ssm.py) has a block of four channels for states of 65 to 128, on
every GPU. Such small blocks bind where memory is fast: an H200 reaches 59 % of its bandwidth with them, and 78 % with
tuned ones. Later versions have others (pull requests 32873 of January 2026, for a B200, and 43083).
"""

import numpy as np
import numpy.typing as npt

from roofline.chip import Chip
from simulator.op_columns import OpColumns

FloatArray = npt.NDArray[np.float64]

# By the greatest state, the last for all longer ones; mamba_ssm.py of vLLM 0.11.1.
_BLOCK_CHANNELS = ((16, 32), (32, 16), (64, 8), (np.inf, 4))
# A core's time for a block, from an H200 with float32 states of 128 (pull request 44251): 12.74, 23.85, 94.81 and
# 188.20 us at 512 to 8,192 sequences times heads of 64 channels, met within 2 % beside 0.8 us of setup. 32,768 and
# more, where tuned blocks as well take a multiple each, are left out. That 16-bit states take as long is not measured.
_BLOCK_CLOCKS = 344.0


def update_blocks_s(ops: OpColumns, chip: Chip) -> FloatArray:
    """Time that the blocks of such updates take at the full clock, [ops]; nothing for all other operations.

    Args:
        ops: of which scans of one position with heads of several channels are updates of Mamba-2.
        chip: its cores share the blocks.
    """
    state, width = ops.size("state")[:, 0], ops.size("head_dim")[:, 0]
    is_update = (state > 0) & (width > 1) & (ops.size("columns")[:, 0] <= 1) & (ops.size("chunk")[:, 0] <= 0)
    limits, channels = (np.array(column, dtype=np.float64) for column in zip(*_BLOCK_CHANNELS, strict=True))
    blocks = ops.size("rows")[:, 0] / channels[np.searchsorted(limits, state)]
    return np.where(is_update, np.ceil(blocks / chip.cores) * _BLOCK_CLOCKS / chip.clock_hz, 0.0)
