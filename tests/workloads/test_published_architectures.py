"""Our networks against those of transformers, built tiny and given the same weights."""

import re
from typing import Any

import pytest
import torch
from tiny_networks import shaken, tiny_preset

from workloads.architecture import LatentAttention, Mixture, SlidingWindow, StateSpace
from workloads.backbones import build_backbone
from workloads.presets import parameter_count
from workloads.transformer import Transformer

transformers = pytest.importorskip("transformers")

# Names of transformers -> ours, applied in this order.
RULES = (
    (r"^(model|transformer|backbone)\.(decoder\.|language_model\.)?", ""),
    (r"^(embed_tokens|embeddings|wte)\.", "embedding."),
    (r"^wpe\.", "places."),
    (r"^lm_head\.", "head."),
    (r"^(final_layernorm|norm_f|ln_f)\.", "norm."),
    (r"^(layers|h)\.", "blocks."),
    (r"\.(mamba|mixer|self_attn|attn)\.", ".attention."),
    (r"\.feed_forward\.", ".mlp."),
    (r"\.(input_layernorm|ln_1)\.", ".attention_norm."),
    (r"\.(pre_ff_layernorm|post_attention_layernorm|ln_2)\.", ".mlp_norm."),
    (r"\.mlp\.(gate|router)\.weight$", ".mlp.router.score.weight"),
    (r"\.mlp\.gate\.e_score_correction_bias$", ".mlp.router.choice_bias"),
    (r"\.shared_experts\.", ".shared."),
    (r"\.q_a_proj\.", ".query_down."),
    (r"\.q_a_layernorm\.", ".query_norm."),
    (r"\.q_b_proj\.", ".query_up."),
    (r"\.kv_a_proj_with_mqa\.", ".latent_down."),
    (r"\.kv_a_layernorm\.", ".latent_norm."),
    (r"\.kv_b_proj\.", ".latent_up."),
    (r"\.q_proj\.", ".query."),
    (r"\.k_proj\.", ".key."),
    (r"\.v_proj\.", ".value."),
    (r"\.o_proj\.", ".output."),
    (r"\.q_norm\.", ".query_norm."),
    (r"\.k_norm\.", ".key_norm."),
    (r"\.(gate|up|down)_proj(\.|$)", r".\1\2"),
    (r"\.A_log$", ".decay_log"),
    (r"\.D$", ".skip"),
    (r"\.dt_bias$", ".step_bias"),
    (r"\.conv1d\.", ".conv."),
    (r"\.in_proj\.", ".enter."),
    (r"\.out_proj\.", ".out."),
    (r"\.x_proj\.", ".select."),
    (r"\.dt_proj\.", ".step."),
    (r"\.(dt|b|c)_layernorm\.", lambda found: f".norms.{'dt b c'.split().index(found[1])}."),
    (r"\.attention\.c_proj\.", ".attention.output."),
    (r"\.mlp\.c_fc\.", ".mlp.up."),
    (r"\.mlp\.c_proj\.", ".mlp.down."),
)


def our_name(theirs: str, rules: tuple[tuple[str, Any], ...]) -> str:
    for pattern, replacement in rules:
        theirs = re.sub(pattern, replacement, theirs)
    return theirs


def their_weights(
    reference: Any, model: Transformer, rules: tuple[tuple[str, Any], ...] = RULES, apart: frozenset[str] = frozenset()
) -> None:
    """Copy every weight of ours into the reference; each of ours must be used, but those set apart."""
    ours = dict(model.named_parameters(remove_duplicate=False))
    unused = set(ours)

    def take(name: str) -> torch.Tensor:
        unused.discard(name)
        return ours[name].detach()

    with torch.no_grad():
        for theirs, target in {**dict(reference.named_parameters()), **persistent_buffers(reference)}.items():
            name = our_name(theirs, rules)
            if name.endswith(".gate_up_proj"):
                part = name.removesuffix(".gate_up_proj")
                weight = torch.cat((take(f"{part}.gate"), take(f"{part}.up")), dim=1)
            elif ".c_attn." in name:
                part, ending = name.split(".c_attn.")
                weight = torch.cat([take(f"{part}.{each}.{ending}") for each in ("query", "key", "value")])
                weight = weight.T
            elif name.endswith(".weight") and ".norm." in name and name.replace(".norm.", ".norm_") in ours:
                weight = take(name.replace(".norm.", ".norm_"))
            else:
                weight = take(name)
                if re.search(r"\.c_(fc|proj)\.", theirs):  # GPT-2 stores its matrices the other way round
                    weight = weight.T
            target.copy_(weight)
    assert not unused - apart - ({"head.weight"} if model.preset.tied else set())


def persistent_buffers(reference: Any) -> dict[str, torch.Tensor]:
    return {name: value for name, value in reference.named_buffers() if name.endswith("e_score_correction_bias")}


def build(**changes: object) -> Transformer:
    preset = tiny_preset(**changes)
    model = build_backbone(preset)
    assert sum(weight.numel() for weight in model.parameters()) == parameter_count(preset)
    return shaken(model)


COMMON = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 50,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
ROTARY = {"rope_parameters": {"rope_type": "default", "rope_theta": 100.0}}
MIXTURE = Mixture(experts=8, top_k=2, expert_ffn=12)


def mixtral() -> tuple[Transformer, Any]:
    sizes = {"intermediate_size": 12, "head_dim": 8, "num_local_experts": 8, "num_experts_per_tok": 2}
    config = transformers.MixtralConfig(**COMMON, **ROTARY, **sizes, sliding_window=None)
    return build(rope_theta=100.0, moe=MIXTURE), transformers.MixtralForCausalLM(config)


def qwen3_moe() -> tuple[Transformer, Any]:
    sizes = {"moe_intermediate_size": 12, "head_dim": 8, "num_experts": 8, "num_experts_per_tok": 2}
    config = transformers.Qwen3MoeConfig(**COMMON, **ROTARY, **sizes, norm_topk_prob=True)
    return build(rope_theta=100.0, moe=MIXTURE, qk_norm=True), transformers.Qwen3MoeForCausalLM(config)


def deepseek_v3() -> tuple[Transformer, Any]:
    mixture = Mixture(
        experts=8,
        top_k=3,
        expert_ffn=12,
        shared=2,
        dense_layers=1,
        router="sigmoid",
        groups=4,
        kept_groups=2,
        scale=2.5,
    )
    latent = LatentAttention(query_rank=10, latent=6, plain=8, rotary=4, value=8)
    config = transformers.DeepseekV3Config(
        **{**COMMON, **ROTARY, "num_key_value_heads": 4},
        intermediate_size=24,
        moe_intermediate_size=12,
        n_routed_experts=8,
        num_experts_per_tok=3,
        n_shared_experts=2,
        n_group=4,
        topk_group=2,
        first_k_dense_replace=1,
        routed_scaling_factor=2.5,
        q_lora_rank=10,
        kv_lora_rank=6,
        qk_nope_head_dim=8,
        qk_rope_head_dim=4,
        v_head_dim=8,
        rope_interleave=False,
    )
    model = build(rope_theta=100.0, moe=mixture, latent_attention=latent, kv_heads=4, head_dim=12)
    return model, transformers.DeepseekV3ForCausalLM(config)


def gpt2() -> tuple[Transformer, Any]:
    config = transformers.GPT2Config(
        vocab_size=50,
        n_embd=16,
        n_layer=2,
        n_head=4,
        n_positions=32,
        n_inner=24,
        layer_norm_epsilon=1e-6,
        bos_token_id=1,
        eos_token_id=2,
    )
    model = build(
        kv_heads=4,
        head_dim=4,
        max_length=32,
        positions="learned",
        norm="layernorm",
        norm_bias=True,
        ffn_type="gelu_mlp",
        ffn_bias=True,
        qkv_bias=True,
        output_bias=True,
        tied=True,
    )
    return model, transformers.GPT2LMHeadModel(config)


def mamba() -> tuple[Transformer, Any]:
    space = StateSpace(version=1, inner=32, state=4, dt_rank=3)
    config = transformers.MambaConfig(
        vocab_size=50,
        hidden_size=16,
        state_size=4,
        num_hidden_layers=2,
        expand=2,
        time_step_rank=3,
        layer_norm_epsilon=1e-6,
        pad_token_id=0,
    )
    model = build(heads=0, kv_heads=0, head_dim=0, ffn=0, layout="M", positions="none", state_space=space, tied=True)
    return model, transformers.MambaForCausalLM(config)


def jamba() -> tuple[Transformer, Any]:
    config = transformers.JambaConfig(
        **{**COMMON, "num_hidden_layers": 4},
        intermediate_size=24,
        num_experts=4,
        num_experts_per_tok=2,
        expert_layer_period=2,
        expert_layer_offset=1,
        attn_layer_period=2,
        attn_layer_offset=1,
        mamba_d_state=4,
        mamba_dt_rank=3,
    )
    model = build(
        layers=4,
        head_dim=4,
        positions="none",
        layout="SA",
        state_space=StateSpace(version=1, inner=32, state=4, dt_rank=3, normed=True),
        moe=Mixture(experts=4, top_k=2, expert_ffn=24, every=2, offset=1, normalized=False),
    )
    return model, transformers.JambaForCausalLM(config)


def nemotron_h() -> tuple[Transformer, Any]:
    sizes = {key: value for key, value in COMMON.items() if key not in ("num_hidden_layers", "rms_norm_eps")}
    config = transformers.NemotronHConfig(
        **sizes,
        layers_block_type=["mamba", "mlp", "attention", "mlp", "mamba"],
        head_dim=8,
        intermediate_size=24,
        mamba_num_heads=4,
        mamba_head_dim=8,
        ssm_state_size=4,
        n_groups=2,
        conv_kernel=4,
        chunk_size=4,
        time_step_min=1e-9,  # the least step, which ours does not have
        layer_norm_epsilon=1e-6,
    )
    space = StateSpace(version=2, inner=32, state=4, heads=4, groups=2, chunk=4)
    model = build(layers=5, positions="none", layout="M-*-M", state_space=space, ffn_type="relu2_mlp")
    return model, transformers.NemotronHForCausalLM(config)


@torch.no_grad()
@pytest.mark.parametrize(
    "architecture", [mixtral, qwen3_moe, deepseek_v3, gpt2, mamba, jamba, nemotron_h], ids=lambda make: make.__name__
)
def test_logits_equal_those_of_transformers(architecture: Any) -> None:
    model, reference = architecture()
    rules = RULES
    if architecture is mamba:
        rules = (*RULES, (r"(blocks\.\d+)\.norm\.", r"\1.attention_norm."))
    if architecture is nemotron_h:
        letters = "M-*-M"
        rules = (
            *RULES,
            (
                r"blocks\.(\d+)\.norm\.",
                lambda found: f"blocks.{found[1]}.{'mlp' if letters[int(found[1])] == '-' else 'attention'}_norm.",
            ),
            (r"blocks\.([13])\.attention\.", r"blocks.\1.mlp."),
        )
    their_weights(reference.eval(), model, rules)
    ids = torch.randint(0, 50, (2, 11), generator=torch.Generator().manual_seed(1))

    torch.testing.assert_close(model(ids), reference(ids).logits, rtol=1e-3, atol=1e-3)


GEMMA_RULES = (
    *RULES[:11],
    (r"\.post_attention_layernorm\.|\.mlp_norm\.", ".after_attention_norm."),
    (r"\.pre_feedforward_layernorm\.", ".mlp_norm."),
    (r"\.post_feedforward_layernorm\.", ".after_norm."),
    (r"\.post_feedforward_layernorm_1\.", ".after_mlp_norm."),
    (r"\.post_feedforward_layernorm_2\.", ".after_experts_norm."),
    (r"\.pre_feedforward_layernorm_2\.", ".experts_norm."),
    (r"\.router\.proj\.", ".experts.router.score."),
    (r"\.router\.scale$", ".experts.router.input_norm.weight"),
    (r"\.router\.per_expert_scale$", ".experts.router.expert_scale"),
    (r"\.experts\.(gate_up_proj|down_proj)$", r".experts.experts.\1"),
    *RULES[11:],
)


def gemma() -> Transformer:
    window = SlidingWindow(
        length=4,
        global_every=3,
        global_kv_heads=1,
        global_head_dim=16,
        global_rope_theta=1e6,
        global_rotary_frac=0.25,
        shared_key_value=True,
    )
    return build(
        kind="uniform_diffusion",
        layers=3,
        rope_theta=10_000.0,
        qk_norm=True,
        ffn_type="geglu",
        tied=True,
        logit_softcap=30.0,
        sandwich_norms=True,
        self_conditioning_ffn=24,
        window=window,
        moe=Mixture(experts=8, top_k=2, expert_ffn=12, beside_dense=True),
    )


@torch.no_grad()
def test_causal_pass_of_diffusion_gemma_equals_that_of_transformers() -> None:
    modeling = pytest.importorskip("transformers.models.diffusion_gemma.modeling_diffusion_gemma")
    config = transformers.DiffusionGemmaTextConfig(
        **{**COMMON, "num_hidden_layers": 3, "tie_word_embeddings": True},
        head_dim=8,
        intermediate_size=24,
        num_experts=8,
        top_k_experts=2,
        moe_intermediate_size=12,
        sliding_window=4,
        layer_types=["sliding_attention", "sliding_attention", "full_attention"],
        global_head_dim=16,
        num_global_key_value_heads=1,
    )
    model, reference = gemma(), modeling.DiffusionGemmaEncoderTextModel(config).eval()
    conditioning = frozenset(n for n, _ in model.named_parameters() if n.startswith("self_conditioning"))
    their_weights(reference, model, GEMMA_RULES, apart=conditioning)
    ids = torch.randint(0, 50, (2, 11), generator=torch.Generator().manual_seed(1))

    logits = reference(ids).last_hidden_state @ model.embedding.weight.T
    torch.testing.assert_close(model(ids, causal=True), 30 * torch.tanh(logits / 30), rtol=1e-3, atol=1e-3)
