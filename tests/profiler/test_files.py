"""Files appear whole or not at all, and what is no file is never put in the place of one."""

import os
import stat
import threading
from pathlib import Path

import pytest

from profiler.files import check_writable, write_atomically


def test_named_pipe_is_written_to_and_stays_a_pipe(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    received = []
    reader = threading.Thread(target=lambda: received.append(pipe.read_text()))
    reader.start()
    write_atomically(pipe, lambda path: path.write_text("content"))
    reader.join()
    assert received == ["content"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


def test_link_stays_and_what_it_points_to_is_replaced(tmp_path):
    target = tmp_path / "kept" / "target.txt"
    target.parent.mkdir()
    target.write_text("old")
    link = tmp_path / "link.txt"
    link.symlink_to(target)
    write_atomically(link, lambda path: path.write_text("new"))
    assert link.is_symlink()
    assert target.read_text() == "new"


def test_failure_leaves_the_old_file_and_nothing_beside_it(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")

    def fail(temporary: Path) -> None:
        temporary.write_text("half")
        raise OSError("no space")

    with pytest.raises(OSError, match="no space"):
        write_atomically(path, fail)
    assert path.read_text() == "old"
    assert [each.name for each in tmp_path.iterdir()] == ["file.txt"]


def test_check_refuses_what_cannot_be_written_and_leaves_nothing(tmp_path):
    check_writable(tmp_path / "new" / "deep" / "file.txt")
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(NotADirectoryError):
        check_writable(tmp_path / "file" / "below.txt")
    with pytest.raises(IsADirectoryError):
        check_writable(tmp_path)
