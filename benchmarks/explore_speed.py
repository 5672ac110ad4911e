"""How fast designs are evaluated, in one run on this machine: against one design at a time, and 100,000 designs whole.

python benchmarks/explore_speed.py [--designs N]
"""

import argparse
import resource
import time

import numpy as np

from explorer.evaluator import Evaluator, Job, constants_of
from explorer.finalists import chip_of
from explorer.objectives import Goals
from explorer.parallel import count_cores
from explorer.parallel import evaluator as workers
from explorer.parameters import Parameter, ParameterSpace
from explorer.technology import load_technology
from explorer.templates.template import load_template
from explorer.workload import workload_from_trace
from profiler.capture import capture
from profiler.traces import Trace
from simulator import analytic
from workloads.programs import resolve_program

PROGRAMS = {
    "ar": ("llama-3.1-8b", {"gen_length": 64}),
    "ar, batch 64": ("llama-3.1-8b", {"gen_length": 64, "batch": 64}),
    "denoise": ("llada-8b", {"gen_length": 64, "steps": 64, "block_length": 32}),
    "dual cache": ("llada-8b@fast_dllm", {"gen_length": 64, "block_length": 32, "sampler_options": {"cache": "dual"}}),
    "block": ("sdar-8b", {"gen_length": 64, "block_length": 4}),
    "block, batch 8": ("sdar-8b", {"gen_length": 64, "block_length": 4, "batch": 8}),
}
SPACE = ParameterSpace(
    parameters=(
        Parameter(name="cores", values=tuple(range(64, 193, 8))),
        Parameter.range("clock_ghz", 1.0, 2.4, steps=8),
        Parameter(name="matrix_macs", values=(1024, 2048, 4096, 8192)),
        Parameter(name="vector_lanes", values=(64, 128, 256)),
        Parameter(name="special_lanes", values=(16, 32, 64)),
        Parameter(name="sampler_lanes", values=(0, 32)),
        Parameter(name="l1_kib", values=(128, 256, 512)),
        Parameter(name="l2_mib", values=(16, 32, 64, 128)),
        Parameter(name="l2_bytes_per_clock", values=(3000, 6000, 12000)),
        Parameter(name="dram", values=("hbm3", "hbm3e", "hbm4", "gddr7")),
        Parameter(name="stacks", values=(4, 5, 6, 8, 12)),
        Parameter(name="node", values=("n5", "n4", "n3e")),
        Parameter(name="link_gb_per_s", values=(450, 900)),
    )
)
BLOCK = 4096


def main() -> None:
    """Print a line for each figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--designs", type=int, default=100_000)
    count = parser.parse_args().designs
    traces = {name: _captured(spec, options) for name, (spec, options) in PROGRAMS.items()}
    template = load_template("gpu")
    jobs = tuple(Job(name=name, points=(("default", workload_from_trace(trace)),)) for name, trace in traces.items())
    evaluate = Evaluator(
        template=template,
        technology=load_technology(),
        jobs=jobs,
        goals=Goals(limits=(("max_area_mm2", 1e6),), holds_models=False),  # nothing is spared by a limit
        calibration=constants_of(template),
    )
    index = SPACE.sobol(count, seed=0)
    print(f"{SPACE.size:.3g} designs in the space of {len(SPACE.parameters)} parameters; {len(jobs)} workloads")
    start = time.perf_counter()
    with workers(evaluate) as shared:
        for at in range(0, len(index), BLOCK):
            shared(SPACE.decode(index[at : at + BLOCK]))
    whole_s = time.perf_counter() - start
    memory_gb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6
    print(f"{len(index):,} designs x {len(jobs)} workloads: {whole_s:.1f} s on {count_cores()} cores")
    print(f"largest worker: {memory_gb:.2f} GB, this process: {_own_gb():.2f} GB")
    each_s = _one_by_one(evaluate, index[:: max(1, len(index) // 8)][:8], traces)
    print(f"one design at a time, whole traces by the analytic engine: {each_s:.2f} s a design")
    print(f"ratio: {each_s / (whole_s / len(index)):,.0f} x")


def _captured(spec: str, options: dict[str, object]) -> Trace:
    program = resolve_program(spec, device="meta", prompt_length=256, **options)  # type: ignore[arg-type]
    with capture(vocab_size=program.vocab) as recording:
        program.run()
    return recording.trace


def _one_by_one(evaluate: Evaluator, index: np.ndarray, traces: dict[str, Trace]) -> float:
    """Seconds of a design whose chip is built and simulated alone, as a script around `simulate` would do."""
    start = time.perf_counter()
    for number in index.tolist():
        chip = chip_of(evaluate, SPACE.decode(np.array([number])), f"design-{number}")
        for trace in traces.values():
            analytic.simulate(trace, chip)
    return (time.perf_counter() - start) / len(index)


def _own_gb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


if __name__ == "__main__":
    main()
