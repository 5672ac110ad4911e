"""Ops of which a device trace tells only part: unexplained kernels, bare copies, collectives."""

from collections.abc import Mapping
from typing import Any

from profiler.costs.call import TensorMeta
from profiler.importers.dtypes import FOREIGN_DTYPES
from profiler.importers.kineto_file import DeviceSpan, as_integer, get_arg
from profiler.op import Op, Operand

UNKNOWN_DTYPE = "unknown"
UNKNOWN_OPERAND = Operand(shape=(), dtype=UNKNOWN_DTYPE, moved_bytes=None)


def opaque_op(name: str, inputs: tuple[TensorMeta, ...] = ()) -> Op:
    """An op with unknown FLOPs and an unknown output; inputs where recorded, else unknown too."""
    return Op(
        kind="unknown",
        name=name,
        dtype=inputs[0].dtype if inputs else UNKNOWN_DTYPE,
        inputs=tuple(tensor.operand() for tensor in inputs) or (UNKNOWN_OPERAND,),
        outputs=(UNKNOWN_OPERAND,),
        matrix_flops=None,
        vector_flops=None,
    )


def copy_op(kernel: DeviceSpan) -> Op:
    """A memcpy or memset by its recorded bytes: what of it crosses the device's own memory.

    A copy from the host only writes there, one to the host only reads, and a memset only writes. Without recorded
    bytes the traffic is unknown.
    """
    count = as_integer(get_arg(kernel.args, "bytes"))
    if count is None or count < 0:
        return opaque_op(kernel.name)
    operand = Operand(shape=(count,), dtype="uint8", moved_bytes=count)
    name = kernel.name.lower()
    reads = kernel.category == "memcpy" and "htod" not in name
    writes = kernel.category == "memset" or "dtoh" not in name
    return Op(
        kind="copy",
        name=kernel.name,
        dtype="uint8",
        inputs=(operand,) if reads else (),
        outputs=(operand,) if writes else (),
        sizes=(("elements", count),),
    )


def collective_op(name: str, *metadata: Mapping[str, Any]) -> Op:
    """A collective by the message sizes in the first metadata that has them; of unknown kind without any.

    The payload is read and written once; what crosses the wire depends on the algorithm. Where the group's size is
    not recorded it counts as one rank.
    """
    for args in metadata:
        received, sent = (as_integer(get_arg(args, f"{way} msg nelems")) for way in ("Out", "In"))
        dtype = FOREIGN_DTYPES.get(str(get_arg(args, "dtype")))
        if sent is None or received is None or dtype is None or min(sent, received) < 0:
            continue
        ranks = as_integer(get_arg(args, "Group size")) or 1
        return Op(
            kind="collective",
            name=name,
            dtype=dtype,
            inputs=(TensorMeta(shape=(sent,), dtype=dtype).operand(),),
            outputs=(TensorMeta(shape=(received,), dtype=dtype).operand(),),
            sizes=(("elements", sent), ("ranks", max(1, ranks))),
        )
    return opaque_op(name)
