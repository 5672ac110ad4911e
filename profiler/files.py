"""Writes files whole or not at all."""

import errno
import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Call `write` with a temporary path beside `path`, then rename; nothing half-written is left behind.

    Missing folders are made. Behind a link, what it points to is replaced and the link stays. What is no file, such as
    `/dev/stdout` or a named pipe, is written to directly: a rename would put a file in the place of the device.

    Raises:
        OSError: the folder cannot be made or written.
    """
    if _is_special(path):
        write(path)
        return
    target = _behind_link(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}.", delete=False) as handle:
        temporary = Path(handle.name)
    try:
        write(temporary)
        temporary.chmod(0o644)
        temporary.replace(target)
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


def check_writable(path: Path) -> None:
    """Find out now, and without leaving anything, whether `write_atomically` could write there.

    Raises:
        OSError: it could not.
    """
    if _is_special(path):
        return
    target = _behind_link(path)
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    folder = target.absolute().parent
    while not folder.exists():
        folder = folder.parent
    with tempfile.TemporaryFile(dir=folder):
        pass


def _behind_link(path: Path) -> Path:
    return path.resolve() if path.is_symlink() else path


def _is_special(path: Path) -> bool:
    """Whether there is something that is neither a file nor a folder: a device, a pipe, a socket."""
    return path.exists() and not path.is_file() and not path.is_dir()
