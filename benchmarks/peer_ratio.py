"""One matrix product on one systolic design by SCALE-Sim and here, in one run: both times, both answers, their ratio.

SCALE-Sim (scalesim-project/SCALE-Sim, MIT) plays an array clock by clock and is what such designs are often compared
by. It is no dependency, and its release 3.0.0 needs a NumPy older than 2.4, so it has an environment of its own:

python -m venv peer && peer/bin/pip install scalesim==3.0.0 'numpy<2.4'
python benchmarks/peer_ratio.py --peer-python peer/bin/python [--size 1024] [--designs 20000]
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from explorer.evaluator import Evaluator, Job, constants_of
from explorer.objectives import Goals
from explorer.parameters import Parameter, ParameterSpace
from explorer.technology import load_technology
from explorer.templates.template import load_template
from explorer.workload import workload_from_trace
from profiler.op import Op, Operand
from profiler.provenance import Provenance
from profiler.traces import Calls, Trace

SIDE = 128  # rows and columns of the array
CLOCK_GHZ = 1.0
MISSING = 3  # exit code of the peer's program where the peer is not installed
# What stands for "operands are always there": SCALE-Sim counts no stalls where it estimates bandwidths.
DESIGN = {"cores": 1, "arrays": 1, "array_rows": SIDE, "array_columns": SIDE, "clock_ghz": CLOCK_GHZ}
DESIGN |= {"dram": "hbm4", "stacks": 8, "launch_us": 0.001}
SPACE = ParameterSpace(
    parameters=(
        Parameter(name="array_rows", values=(32, 64, 128, 256)),
        Parameter(name="array_columns", values=(32, 64, 128, 256)),
        Parameter(name="arrays", values=(1, 2, 4, 8)),
        Parameter.range("clock_ghz", 0.5, 2.0, steps=16),
        Parameter.range("cores", 1, 16, steps=16),
        Parameter(name="stacks", values=(1, 2, 4, 6, 8)),
    )
)
CONFIGURATION = """
[general]
run_name = peer
[run_presets]
InterfaceBandwidth = CALC
UseRamulatorTrace = False
[layout]
IfmapCustomLayout = False
IfmapSRAMBankBandwidth = 10
IfmapSRAMBankNum = 10
IfmapSRAMBankPort = 2
FilterCustomLayout = False
FilterSRAMBankBandwidth = 10
FilterSRAMBankNum = 10
FilterSRAMBankPort = 2
[architecture_presets]
ArrayHeight = {side}
ArrayWidth = {side}
IfmapSramSzkB = 8192
FilterSramSzkB = 8192
OfmapSramSzkB = 8192
IfmapOffset = 0
FilterOffset = 10000000
OfmapOffset = 20000000
Dataflow = ws
Bandwidth = 10
ReadRequestBuffer = 64
WriteRequestBuffer = 64
[sparsity]
SparsitySupport = false
SparseRep = csr
OptimizedMapping = false
BlockSize = 8
RandomNumberGeneratorSeed = 1
"""
PROGRAM = f"""
import contextlib, csv, io, json, sys, time
try:
    from scalesim.scale_sim import scalesim
except ImportError:
    sys.exit({MISSING})
start = time.perf_counter()
with contextlib.redirect_stdout(io.StringIO()):
    run = scalesim(save_disk_space=True, verbose=False, config="peer.cfg", topology="product.csv",
                   layout="layout.csv", input_type_gemm=True)
    run.run_scale(top_path="out")
seconds = time.perf_counter() - start
rows = list(csv.reader(open("out/peer/COMPUTE_REPORT.csv"), skipinitialspace=True))
print(json.dumps(dict(seconds=seconds, clocks=float(rows[1][rows[0].index("Total Cycles")]))))
"""


def main() -> None:
    """Print a line for each figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", default=sys.executable, help="Python that has SCALE-Sim.")
    parser.add_argument("--size", type=int, default=1024, help="Rows, columns and depth of the product.")
    parser.add_argument("--designs", type=int, default=20_000)
    asked = parser.parse_args()
    print(f"a product of {asked.size} x {asked.size} x {asked.size} on one weight-stationary array of {SIDE} x {SIDE}")
    evaluate = evaluator(asked.size)
    index = SPACE.sobol(asked.designs, seed=0)
    values = SPACE.decode(index)
    evaluate(SPACE.decode(index[:256]))  # what is imported and cached at first does not count
    start = time.perf_counter()
    found = evaluate(values)
    own_s = (time.perf_counter() - start) / len(index)
    assert np.isfinite(found.metrics["product.seconds_per_unit"]).all(), "every design is simulated"
    one = evaluate({name: np.array([value]) for name, value in DESIGN.items()})
    clocks = float(one.metrics["product.seconds_per_unit"][0]) * CLOCK_GHZ * 1e9
    print(f"here: {clocks:,.0f} clocks; {own_s * 1e6:,.0f} us a design ({len(index):,} designs, one process)")
    least = asked.size**3 / SIDE**2
    print(f"least that the array can take: {least:,.0f} clocks")
    peer = scale_sim(asked.peer_python, asked.size)
    if peer is None:
        print(f"skipped: {asked.peer_python} has no SCALE-Sim; how to get it is said at the top of this file")
        return
    print(f"SCALE-Sim: {peer['clocks']:,.0f} clocks; {peer['seconds']:.1f} s for the one design")
    print(f"it loads each {SIDE} x {SIDE} tile of weights before rows stream and drains the array after them, a tile")
    print(f"at a time; here both are hidden behind the tile before: {peer['clocks'] / clocks:.2f} x our clocks")
    print(f"ratio of rates: {peer['seconds'] / own_s:,.0f} x")


def evaluator(size: int) -> Evaluator:
    """What evaluates systolic designs by one product."""
    template = load_template("systolic")
    workload = workload_from_trace(product(size), name="product", units=1, needed_bytes=0.0, fused=False)
    return Evaluator(
        template=template,
        technology=load_technology(),
        jobs=(Job(name="product", points=(("default", workload),)),),
        goals=Goals(limits=(("max_die_mm2", 1e9),)),  # nothing is spared by a limit
        calibration=constants_of(template),
    )


def product(size: int) -> Trace:
    """A trace of one square product in bfloat16."""
    square = Operand(shape=(size, size), dtype="bfloat16", moved_bytes=2 * size * size)
    op = Op(
        kind="gemm",
        name="aten::mm",
        dtype="bfloat16",
        inputs=(square, square),
        outputs=(square,),
        sizes=(("batch", 1), ("m", size), ("n", size), ("k", size)),
        matrix_flops=2 * size**3,
    )
    zero, unknown = np.zeros(1, dtype=np.int64), np.full(1, np.nan)
    calls = Calls(
        **dict.fromkeys(("op", "phase", "step", "module", "stream"), zero),
        **dict.fromkeys(("start_s", "duration_s", "energy_j"), unknown),
    )
    return Trace(
        name="product", ops=(op,), calls=calls, phases=("run",), modules=("",), provenance=Provenance(source="made")
    )


def scale_sim(python: str, size: int) -> dict[str, float] | None:
    """Seconds that SCALE-Sim runs and clocks that it counts; None where it is not installed."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "peer.cfg").write_text(CONFIGURATION.format(side=SIDE))
        (Path(folder) / "product.csv").write_text(f"Layer, M, N, K,\nproduct, {size}, {size}, {size},\n")
        (Path(folder) / "layout.csv").write_text("Layer name,\n")
        program = Path(python).absolute() if "/" in python else python
        try:
            done = subprocess.run([program, "-c", PROGRAM], cwd=folder, capture_output=True, text=True, check=False)
        except OSError as error:
            raise SystemExit(f"cannot run --peer-python {python}: {error.strerror}") from None
    if done.returncode == MISSING:
        return None
    if done.returncode:
        raise SystemExit(f"SCALE-Sim failed: {done.stderr.strip().splitlines()[-1]}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


if __name__ == "__main__":
    main()
