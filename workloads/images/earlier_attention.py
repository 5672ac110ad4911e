"""Attention of text encoders as `transformers` had it before version 5: T5 in single operations, Gemma-2 fused.

Read in 4.57.1, `modeling_t5.py`, `modeling_gemma2.py` and `sdpa_attention.py`. Shape suffixes: B batch, N token
positions, D width, H heads, K width of a head, Q and L positions that ask and answer.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from workloads.errors import WorkloadError


@contextmanager
def earlier_attention(text_encoders: Sequence[Any]) -> Iterator[None]:
    """Runs T5 without the fused attention of today's `transformers`, and Gemma-2 with one, without a cap on its scores.

    Raises:
        WorkloadError: no encoder is one of the two; others attend as they did.
    """
    t5_layers = _modules(text_encoders, "T5Attention")
    gemmas = [encoder for encoder in text_encoders if type(encoder).__name__ == "Gemma2Model"]
    if not t5_layers and not gemmas:
        names = ", ".join(type(encoder).__name__ for encoder in text_encoders) or "none"
        raise WorkloadError(f"earlier_attention is for models with T5EncoderModel or Gemma2Model, got {names}")
    uncapped = _modules(gemmas, "Gemma2Attention")
    kinds = [encoder.config._attn_implementation for encoder in gemmas]
    caps = [layer.attn_logit_softcapping for layer in uncapped]
    for layer in t5_layers:
        layer.forward = _SingleOperations(layer)
    for layer in uncapped:
        layer.attn_logit_softcapping = None
    for encoder in gemmas:
        encoder.config._attn_implementation, encoder.forward = "sdpa", _with_whole_mask(encoder.forward)
    try:
        yield
    finally:
        for module in (*t5_layers, *gemmas):
            del module.forward
        for layer, cap in zip(uncapped, caps, strict=True):
            layer.attn_logit_softcapping = cap
        for encoder, kind in zip(gemmas, kinds, strict=True):
            encoder.config._attn_implementation = kind


def _modules(encoders: Sequence[Any], name: str) -> list[Any]:
    return [module for encoder in encoders for module in encoder.modules() if type(module).__name__ == name]


class _SingleOperations:
    """The forward of a T5 encoder's attention: product, bias and mask, softmax in float32, product.

    Args:
        layer: the attention whose weights it uses.
    """

    def __init__(self, layer: Any) -> None:
        self._layer = layer

    def __call__(
        self, hidden_BND: torch.Tensor, mask: object = None, position_bias: torch.Tensor | None = None, **_: object
    ) -> tuple[torch.Tensor, torch.Tensor, None]:
        """Attend; the first layer makes the bias of all, and adds the mask, here one that hides nothing."""
        layer = self._layer
        batch, length, _width = hidden_BND.shape
        q_BHQK, k_BHLK, v_BHLK = (
            project(hidden_BND).view(batch, length, layer.n_heads, -1).transpose(1, 2)
            for project in (layer.q, layer.k, layer.v)
        )
        scores_BHQL = torch.matmul(q_BHQK, k_BHLK.transpose(3, 2))
        if position_bias is None:
            mask_B11L = hidden_BND.new_zeros(batch, 1, 1, length)
            position_bias = layer.compute_bias(length, length, device=hidden_BND.device) + mask_B11L
        scores_BHQL += position_bias
        weights_BHQL = torch.nn.functional.softmax(scores_BHQL.float(), dim=-1).type_as(scores_BHQL)
        text_BND = torch.matmul(weights_BHQL, v_BHLK).transpose(1, 2).contiguous().view(batch, length, -1)
        return layer.o(text_BND), position_bias, None


def _with_whole_mask(forward: Callable[..., Any]) -> Callable[..., Any]:
    """Gemma-2's forward, told which positions see which: padded texts never do without such a mask."""

    def forward_masked(ids_BN: torch.Tensor, attention_mask: torch.Tensor, **options: Any) -> Any:
        length = ids_BN.shape[1]
        causal_QL = torch.ones(length, length, dtype=torch.bool, device=ids_BN.device).tril()
        seen_B1QL = causal_QL & attention_mask[:, None, None, :].bool()
        masks = dict.fromkeys(("full_attention", "sliding_attention"), seen_B1QL)  # texts are shorter than a window
        return forward(ids_BN, attention_mask=masks, **options)

    return forward_masked
