"""A program that knows nothing of us, written the way the authors of a diffusion language model publish theirs."""

import math

import pytest
import torch
from torch import nn

from profiler.capture import capture

VOCAB, WIDTH, HEADS, MASK = 64, 16, 2, 63


class TheirAttention(nn.Module):
    """Attention by plain matrix products, as older model code has it."""

    def __init__(self):
        super().__init__()
        self.projections = nn.ModuleDict({name: nn.Linear(WIDTH, WIDTH, bias=False) for name in "qkvo"})

    def forward(self, x):
        b, s, _ = x.shape
        q, k, v = (self.projections[n](x).view(b, s, HEADS, -1).transpose(1, 2) for n in "qkv")
        scores = torch.matmul(q, k.transpose(-1, -2)) / math.sqrt(q.shape[-1])
        mixed = torch.matmul(torch.softmax(scores, dim=-1), v)
        return self.projections["o"](mixed.transpose(1, 2).reshape(b, s, WIDTH))


class TheirModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.wte = nn.Embedding(VOCAB, WIDTH)
        self.attention = TheirAttention()
        self.norm = nn.LayerNorm(WIDTH)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH))

    def forward(self, ids):
        x = self.wte(ids)
        x = x + self.attention(self.norm(x))
        x = x + self.mlp(self.norm(x))
        return x @ self.wte.weight.T


@torch.no_grad()
def generate(model, prompt, gen_length=8, steps=4):
    """Their sampling loop: commits the most confident masks of each step."""
    x = torch.full((1, prompt.shape[1] + gen_length), MASK, dtype=torch.long)
    x[:, : prompt.shape[1]] = prompt.clone()
    for _ in range(steps):
        masked = x == MASK
        logits = model(x)
        logits[..., MASK] = -torch.inf
        x0 = torch.argmax(logits, dim=-1)
        confidence = torch.squeeze(torch.gather(torch.softmax(logits.double(), -1), -1, x0.unsqueeze(-1)), -1)
        confidence = torch.where(masked, confidence, -torch.inf)
        transfer = torch.zeros_like(x0, dtype=torch.bool)
        _, index = torch.topk(confidence[0], k=gen_length // steps)
        transfer[0, index] = True
        x[transfer] = x0[transfer]
    return x


@pytest.fixture(scope="module")
def recorded():
    torch.manual_seed(0)
    model, prompt = TheirModel().eval(), torch.randint(0, MASK, (1, 4))
    expected = generate(model, prompt)
    with capture() as recording:
        tokens = generate(model, prompt)
    assert torch.equal(tokens, expected)
    return recording.trace


def test_matrix_flops_are_those_of_the_dimensions(recorded):
    positions, steps = 12, 4
    products = 2 * positions * WIDTH * (4 * WIDTH + 8 * WIDTH + VOCAB)
    attention = 2 * 2 * HEADS * positions * positions * (WIDTH // HEADS)
    assert recorded.to_frame().matrix_flops.sum() == steps * (products + attention)


def test_nothing_is_unknown_and_weights_are_read_once_a_step(recorded):
    frame = recorded.to_frame()
    assert recorded.unknown_ops == ()
    linear = 4 * WIDTH * WIDTH + 8 * WIDTH * WIDTH + 4 * WIDTH + WIDTH
    norms = 2 * 2 * WIDTH  # the same norm runs twice
    embedding = VOCAB * WIDTH + 12 * WIDTH
    assert frame.read_weights_bytes.sum() == 4 * 4 * (linear + norms + embedding)


def test_their_sampling_work_is_in_the_trace(recorded):
    kinds = set(recorded.to_frame().kind)
    assert {"softmax", "topk", "gather", "reduction", "scatter"} <= kinds
    softmax = recorded.to_frame().query("kind == 'softmax' and dtype == 'float64'")
    assert len(softmax) == 4  # float64 confidences are real work
