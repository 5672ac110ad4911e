"""What `capture` says of a generation, worked out by hand."""

import torch

from reports.generation_figures import generation_json, generation_line
from workloads.images.generation import ImageGeneration
from workloads.samplers.protocol import Generation
from workloads.samplers.speculative import SpeculativeGeneration

# Two sequences of 3 prompt and 8 generated tokens: 4 forwards of 2 tokens each, over all 11 positions.
TEXT = {"tokens": torch.zeros(2, 11), "prompt_length": 3, "committed_per_forward": (4, 4, 4, 4)}


def test_text_generation_counts_forwards_tokens_and_rows():
    made = Generation(**TEXT, rows_per_forward=(22, 22, 22, 22))
    assert generation_json(made) == {
        "forwards": 4,
        "rows": 88,
        "sequences": 2,
        "tokens": 16,
        "tokens_per_forward": 2.0,
    }
    assert generation_line(made) == (
        "16 tokens in 4 forwards (2.00 a forward and sequence), 88 rows through the network"
    )


def test_speculation_says_how_many_drafts_were_accepted():
    """The prefill gives one token; rounds of 2 drafts then accept 2, 0 and 1 of them and give one more each."""
    made = SpeculativeGeneration(
        tokens=torch.zeros(1, 10),
        prompt_length=3,
        committed_per_forward=(1, 3, 1, 2),
        rows_per_forward=(3, 3, 3, 3),
        draft_rows_per_forward=(3, 1, 1, 2, 1, 1, 1),
    )
    figures = generation_json(made)
    assert figures is not None
    assert (figures["drafts_accepted"], figures["drafts"], figures["draft_rows"]) == (3, 6, 10)
    assert generation_line(made).endswith("; 3 of 6 drafts accepted")


def test_images_count_forwards_and_rows_and_other_results_nothing():
    image = ImageGeneration(
        latents=torch.zeros(1, 4, 8, 8), image=None, steps=3, positions_per_image=16, rows_per_forward=(32, 32, 32)
    )
    assert generation_line(image) == "generated in 3 forwards, 96 rows through the network"
    assert generation_line(torch.zeros(2)) == ""
    assert generation_json(None) is None
