"""What the system says of this machine: caches, memory, and who uses it. Virtual machines often tell of their host."""

import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from profiler.measurements import CacheSize

_SYSFS_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
_PROC_STAT = Path("/proc/stat")
_OWN_TASKS = Path("/proc/self/task")
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}


def cpu_caches(folder: Path = _SYSFS_CACHES) -> tuple[CacheSize, ...]:
    """Data and unified caches of the first core, nearest first; empty where the system does not tell.

    Args:
        folder: the core's `cache` folder in Linux' sysfs.
    """
    caches = []
    for index in sorted(folder.glob("index[0-9]*")):
        level, kind, size, shared = (_read(index / name) for name in ("level", "type", "size", "shared_cpu_list"))
        match = re.fullmatch(r"(\d+)([KMG]?)", size)
        if match and level and kind in ("Data", "Unified"):
            capacity = int(match[1]) * _UNITS[match[2]]
            caches.append(CacheSize(name=f"l{level}", capacity_bytes=capacity, per_core=shared.isdigit()))
    return tuple(sorted(caches, key=lambda cache: cache.name))


def cuda_caches(properties: Any) -> tuple[CacheSize, ...]:
    """L1 with shared memory and L2 of a GPU, as far as torch's device properties tell."""
    shared = int(getattr(properties, "shared_memory_per_multiprocessor", 0))
    l2 = int(getattr(properties, "L2_cache_size", 0))
    caches = (
        CacheSize(name="l1", capacity_bytes=shared, per_core=True),
        CacheSize(name="l2", capacity_bytes=l2, per_core=False),
    )
    return tuple(cache for cache in caches if cache.capacity_bytes > 0)


def host_memory_bytes() -> int:
    """Memory of this machine."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def free_memory_bytes(device: str) -> int:
    """Memory that is free now, of this machine or of the current GPU."""
    if device == "cuda":
        return int(torch.cuda.mem_get_info()[0])
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessorUse:
    """Processor seconds used up to now by this process and by everything, a hypervisor's theft included."""

    wall_s: float
    own_s: float
    busy_s: float | None

    def others_share(self, later: "ProcessorUse") -> float | None:
        """Share of one processor that others used until `later`; None where the system does not tell.

        >>> early = ProcessorUse(wall_s=0.0, own_s=0.0, busy_s=10.0)
        >>> early.others_share(ProcessorUse(wall_s=2.0, own_s=1.5, busy_s=12.5))
        0.5
        """
        if self.busy_s is None or later.busy_s is None or later.wall_s <= self.wall_s:
            return None
        others_s = (later.busy_s - self.busy_s) - (later.own_s - self.own_s)
        return max(0.0, others_s / (later.wall_s - self.wall_s))


def processor_use(stat: Path = _PROC_STAT) -> ProcessorUse:
    """Processor use up to now; the first line of Linux' `/proc/stat` counts clock ticks of all processors together."""
    fields = _read(stat).partition("\n")[0].split()
    busy_s = None
    if len(fields) > 8 and fields[0] == "cpu":
        user, nice, system, _idle, _waiting, irq, softirq, steal = (int(value) for value in fields[1:9])
        busy_s = (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
    return ProcessorUse(wall_s=time.monotonic(), own_s=time.process_time(), busy_s=busy_s)


def waited_s(tasks: Path = _OWN_TASKS) -> float:
    """Seconds that this process' threads were ready to run and waited for a processor up to now; 0 where nobody tells.

    The second field of Linux' `schedstat` is the time on a run queue, in ns.
    """
    waited_ns = 0
    for task in tasks.glob("*/schedstat"):
        fields = _read(task).split()
        waited_ns += int(fields[1]) if len(fields) > 1 else 0
    return waited_ns * 1e-9


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return ""
