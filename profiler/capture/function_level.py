"""Operations recorded one level above dispatch: those that fall apart below it, and plain ones where it is faster.

Attention and RMS norm become dozens of operations on some backends and one kernel on others; a linear layer becomes
three views around its product. They are kept whole on every backend. For common functions that are one ATen operation
each, and for views, this level saves the slower way through the dispatcher; what is recorded is the same.
"""

from typing import Any

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from profiler.capture.recorder import Recorder

_NO_KWARGS: dict[str, Any] = {}
_WHOLE: dict[Any, str] = {
    functional.linear: "aten::linear",
    functional.scaled_dot_product_attention: "aten::scaled_dot_product_attention",
    functional.rms_norm: "aten::rms_norm",
    torch.rms_norm: "aten::rms_norm",
}
_LEAVES: dict[Any, str] = {
    **{
        getattr(torch.Tensor, name): f"aten::{name}"
        for name in "add sub mul div neg pow rsqrt exp sigmoid tanh cos sin add_ sub_ mul_ div_ copy_ mean".split()
    },
    functional.silu: "aten::silu",
    functional.gelu: "aten::gelu",
    torch.softmax: "aten::softmax",
    functional.softmax: "aten::softmax",
    torch.rsqrt: "aten::rsqrt",
    torch.cat: "aten::cat",
}
_VIEWS = frozenset(
    getattr(torch.Tensor, name)
    for name in "view view_as transpose permute unsqueeze squeeze expand chunk split unbind narrow t select".split()
)
_GET_ITEM = torch.Tensor.__getitem__
_BASIC = (slice, int, type(None), type(...))


class FunctionLevel(TorchFunctionMode):
    """Hands the functions named above to the recorder and keeps their inner operations from it."""

    def __init__(self, recorder: Recorder) -> None:
        """Record through `recorder`."""
        super().__init__()
        self._recorder = recorder
        self._named = {**_LEAVES, **_WHOLE}

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Record `func` whole, run it unseen where it is a view, or let its operations be seen below."""
        name = self._named.get(func)
        if name is not None:
            if args and (not kwargs or "out" not in kwargs) and not torch.is_autocast_enabled():
                run = _META[func] if func in _META and args[0].is_meta else func
                return self._recorder.observe(name, run, args, kwargs or _NO_KWARGS)
        elif func in _VIEWS or (func is _GET_ITEM and _is_basic_index(args[1])):
            self._recorder.note_source(args[0])
            with torch._C._DisableTorchDispatch():
                return func(*args, **(kwargs or _NO_KWARGS))
        return func(*args, **kwargs) if kwargs else func(*args)


def _is_basic_index(index: object) -> bool:
    """Whether indexing gives a view: only slices, integers, None and an ellipsis (True is an index of another kind)."""
    if type(index) is tuple:
        return all(type(item) in _BASIC for item in index)
    return type(index) in _BASIC


def _meta_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *rest: Any, **options: Any
) -> torch.Tensor:
    """Output of attention on meta, without the reference path that writes the whole score matrix.

    Flash kernels write [B, S, H, D] and show it transposed, so that joining the heads afterwards is a view.
    """
    if torch.is_grad_enabled():
        output = functional.scaled_dot_product_attention(query, key, value, *rest, **options)
        return output.transpose(-3, -2).contiguous().transpose(-3, -2)
    *batch, heads, queries, _ = query.shape
    return torch.empty((*batch, queries, heads, value.shape[-1]), dtype=query.dtype, device="meta").transpose(-3, -2)


_META: dict[Any, Any] = {functional.scaled_dot_product_attention: _meta_attention}
