"""Phase, step and module path of a launch, from the annotated ranges and module calls around it."""

import re

from profiler.importers.assembly import Mark
from profiler.importers.kineto_file import MODULE_PREFIX, HostSpan, KinetoFile
from profiler.importers.kineto_nesting import NONE, Nesting

BEFORE_WINDOW = "(before the window)"
LAUNCH_NOT_RECORDED = "(launch not recorded)"
_PROFILER_STEP = re.compile(r"ProfilerStep(?:\*|#(\d{1,9}))")
# PyTorch's own ranges around collectives; the collective itself says the same.
_HIDDEN_PREFIXES = ("nccl:", "c10d::", "record_param_comms")


class MarkFinder:
    """Looks up the mark of a launch; paths are built once per range."""

    def __init__(self, file: KinetoFile) -> None:
        self._ranges = Nesting([span for span in file.annotations if not span.name.startswith(_HIDDEN_PREFIXES)])
        self._modules = Nesting(file.modules)
        self._phases: dict[int, tuple[str, int]] = {NONE: ("", -1)}
        self._paths: dict[int, str] = {NONE: ""}

    def find(self, launch: HostSpan) -> Mark:
        """The mark of a launch event: annotated ranges open on its thread, and modules in whose forward it lies."""
        moment_ps = launch.start_ps
        range_index = self._ranges.innermost(launch.thread, moment_ps)
        if range_index == NONE:
            range_index = self._range_elsewhere(moment_ps)
        phase, step = self._phase(range_index)
        return Mark(phase, step, self._path(self._modules.innermost(launch.thread, moment_ps)))

    def _range_elsewhere(self, moment_ps: int) -> int:
        """The open range of the only other thread that has one: autograd launches from a thread of its own."""
        found = {self._ranges.innermost(thread, moment_ps) for thread in self._ranges.threads} - {NONE}
        return found.pop() if len(found) == 1 else NONE

    def _phase(self, index: int) -> tuple[str, int]:
        if index not in self._phases:
            names, step = [], -1
            for outer in self._ranges.chain(index):
                name = self._ranges.spans[outer].name
                match = _PROFILER_STEP.fullmatch(name)
                if match is None:
                    names.append(name)
                elif step == -1 and match[1]:
                    step = int(match[1])
            self._phases[index] = ("/".join(reversed(names)), step)
        return self._phases[index]

    def _path(self, index: int) -> str:
        if index not in self._paths:
            names = [
                self._modules.spans[outer].name.removeprefix(MODULE_PREFIX) for outer in self._modules.chain(index)
            ]
            self._paths[index] = "/".join(reversed(names))
        return self._paths[index]
