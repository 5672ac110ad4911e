"""Names and clocks of the devices that programs ran on, for provenance."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceDescription:
    """Name, clock and remarks of the device that a recording ran on."""

    name: str
    clock_hz: float | None = None
    notes: tuple[str, ...] = ()


def describe_device(types: set[str], *, is_timed: bool = True) -> DeviceDescription:
    """Describe the device of a recording from the torch device types of its outputs; a CPU's clock if it was timed."""
    if "cuda" in types:
        return _describe_cuda()
    if "cpu" in types:
        clock_hz = cpu_clock_hz() if is_timed else None
        notes = (f"CPU run with {torch.get_num_threads()} threads",)
        return DeviceDescription(name=cpu_name(), clock_hz=clock_hz, notes=notes)
    return DeviceDescription(name="meta", notes=("shapes only: nothing was computed and nothing was timed",))


def made_current(device: str) -> AbstractContextManager[object]:
    """Makes a numbered GPU, as `cuda:1`, the current one inside the block: torch's events and queries are of that one.

    >>> with made_current("cpu") as nothing:
    ...     print(nothing)
    None
    """
    chosen = torch.device(device)
    if chosen.type == "cuda" and chosen.index is not None:
        return torch.cuda.device(chosen)
    return nullcontext()


@cache
def cpu_name() -> str:
    """Model name of the processor as Linux tells it, else `cpu`."""
    return _cpu_field("model name") or "cpu"


def cpu_clock_hz() -> float | None:
    """Current clock of the first processor in Hz, None where it is not told."""
    megahertz = _cpu_field("cpu MHz")
    return float(megahertz) * 1e6 if megahertz else None


def _cpu_field(field: str) -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return ""
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == field:
            return value.strip()
    return ""


def _describe_cuda() -> DeviceDescription:
    """Name from torch, clock through NVML where it answers."""
    name = torch.cuda.get_device_name()
    try:
        import pynvml

        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByIndex(torch.cuda.current_device())
        clock_hz = 1e6 * float(pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_SM))
        pynvml.nvmlShutdown()
    except ImportError:
        return DeviceDescription(name=name, notes=("clock unknown: nvidia-ml-py is not installed",))
    except pynvml.NVMLError as error:
        return DeviceDescription(name=name, notes=(f"clock unknown: NVML says {error}",))
    return DeviceDescription(name=name, clock_hz=clock_hz)
