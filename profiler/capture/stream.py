"""`Stream`: writes a recording to disk in parts while the program runs, so that its memory stays flat.

A thread only raises a flag every two seconds; the recorder looks at it after each call, which is one comparison, and
then writes what it has between two calls of the program. So no lock is needed, and a kill loses the last moments.
"""

import logging
import os
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import fields, replace
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import torch

from profiler.capture.recorder import NEVER, Recorder
from profiler.capture.stretches import Stretches
from profiler.errors import TraceError
from profiler.trace_parts import has_parts, load_parts, part_path, parts_folder, remove_parts, save_part
from profiler.trace_tables import TableSizes
from profiler.traces import Allocations, Calls, Trace

PERIOD_S = 2.0
MOST_VERSIONS = 16384  # tensor versions until a part is written before its time: a few megabytes of lists
_log = logging.getLogger(__name__)


class Stream:
    """Writes parts while it is entered; they stay where the program fails, and become one trace by `finish`."""

    def __init__(self, recorder: Recorder, stretches: Stretches, path: Path) -> None:
        """Stream what `recorder` sees.

        Args:
            recorder: that calls `flush`.
            stretches: takes from this recorder.
            path: of the trace file to be; the parts lie in `parts_folder(path)`.

        Raises:
            TraceError: where an unfinished recording lies there already, or nothing can be written there.
        """
        self.folder = parts_folder(path)
        self._recorder = recorder
        self._stretches = stretches
        self._unsaved: list[Trace] = []
        self._parts = 0
        self._sizes = TableSizes()
        self._process = os.getpid()
        self._ended = threading.Event()
        if path.is_dir():
            raise TraceError(f"{path}: is a folder; a streamed recording needs the name of a file")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise TraceError(f"cannot write {self.folder}: {error.strerror or error}") from None
        if has_parts(self.folder):
            raise TraceError(
                f"{self.folder}: holds an unfinished recording (which reads like a trace); move it away or remove it"
            )

    def __enter__(self) -> Self:
        """Begin."""
        self._recorder.flush = self.flush
        self._recorder.flush_at = MOST_VERSIONS
        threading.Thread(target=self._remind, name="roofscape-stream", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End; where the program failed, what it did until then is written as the last part."""
        self._ended.set()
        if kind is not None:
            with suppress(RuntimeError):  # a device that failed has no times to give, and its error is on its way
                self.flush()
            if self._parts:
                _log.warning("the recording was cut off; what it has is in %s", self.folder)
            else:
                self.remove_parts()
        self._recorder.flush_at = NEVER

    def flush(self) -> None:
        """Write all calls since the last part, and drop them from memory.

        What cannot be written is kept and tried again with the next part: the program shall not fail for its recording.
        """
        if os.getpid() != self._process:  # a forked worker, whose calls are not of this recording
            self._recorder.flush_at = NEVER
            return
        if not (torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()):  # which forbids to wait
            self._unsaved.append(self._stretches.take())
            try:
                self._save()
            except TraceError as error:
                _log.warning("calls are kept in memory: %s", error)
        self._recorder.flush_at = self._recorder.storages.versions + MOST_VERSIONS

    def finish(self) -> Trace:
        """The whole recording, read back from its parts."""
        stretches = [*self._unsaved, self._stretches.take()]
        if self._parts:
            stretches.insert(0, load_parts(self.folder))
        return _joined(stretches)

    def remove_parts(self) -> None:
        """Remove the parts, once the trace is saved."""
        remove_parts(self.folder)

    def _save(self) -> None:
        while self._unsaved:
            stretch = self._unsaved[0]
            if len(stretch.calls) or len(stretch.allocations):
                save_part(stretch, self._sizes, part_path(self.folder, self._parts))
                self._parts += 1
                self._sizes = TableSizes(ops=len(stretch.ops), phases=len(stretch.phases), modules=len(stretch.modules))
            del self._unsaved[0]

    def _remind(self) -> None:
        while not self._ended.wait(PERIOD_S):
            self._recorder.flush_at = 0


def _joined(stretches: Sequence[Trace]) -> Trace:
    """Stretches behind one another, with the tables and the provenance of the last."""
    calls = {
        column.name: np.concatenate([getattr(stretch.calls, column.name) for stretch in stretches])
        for column in fields(Calls)
    }
    allocations = {
        column.name: np.concatenate([getattr(stretch.allocations, column.name) for stretch in stretches])
        for column in fields(Allocations)
    }
    return replace(stretches[-1], calls=Calls(**calls), allocations=Allocations(**allocations))
