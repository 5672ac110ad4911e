"""Memory controllers' counters against a copy of sysfs and a `perf` that replays what it is told."""

import os
import shutil
import time
from pathlib import Path

import pytest
from programs import install_program
from typer.testing import CliRunner

from profiler.capture import uncore
from profiler.capture.uncore import measure_dram, memory_events

# Follows the control pipe as `perf stat --control fd:R,W` does, then prints ROWS when interrupted.
FAKE_PERF = """
import os, pathlib, signal, sys
here = pathlib.Path(__file__).parent
(here / "argv").write_text("\\n".join(sys.argv[1:]))
said = (here / "said").read_text()
def end(*_):
    sys.stderr.write(said)
    sys.stderr.flush()
    os._exit(0)
signal.signal(signal.SIGINT, end)
if said.startswith("Error"):
    sys.stderr.write(said)
    sys.exit(255)
read, write = map(int, sys.argv[sys.argv.index("--control") + 1].removeprefix("fd:").split(","))
while line := os.read(read, 64):
    with (here / "commands").open("ab") as log:
        log.write(line)
    os.write(write, b"ack\\n")
signal.pause()
"""
INTEL = ("uncore_imc_0/cas_count_read/", "uncore_imc_0/cas_count_write/")


@pytest.fixture
def intel(tmp_path: Path) -> Path:
    events = tmp_path / "sys" / "uncore_imc_0" / "events"
    events.mkdir(parents=True)
    for name in ("cas_count_read", "cas_count_write", "clockticks"):
        (events / name).write_text("event=0x04")
    return tmp_path / "sys"


@pytest.fixture
def perf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = tmp_path / "bin"
    folder.mkdir()

    def install(said: str) -> Path:
        (folder / "said").write_text(said)
        install_program(folder / "perf", FAKE_PERF)
        monkeypatch.setenv("PATH", str(folder))
        monkeypatch.setattr(uncore, "_TIMEOUT_S", 600.0)  # on a busy machine Python takes its time to start
        return folder

    return install


def rows(read: str, write: str, unit: str = "MiB") -> str:
    return f"{read};{unit};{INTEL[0]};1000;100.00;;\n{write};{unit};{INTEL[1]};1000;100.00;;\n"


def test_bytes_of_all_sockets_are_added_and_named_machine_wide(intel: Path, perf) -> None:
    folder = perf(rows("3.5", "1") + rows("0.5", "1"))  # one row per socket
    with measure_dram(intel) as dram:
        assert (folder / "commands").read_text() == "enable\n"
    assert (dram.read_bytes, dram.write_bytes) == (4 * 2**20, 2 * 2**20)
    assert "machine-wide (other programs included): 4194304 bytes read, 2097152 bytes written" in dram.note()
    assert (folder / "commands").read_text() == "enable\ndisable\n"
    argv = (folder / "argv").read_text().split("\n")
    assert argv[:4] == ["stat", "-a", "-x", ";"]
    assert [argv[at + 1] for at, word in enumerate(argv) if word == "-e"] == list(INTEL)


def test_amd_controllers_move_a_line_per_command(tmp_path: Path, perf) -> None:
    (tmp_path / "amd" / "amd_umc_3" / "format").mkdir(parents=True)
    (tmp_path / "amd" / "amd_umc_3" / "format" / "rdwrmask").write_text("config:8-9")
    (tmp_path / "amd" / "amd_df").mkdir()
    events = list(memory_events(tmp_path / "amd"))
    assert events == ["amd_umc_3/event=0x0a,rdwrmask=0x1/", "amd_umc_3/event=0x0a,rdwrmask=0x2/"]
    perf("".join(f"{count};;{event};1;100.00;;\n" for count, event in zip((10, 3), events, strict=True)))
    with measure_dram(tmp_path / "amd") as dram:
        pass
    assert (dram.read_bytes, dram.write_bytes) == (640, 192)


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (rows("<not counted>", "1"), "perf gave '<not counted>' MiB for uncore_imc_0/cas_count_read/"),
        (rows("nan", "1"), "perf gave 'nan'"),
        (rows("-1", "1"), "perf gave '-1'"),
        (rows("1", "1", "furlong"), "perf gave '1' furlong"),
        (rows("1", "1").splitlines()[0], "perf counted 1 of 2 events"),
        ("Error:\nconsider adjusting perf_event_paranoid setting\n", "no permission (as root, or with sysctl"),
        ("Error: unknown option `control'\n", "unknown option `control'"),
        ("", "perf counted 0 of 2 events: it said nothing"),
    ],
)
def test_what_perf_cannot_count_is_unknown_with_its_reason(intel: Path, perf, said: str, reason: str) -> None:
    perf(said)
    with measure_dram(intel) as dram:
        pass
    assert dram.read_bytes is None
    assert dram.write_bytes is None
    assert reason in dram.note()


def test_machine_without_perf_or_controllers_says_so(intel: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    with measure_dram(intel) as dram:
        pass
    assert dram.note() == "Bytes at main memory were not measured: perf is not installed."
    with measure_dram(tmp_path / "nothing") as dram:
        pass
    assert "shows no memory controller that is known" in dram.note()


def test_error_of_the_program_passes_and_perf_ends(intel: Path, perf) -> None:
    perf(rows("1", "1"))
    with pytest.raises(KeyError), measure_dram(intel) as dram:
        raise KeyError("program")
    assert dram.read_bytes == 2**20


def test_command_line_keeps_the_reading_with_the_trace(intel: Path, perf, tmp_path: Path, monkeypatch) -> None:
    from profiler.storage import load_trace
    from reports.cli import app

    perf(rows("2", "1"))
    monkeypatch.setattr(uncore.measure_dram.__wrapped__, "__defaults__", (intel,))
    script, path = tmp_path / "script.py", tmp_path / "t.parquet"
    script.write_text("import torch\ndef main():\n    torch.ones(4, 4) @ torch.ones(4, 4)\n")
    result = CliRunner().invoke(app, ["capture", f"py:{script}", "--counters", "-o", str(path)])
    assert result.exit_code == 0, result.output
    assert "2097152 bytes read, 1048576 bytes written" in load_trace(path).provenance.notes[-1]


def test_device_on_which_nothing_runs_is_refused_before_running(tmp_path: Path) -> None:
    from reports.cli import app
    from workloads.errors import WorkloadError

    path = tmp_path / "t.parquet"
    result = CliRunner().invoke(app, ["capture", "ar-100m", "--device", "meta", "--counters", "-o", str(path)])
    assert isinstance(result.exception, WorkloadError)
    assert "nothing runs on meta" in str(result.exception)
    assert not path.exists()


def test_real_perf_follows_the_control_pipe_and_counts_only_between() -> None:
    """The clock of all processors runs for as long as the window, whatever they do."""
    path = shutil.which("perf")
    if path is None:
        pytest.skip("needs Linux's perf, and it is not installed")
    with uncore._Perf(path, ("cpu-clock",)) as process:
        before_s = time.perf_counter()
        if not process.control("enable"):
            pytest.skip(f"perf may not count the whole machine here: {process.finish().strip()[:200]}")
        enabled_s = time.perf_counter()
        time.sleep(0.1)
        disabling_s = time.perf_counter()
        assert process.control("disable")
        disabled_s = time.perf_counter()
        time.sleep(0.3)
        printed = process.finish()
    (row,) = [line for line in printed.splitlines() if ";cpu-clock;" in line]
    counted_s = float(row.split(";")[0]) * 1e-3 / os.sysconf("SC_NPROCESSORS_ONLN")
    assert 0.9 * (disabling_s - enabled_s) < counted_s < disabled_s - before_s + 0.05
