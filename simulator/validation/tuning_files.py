"""Which layers of experts ran untuned in the package's tables, told from the order of rows and the names of kernels.

TensorRT-LLM's benchmark (aiconfigurator, `collector/trtllm/collect_moe.py`) keeps tuned tiles in a file a layer, named
by type, hidden size, inner size and experts of a rank. Before a sweep over tokens it loads the first file whose name
begins with its own and then does not tune again. The library looks a tile up by top-k and the numbers of ranks as well,
so what another layer left there is not found, and the library falls back to the first tile of its list, silently. The
rows stand in the order of the measurement, so the files can be followed; no time is looked at.

FlashInfer's CUTLASS kernels come from the same source. In vLLM's and SGLang's tables of Hopper they are as slow as the
untuned layers of TensorRT-LLM, so they are taken for untuned; on a B200 they are not.
"""

import numpy as np
import pandas as pd

from simulator.op_columns import BoolArray

_LAYER = ["hidden_size", "inter_size", "topk", "num_experts", "moe_tp_size", "moe_ep_size", "kernel_source"]
# Row from which the files were new, by GPU: a second run stands behind the first one. On the rows that fits may see,
# every place within 400 rows explains the slow sweeps alike; without a restart a third of them stays unexplained, and
# a second one explains no more. On an A100 and an L40S no sweep is slower for it; they may have kept no files.
_RESTARTS = {"NVIDIA H100 80GB HBM3": 59_508, "NVIDIA H200": 53_730, "NVIDIA B200": 113_805}
_UNTUNED_FLASHINFER = {"NVIDIA H100 80GB HBM3", "NVIDIA H200"}


def ran_untuned(rows: pd.DataFrame) -> BoolArray:
    """Rows that ran the library's default tile, [rows].

    Args:
        rows: of one type, in the package's order; the index is the position in its table.
    """
    if not rows.empty and rows["device"].iloc[0] in _UNTUNED_FLASHINFER and rows["framework"].iloc[0] != "TRTLLM":
        named: BoolArray = rows["kernel_source"].str.contains("flashinfer_cutlass").to_numpy(dtype=np.bool_)
        return named
    return _began_with_other_files(rows)


def _began_with_other_files(rows: pd.DataFrame) -> BoolArray:
    """Rows of sweeps for which the first file is another layer's.

    Where several files begin with the name, the directory's order decided; the majority of them counts.
    """
    if rows.empty or rows["framework"].iloc[0] != "TRTLLM" or rows["device"].iloc[0] not in _RESTARTS:
        return np.zeros(len(rows), dtype=np.bool_)
    restart = _RESTARTS[rows["device"].iloc[0]]
    sweep = rows.groupby([*_LAYER, "distribution"], sort=False).ngroup().to_numpy()
    _, first = np.unique(sweep, return_index=True)
    names = (rows["inter_size"] // rows["moe_tp_size"], rows["num_experts"] // rows["moe_ep_size"])
    starts = rows[_LAYER].assign(inner=names[0], local=names[1]).iloc[first]
    runs: dict[bool, dict[str, tuple[object, ...]]] = {False: {}, True: {}}
    untuned = np.zeros(len(first), dtype=np.bool_)
    for number, (position, *layer, inner, local) in enumerate(starts.itertuples(name=None)):
        files = runs[position >= restart]
        name = f"{layer[0]}_{inner}_{local}"
        is_own = [files[other] == tuple(layer) for other in files if other.startswith(name)]
        if not is_own:
            files[name] = tuple(layer)
        untuned[number] = bool(is_own) and 2 * sum(is_own) < len(is_own)
    return untuned[sweep]
