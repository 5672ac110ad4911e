"""Operations recorded one level above dispatch: those that fall apart below it, and plain ones where it is faster.

Attention and RMS norm become dozens of operations on some backends and one kernel on others; a linear layer becomes
three views around its product. They are kept whole on every backend. For common functions that are one ATen operation
each, and for views, this level saves the slower way through the dispatcher; what is recorded is the same.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from profiler.capture.recorder import Recorder

_NO_KWARGS: dict[str, Any] = {}
_DisableTorchDispatch = torch._C._DisableTorchDispatch
_is_autocast_enabled = torch._C._is_any_autocast_enabled
_PARAMETER = torch.nn.Parameter
_LINEAR = functional.linear
_ATTENTION = functional.scaled_dot_product_attention
_MODULE_ATTENTION = functional.multi_head_attention_forward


def _meta_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *rest: Any, **options: Any
) -> torch.Tensor:
    """Output of attention on meta, without the reference path that writes the whole score matrix.

    Flash kernels write [B, S, H, D] and show it transposed, so that joining the heads afterwards is a view.
    """
    if torch.is_grad_enabled():
        output = _ATTENTION(query, key, value, *rest, **options)
        return output.transpose(-3, -2).contiguous().transpose(-3, -2)
    *batch, heads, queries, _ = query.shape
    return torch.empty((*batch, queries, heads, value.shape[-1]), dtype=query.dtype, device="meta").transpose(-3, -2)


def _product_then_bias(rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """A linear layer of rows that do not lie one behind the other: no kernel adds its bias (ATen, Linear.cpp)."""
    product = torch.matmul(rows, weight.t())
    return product if bias is None else product.add_(bias)


# The name to record a function under, what to run, and what to run instead on meta.
_Action = tuple[str, Any, Any]
_RMS_NORM = ("aten::rms_norm", torch.rms_norm, None)
_WHOLE: dict[Any, _Action] = {
    functional.linear: ("aten::linear", functional.linear, None),
    _ATTENTION: ("aten::scaled_dot_product_attention", _ATTENTION, _meta_attention),
    functional.rms_norm: _RMS_NORM,
    torch.rms_norm: _RMS_NORM,
}
_METHODS = "add sub mul div neg pow rsqrt exp sigmoid tanh cos sin add_ sub_ mul_ div_ addcmul_ copy_ mean"
_LEAVES: dict[Any, _Action] = {
    function: (f"aten::{name}", function, None)
    for name, function in (
        *((name, getattr(torch.Tensor, name)) for name in _METHODS.split()),
        ("silu", functional.silu),
        ("gelu", functional.gelu),
        ("softmax", torch.softmax),
        ("softmax", functional.softmax),
        ("rsqrt", torch.rsqrt),
        ("cat", torch.cat),
    )
}
_VIEW, _INDEX, _FLATTEN = ("view", None, None), ("index", None, None), ("flatten", None, None)
_VIEWS = "view view_as transpose permute unsqueeze squeeze expand chunk split unbind narrow t select"
_ACTIONS: dict[Any, _Action] = {
    **_LEAVES,
    **_WHOLE,
    **{getattr(torch.Tensor, name): _VIEW for name in _VIEWS.split()},
    torch.Tensor.__getitem__: _INDEX,
    **{getattr(torch.Tensor, name): _FLATTEN for name in ("flatten", "reshape")},
}
_BASIC = (slice, int, type(None), type(...))


class FunctionLevel(TorchFunctionMode):
    """Hands the functions named above to the recorder and keeps their inner operations from it."""

    def __init__(self, recorder: Recorder) -> None:
        """Record through `recorder`."""
        super().__init__()
        self._observe = recorder.observe
        self._note_source = recorder.note_source

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Record `func` whole, run it unseen where it is a view, or let its operations be seen below."""
        action = _ACTIONS.get(func)
        if action is None:
            if func is _MODULE_ATTENTION:
                with self._attention_within():
                    return func(*args, **kwargs or _NO_KWARGS)
            return func(*args, **kwargs) if kwargs else func(*args)
        name, run, run_on_meta = action
        if func is _LINEAR and args and args[0].dim() > 2 and not args[0].is_contiguous():
            return _product_then_bias(*args, **kwargs or _NO_KWARGS)
        if run is not None:
            if args and (not kwargs or "out" not in kwargs) and not _is_autocast_enabled():
                if run_on_meta is not None and args[0].is_meta:
                    run = run_on_meta
                return self._observe(name, run, args, kwargs or _NO_KWARGS)
        elif (
            action is _VIEW
            or (action is _INDEX and _is_basic_index(args[1]))
            or (action is _FLATTEN and args[0].is_contiguous())
        ):
            if type(args[0]) is _PARAMETER:
                self._note_source(args[0])
            guard = _DisableTorchDispatch()  # not as a context: that would cost two calls more
            try:
                return func(*args, **kwargs) if kwargs else func(*args)
            finally:
                del guard
        return func(*args, **kwargs) if kwargs else func(*args)

    @contextmanager
    def _attention_within(self) -> Iterator[None]:
        """Attention that a function of torch calls is seen here: this level is off while torch's own code runs."""

        def attend(*args: Any, **kwargs: Any) -> Any:
            return self.__torch_function__(_ATTENTION, (), args, kwargs)

        before = functional.scaled_dot_product_attention
        functional.scaled_dot_product_attention = attend
        try:
            yield
        finally:
            functional.scaled_dot_product_attention = before


def _is_basic_index(index: object) -> bool:
    """Whether indexing gives a view: only slices, integers, None and an ellipsis (True is an index of another kind)."""
    if type(index) is tuple:
        return all(type(item) in _BASIC for item in index)
    return type(index) in _BASIC
