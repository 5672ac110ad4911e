"""Emits the markers' phases as NVTX ranges, so that Nsight shows them beside the kernels."""

from typing import Any

import torch

from workloads.markers import Marker


class NvtxRanges:
    """Keeps one NVTX range open: that of the current phase and step.

    The range changes at the first operation after the marker changed; between the two nothing runs on the device.
    """

    def __init__(self, nvtx: Any) -> None:
        """Use the given `nvtx` module."""
        self._domain = nvtx.get_domain("roofscape")
        self._nvtx = nvtx
        self._open = False

    def change(self, marker: Marker) -> None:
        """Close the open range and open that of `marker`."""
        self.close()
        if marker.phase:
            label = marker.phase if marker.step is None else f"{marker.phase} {marker.step}"
            self._domain.push_range(self._domain.get_event_attributes(message=label))
            self._open = True

    def close(self) -> None:
        """Close the open range."""
        if self._open:
            self._domain.pop_range()
            self._open = False


def nvtx_ranges_if_cuda() -> NvtxRanges | None:
    """Ranges where there is a CUDA device and the nvtx package, else None."""
    if not torch.cuda.is_available():
        return None
    try:
        import nvtx
    except ImportError:
        return None
    return NvtxRanges(nvtx)
