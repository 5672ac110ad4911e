"""Every sampler asks the network exactly as often, and with as many rows, as its algorithm says.

P = 8 prompt tokens, G = 8 generated ones, L = 16 positions, blocks of 4. What a sampler reports is held against what
the trace shows: rows of the embedding are rows through the backbone, logits written by products rows through the head.
"""

import numpy as np
import pytest

from profiler.capture import capture
from workloads.programs import resolve_program
from workloads.samplers.registry import list_samplers

MODEL = """
schema = 1
kind = "masked_diffusion"
layers = 2
d_model = 16
heads = 2
kv_heads = 2
head_dim = 8
ffn = 32
vocab = 100
max_length = 64
rope_theta = 10000.0
norm_eps = 1e-5
mask_id = 99
source = "invented for this test"
"""
VOCAB, WIDTH, ELEMENT_BYTES = 100, 16, 2

# sampler, options, forwards, rows through the backbone, rows through the head; the comment is the formula
COUNTS = [
    ("autoregressive", {}, 8, 8 + 7, 8),  # G; P + G - 1; G
    ("any_order", {}, 8, 8 * 16, 8 * 16),  # G; G L
    ("llada", {"steps": 4, "block_length": 4}, 4, 4 * 16, 4 * 16),  # T; T L
    ("llada", {"steps": 4, "block_length": 4, "cfg_scale": 1.0}, 4, 2 * 4 * 16, 2 * 4 * 16),  # a doubled batch
    ("dream", {"steps": 4}, 4, 4 * 16, 4 * 16),  # T; T L
    ("fast_dllm", {"cache": "none", "steps": 4, "block_length": 4}, 4, 4 * 16, 4 * 16),  # as LLaDA
    # each block once in full, then the block and all behind it
    ("fast_dllm", {"cache": "prefix", "steps": 4, "block_length": 4}, 4, (16 + 8) + (16 + 4), 44),
    ("fast_dllm", {"cache": "dual", "steps": 4, "block_length": 4}, 4, 2 * (16 + 4), 40),  # then the block alone
    # full in steps 0, 1 and 4; else the masks that are left and the one decoded last
    ("dkv_cache", {"steps": 8, "block_length": 8, "refresh": 4}, 8, 3 * 16 + 7 + 6 + 4 + 3 + 2, 70),
    ("mdlm", {"steps": 4}, 5, 5 * 16, 5 * 16),  # T + 1 with the last denoising
    ("sedd", {"steps": 4}, 5, 5 * 16, 5 * 16),  # T + 1
    ("sedd", {"steps": 4, "graph": "uniform", "predictor": "analytic"}, 5, 5 * 16, 5 * 16),
    ("udlm", {"steps": 4}, 4, 4 * 16, 4 * 16),  # T
    ("udlm", {"steps": 4, "cfg_scale": 1.0}, 4, 2 * 4 * 16, 2 * 4 * 16),
    # prefill, then for each block one forward a token and one that stores it; logits of one row where none are needed
    ("bd3lm", {"block_length": 4}, 1 + 2 * (4 + 1), 8 + 2 * (4 * 4 + 4), 2 * 4 * 4 + 3),
    ("sdar", {"block_length": 4}, 1 + 2 * (2 + 1), 8 + 2 * (2 * 4 + 4), 2 * 2 * 4 + 3),
    ("bd3lm", {"block_length": 4, "update": "ddpm"}, 1 + 2 * (3 + 1), 8 + 2 * (3 * 4 + 4), 2 * 3 * 4 + 3),  # 4(1-.75^4)
    ("mdlm", {"steps": 16, "reuse": True}, 2 + 6, 8 * 16, 8 * 16),  # first, last, and 15 (1 - (15/16)^8) between
    # prefill, ceil(4 / 2) steps of each canvas and one forward that stores it
    ("canvas", {"canvas_length": 4, "assumed_commits": 2}, 1 + 2 * 3, 8 + 6 * 4, 2 * 2 * 4 + 3),
    # prefill, two filling steps and one that changes nothing for each block, which stores it
    ("llada_edit", {"block_length": 4, "assumed_commits": 2}, 1 + 2 * 3, 8 + 6 * 4, 6 * 4 + 1),
]


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "tiny.toml"
    path.write_text(MODEL, encoding="utf-8")
    return path


def record(model_file, sampler, options):
    program = resolve_program(
        f"{model_file}@{sampler}", device="meta", prompt_length=8, gen_length=8, sampler_options=options
    )
    with capture(vocab_size=VOCAB, strict=True) as recording:
        generation = program.run()
    return generation, recording.trace


def embedded_rows(frame):
    tables = frame[(frame.kind == "gather") & (frame.read_weights_bytes > 0)]
    return tables.read_weights_bytes.sum() / (WIDTH * ELEMENT_BYTES)


@pytest.mark.parametrize(("sampler", "options", "forwards", "rows", "head_rows"), COUNTS)
def test_counts_follow_the_algorithm(sampler, options, forwards, rows, head_rows, model_file):
    generation, trace = record(model_file, sampler, options)
    frame = trace.to_frame()
    assert generation.nfe == forwards
    assert sum(generation.rows_per_forward) == rows
    assert embedded_rows(frame) == rows
    logits_bytes = frame[frame.kind == "gemm"].write_logits_bytes.sum()
    assert logits_bytes == head_rows * VOCAB * ELEMENT_BYTES
    assert generation.tokens.shape == (1, 16)


def test_sorting_by_top_p_is_work_over_the_vocabulary(model_file):
    """Dream with top-p sorts the V logits of each masked row.

    It reveals int(masks * (1 - s / t)) a step on times from 1 to 0.001 and the rest at last: of 8 masks 1, 2, 2 and 3,
    so 8, 7, 5 and 3 rows are sorted.
    """
    _, plain = record(model_file, "dream", {"steps": 4})
    _, filtered = record(model_file, "dream", {"steps": 4, "top_p": 0.9})

    def sorted_elements(trace):
        return sum(
            count * op.size("rows") * op.size("columns")
            for op, count in zip(trace.ops, trace.call_counts, strict=True)
            if op.kind == "sort" and op.size("columns") == VOCAB
        )

    assert sorted_elements(plain) == 0
    assert sorted_elements(filtered) == (8 + 7 + 5 + 3) * VOCAB


@pytest.mark.parametrize("sampler", [listing.name for listing in list_samplers()])
def test_every_sampler_runs_on_meta_as_promised(sampler, model_file):
    """Whatever its defaults: known costs, G tokens behind the prompt, commits that add up, phases that are marked."""
    generation, trace = record(model_file, sampler, {})
    assert trace.unknown_ops == ()
    assert generation.tokens.shape == (1, 16)
    assert generation.prompt_length == 8
    assert len(generation.rows_per_forward) == generation.nfe >= 1
    assert sum(generation.committed_per_forward) == 8
    marked = np.array([phase != "" for phase in trace.phases])
    kinds = trace.to_frame().kind.to_numpy()
    assert marked[trace.calls.phase[kinds == "gemm"]].all()


@pytest.mark.parametrize("sampler", [listing.name for listing in list_samplers()])
def test_every_sampler_is_deterministic_under_its_seed(sampler, model_file):
    def tokens(seed):
        program = resolve_program(
            f"{model_file}@{sampler}", prompt_length=8, gen_length=8, seed=0,
            sampler_options={"seed": seed, "temperature": 1.0},
        )  # fmt: skip
        return program.run().tokens

    first = tokens(3)
    assert (first == tokens(3)).all()
    if sampler not in ("autoregressive", "speculative"):  # to them the mask is a token like any other
        assert (first[:, 8:] != 99).all()
