"""Small `.ncu-rep` reports, encoded by hand.

Fields by number as in the protobuf files that come with Nsight Compute (`extras/FileFormat`): `NVR\\0`, then the file's
header and blocks, each message behind its size (32 bits, little-endian); a block holds its kernels behind a header with
the names of the metrics.
"""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

VERSION = 11
PLAIN_METRICS: dict[str, float | str] = {
    "dram__bytes_read.sum": 1000.0,
    "dram__bytes_write.sum": 24,
    "lts__t_sectors.sum": 3,
    "sm__inst_executed_pipe_tensor.sum": 7,
    "device__attribute_display_name": "Sample GPU",
}


@dataclass(frozen=True, kw_only=True)
class ReportKernel:
    """A kernel: its name, metrics and the NVTX ranges around it, outermost first."""

    name: str
    metrics: Mapping[str, float | str] = field(default_factory=lambda: dict(PLAIN_METRICS))
    ranges: Sequence[str] = ()


def report_bytes(*kernels: ReportKernel, **lies: int) -> bytes:
    """A report of these kernels, by default one.

    Args:
        kernels: in launch order.
        lies: other values for `version`, `results` (kernels said to follow), `payload` (their bytes) or
            `first_name_index` (added to each metric's index into the table of names).
    """
    kernels = kernels or (ReportKernel(name="gemm(int*)", ranges=("forward", "decode 3")),)
    names = list(dict.fromkeys(name for kernel in kernels for name in kernel.metrics))
    payload = b"".join(_sized(_kernel(kernel, names, lies.get("first_name_index", 0))) for kernel in kernels)
    header = (
        _field(1, 0)
        + _field(2, lies.get("results", len(kernels)))
        + _field(3, _field(1, 7))
        + _field(4, b"".join(_field(1, name) for name in names))
        + _field(5, lies.get("payload", len(payload)))
        + _field(6, _field(1, 7))
    )
    return b"NVR\0" + _sized(_field(1, lies.get("version", VERSION))) + _sized(header) + payload


def _kernel(kernel: ReportKernel, names: Sequence[str], first: int) -> bytes:
    """`ProfileResult`: all that it must have, metrics (13) and NVTX state (21)."""
    triple = _field(1, 1) + _field(2, 1) + _field(3, 1)
    text = b"".join(_field(number, 1) for number in (1, 2, 3, 4))
    text += b"".join(_field(number, kernel.name) for number in (5, 6, 7))
    text += _field(8, 1) + b"".join(_field(number, triple) for number in (9, 10, 11))
    for name, value in kernel.metrics.items():
        number = 1 if isinstance(value, str) else 3 if isinstance(value, float) else 5
        text += _field(13, _field(1, names.index(name) + first) + _field(2, _field(number, value)))
    text += _field(15, b"")
    if kernel.ranges:
        stack = b"".join(_field(3, _field(1, name)) for name in kernel.ranges)
        domain = _field(1, _field(1, 0) + _field(2, "default"))
        text += _field(21, domain + _field(2, _field(1, 1) + _field(2, _field(1, 0) + stack)))
    return text


def _field(number: int, value: float | str | bytes) -> bytes:
    """One field: whole numbers as varint, floats as 64 bits, all else by length."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value % 2**64)
    if isinstance(value, float):
        return _varint(number << 3 | 1) + struct.pack("<d", value)
    data = value.encode(errors="replace") if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    groups = bytearray()
    while value > 127:
        groups.append(value & 127 | 128)
        value >>= 7
    groups.append(value)
    return bytes(groups)


def _sized(message: bytes) -> bytes:
    return struct.pack("<I", len(message)) + message
