"""Readers of the package's tables of kernels along sequences: causal convolutions and scans."""

import pandas as pd


def mamba2(table: pd.DataFrame, _dtype: str) -> pd.DataFrame:
    """The convolution of Mamba-2 layers: whole sequences (`context`) and one position each (`generation`).

    The table holds no row of the scan itself, whatever its name says: its kernel sources are `causal_conv1d_fn` and
    `causal_conv1d_update`. A CUDA graph holds one call, so every replay finds the tensors of the one before.
    """
    names = {"batch_size": "sequences", "seq_len": "positions", "d_conv": "window", "num_tokens": "tokens"}
    is_update = (table["phase"] == "generation").astype(int)
    return table.rename(columns=names).assign(
        kind="conv",
        dtype="bfloat16",
        channels=table["nheads"] * table["head_dim"] + 2 * table["n_groups"] * table["d_state"],
        update=is_update,
        weight_copies=1,
    )


_DELTA_CHUNK = 64  # positions, fixed in the measured kernels (flash-linear-attention, chunk_gated_delta_rule)


def delta_rule(table: pd.DataFrame, _dtype: str) -> pd.DataFrame:
    """Scans of the gated delta rule without their convolutions, replayed on the same tensors."""
    rows = table[~table["kernel_source"].str.startswith("causal_conv1d")]
    is_one = (rows["phase"] == "generation").astype(int)
    return rows.assign(
        kind="scan",
        dtype="bfloat16",
        sequences=rows["batch_size"],
        rows=rows["batch_size"] * rows["num_v_heads"] * rows["head_v_dim"],
        columns=rows["seq_len"],
        tokens=rows["num_tokens"],
        state=rows["head_k_dim"],
        head_dim=rows["head_v_dim"],
        groups=rows["num_k_heads"],
        chunk=_DELTA_CHUNK * (1 - is_one),
        delta=1,
        weight_copies=1,
    )
