"""NVIDIA GPUs through NVML: the total-energy counter where a device has one, else its power."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from profiler.capture.energy.source import PowerReading, PowerSource, SourceError, UnavailableSource
from profiler.energy import DeviceType, Method, State

_ALL = "NVIDIA GPUs"
# The counter is 64 bits wide, in mJ; some drivers carry only the lower 32 on.
_WRAPS_AT_J = (2.0**32 * 1e-3, 2.0**64 * 1e-3)
_MIG_NOTE = "MIG is on: NVML tells the figures of the whole board, those of other instances included"


def nvml_sources(uuids: Sequence[str] | None = None) -> tuple[PowerSource, ...]:
    """One source per board; whatever fails is a source that tells its state.

    Args:
        uuids: UUIDs of the GPUs or MIG instances wanted; None for every GPU that NVML lists.
    """
    try:
        import pynvml
    except ImportError:
        return (_unavailable(_ALL, "absent", "nvidia-ml-py is not installed"),)
    try:
        with _faults(pynvml):
            pynvml.nvmlInit()
    except SourceError as fault:
        return (_unavailable(_ALL, fault.state, fault.message),)
    try:
        found = dict(_open_each(pynvml, uuids))
    except SourceError as fault:
        return (_unavailable(_ALL, fault.state, fault.message),)
    finally:
        with suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()
    return tuple(found.values()) or (_unavailable(_ALL, "absent", "NVML lists no GPU"),)


@dataclass(slots=True)
class NvmlSource:
    """One board."""

    name: str
    method: Method
    notes: tuple[str, ...]
    _nvml: Any
    _handle: Any
    _has_power: bool
    _has_instant_power: bool
    device: DeviceType = "gpu"
    wraps_at_j: tuple[float, ...] = _WRAPS_AT_J

    def read(self) -> PowerReading:
        """Counter and power; the power beside a counter is left out where it fails alone."""
        if self.method == "power":
            return PowerReading(power_w=self._power_w())
        with _faults(self._nvml):
            energy_j = 1e-3 * self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle)
        power_w = None
        if self._has_power:
            with suppress(SourceError):
                power_w = self._power_w()
        return PowerReading(energy_j=energy_j, power_w=power_w)

    def _power_w(self) -> float:
        if self._has_instant_power:
            return _instant_power_w(self._nvml, self._handle)
        with _faults(self._nvml):
            return 1e-3 * float(self._nvml.nvmlDeviceGetPowerUsage(self._handle))

    def close(self) -> None:
        """Give the library back; a driver that is gone makes no difference here."""
        with suppress(self._nvml.NVMLError):
            self._nvml.nvmlShutdown()


def _open_each(nvml: Any, uuids: Sequence[str] | None) -> Iterator[tuple[str, PowerSource]]:
    """(UUID of the board or its label, source), so that two MIG instances of one board are one source."""
    if uuids is None:
        with _faults(nvml):
            wanted: Sequence[int | str] = range(nvml.nvmlDeviceGetCount())
    else:
        wanted = uuids
    for index, which in enumerate(wanted):
        label = f"GPU {index}"
        try:
            yield _open(nvml, label, which)
        except SourceError as fault:
            yield label, _unavailable(label, fault.state, fault.message)


def _open(nvml: Any, label: str, which: int | str) -> tuple[str, PowerSource]:
    notes = []
    with _faults(nvml):
        if isinstance(which, int):
            handle = nvml.nvmlDeviceGetHandleByIndex(which)
        else:
            handle = nvml.nvmlDeviceGetHandleByUUID(which.encode())
            if which.startswith("MIG-"):
                handle = nvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(handle)
        name, uuid = f"{label} {nvml.nvmlDeviceGetName(handle)}", str(nvml.nvmlDeviceGetUUID(handle))
    with suppress(SourceError), _faults(nvml):  # boards without MIG say that it is not supported
        if nvml.nvmlDeviceGetMigMode(handle)[0]:
            notes.append(_MIG_NOTE)
    has_counter, why_not = _try(nvml, lambda: nvml.nvmlDeviceGetTotalEnergyConsumption(handle))
    has_instant, _ = _try(nvml, lambda: _instant_power_w(nvml, handle))
    has_power, why_no_power = (True, None) if has_instant else _try(nvml, lambda: nvml.nvmlDeviceGetPowerUsage(handle))
    if not has_counter and not has_power:
        fault = next(fault for fault in (why_no_power, why_not) if fault is not None)
        return uuid, _unavailable(name, fault.state, fault.message)
    if not has_counter:
        notes.append(f"no energy counter ({why_not.message if why_not else ''}): energy is the integral of its power")
        if not has_instant:
            notes.append("its power may be a mean over the last second, which blurs what is shorter")
    with _faults(nvml):
        nvml.nvmlInit()  # counted: the library stays until this source is closed
    method: Method = "counter" if has_counter else "power"
    return uuid, NvmlSource(name, method, tuple(notes), nvml, handle, has_power, has_instant)


def _instant_power_w(nvml: Any, handle: Any) -> float:
    with _faults(nvml):
        (field,) = nvml.nvmlDeviceGetFieldValues(handle, [nvml.NVML_FI_DEV_POWER_INSTANT])
        if field.nvmlReturn != nvml.NVML_SUCCESS:
            raise nvml.NVMLError(field.nvmlReturn)
    return 1e-3 * float(field.value.uiVal)


def _try(nvml: Any, read: Any) -> tuple[bool, SourceError | None]:
    """Whether a reading works, and why not where it does not."""
    try:
        with _faults(nvml):
            read()
    except SourceError as fault:
        return False, fault
    return True, None


@contextmanager
def _faults(nvml: Any) -> Iterator[None]:
    """Turn NVML's errors into faults with their states."""
    try:
        yield
    except nvml.NVMLError as error:
        raise SourceError(_state(nvml, error.value), f"NVML says {error}") from None
    except UnicodeDecodeError:
        raise SourceError("failed", "NVML gave a text that is not UTF-8") from None


def _state(nvml: Any, code: int) -> State:
    states: dict[int, State] = {
        nvml.NVML_ERROR_LIBRARY_NOT_FOUND: "absent",
        nvml.NVML_ERROR_NOT_SUPPORTED: "not_supported",
        nvml.NVML_ERROR_FUNCTION_NOT_FOUND: "not_supported",
        nvml.NVML_ERROR_NO_PERMISSION: "permission_denied",
        nvml.NVML_ERROR_DRIVER_NOT_LOADED: "driver_gone",
        nvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: "driver_gone",
        nvml.NVML_ERROR_UNINITIALIZED: "driver_gone",
        nvml.NVML_ERROR_GPU_IS_LOST: "device_lost",
        nvml.NVML_ERROR_RESET_REQUIRED: "device_lost",
        nvml.NVML_ERROR_GPU_NOT_FOUND: "device_lost",
        nvml.NVML_ERROR_NOT_FOUND: "absent",
    }
    return states.get(code, "failed")


def _unavailable(name: str, state: State, message: str) -> UnavailableSource:
    return UnavailableSource(name=name, device="gpu", state=state, message=message)
