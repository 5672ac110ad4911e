"""Whether a model's weights fit into this machine, asked before the machine finds out."""

import os

import torch

from workloads.errors import WorkloadError


def check_fits(name: str, weights_bytes: int, device: torch.device) -> None:
    """Refuse weights that are larger than the device's memory; `meta` takes any size.

    Raises:
        WorkloadError: they do not fit.
    """
    capacity_bytes = _capacity_bytes(device)
    if capacity_bytes is not None and weights_bytes > capacity_bytes:
        raise WorkloadError(
            f"{name}: its weights take {weights_bytes / 1e9:.1f} GB, {device} has {capacity_bytes / 1e9:.1f} GB; "
            "use device meta, or a narrower dtype"
        )


def _capacity_bytes(device: torch.device) -> int | None:
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    if device.type == "cpu" and hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None
