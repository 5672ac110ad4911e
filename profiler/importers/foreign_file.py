"""Reads files of other programs: plain or gzip, no more than a limit, and no archive that unpacks to nonsense."""

import gzip
import zlib
from pathlib import Path
from typing import BinaryIO

from profiler.errors import TraceError

GZIP_MAGIC = b"\x1f\x8b"
LARGEST_FILE_BYTES = 2**30
# Profiles shrink to a tenth or a thirtieth. Past this size, whatever shrank much further is made to fill the memory.
_SUSPICIOUS_BYTES = 2**24
_LARGEST_EXPANSION = 200
_CHUNK_BYTES = 2**20


def read_foreign(path: Path) -> bytes:
    """The contents of a file, unpacked where it is gzip.

    Raises:
        TraceError: where it cannot be read, is too large, is empty, is damaged gzip, or is none although its name says
            so.
    """
    try:
        with path.open("rb") as handle:
            head = handle.read(2)
            handle.seek(0)
            if not head:
                raise TraceError(f"{path}: the file is empty")
            if head == GZIP_MAGIC:
                return _unpack(path, handle)
            if path.suffix == ".gz":
                raise TraceError(f"{path}: not a gzip file, although its name ends in .gz")
            raw = handle.read(LARGEST_FILE_BYTES + 1)
    except EOFError as error:
        raise TraceError(f"{path}: truncated gzip file, it ends before its end-of-stream marker") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise TraceError(f"{path}: broken gzip file: {error}") from error
    except OSError as error:
        raise TraceError(f"{path}: cannot be read: {error.strerror or error}") from error
    if len(raw) > LARGEST_FILE_BYTES:
        raise TraceError(f"{path}: {_too_large()}")
    return raw


def read_foreign_text(path: Path) -> str:
    """The contents of a file as text; bytes that are no UTF-8 become replacement characters, for names hold anything.

    Raises:
        TraceError: as `read_foreign`.
    """
    return read_foreign(path).decode("utf-8-sig", errors="replace")


def plain_name(path: Path, *suffixes: str) -> str:
    """The file's name without `.gz` and without the first of the suffixes that it ends in.

    >>> plain_name(Path("a/run.sqlite.gz"), ".sqlite", ".db")
    'run'
    """
    name = path.name.removesuffix(".gz")
    for suffix in suffixes:
        if name.endswith(suffix) and name != suffix:
            return name.removesuffix(suffix)
    return name


def _unpack(path: Path, handle: BinaryIO) -> bytes:
    unpacked = bytearray()
    with gzip.GzipFile(fileobj=handle) as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            unpacked += chunk
            read_bytes = max(1, handle.tell())
            if len(unpacked) > LARGEST_FILE_BYTES:
                raise TraceError(f"{path}: {_too_large()}")
            if len(unpacked) > _SUSPICIOUS_BYTES and len(unpacked) > _LARGEST_EXPANSION * read_bytes:
                raise TraceError(
                    f"{path}: unpacks to more than {_LARGEST_EXPANSION} times its size, as no profile does; "
                    "unpack it yourself if you trust it"
                )
    return bytes(unpacked)


def _too_large() -> str:
    return f"holds more than {LARGEST_FILE_BYTES // 2**20} MiB; record a shorter window"
