"""The four training losses, one per way of generating, over the answer's tokens; the prompt is never corrupted.

Shape suffixes: B problems, L prompt and answer, G answer positions, V vocabulary, T the doubled sequence of block
diffusion (clean tokens, then noised answer).
"""

import torch
from torch.nn import functional

from workloads.transformer import Masking, Shared, Transformer

_EDGE = 1e-3  # keeps noise levels off 0 and 1, where weights have no finite value


def noise_levels(count: int, generator: torch.Generator) -> torch.Tensor:
    """Noise levels `[count]` in (0, 1), evenly spread over the batch (Sahoo et al., arXiv:2406.07524)."""
    offset = torch.rand(1, generator=generator)
    even_B = (offset + torch.arange(count) / count) % 1
    return _EDGE + (1 - 2 * _EDGE) * even_B[torch.randperm(count, generator=generator)]


def autoregressive_loss(model: Transformer, tokens_BL: torch.Tensor, prompt_length: int) -> torch.Tensor:
    """Mean negative log-likelihood of each answer token given everything before it."""
    logits_BLV = model(tokens_BL[:, :-1], causal=True)
    return functional.cross_entropy(
        logits_BLV[:, prompt_length - 1 :].flatten(0, 1), tokens_BL[:, prompt_length:].flatten()
    )


def masked_loss(
    model: Transformer, tokens_BL: torch.Tensor, prompt_length: int, mask_id: int, generator: torch.Generator
) -> torch.Tensor:
    """Cross entropy of masked answer tokens over their masking probability t (Nie et al., arXiv:2502.09992, eq. 3)."""
    answer_BG = tokens_BL[:, prompt_length:]
    level_B1 = noise_levels(len(tokens_BL), generator)[:, None]
    is_masked_BG = torch.rand(answer_BG.shape, generator=generator) < level_B1
    noised_BG = answer_BG.masked_fill(is_masked_BG, mask_id)
    logits_BLV = model(torch.cat((tokens_BL[:, :prompt_length], noised_BG), dim=-1), causal=False)
    return _weighted(logits_BLV[:, prompt_length:], answer_BG, is_masked_BG, level_B1, mask_id)


def uniform_loss(
    model: Transformer, tokens_BL: torch.Tensor, prompt_length: int, generator: torch.Generator
) -> torch.Tensor:
    """Continuous-time bound of uniform-noise diffusion (Schiff et al., arXiv:2412.10193), alpha = 1 - t.

    With `bar(x) = V alpha x + 1 - alpha` and i the noised token, the bound's integrand is
    `1 / (V alpha) * sum over j of [bar(p)_j / bar(p)_i - bar(x)_j / bar(x)_i + r log(r / r_p)]`, r and r_p the two
    ratios. The network is not told t, which the sampler's protocol has no place for; the paper's network is.
    """
    answer_BG = tokens_BL[:, prompt_length:]
    vocab = model.vocab
    level_B1 = noise_levels(len(tokens_BL), generator)[:, None]
    is_noised_BG = torch.rand(answer_BG.shape, generator=generator) < level_B1
    random_BG = torch.randint(vocab, answer_BG.shape, generator=generator)
    noised_BG = torch.where(is_noised_BG, random_BG, answer_BG)
    logits_BLV = model(torch.cat((tokens_BL[:, :prompt_length], noised_BG), dim=-1), causal=False)
    alpha_B11 = (1 - level_B1)[..., None]
    probability_BGV = torch.softmax(logits_BLV[:, prompt_length:].float(), dim=-1)
    return _uniform_bound(probability_BGV, answer_BG, noised_BG, alpha_B11).mean()


def _uniform_bound(
    probability_BGV: torch.Tensor, answer_BG: torch.Tensor, noised_BG: torch.Tensor, alpha_B11: torch.Tensor
) -> torch.Tensor:
    vocab = probability_BGV.shape[-1]
    true_BGV = functional.one_hot(answer_BG, vocab).to(probability_BGV.dtype)
    index_BG1 = noised_BG[..., None]
    bar_BGV, predicted_BGV = (vocab * alpha_B11 * part_BGV + 1 - alpha_B11 for part_BGV in (true_BGV, probability_BGV))
    ratio_BGV = bar_BGV / bar_BGV.gather(-1, index_BG1)
    predicted_ratio_BGV = predicted_BGV / predicted_BGV.gather(-1, index_BG1)
    rates_BGV = predicted_ratio_BGV - ratio_BGV + ratio_BGV * (ratio_BGV / predicted_ratio_BGV).log()
    return rates_BGV.sum(dim=-1) / (vocab * alpha_B11[..., 0])


def block_loss(
    model: Transformer,
    tokens_BL: torch.Tensor,
    prompt_length: int,
    block_length: int,
    mask_id: int,
    generator: torch.Generator,
) -> torch.Tensor:
    """Block diffusion (Arriola et al., arXiv:2503.09573): each noised block sees itself and the clean blocks before it.

    Every block has a noise level of its own. Clean tokens and noised answer go through the network side by side.
    """
    answer_BG = tokens_BL[:, prompt_length:]
    batch, length = answer_BG.shape
    blocks = length // block_length
    level_BG = noise_levels(batch * blocks, generator).view(batch, blocks).repeat_interleave(block_length, dim=1)
    is_masked_BG = torch.rand(answer_BG.shape, generator=generator) < level_BG
    noised_BG = answer_BG.masked_fill(is_masked_BG, mask_id)
    logits_BTV = _two_streams(model, tokens_BL, noised_BG, prompt_length, block_length)
    return _weighted(logits_BTV[:, tokens_BL.shape[1] :], answer_BG, is_masked_BG, level_BG, mask_id)


def block_mask(length: int, prompt_length: int, block_length: int) -> torch.Tensor:
    """Who sees whom among `length` clean tokens and the noised answer behind them; bool `[T, T]`, True where seen.

    A clean token sees the clean tokens of its own block and of those before. A noised one sees the clean blocks before
    its own, and its own block's noised tokens.
    """
    position_T = torch.cat((torch.arange(length), torch.arange(prompt_length, length)))
    block_T = position_T // block_length
    is_noised_T = torch.arange(len(position_T)) >= length
    earlier_TT = block_T[None] < block_T[:, None]
    same_TT = block_T[None] == block_T[:, None]
    sees_clean_TT = ~is_noised_T[None] & (earlier_TT | (same_TT & ~is_noised_T[:, None]))
    sees_noised_TT = is_noised_T[None] & is_noised_T[:, None] & same_TT
    return sees_clean_TT | sees_noised_TT


def _two_streams(
    model: Transformer, tokens_BL: torch.Tensor, noised_BG: torch.Tensor, prompt_length: int, block_length: int
) -> torch.Tensor:
    """Logits `[B, T, V]` of clean tokens and noised answer under `block_mask`, each at its true position."""
    length = tokens_BL.shape[1]
    position_T = torch.cat((torch.arange(length), torch.arange(prompt_length, length)))
    shared = Shared(
        cos_S1C=model.cos_TC[position_T, None],
        sin_S1C=model.sin_TC[position_T, None],
        cache=None,
        position=0,
        keys=len(position_T),
        masking=Masking(mask_ST=block_mask(length, prompt_length, block_length)),
    )
    x_BTD = model.embedding(torch.cat((tokens_BL, noised_BG), dim=-1))
    for block in model.blocks:
        x_BTD = block(x_BTD, shared)
    logits_BTV: torch.Tensor = model.head(model.norm(x_BTD))
    return logits_BTV


def _weighted(
    logits_BGV: torch.Tensor,
    answer_BG: torch.Tensor,
    is_masked_BG: torch.Tensor,
    level_BG: torch.Tensor,
    mask_id: int,
) -> torch.Tensor:
    """Cross entropy of the masked positions over their masking probability, mean over all; the mask has no chance."""
    forbidden_V = torch.zeros(logits_BGV.shape[-1]).index_fill_(0, torch.tensor([mask_id]), -torch.inf)
    nats_BG = functional.cross_entropy((logits_BGV.float() + forbidden_V).transpose(1, 2), answer_BG, reduction="none")
    return (nats_BG * is_masked_BG / level_BG).mean()
