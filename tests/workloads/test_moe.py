import pytest
import torch
from tiny_networks import tiny_preset
from torch.nn import functional

from profiler.capture import capture
from workloads.architecture import Mixture
from workloads.backbones import Backbone, build_backbone
from workloads.errors import WorkloadError
from workloads.mixture_of_experts import AssumedRouting
from workloads.presets import ModelPreset, active_parameter_count, parameter_count


def preset(**changes: object) -> ModelPreset:
    figures = {"name": "tiny-moe", "rope_theta": 100.0, "moe": Mixture(experts=8, top_k=2, expert_ffn=12), **changes}
    return tiny_preset(**figures)


def tokens(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randint(0, 50, shape, generator=torch.Generator().manual_seed(seed))


def build(built: ModelPreset, **options: object) -> Backbone:
    model = build_backbone(built, **options)  # type: ignore[arg-type]  # dtype, device or routing
    assert isinstance(model, Backbone)
    if model.device.type != "meta":
        generator = torch.Generator().manual_seed(3)
        with torch.no_grad():
            for weight in model.parameters():
                weight.normal_(std=0.3, generator=generator)
    return model


GROUPED = Mixture(
    experts=8, top_k=3, expert_ffn=12, shared=2, router="sigmoid", groups=4, kept_groups=2, scale=2.5, dense_layers=1
)


@torch.no_grad()
@pytest.mark.parametrize("mixture", [Mixture(experts=8, top_k=2, expert_ffn=12), GROUPED])
def test_output_is_the_weighted_sum_over_each_tokens_experts(mixture: Mixture) -> None:
    model = build(preset(moe=mixture))
    layer = model.mixtures[-1]
    x_BSD = torch.randn(2, 7, 16, generator=torch.Generator().manual_seed(1))
    weight_NK, expert_NK = layer.router(x_BSD.flatten(0, 1))

    expected = torch.zeros(14, 16)
    for row, x_D in enumerate(x_BSD.flatten(0, 1)):
        for weight, expert in zip(weight_NK[row], expert_NK[row], strict=True):
            gated = functional.silu(layer.experts.gate[expert] @ x_D) * (layer.experts.up[expert] @ x_D)
            expected[row] += weight * (layer.experts.down[expert] @ gated)
        if layer.shared is not None:
            expected[row] += layer.shared(x_D)

    torch.testing.assert_close(layer(x_BSD).flatten(0, 1), expected, rtol=1e-4, atol=1e-4)
    assert layer.tokens_per_expert == tuple(torch.bincount(expert_NK.flatten(), minlength=8).tolist())
    assert sum(layer.tokens_per_expert) == 14 * mixture.top_k


@torch.no_grad()
def test_grouped_router_chooses_within_the_best_groups_and_biases_only_the_choice() -> None:
    router = build(preset(moe=GROUPED)).mixtures[0].router
    x_ND = torch.randn(5, 16, generator=torch.Generator().manual_seed(1))
    assert router.choice_bias is not None
    score_NE = (x_ND @ router.score.weight.T).sigmoid()

    weight_NK, expert_NK = router(x_ND)

    for score_E, weights, experts in zip(score_NE, weight_NK, expert_NK, strict=True):
        choice = (score_E + router.choice_bias).tolist()
        best = sorted(range(4), key=lambda g: -(choice[2 * g] + choice[2 * g + 1]))[:2]
        allowed = [expert for expert in range(8) if expert // 2 in best]
        chosen = sorted(allowed, key=lambda expert: -choice[expert])[:3]
        assert experts.tolist() == chosen
        torch.testing.assert_close(weights, 2.5 * score_E[chosen] / score_E[chosen].sum())


@pytest.mark.parametrize(
    ("rows", "experts", "top_k", "exponent", "expected"),
    [
        (1, 8, 2, 0.0, (1, 1, 0, 0, 0, 0, 0, 0)),  # min(N * K, E) experts run
        (32, 256, 8, 0.0, (1,) * 256),
        (5, 4, 2, 0.0, (3, 3, 2, 2)),
        (12, 4, 1, 1.0, (6, 3, 2, 1)),  # shares 12/25 * (12, 6, 4, 3) = 5.76, 2.88, 1.92, 1.44
        (6, 3, 2, 5.0, (6, 5, 1)),  # the first takes every token, the second all but 5 / (1 + (2/3)^5)'s remainder
    ],
)
def test_assumed_routing_spreads_every_choice(
    rows: int, experts: int, top_k: int, exponent: float, expected: tuple[int, ...]
) -> None:
    assert AssumedRouting(exponent=exponent).counts(rows=rows, experts=experts, top_k=top_k) == expected


@pytest.mark.parametrize("exponent", [0.0, 0.7, 1.5, 4.0])
@pytest.mark.parametrize("rows", [1, 3, 32, 500])
def test_assumed_counts_add_up_and_send_no_token_twice_to_one_expert(exponent: float, rows: int) -> None:
    counts = AssumedRouting(exponent=exponent).counts(rows=rows, experts=64, top_k=8)

    assert sum(counts) == rows * 8
    assert max(counts) <= rows
    assert list(counts) == sorted(counts, reverse=True)


@pytest.mark.parametrize(
    ("rows", "running"),
    [
        (1, 8),
        (16, 82),  # 128 (1 - (15 / 16)^16) = 82.4
        (64, 126),  # 125.9
        (5000, 128),
    ],
)
def test_tokens_that_choose_alone_leave_some_experts_out(rows: int, running: int) -> None:
    counts = AssumedRouting(independent=True).counts(rows=rows, experts=128, top_k=8)
    assert len(counts) == 128
    assert sum(count > 0 for count in counts) == running
    assert sum(counts) == rows * 8
    assert max(counts) - min(counts[:running]) <= 1


def test_independent_choices_take_no_exponent() -> None:
    with pytest.raises(WorkloadError, match="independent choices take exponent 0, got 2"):
        AssumedRouting(independent=True, exponent=2)


@torch.inference_mode()
@pytest.mark.parametrize("rows", [1, 3, 40])
@pytest.mark.parametrize("exponent", [0.0, 2.0])
def test_trace_reads_the_weights_of_the_experts_that_run_and_of_no_other(rows: int, exponent: float) -> None:
    mixture = Mixture(experts=32, top_k=4, expert_ffn=12)
    built = preset(moe=mixture, layers=1)
    model = build(built, device="meta", routing=AssumedRouting(exponent=exponent))
    ids = torch.zeros(1, rows, dtype=torch.long, device="meta")
    with capture() as recording:
        model(ids)

    counts = model.tokens_per_expert[0]
    touched = sum(count > 0 for count in counts)
    if exponent == 0:
        assert touched == min(rows * 4, 32)
    elif rows == 40:
        assert touched < 32
    products = recording.trace.to_frame().query("kind == 'gemm' and name.str.contains('bmm')")
    assert products["read_weights_bytes"].sum() == touched * 3 * 16 * 12 * 4
    assert products["matrix_flops"].sum() == rows * 4 * 3 * 2 * 16 * 12


@torch.inference_mode()
def test_same_routing_gives_the_same_operations_on_meta_and_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    built = preset(layers=1)
    real, ids = build(built), tokens(1, 5)
    with capture() as recording:
        real(ids)
    counts = real.tokens_per_expert[0]
    monkeypatch.setattr(AssumedRouting, "counts", lambda *_, **__: counts)
    pretended = build(built, device="meta")
    ids = ids.to("meta")
    with capture() as on_meta:
        pretended(ids)

    columns = ["kind", "flops", "read_bytes", "write_bytes", "read_weights_bytes"]
    first, second = (each.trace.to_frame()[columns] for each in (recording, on_meta))
    assert first.equals(second)


def test_counts_of_parameters_split_into_all_and_active() -> None:
    built = preset(moe=GROUPED)
    model = build_backbone(built, device="meta")
    expert = 3 * 16 * 12

    assert sum(weight.numel() for weight in model.parameters()) == parameter_count(built)
    assert parameter_count(built) - active_parameter_count(built) == (8 - 3) * expert


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"top_k": 9}, "top_k must be at most 8, got 9"),
        ({"groups": 3}, "groups must divide 8 experts"),
        ({"groups": 4, "kept_groups": 1, "top_k": 3}, "top_k must be at most 2, got 3"),
        ({"router": "hash"}, "router must be one of softmax, sigmoid, got 'hash'"),
        ({"experts": 0}, "experts must be > 0, got 0"),
    ],
)
def test_impossible_mixtures_are_refused(changes: dict[str, object], message: str) -> None:
    fields: dict[str, object] = {"experts": 8, "top_k": 2, "expert_ffn": 4}
    with pytest.raises(WorkloadError, match=message):
        Mixture(**{**fields, **changes})  # type: ignore[arg-type]  # the fields are named above
