"""Processor packages and their memory through RAPL, as Linux shows it under /sys/class/powercap."""

from dataclasses import dataclass
from pathlib import Path

from profiler.capture.energy.source import PowerReading, PowerSource, SourceError, UnavailableSource
from profiler.energy import DeviceType, Method

_POWERCAP = Path("/sys/class/powercap")
_NAME = "CPU packages (RAPL)"


@dataclass(frozen=True, slots=True, kw_only=True)
class RaplSource:
    """One zone: a package, or the memory beside it."""

    name: str
    folder: Path
    wraps_at_j: tuple[float, ...]
    device: DeviceType = "cpu"
    method: Method = "counter"
    notes: tuple[str, ...] = ()

    def read(self) -> PowerReading:
        """The zone's counter, which is in microjoules."""
        return PowerReading(energy_j=1e-6 * _read_number(self.folder / "energy_uj"))

    def close(self) -> None:
        """Nothing stays open."""


def rapl_sources(folder: Path = _POWERCAP) -> tuple[PowerSource, ...]:
    """One source per package and per memory zone.

    Cores and graphics are parts of the package, and the platform zone (`psys`) holds it, so they are left out; so is
    the second way to the same counters (`intel-rapl-mmio`). AMD processors have the same zones under Intel's name.

    Args:
        folder: `/sys/class/powercap`, or a copy of it.
    """
    zones: list[PowerSource] = []
    for zone in sorted(folder.glob("intel-rapl:*")):
        try:
            name = (zone / "name").read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError):
            continue
        if name.startswith("package") or name == "dram":
            package = zone.name.split(":")[1]
            title = f"CPU {name}" if name != "dram" else f"CPU package-{package} dram"
            zones.append(_open(f"{title} (RAPL)", zone))
    if zones:
        return tuple(zones)
    message = f"{folder} has no RAPL package zone; virtual machines seldom show any"
    return (UnavailableSource(name=_NAME, device="cpu", state="absent", message=message),)


def _open(name: str, zone: Path) -> PowerSource:
    try:
        _read_number(zone / "energy_uj")
        wraps_at_j = (1e-6 * _read_number(zone / "max_energy_range_uj"),)
    except SourceError as fault:
        return UnavailableSource(name=name, device="cpu", state=fault.state, message=fault.message)
    return RaplSource(name=name, folder=zone, wraps_at_j=wraps_at_j)


def _read_number(path: Path) -> int:
    try:
        return int(path.read_text(encoding="ascii"))
    except PermissionError:
        raise SourceError("permission_denied", f"{path} is readable for root only") from None
    except FileNotFoundError:
        raise SourceError("device_lost", f"{path} is gone") from None
    except (OSError, ValueError) as error:
        raise SourceError("failed", f"{path}: {error}") from None
