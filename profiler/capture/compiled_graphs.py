"""Lets functions of `torch.compile` run compiled while they are recorded: each graph is one call of unknown cost.

Modes that watch operations make torch.compile leave a function uncompiled. So they step aside from where a compiled
function is entered to where it is left, and the graphs that it runs in between are recorded from here.
"""

import sys
import threading
from collections.abc import Callable, Sequence
from types import FrameType, TracebackType
from typing import Any

import torch.overrides
import torch.utils._python_dispatch
from torch._dynamo import eval_frame
from torch._inductor.output_code import CompiledFxGraph

from profiler.capture.recorder import Recorder
from profiler.costs.rules import COMPILED_GRAPH

# torch leaves these untyped, or does not say that they are there.
_frames: Any = eval_frame
_graph: Any = CompiledFxGraph
_functions: Any = torch.overrides
_dispatches: Any = torch.utils._python_dispatch


class CompiledGraphs:
    """While entered, compiled functions run compiled; entered after the two modes of the recording.

    A compiled function tells of its beginning and end by setting the interpreter's frame evaluation, and Inductor runs
    each graph through one method: these two are replaced meanwhile.
    """

    def __init__(self, recorder: Recorder, modes: Sequence[object]) -> None:
        """Record through `recorder`, and let `modes` step aside.

        Args:
            recorder: that keeps the graphs' calls.
            modes: those that watch operations.
        """
        self.functions = 0  # that were called
        self.graphs = 0  # that they ran
        self.broken = 0  # functions that did not run as exactly one graph
        self._recorder = recorder
        self._modes = {id(mode) for mode in modes}
        self._names: dict[int, tuple[CompiledFxGraph, str]] = {}
        self._thread = threading.get_ident()  # whose modes these are
        self._frame: FrameType | None = None  # of the compiled function that runs
        self._compiles = False
        self._graphs_before = 0
        self._aside: tuple[list[Any], list[Any]] = ([], [])

    def __enter__(self) -> "CompiledGraphs":
        self._set: Callable[[Any], Any] = _frames.set_eval_frame
        self._maybe_set: Callable[[Any], Any] = _frames._maybe_set_eval_frame
        self._run: Callable[..., Any] = _graph.__call__
        run, observe = self._run, self._observe
        _frames.set_eval_frame = self._begin
        _frames._maybe_set_eval_frame = self._end
        _graph.__call__ = lambda graph, inputs: observe(run, graph, inputs)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        _frames.set_eval_frame = self._set
        _frames._maybe_set_eval_frame = self._maybe_set
        _graph.__call__ = self._run

    def note(self) -> str:
        """What ran compiled, one sentence; empty where nothing did."""
        if not self.functions:
            return ""
        lost = f"; {self.broken} of them ran as none or several, and what they did beside these was not seen"
        return (
            f"Compiled: {self.functions} calls of compiled functions, with their gradients, ran {self.graphs} graphs, "
            f"whose FLOPs and bytes nobody tells{lost if self.broken else ''}."
        )

    def _begin(self, callback: Any) -> Any:
        """The first thing that a compiled function does is to switch frame evaluation off."""
        if self._frame is None and threading.get_ident() == self._thread:
            self._frame = sys._getframe(1)
            self._graphs_before = self.graphs
            self._step_aside()
        return self._set(callback)

    def _end(self, callback: Any) -> Any:
        """It then sets what is to compile, and at its very end what was there before: nothing, for the outermost one.

        A function that must not be compiled sets nothing in both places.
        """
        if self._frame is sys._getframe(1):
            if callback in (None, False):
                self._frame = None
                self._step_back()
                self.functions += self._compiles
                self.broken += self._compiles and self.graphs != self._graphs_before + 1
            self._compiles = callback not in (None, False)
        return self._maybe_set(callback)

    def _step_aside(self) -> None:
        functions = _functions._get_current_function_mode_stack()
        dispatches = _dispatches._get_current_dispatch_mode_stack()
        self._aside = (functions, dispatches)
        _replace_modes(
            [mode for mode in functions if id(mode) not in self._modes],
            [mode for mode in dispatches if id(mode) not in self._modes],
        )
        self._recorder.modules.stop()

    def _step_back(self) -> None:
        _replace_modes(*self._aside)
        self._recorder.modules.start()

    def _observe(self, run: Callable[..., Any], graph: CompiledFxGraph, inputs: Any) -> Any:
        """Record one run of a graph; its name counts the graphs in the order of their first run."""
        self.graphs += 1
        _, name = self._names.setdefault(id(graph), (graph, f"{COMPILED_GRAPH}{len(self._names)}"))
        arguments = tuple(inputs)
        if isinstance(inputs, list):
            inputs.clear()  # as the graph would do
        return self._recorder.observe(name, lambda *given: run(graph, list(given)), arguments, {})


def _replace_modes(functions: list[Any], dispatches: list[Any]) -> None:
    """Make these the active modes, outermost first."""
    for _ in _functions._get_current_function_mode_stack():
        _functions._pop_mode()
    for _ in _dispatches._get_current_dispatch_mode_stack():
        _dispatches._pop_mode()
    for mode in functions:
        _functions._push_mode(mode)
    for mode in dispatches:
        _dispatches._push_mode(mode)
