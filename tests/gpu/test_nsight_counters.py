"""Nsight Compute counts a real program's kernels, and each finds its operation; docs/gpu-checklist.md lists it."""

import shutil

import numpy as np
import pytest
import torch

from profiler.capture import capture
from profiler.capture.counted_run import CountedRun
from profiler.capture.nsight_compute import count_kernels
from profiler.errors import TraceError
from profiler.launch_join import join_launches
from workloads.programs import resolve_program

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, and there is none"),
]
SIZE = 8192  # 134 MB in bfloat16: larger than any second-level cache
SCRIPT = f"""import torch
x = torch.randn({SIZE}, {SIZE}, device="cuda", dtype=torch.bfloat16)
def main():
    with torch.no_grad():
        for _ in range(3):
            (x @ x).exp()
"""


def test_nsight_compute_counts_the_bytes_of_each_operation(tmp_path):
    if shutil.which("ncu") is None:
        pytest.skip("Nsight Compute (ncu) is not installed: nobody counts")
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    try:
        counted = count_kernels(CountedRun(program=f"py:{script}", options={"device": "cuda"}, warmup=1))
    except TraceError as error:
        if "ERR_NVGPUCTRPERM" in str(error):
            pytest.skip(str(error))
        raise
    ready = resolve_program(f"py:{script}", device="cuda")
    ready.run()
    with capture(kernels=True) as recording:
        ready.run()
    trace, match = join_launches(recording.trace, counted)
    assert match.is_whole, match.note()
    frame = trace.to_frame()
    assert np.isfinite(frame.counted_dram_bytes).all()
    exponentials = frame[frame.kind == "pointwise"]
    assert len(exponentials) == 3
    # Caches are flushed before each kernel, so all is read from main memory; of what is written, some stays in the L2.
    assert exponentials.counted_dram_bytes.between(2 * SIZE**2, 1.1 * 2 * 2 * SIZE**2).all()
    assert exponentials.counted_l2_bytes.ge(0.9 * 2 * 2 * SIZE**2).all()
    assert frame[frame.kind == "gemm"].counted_tensor_instructions.gt(0).all()
