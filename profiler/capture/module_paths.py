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
        """Take the names of `root` and all below it; a part that stands in two places has the first one's."""
        path = type(root).__name__
        self._names = {id(root): path}
        _name_children(root, path, self._names)


def _name_children(module: torch.nn.Module, path: str, names: dict[int, str]) -> None:
    """What `named_modules()` gives, in a fifth of its time: this is done whenever a program calls its network."""
    for name, part in module._modules.items():
        if part is not None and id(part) not in names:
            path_of_part = names[id(part)] = f"{path}.{name}"
            if part._modules:
                _name_children(part, path_of_part, names)


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
