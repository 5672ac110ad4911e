"""Promises that hold for every trace on every chip: the simulated time, the bound, and what conserves what."""

import numpy as np
import pytest

from profiler.capture import capture
from profiler.fusion import fuse
from roofline.analysis import analyze
from roofline.chipfile import list_chips, load_chip
from simulator import analytic, event
from workloads.programs import resolve_program

PROGRAMS = {
    "decode": {"spec": "llama-3.1-8b", "prompt_length": 1022, "gen_length": 3},
    "denoise": {"spec": "llada-8b", "prompt_length": 960, "gen_length": 64, "steps": 2, "block_length": 32},
    "small": {"spec": "diffusion-100m", "prompt_length": 8, "gen_length": 8, "steps": 4, "block_length": 8},
}


@pytest.fixture(scope="module")
def traces():
    return {name: record(**options) for name, options in PROGRAMS.items()}


def record(spec, **options):
    program = resolve_program(spec, device="meta", **options)
    with capture(name=spec, vocab_size=program.vocab) as recording:
        program.run()
    return recording.trace


@pytest.mark.parametrize("chip", list_chips())
@pytest.mark.parametrize("program", PROGRAMS)
def test_no_call_is_simulated_faster_than_its_bound(program, chip, traces):
    for trace in (traces[program], fuse(traces[program])):
        for engine in (analytic, event):
            result = engine.simulate(trace, load_chip(chip))
            assert (result.duration_s >= result.op_bound_s[result.op] * (1 - 1e-9)).all()
            (point,) = analyze(trace, load_chip(chip), by="trace")
            assert result.bound_s == pytest.approx(point.bound_s)


@pytest.mark.parametrize("program", PROGRAMS)
def test_engines_agree_on_one_stream(program, traces):
    chip = load_chip("h100-sxm")
    closed, played = (engine.simulate(traces[program], chip) for engine in (analytic, event))
    assert np.allclose(played.duration_s, closed.duration_s, rtol=0.03)


def test_decode_step_at_context_1024_is_bound_by_memory(traces):
    steps = [point for point in analyze(traces["decode"], load_chip("h100-sxm"), by="step") if point.phase == "decode"]
    last = steps[-1]
    assert last.intensity < 2.5
    assert last.bound_by == "hbm"
    assert dict(last.read_bytes)["weights"] / last.bytes > 0.9


def test_denoising_step_over_1024_positions_is_bound_by_compute(traces):
    steps = [
        point for point in analyze(traces["denoise"], load_chip("h100-sxm"), by="step") if point.phase == "denoise"
    ]
    assert len(steps) == 2
    for step in steps:
        assert step.bound_by == "compute"
        assert step.intensity > load_chip("h100-sxm").ridge_flops_per_byte("bfloat16")
        # every weight once, of the embedding only the rows of the 1,024 tokens
        embedding = 126464 * 4096 * 2
        assert dict(step.read_bytes)["weights"] == 8_015_581_184 * 2 - embedding + 1024 * 4096 * 2


def test_flops_of_a_step_follow_from_the_dimensions(traces):
    """2 FLOPs per weight and token without the embedding, and 4 L T d for attention in each of the 32 layers."""
    frame = traces["denoise"].to_frame().query("phase == 'denoise' and step == 0")
    positions, width, layers = 1024, 4096, 32
    products = 2 * positions * (8_015_581_184 - 126464 * 4096 - (2 * layers + 1) * width)
    attention = layers * 4 * positions * positions * width
    assert frame.matrix_flops.sum() == products + attention
