import pytest
import torch
from tiny_networks import logits_in_pieces, shaken, tiny_preset

from profiler.capture import capture
from workloads.architecture import LatentAttention, Mixture, SlidingWindow, StateSpace
from workloads.backbones import Backbone, build_backbone, window_masking
from workloads.errors import WorkloadError
from workloads.markers import marked_role
from workloads.presets import load_preset, parameter_count
from workloads.transformer import Transformer

LATENT = {"latent_attention": LatentAttention(query_rank=10, latent=6, plain=8, rotary=4, value=8), "head_dim": 12}
WINDOW = {
    "window": SlidingWindow(
        length=4,
        global_every=3,
        global_kv_heads=1,
        global_head_dim=16,
        global_rope_theta=1e4,
        global_rotary_frac=0.5,
        shared_key_value=True,
    ),
    "layers": 3,
    "qk_norm": True,
    "ffn_type": "geglu",
    "sandwich_norms": True,
    "logit_softcap": 5.0,
}
JAMBA = {
    "layout": "SA",
    "layers": 4,
    "positions": "none",
    "rope_theta": None,
    "state_space": StateSpace(version=1, inner=32, state=4, dt_rank=3, normed=True),
    "moe": Mixture(experts=4, top_k=2, expert_ffn=10, every=2, offset=1),
}
NEMOTRON = {
    "layout": "M-*-",
    "layers": 5,
    "positions": "none",
    "rope_theta": None,
    "ffn_type": "relu2_mlp",
    "state_space": StateSpace(version=2, inner=32, state=4, heads=4, groups=2, chunk=4),
}
ADAPTIVE = {"condition": 6, "norm": "layernorm", "ffn_type": "gelu_mlp", "ffn_bias": True, "head_bias": True}
LEARNED = {"positions": "learned", "rope_theta": None, "norm": "layernorm", "norm_bias": True, "tied": True}
PARTIAL = {"rotary_frac": 0.5, "moe": Mixture(experts=4, top_k=2, expert_ffn=10, shared=1, dense_layers=1)}
ALL = {
    "latent": LATENT,
    "window": WINDOW,
    "jamba": JAMBA,
    "nemotron": NEMOTRON,
    "adaptive": ADAPTIVE,
    "learned": LEARNED,
    "partial": PARTIAL,
}


def build(**changes: object) -> Transformer:
    figures = {"max_length": 64, "rope_theta": 100.0, **changes}
    return shaken(build_backbone(tiny_preset(**figures), dtype=torch.float64))


def tokens(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randint(0, 49, shape, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
@pytest.mark.parametrize("pieces", [(6, 1, 1, 1), (4, 3, 2), (1, 1, 7)])
@pytest.mark.parametrize("name", ALL)
def test_cache_gives_the_logits_of_one_full_forward(name: str, pieces: tuple[int, ...]) -> None:
    model = build(**ALL[name])
    ids = tokens(2, sum(pieces))

    torch.testing.assert_close(logits_in_pieces(model, ids, pieces), model(ids), rtol=1e-5, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("name", ALL)
def test_causal_network_ignores_the_future_and_bidirectional_one_does_not(name: str) -> None:
    ids = tokens(1, 9)
    changed = ids.clone()
    changed[0, 6] = (changed[0, 6] + 1) % 49
    causal, both = build(**ALL[name]), build(**ALL[name], causal=False)

    torch.testing.assert_close(causal(ids)[:, :6], causal(changed)[:, :6])
    assert not torch.allclose(both(ids)[:, :6], both(changed)[:, :6], atol=1e-9)


@pytest.mark.parametrize("name", ALL)
def test_parameter_count_equals_the_parameters_built(name: str) -> None:
    model = build(**ALL[name])
    assert sum(weight.numel() for weight in model.parameters()) == parameter_count(model.preset)


@torch.no_grad()
def test_local_layers_see_no_farther_than_their_window() -> None:
    local = build(**{**WINDOW, "layers": 2})  # both layers local: 3 positions back each
    ids = tokens(1, 12)
    changed = ids.clone()
    changed[0, 0] = (changed[0, 0] + 1) % 49

    torch.testing.assert_close(local(ids)[:, 7:], local(changed)[:, 7:])
    assert not torch.allclose(local(ids)[:, 6], local(changed)[:, 6], atol=1e-9)
    reached = build(**WINDOW)
    assert not torch.allclose(reached(ids)[:, 11], reached(changed)[:, 11], atol=1e-9)


@pytest.mark.parametrize(("block", "canvas"), [(1, 1), (1, 5), (None, 5), (None, 3), (4, 5)])
@pytest.mark.parametrize("first_row", [0, 3, 9])
def test_window_mask_equals_its_definition(block: int | None, canvas: int, first_row: int) -> None:
    keys, length = first_row + canvas, 4
    masking = window_masking(block, length, queries=canvas, keys=keys, first_row=first_row, device=torch.device("cpu"))

    seen = torch.ones(canvas, keys - masking.first_key, dtype=torch.bool)
    if masking.is_square:
        seen = seen.tril()
    elif masking.mask_ST is not None:
        seen = masking.mask_ST
    for query in range(canvas):
        row = first_row + query
        for key in range(keys):
            is_near = row - length < key and (block is not None or key < row + length)
            if block is None and canvas <= length:  # a canvas that fits sees all of itself, each row the same keys
                is_near = key > first_row - length
            is_allowed = block is None or key // block <= row // block
            given = key >= masking.first_key and bool(seen[query, key - masking.first_key])
            assert given == (is_near and is_allowed), (row, key)


@torch.no_grad()
def test_logits_stay_under_their_cap() -> None:
    model = build(**WINDOW)
    assert model(tokens(1, 9)).abs().max() < 5


@torch.no_grad()
def test_noise_level_changes_every_row() -> None:
    model = build(**ADAPTIVE)
    assert isinstance(model, Backbone)
    ids = tokens(2, 5)
    zero, other = (model(ids, noise_level_B=torch.tensor(level)) for level in ([0.0, 0.0], [0.0, 2.0]))

    torch.testing.assert_close(zero, model(ids))
    torch.testing.assert_close(other[0], zero[0])
    assert (other[1] - zero[1]).abs().amax(dim=-1).min() > 0


@torch.no_grad()
def test_self_conditioning_shows_the_last_prediction() -> None:
    model = build(**WINDOW, self_conditioning_ffn=24, kind="uniform_diffusion")
    assert isinstance(model, Backbone)
    ids = tokens(1, 4)
    first = model.denoise(ids, None)
    torch.testing.assert_close(first, model.denoise(ids, torch.zeros(1, 4, 16, dtype=torch.float64)))

    assert not torch.allclose(first, model.denoise(ids, model.signal(first.softmax(dim=-1))), atol=1e-9)
    one_hot = torch.nn.functional.one_hot(ids, 50).double()
    torch.testing.assert_close(model.signal(one_hot), 4 * model.embedding(ids))
    with pytest.raises(WorkloadError, match="has no self-conditioning"):
        build(**LEARNED).denoise(ids, None)  # type: ignore[operator]  # a Backbone


@torch.inference_mode()
def test_latent_cache_holds_one_row_per_token_and_is_marked() -> None:
    model = build_backbone(load_preset("deepseek-v3"), dtype=torch.bfloat16, device="meta")
    cache = model.new_cache(1, 128)
    stored = [*cache._keys, *cache._values]

    # 70,272 bytes per token: 61 layers of 512 + 64 values of 2 bytes (arXiv:2412.19437, section 2.1.1).
    assert sum(part.numel() * part.element_size() for part in stored) == 128 * 70_272
    assert {marked_role(part, part.untyped_storage()._cdata) for part in cache._keys} == {"kv_cache"}


@torch.inference_mode()
def test_local_layers_read_only_their_window_of_the_cache() -> None:
    model = build_backbone(build(**WINDOW).preset, device="meta")
    cache = model.new_cache(1, 64)
    model(torch.zeros(1, 40, dtype=torch.long, device="meta"), cache=cache)
    with capture() as recording:
        model(torch.zeros(1, 1, dtype=torch.long, device="meta"), cache=cache, position=40)
    attention = recording.trace.to_frame().query("kind == 'attention'")

    # Two local layers read 4 rows of 2 heads of 8; the global one 41 rows of one head of 16; keys and values, 4 bytes.
    assert attention["read_kv_cache_bytes"].tolist() == [2 * 4 * 2 * 8 * 4] * 2 + [2 * 41 * 16 * 4]


@pytest.mark.parametrize(
    "name",
    [
        "llada2.0-mini",
        "nemotron-h-8b",
        "jamba-v0.1",
        "mamba-2.8b",
        "deepseek-v3",
        "diffusiongemma-26b-a4b",
        "mdlm-170m",
    ],
)
@torch.inference_mode()
def test_full_size_network_is_captured_on_meta_with_every_cost_known(name: str) -> None:
    model = build_backbone(load_preset(name), dtype=torch.bfloat16, device="meta")
    with capture() as recording:
        logits = model(torch.zeros(1, 64, dtype=torch.long, device="meta"))

    assert logits.shape == (1, 64, model.vocab)
    assert not recording.trace.unknown_ops


def test_plain_transformer_refuses_what_it_cannot_build() -> None:
    with pytest.raises(WorkloadError, match="has parts that the plain transformer lacks; use build_backbone"):
        Transformer(load_preset("mixtral-8x7b"), device="meta")
    assert type(build_backbone(load_preset("llada-8b"), device="meta")) is Transformer
