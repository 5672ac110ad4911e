"""Tracks which `torch.nn.Module` is running, as a path of attribute names."""

from collections.abc import Callable
from typing import Any

import torch

_Call = Callable[..., Any]


class ModulePaths:
    """Path of the innermost running module, such as `layers.3.attention`; empty outside of any module.

    The outermost module called gives its class name to the path's root; those below are named as in its
    `named_modules()`. A module that is not registered below the outer one adds its class name.
    """

    def __init__(self) -> None:
        """Start outside of any module."""
        self.current = ""
        self._names: dict[int, str] = {}
        self._tree: list[object] = []

    def start(self) -> None:
        """Begin to watch every module call in this process."""
        _watchers.append(self)
        _watch()

    def stop(self) -> None:
        """Stop watching."""
        _watchers.remove(self)
        _watch()

    def around(self, call: _Call) -> _Call:
        """`call`, which calls a module, with the path kept while it runs."""

        def watched_call(module: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
            outer = self.current
            if not outer:
                self._name_parts(module)
            self.current = self._names.get(id(module)) or f"{outer}.{type(module).__name__}"
            try:
                return call(module, *args, **kwargs)
            finally:
                self.current = outer

        return watched_call

    def _name_parts(self, root: torch.nn.Module) -> None:
        """Take the names of `root` and all below it, unless it is the tree whose names are there already."""
        tree: list[object] = [id(root)]
        waiting = [root]
        seen = {id(root)}
        while waiting:
            for name, part in waiting.pop()._modules.items():
                identity = id(part)
                tree += (name, identity)
                if identity not in seen and part is not None:
                    seen.add(identity)
                    waiting.append(part)
        if tree == self._tree:
            return
        self._tree = tree
        name_of_root = type(root).__name__
        self._names = {
            id(part): f"{name_of_root}.{name}" if name else name_of_root for name, part in root.named_modules()
        }


# torch offers hooks around every module's call, but with one of them each call takes a way that costs ten times what is
# done here. So the call itself is replaced while somebody watches, as `torch.fx` does while it traces.
_watchers: list[ModulePaths] = []
_unwatched_call: _Call = torch.nn.Module.__call__


def _watch() -> None:
    """Let every module's call go through all watchers, or through none where there are none."""
    call = _unwatched_call
    for watcher in _watchers:
        call = watcher.around(call)
    torch.nn.Module.__call__ = call  # type: ignore[method-assign]  # see above
