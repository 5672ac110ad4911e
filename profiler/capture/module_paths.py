"""Tracks which `torch.nn.Module` is running, as a path of attribute names."""

from typing import Any

import torch
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook


class ModulePaths:
    """Path of the innermost running module, such as `layers.3.attention`; empty outside of any module.

    The outermost module called gives its class name to the path's root; those below are named as in its
    `named_modules()`. A module that is not registered below the outer one adds its class name.
    """

    def __init__(self) -> None:
        """Start outside of any module."""
        self.current = ""
        self._stack: list[str] = []
        self._names: dict[int, str] = {}
        self._handles: list[Any] = []

    def start(self) -> None:
        """Begin to watch every module call in this process."""
        self._handles = [
            register_module_forward_pre_hook(self._enter),
            register_module_forward_hook(self._leave, always_call=True),
        ]

    def stop(self) -> None:
        """Stop watching."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def _enter(self, module: torch.nn.Module, _inputs: object) -> None:
        if not self._stack:
            root = type(module).__name__
            self._names = {id(part): f"{root}.{name}" if name else root for name, part in module.named_modules()}
        path = self._names.get(id(module))
        if path is None:
            path = f"{self.current}.{type(module).__name__}"
        self._stack.append(self.current)
        self.current = path

    def _leave(self, _module: torch.nn.Module, _inputs: object, _output: object) -> None:
        if self._stack:
            self.current = self._stack.pop()
