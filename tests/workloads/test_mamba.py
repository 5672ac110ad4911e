from dataclasses import replace

import pytest
import torch
from tiny_networks import logits_in_pieces
from torch.nn import functional

from profiler.capture import capture
from workloads.architecture import StateSpace
from workloads.backbones import build_backbone
from workloads.chunked_scan import chunked_scan
from workloads.errors import WorkloadError
from workloads.presets import ModelPreset
from workloads.selective_scan import selective_scan
from workloads.transformer import Transformer

SPACES = {
    1: StateSpace(version=1, inner=32, state=4, dt_rank=3),
    2: StateSpace(version=2, inner=32, state=4, heads=4, groups=2, chunk=4),
}


def preset(version: int, **changes: object) -> ModelPreset:
    fields: dict[str, object] = {
        "name": "tiny-mamba",
        "kind": "ar",
        "layers": 2,
        "d_model": 16,
        "heads": 0,
        "kv_heads": 0,
        "head_dim": 0,
        "ffn": 0,
        "vocab": 50,
        "max_length": 64,
        "norm_eps": 1e-6,
        "layout": "M",
        "positions": "none",
        "state_space": SPACES[version],
        "source": "made up for these tests",
    }
    return ModelPreset(**{**fields, **changes})  # type: ignore[arg-type]  # the fields are named above


def build(built: ModelPreset) -> Transformer:
    model = build_backbone(built, dtype=torch.float64)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn(weight.shape, generator=generator, dtype=torch.float64), alpha=0.2)
    return model


def tokens(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randint(0, 49, shape, generator=torch.Generator().manual_seed(seed))


def scan_inputs(length: int, groups: int = 2) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(length)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    return (
        draw(2, length, 4, 3),
        -draw(2, length, 4).exp(),
        draw(2, length, groups, 5),
        draw(2, length, groups, 5),
        draw(2, 4, 3, 5),
    )


def recurrence(
    x_BSHP: torch.Tensor,
    decay_BSH: torch.Tensor,
    in_BSGN: torch.Tensor,
    out_BSGN: torch.Tensor,
    state_BHPN: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Step by step, as arXiv:2405.21060 defines it in equation 2."""
    in_BSHN, out_BSHN = (part.repeat_interleave(4 // part.shape[2], dim=2) for part in (in_BSGN, out_BSGN))
    outputs = []
    for t in range(x_BSHP.shape[1]):
        entering = torch.einsum("bhp,bhn->bhpn", x_BSHP[:, t], in_BSHN[:, t])
        state_BHPN = decay_BSH[:, t].exp()[..., None, None] * state_BHPN + entering
        outputs.append(torch.einsum("bhpn,bhn->bhp", state_BHPN, out_BSHN[:, t]))
    return torch.stack(outputs, dim=1), state_BHPN


@pytest.mark.parametrize("length", [1, 3, 4, 11, 16])
@pytest.mark.parametrize("chunk", [1, 4, 5, 64])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_chunked_scan_equals_the_recurrence(length: int, chunk: int, groups: int) -> None:
    *inputs, state = scan_inputs(length, groups)
    expected, last = recurrence(*inputs, state)  # type: ignore[call-arg]  # four tensors

    y, found = chunked_scan(*inputs, chunk=chunk, state_BHPN=state.clone())  # type: ignore[call-arg]  # four tensors

    # Decays run in float32 on the way.
    torch.testing.assert_close(y, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found, last, rtol=1e-5, atol=1e-5)


def test_scan_without_a_state_begins_at_zero() -> None:
    *inputs, state = scan_inputs(7)
    expected, _ = recurrence(*inputs, torch.zeros_like(state))  # type: ignore[call-arg]  # four tensors
    y, _ = chunked_scan(*inputs, chunk=3)  # type: ignore[call-arg]  # four tensors
    torch.testing.assert_close(y, expected, rtol=1e-5, atol=1e-5)


def test_selective_scan_by_hand() -> None:
    # One channel, one state: decay exp(-1) a step of 1, inputs 2 and 3 doubled on entering, outputs halved.
    ones = torch.ones(1, 2, 1)
    y, state = selective_scan(
        torch.tensor([[[2.0], [3.0]]]), ones, -torch.ones(1, 1), 2 * ones, ones / 2, torch.zeros(1, 1, 1)
    )
    decay = torch.exp(torch.tensor(-1.0))
    torch.testing.assert_close(y.flatten(), torch.stack((torch.tensor(2.0), 2 * decay + 3)))
    torch.testing.assert_close(state.flatten(), (4 * decay + 6)[None])


@torch.no_grad()
@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("pieces", [(6, 1, 1, 1), (4, 3, 2), (1, 1, 7)])
def test_recurrent_state_gives_the_logits_of_one_full_forward(version: int, pieces: tuple[int, ...]) -> None:
    model = build(preset(version))
    ids = tokens(2, sum(pieces))

    torch.testing.assert_close(logits_in_pieces(model, ids, pieces), model(ids), rtol=1e-5, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("version", [1, 2])
def test_two_scans_see_both_sides_and_one_scan_only_the_past(version: int) -> None:
    causal = build(preset(version))
    both = build(preset(version, kind="masked_diffusion", mask_id=49))
    ids = tokens(1, 9)
    changed = ids.clone()
    changed[0, 5] = (changed[0, 5] + 1) % 49

    torch.testing.assert_close(causal(ids)[:, :5], causal(changed)[:, :5])
    assert not torch.allclose(both(ids)[:, :5], both(changed)[:, :5], atol=1e-6)
    assert sum(weight.numel() for weight in both.parameters()) == sum(weight.numel() for weight in causal.parameters())


@torch.no_grad()
@pytest.mark.parametrize("version", [1, 2])
def test_bidirectional_network_reads_a_reversed_text_as_the_reversed_result(version: int) -> None:
    model = build(preset(version, kind="masked_diffusion", mask_id=49))
    ids = tokens(1, 9)
    torch.testing.assert_close(model(ids.flip(1)), model(ids).flip(1), rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_convolution_and_gate_by_the_formula() -> None:
    model = build(preset(2, layers=1))
    mixer = model.blocks[0].attention
    x_BSW = torch.randn(1, 6, 48, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    padded = torch.cat((torch.zeros(1, 3, 48, dtype=torch.float64), x_BSW), dim=1)
    weight_WL, bias_W = mixer.conv.weight[:, 0], mixer.conv.bias
    expected = torch.stack(
        [functional.silu((padded[0, t : t + 4].T * weight_WL).sum(dim=1) + bias_W) for t in range(6)]
    )
    torch.testing.assert_close(mixer._convolve(x_BSW, None)[0], expected)


@torch.inference_mode()
@pytest.mark.parametrize("version", [1, 2])
def test_decode_reads_the_state_whatever_the_context(version: int) -> None:
    model = build_backbone(preset(version, layers=1), device="meta")

    def state_bytes(context: int) -> float:
        cache = model.new_cache(1, 64)
        model(torch.zeros(1, context, dtype=torch.long, device="meta"), cache=cache)
        with capture() as recording:
            model(torch.zeros(1, 1, dtype=torch.long, device="meta"), cache=cache, position=context)
        assert not recording.trace.unknown_ops
        return float(recording.trace.to_frame()["read_kv_cache_bytes"].sum())

    assert state_bytes(5) == state_bytes(50) > 0


def test_one_operation_scans_all_positions_of_a_layer() -> None:
    model = build_backbone(preset(1), device="meta")
    with torch.inference_mode(), capture() as recording:
        model(torch.zeros(2, 10, dtype=torch.long, device="meta"))
    scans = recording.trace.to_frame().query("kind == 'scan'")

    assert len(scans) == 2
    # Per position and channel 1, and 7 for each of 4 states.
    assert set(scans["flops"]) == {2 * 10 * 32 * (1 + 7 * 4)}


@pytest.mark.parametrize(("length", "name"), [(10, "chunked_scan"), (1, "state_update_")])
def test_one_operation_scans_a_layer_of_version_2(length: int, name: str) -> None:
    model = build_backbone(preset(2), device="meta")
    cache = model.new_cache(3, 16)
    with torch.inference_mode(), capture() as recording:
        model(torch.zeros(3, length, dtype=torch.long, device="meta"), cache=cache)
    (scan,) = (op for op in recording.trace.ops if op.kind == "scan")

    assert scan.name == f"roofscape::{name}"
    sizes = dict(scan.sizes)
    # 4 heads of 8 channels in 2 groups, 4 states each.
    assert (sizes["rows"], sizes["columns"]) == (3 * 32, length)
    assert [sizes[key] for key in ("state", "sequences", "head_dim", "groups")] == [4, 3, 8, 2]
    positions = 3 * length
    if length == 1:
        assert scan.vector_flops == positions * 32 * (1 + 5 * 4)
        states = 3 * 32 * 4 * 4
        assert scan.read_bytes("kv_cache") == scan.write_bytes("kv_cache") == states
    else:
        assert sizes["chunk"] == 4
        # In and out of the states, and chunks of 4 positions: each pair 32 channels and 2 groups of 4 states.
        assert scan.matrix_flops == 2 * (2 * positions * 32 * 4) + 2 * positions * 4 * (32 + 8)
        assert scan.required_flops == 2 * (2 * positions * 32 * 4) + positions * 32  # 11 positions' pairs are more


def test_a_state_may_be_kept_wider_than_the_rest() -> None:
    *inputs, state = scan_inputs(1)
    expected_y, expected_state = recurrence(*inputs, state)
    kept = state.clone()
    y, last = chunked_scan(*(part.float() for part in inputs), chunk=4, state_BHPN=kept)  # type: ignore[call-arg]  # four tensors

    assert last is kept
    assert (y.dtype, last.dtype) == (torch.float32, torch.float64)
    torch.testing.assert_close(y, expected_y.float(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(last, expected_state, rtol=1e-6, atol=1e-6)


def test_gradients_pass_through_a_chunked_scan() -> None:
    *inputs, _ = scan_inputs(7)
    leaves = [part.clone().requires_grad_() for part in inputs]
    y, _ = chunked_scan(*leaves, chunk=3)  # type: ignore[call-arg]  # four tensors
    y.sum().backward()
    assert all(leaf.grad is not None and leaf.grad.abs().sum() > 0 for leaf in leaves)


@torch.no_grad()
def test_state_takes_tokens_once_and_in_order() -> None:
    model = build(preset(2))
    cache = model.new_cache(1, 16)
    model(tokens(1, 4), cache=cache)

    with pytest.raises(WorkloadError, match="the next position is 4, got 2"):
        model(tokens(1, 2), cache=cache, position=2)
    with pytest.raises(WorkloadError, match=r"forgets nothing, got truncate\(2\) of 4"):
        cache.truncate(2)
    with pytest.raises(WorkloadError, match="scans in the direction it was built for"):
        model(tokens(1, 2), causal=False)
    with pytest.raises(WorkloadError, match="scans in both directions, so no state can be kept"):
        build(replace(model.preset, kind="masked_diffusion", mask_id=49)).new_cache(1, 8)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 3}, "version must be 1 or 2, got 3"),
        ({"heads": 5}, "heads must divide inner = 32"),
        ({"heads": 0}, "heads must be > 0, got 0"),
        ({"state": 0}, "state must be > 0, got 0"),
    ],
)
def test_impossible_state_spaces_are_refused(changes: dict[str, int], message: str) -> None:
    with pytest.raises(WorkloadError, match=message):
        replace(SPACES[2], **changes)
