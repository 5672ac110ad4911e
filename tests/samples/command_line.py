"""The installed command run inside a test."""

import sys

import pytest


def refused(capsys, monkeypatch, *arguments):
    """Run `roofscape` with arguments that it must refuse; give the one line that it prints."""
    from reports.cli import main

    monkeypatch.setattr(sys, "argv", ["roofscape", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err
    assert len(err.strip().splitlines()) == 1
    return err
