"""Bytes at main memory while a program runs, from the memory controllers' counters through Linux's `perf`.

Such counters belong to the machine, not to a process: what other programs move is in them.
"""

import math
import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from profiler.traces import Trace

PMU_FOLDER = Path("/sys/bus/event_source/devices")
# Names that the kernel's uncore drivers give to events of Intel's memory controllers, servers' first.
_INTEL = {
    "read": ("cas_count_read", "data_reads", "data_read"),
    "write": ("cas_count_write", "data_writes", "data_write"),
}
# AMD since Zen 4: `umc_cas_cmd.rd` and `.wr` of Linux, tools/perf/pmu-events/arch/x86/amdzen4/memory-controller.json;
# one command moves a line of 64 bytes.
_AMD = {"read": "event=0x0a,rdwrmask=0x1", "write": "event=0x0a,rdwrmask=0x2"}
_AMD_LINE_BYTES = 64
_UNIT_BYTES = {"MiB": 2**20, "KiB": 2**10, "Bytes": 1, "": _AMD_LINE_BYTES}
_TIMEOUT_S = 10.0
_SEPARATOR = ";"  # events of AMD hold commas


@dataclass(slots=True)
class DramReading:
    """Bytes that the memory controllers moved, machine-wide; None with a `reason` where they were not measured."""

    read_bytes: float | None = None
    write_bytes: float | None = None
    window_s: float = field(default=math.nan)
    reason: str = ""

    def note(self) -> str:
        """One sentence for the provenance of a trace."""
        if self.read_bytes is None or self.write_bytes is None:
            return f"Bytes at main memory were not measured: {self.reason}."
        return (
            f"Main memory, measured by perf at the memory controllers, machine-wide (other programs included): "
            f"{self.read_bytes:.0f} bytes read, {self.write_bytes:.0f} bytes written in {self.window_s:.3f} s."
        )


def memory_events(folder: Path = PMU_FOLDER) -> dict[str, str]:
    """perf's name of each event of a memory controller that the kernel shows, to `read` or `write`.

    Args:
        folder: `/sys/bus/event_source/devices`, or a copy of it.
    """
    found: dict[str, str] = {}
    for pmu in sorted(folder.glob("uncore_imc*")):
        for way, names in _INTEL.items():
            event = next((name for name in names if (pmu / "events" / name).is_file()), None)
            if event is not None:
                found[f"{pmu.name}/{event}/"] = way
    for pmu in sorted(folder.glob("amd_umc*")):
        if (pmu / "format" / "rdwrmask").is_file():
            found |= {f"{pmu.name}/{terms}/": way for way, terms in _AMD.items()}
    return found


@contextmanager
def measure_dram(folder: Path = PMU_FOLDER) -> Iterator[DramReading]:
    """Count the bytes at main memory while the block runs; whatever fails becomes the reading's reason.

    Args:
        folder: as `memory_events`.
    """
    reading = DramReading()
    events, perf = memory_events(folder), shutil.which("perf")
    if not events or perf is None:
        reading.reason = (
            f"{folder} shows no memory controller that is known (uncore_imc*, amd_umc*); virtual machines seldom do"
            if not events
            else "perf is not installed"
        )
        yield reading
        return
    with _Perf(perf, tuple(events)) as process:
        ready, start_s = process.control("enable"), time.perf_counter()
        try:
            yield reading
        finally:
            reading.window_s = time.perf_counter() - start_s
            if ready:
                process.control("disable")
            _fill(reading, events, process.finish())


def with_dram(trace: Trace, reading: DramReading) -> Trace:
    """The trace with what was read, or why nothing was, among its notes."""
    notes = (*trace.provenance.notes, reading.note())
    return replace(trace, provenance=replace(trace.provenance, notes=notes))


class _Perf:
    """`perf stat` of the whole machine that counts between `enable` and `disable` (perf of Linux 5.10 or later)."""

    def __init__(self, perf: str, events: Sequence[str]) -> None:
        theirs, self._commands = os.pipe()
        self._answers, answers = os.pipe()
        command = [perf, "stat", "-a", "-x", _SEPARATOR, "-D", "-1", "--control", f"fd:{theirs},{answers}"]
        command += [part for event in events for part in ("-e", event)]
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                pass_fds=(theirs, answers),
                env={**os.environ, "LC_ALL": "C"},
            )
        except OSError:
            self._close_pipes()
            raise
        finally:
            os.close(theirs)
            os.close(answers)

    def __enter__(self) -> "_Perf":
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        if self._process.stderr is not None:
            self._process.stderr.close()
        self._close_pipes()

    def control(self, word: str) -> bool:
        """Whether perf followed the command within the time that it has."""
        with suppress(OSError):
            os.write(self._commands, f"{word}\n".encode())
            if select.select([self._answers], [], [], _TIMEOUT_S)[0]:
                return os.read(self._answers, 64).startswith(b"ack")
        return False

    def finish(self) -> str:
        """Stop perf; what it printed."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
        try:
            return self._process.communicate(timeout=_TIMEOUT_S)[1]
        except subprocess.TimeoutExpired:
            return ""

    def _close_pipes(self) -> None:
        os.close(self._commands)
        os.close(self._answers)


def _fill(reading: DramReading, events: dict[str, str], printed: str) -> None:
    """Sum the rows `value;unit;event;...`; a row that was not counted makes the whole unknown."""
    totals = {"read": 0.0, "write": 0.0}
    seen: set[str] = set()
    for line in printed.splitlines():
        value, unit, event, *_ = [*line.split(_SEPARATOR), "", ""]
        if event not in events:
            continue
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not math.isfinite(number) or number < 0 or unit not in _UNIT_BYTES:
            reading.reason = f"perf gave {value[:40]!r} {unit[:20]} for {event}"
            return
        totals[events[event]] += number * _UNIT_BYTES[unit]
        seen.add(event)
    if seen != set(events):
        lines = [line.strip() for line in printed.splitlines() if line.strip()]
        denied = "perf_event_paranoid" in printed or "ermission" in printed
        said = (
            "no permission (as root, or with sysctl kernel.perf_event_paranoid=-1)" if denied else "".join(lines[-1:])
        )
        reading.reason = f"perf counted {len(seen)} of {len(events)} events: {said[:200] or 'it said nothing'}"
        return
    reading.read_bytes, reading.write_bytes = totals["read"], totals["write"]
