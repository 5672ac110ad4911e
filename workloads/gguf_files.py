"""Opens GGUF files through the `gguf` package (llama.cpp's own): settings and dequantized tensors, nothing trusted.

The package reads whatever lengths a file claims; here every read is held against the size of the file first.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from workloads.errors import WorkloadError

# What the package raises over files that are damaged, cut off or made up.
_DAMAGES = (ValueError, KeyError, IndexError, TypeError, OverflowError, ArithmeticError, RecursionError)


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufFile:
    """An open GGUF file; values are read from disk when they are asked for.

    Attributes:
        path: where it lies.
        fields: the package's own records of the settings, by key.
        tensors: the package's own records of the tensors, by name.
    """

    path: Path
    fields: dict[str, Any]
    tensors: dict[str, Any]

    def setting(self, key: str) -> Any:
        """A setting as a Python value, None where the file has none.

        Raises:
            WorkloadError: it is damaged.
        """
        field = self.fields.get(key)
        try:
            return None if field is None else field.contents()
        except _DAMAGES as error:
            raise WorkloadError(f"weights {self.path}: {key} cannot be read ({_one_line(error)})") from None

    def tensor(self, name: str) -> torch.Tensor:
        """A tensor's values in float32, dequantized, in the order of axes that PyTorch has.

        Raises:
            WorkloadError: it is of a type that the package cannot turn into floats.
        """
        from gguf import dequantize  # noqa: PLC0415 - an optional dependency

        record = self.tensors[name]
        try:
            values = dequantize(record.data, record.tensor_type)
        except (NotImplementedError, *_DAMAGES):
            raise WorkloadError(
                f"weights {self.path}: {name} is of type {record.tensor_type.name}, which the gguf package cannot turn "
                "into floats; allowed are F32, F16, BF16 and the quantized types that it knows, such as Q8_0 and Q4_K"
            ) from None
        return torch.from_numpy(np.array(values, dtype=np.float32))

    def shape(self, name: str) -> tuple[int, ...] | None:
        """A tensor's shape in PyTorch's order, None where the file has no such tensor."""
        record = self.tensors.get(name)
        return None if record is None else tuple(int(length) for length in reversed(record.shape))

    def named_tensors(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Every tensor by the file's name, one at a time."""
        for name in self.tensors:
            yield name, self.tensor(name)


def open_gguf(path: Path) -> GgufFile:
    """Open a GGUF file and check that all of it is there.

    Raises:
        WorkloadError: it is missing, damaged or cut off, or the package is not installed.
    """
    try:
        from gguf import GGUFReader  # noqa: PLC0415 - an optional dependency
    except ImportError:
        raise WorkloadError("GGUF files need the gguf package: pip install 'roofscape[weights]'") from None

    class CheckedReader(GGUFReader):  # type: ignore[misc, unused-ignore] # the package is optional
        """Refuses to read past the end, where NumPy would give an empty array."""

        def _get(self, offset: int, dtype: Any, count: int = 1, override_order: Any = None) -> Any:
            if isinstance(self.data, np.memmap):
                self.data: Any = np.asarray(
                    self.data
                )  # the same bytes; slices of the subclass cost three times as much
            end = int(offset) + np.dtype(dtype).itemsize * int(count)
            if end > len(self.data):
                raise ValueError(f"is cut off: needs at least {end} bytes, has {len(self.data)}")
            return super()._get(offset, dtype, count, override_order)

    try:
        with np.errstate(over="raise"):
            reader = CheckedReader(path)
    except OSError as error:
        raise WorkloadError(f"weights {path}: cannot be read ({error.strerror or error})") from None
    except _DAMAGES as error:
        raise WorkloadError(f"weights {path}: cannot be read as GGUF ({_one_line(error)})") from None
    return GgufFile(path=path, fields=dict(reader.fields), tensors={each.name: each for each in reader.tensors})


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
