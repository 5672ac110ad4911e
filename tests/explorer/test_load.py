"""One step over batches and contexts: what a whole generation costs, memory by hand, what ends a line."""

import numpy as np
import pytest

pytest.importorskip("torch", reason="steps are captured")

from explorer.errors import ExplorationError
from explorer.load import sweep
from explorer.step_traces import capture_step
from profiler.capture import capture
from profiler.fusion import fuse
from roofline.chipfile import load_chip
from simulator import analytic
from workloads.programs import resolve_program

H100 = load_chip("h100-sxm")


def points(program, batches, contexts, chips=(H100,), **options):
    return [point for some in sweep([program], chips, batches=batches, contexts=contexts, **options) for point in some]


def generation_s(program, phases, **options):
    """Simulated time of some phases of a whole generation."""
    ready = resolve_program(program, device="meta", **options)
    with capture(name=program, vocab_size=ready.vocab, seed=0) as recording:
        ready.run()
    trace = recording.trace
    chosen = np.isin(trace.calls.phase, [trace.phases.index(name) for name in phases])
    return analytic.simulate(fuse(trace.select(chosen)), H100).makespan_s


def test_steps_of_decoding_sum_up_to_a_generation():
    """9 tokens behind a prompt of 32: the prompt's logits give the first, steps at contexts 33 to 40 the others."""
    whole_s = generation_s("ar-100m", ("decode",), batch=4, prompt_length=32, gen_length=9)
    steps = points("ar-100m", [4], range(33, 41))
    assert len(steps) == 8
    assert sum(point.step_s for point in steps) == pytest.approx(whole_s, rel=0.01)


@pytest.mark.parametrize(
    ("program", "preset_block", "options"),
    [("diffusion-100m", 8, {"steps": 8}), ("sdar-8b", 4, {"sampler_options": {"assumed_commits": 1}})],
)
def test_steps_of_denoising_are_those_of_a_generation(program, preset_block, options):
    """As many equal steps as tokens of the only block."""
    whole_s = generation_s(
        program,
        ("denoise",),
        batch=2,
        prompt_length=64 - preset_block,
        gen_length=preset_block,
        block_length=preset_block,
        **options,
    )
    (step,) = points(program, [2], [64], block_length=preset_block)
    assert step.step_s * preset_block == pytest.approx(whole_s, rel=0.01)
    assert step.tokens_per_s == pytest.approx(2 / step.step_s)
    (faster,) = points(program, [2], [64], block_length=preset_block, tokens_per_step=2)
    assert faster.joules_per_token == pytest.approx(step.joules_per_token / 2)


def test_a_step_needs_its_weights_and_all_its_cache():
    """ar-100m: 12 layers x 4 heads x 64 x keys and values x 2 bytes = 12,288 bytes a token."""
    cache = [capture_step("ar-100m", batch=8, context=context, block_length=32).needed_bytes for context in (512, 1024)]
    assert cache[1] - cache[0] == pytest.approx(8 * 512 * 12_288, rel=0.02)


def test_memory_and_positions_end_a_line():
    found = points("llama-3.1-8b", [1, 64], [8192, 131072, 262144])
    by_load = {(point.batch, point.context): point for point in found}
    assert by_load[1, 8192].why == "" and by_load[1, 8192].step_s > 0
    # 16.06 GB of weights + 64 x 8,192 x 131,072 bytes of cache = 84.8 GB
    assert by_load[64, 8192].why == "out of memory" and np.isnan(by_load[64, 8192].tokens_per_s)
    assert by_load[64, 8192].needed_bytes == pytest.approx(84.8e9, rel=0.01)
    assert by_load[1, 131072].why == "" and by_load[1, 262144].why == "the model has 131,072 positions"


def test_what_binds_over_the_batch():
    """Decoding is bound by memory at batch 1 and a token costs less in a batch; a long context binds it again."""
    one, many = points("llama-3.1-8b", [1, 256], [1024])
    assert one.memory_part > 0.8 and many.why == "" and many.joules_per_token < one.joules_per_token / 20
    # 16.06 GB at 3.35 TB/s is 4.8 ms: no step is faster
    assert one.step_s > 16.06e9 / 3.35e12


@pytest.mark.parametrize(
    ("program", "changes", "message"),
    [
        ("ar-100m", {"batches": [0]}, "batch must be at least 1, got 0"),
        ("ar-100m", {"contexts": []}, "no context given"),
        ("diffusion-100m", {"contexts": [16]}, "leaves none before the 32 of a step"),
        ("ar-100m", {"tokens_per_step": 0.0}, "tokens per step"),
        ("diffusiongemma-26b-a4b", {}, "is of kind uniform_diffusion"),
    ],
)
def test_nonsense_is_refused(program, changes, message):
    with pytest.raises(ExplorationError) as error:
        points(program, **{"batches": [1], "contexts": [64], **changes})
    assert message in str(error.value)
