"""A program counted by a `ncu` that replays what it is told: its arguments, its rows, and every way to fail."""

import json
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import refused
from foreign_samples import ncu_bytes
from programs import install_program
from typer.testing import CliRunner

import workloads.program_request
import workloads.programs
from profiler.capture import counted_run, session
from profiler.capture.counted_run import CountedRun, profiler_marks
from profiler.capture.nsight_compute import count_kernels
from profiler.errors import TraceError
from profiler.importers.nvidia_metrics import WANTED_METRICS
from profiler.storage import load_trace
from profiler.traces import Kernels

# Writes the rows that it was told to where --log-file says, and then runs the program, or does as if it had.
FAKE_NCU = """
import json, pathlib, subprocess, sys
here = pathlib.Path(__file__).parent
plan = json.loads((here / "plan").read_text())
words = sys.argv[1:]
at = words.index(sys.executable)
(here / "argv").write_text(json.dumps(words))
folder = pathlib.Path(words[-1])
(here / "request").write_text((folder / "request.json").read_text())
sys.stderr.write(plan["stderr"])
if plan["log"] is not None:
    pathlib.Path(words[words.index("--log-file") + 1]).write_text(plan["log"])
if plan["runs"]:
    sys.exit(subprocess.run(words[at:]).returncode)
if plan["finishes"]:
    (folder / "finished").touch()
sys.exit(plan["code"])
"""
RUN = CountedRun(program="py:script.py", options={"device": "cpu"}, warmup=0)
DENIED = (
    "==PROF== Connected to process 7 (/usr/bin/python3)\n"
    "==ERROR== ERR_NVGPUCTRPERM - The user does not have permission to access NVIDIA GPU Performance Counters on the "
    "target device 0. For instructions see https://developer.nvidia.com/ERR_NVGPUCTRPERM\n"
    "==PROF== Disconnected from process 7\n"
)
BUSY = (
    "==ERROR== Profiling failed because a driver resource was unavailable.\n"
    '==ERROR== Failed to profile "gemm" in process 7\n'
    "==PROF== Trying to shutdown target application\n"
    "==ERROR== The application returned an error code (9).\n"
    "==WARNING== No kernels were profiled.\n"
)
NO_KERNELS = "==PROF== Disconnected from process 7\n==WARNING== No kernels were profiled.\n"


@pytest.fixture
def ncu(tmp_path, monkeypatch):
    folder = tmp_path / "bin"
    folder.mkdir()

    def install(log, *, stderr="", runs=False, finishes=True, code=0):
        plan = {"log": log, "stderr": stderr, "runs": runs, "finishes": finishes, "code": code}
        (folder / "plan").write_text(json.dumps(plan))
        install_program(folder / "ncu", FAKE_NCU)
        monkeypatch.setenv("PATH", str(folder))
        return folder

    return install


def two_kernels():
    """Rows of a product that moved 1,001,000 bytes, and of an exponential that moved 64."""
    text = ncu_bytes("void ns::gemm<(int)4>(int *)").decode()
    other = ncu_bytes("exp_kernel", metrics=(("dram__bytes.sum", "byte", "64"),)).decode().splitlines()[-1]
    return text + other.replace('"0","43201"', '"1","43201"', 1) + "\n"


def test_ncu_is_asked_for_the_least_metrics_of_the_marked_window_only(ncu):
    folder = ncu(two_kernels())
    trace = count_kernels(RUN)
    assert trace.counted("dram_bytes").tolist() == [1_001_000.0, 64.0]
    words = json.loads((folder / "argv").read_text())
    options = dict(zip(words[1:11:2], words[2:11:2], strict=True))
    assert words[0] == "--csv"
    log = Path(options.pop("--log-file"))
    assert options == {
        "--print-units": "base",
        "--metrics": ",".join(WANTED_METRICS),
        "--profile-from-start": "off",
        "--target-processes": "all",
    }
    assert words[11:14] == [sys.executable, "-m", "profiler.capture.counted_run"]
    assert not log.parent.exists()  # nothing is left behind
    assert json.loads((folder / "request").read_text()) == {
        "program": "py:script.py", "options": {"device": "cpu"}, "warmup": 0, "strict": False, "compiled": False,
    }  # fmt: skip


def test_missing_ncu_says_where_to_get_it_and_what_to_do_without(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(TraceError, match=r"ncu.* is not on PATH; it comes with the CUDA toolkit") as caught:
        count_kernels(RUN)
    assert "https://developer.nvidia.com/nsight-compute" in str(caught.value)
    assert "roofscape import ncu counters.csv --onto trace.parquet" in str(caught.value)


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        ({"log": DENIED}, "no permission to read the GPU's counters.* NVreg_RestrictProfilingToAdminUsers=0"),
        ({"log": DENIED, "finishes": False, "code": 1}, "no permission"),
        ({"log": None, "stderr": DENIED, "finishes": False, "code": 1}, "no permission"),
        ({"log": BUSY, "finishes": False, "code": 9}, "ncu failed: Profiling failed because a driver resource was"),
        (
            {
                "log": "==ERROR== The application returned an error code (1).\n" + NO_KERNELS,
                "stderr": "Traceback\n  File x\nValueError: no such \x1b[31mmodel\n\n",
                "finishes": False,
            },
            "the program failed under ncu: ValueError: no such \x1b\\[31mmodel",
        ),
        ({"log": "", "finishes": False, "code": 9}, "the program failed under ncu: it ended with 9"),
        # Another program of this name (of npm) knows none of the options and writes no log.
        (
            {"log": None, "stderr": "error: unknown option '--csv'\n", "finishes": False, "code": 1},
            "the program failed under ncu: error: unknown option",
        ),
        ({"log": NO_KERNELS}, "ncu profiled no kernels: the program launched none after its warm-up"),
        ({"log": None}, "ncu profiled no kernels"),
        ({"log": BUSY}, "ncu profiled no kernels: Profiling failed because"),
        ({"log": '"ID","Kernel Name","Metric Name","Metric Unit","Metric Value"\n'}, "ncu's rows cannot be read"),
        (
            {"log": ncu_bytes(metrics=(("dram__bytes_read.sum", "", "n/a"),)).decode()},
            "ncu gave none of the metrics for bytes and instructions",
        ),
    ],
)  # fmt: skip
def test_every_way_to_fail_is_one_clear_reason(ncu, plan, said):
    ncu(**plan)
    with pytest.raises(TraceError, match=f"^--counters: {said}") as caught:
        count_kernels(RUN)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_file_that_is_no_program_is_told(tmp_path, monkeypatch):
    (tmp_path / "ncu").write_bytes(b"\x7fELF but not really")
    (tmp_path / "ncu").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(TraceError, match="ncu cannot be run: Exec format error"):
        count_kernels(RUN)


def test_marks_surround_what_the_block_gives_the_device_even_where_it_fails(monkeypatch):
    said = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: said.append("wait"))
    monkeypatch.setattr(torch.cuda.profiler, "start", lambda: said.append("start"))
    monkeypatch.setattr(torch.cuda.profiler, "stop", lambda: said.append("stop"))
    with profiler_marks():
        said.append("run")
    assert said == ["wait", "start", "run", "wait", "stop"]
    said.clear()
    with pytest.raises(KeyError), profiler_marks():
        raise KeyError("program")
    assert said == ["wait", "start", "stop"]


def test_counted_run_warms_up_outside_of_the_marks_and_runs_once_inside(tmp_path, monkeypatch):
    said = tmp_path / "said"
    script = tmp_path / "script.py"
    script.write_text(f"def main():\n    with open({str(said)!r}, 'a') as file:\n        file.write('run ')\n")
    monkeypatch.setattr(torch.cuda.profiler, "start", lambda: said.write_text(said.read_text() + "start "))
    monkeypatch.setattr(torch.cuda.profiler, "stop", lambda: said.write_text(said.read_text() + "stop"))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(session, "nvtx_ranges_if_cuda", lambda: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    request = CountedRun(program=f"py:{script}", options={"device": "cpu", "weights": None}, warmup=2)
    counted_run.write_request(request, tmp_path)
    counted_run.run_request(tmp_path)
    assert said.read_text() == "run run start run stop"
    assert (tmp_path / "finished").exists()


@pytest.mark.slow
def test_process_of_the_counted_run_starts_and_its_errors_are_one_line(ncu, tmp_path):
    """The real child process, twice: it ends well, and it names a program that there is not."""
    ncu(two_kernels(), runs=True)
    script = tmp_path / "script.py"
    script.write_text("import torch\ndef main():\n    torch.ones(4, 4) @ torch.ones(4, 4)\n")
    assert len(count_kernels(CountedRun(program=f"py:{script}", options={"device": "cpu"}, warmup=1)).calls) == 2
    with pytest.raises(TraceError, match="the program failed under ncu: unknown program 'nonsense'; give a model"):
        count_kernels(CountedRun(program="nonsense", options={"device": "cpu"}, warmup=0))


def test_rows_of_a_real_gpu_are_read(ncu, tmp_path, shared_data):
    path = shared_data("traces/ncu_bert_flashattn_nsight.csv.gz")
    import gzip

    from profiler.importers.ncu import import_ncu
    from profiler.launch_join import join_launches

    ncu(gzip.decompress(path.read_bytes()).decode())
    trace = count_kernels(RUN)
    assert trace.calls == import_ncu(path).calls
    joined, match = join_launches(trace, trace)
    assert match.is_whole
    assert match.matched == len(trace.kernels) > 1
    assert joined.counted("dram_bytes").tolist() == trace.counted("dram_bytes").tolist()


class TwoKernelsPerPair:
    """Stands in for torch.profiler on a GPU: the first call launched a product, the second an exponential."""

    names = ("void ns::gemm<4>(int*)", "exp_kernel")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return

    def attach(self, trace, origin_s):
        calls = np.arange(2)
        starts = np.array([1e-6, 3e-6])
        columns = {field.name: np.zeros(2, dtype=np.int64) for field in fields(Kernels)[:5]}
        kernels = Kernels(**{**columns, "call": calls, "name": calls}, start_s=starts, duration_s=np.full(2, 1e-6))
        from dataclasses import replace

        return replace(trace, kernels=kernels, kernel_names=self.names)


@pytest.fixture
def gpu(monkeypatch):
    """A device that calls itself cuda, and is the CPU."""
    for module in (workloads.programs, workloads.program_request):
        monkeypatch.setattr(module, "check_device", lambda device: torch.device("cpu"))
    monkeypatch.setattr(session, "KernelProfiler", TwoKernelsPerPair)


@pytest.fixture
def arguments(tmp_path):
    script = tmp_path / "script.py"
    script.write_text("import torch\nx = torch.ones(64, 64)\ndef main():\n    (x @ x).exp()\n")
    return ["capture", f"py:{script}", "--device", "cuda", "--counters", "-o", str(tmp_path / "t.parquet")]


def test_command_line_shows_measured_beside_modeled_bytes_and_keeps_them(ncu, gpu, arguments, tmp_path):
    from reports.cli import app

    folder = ncu(two_kernels())
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "Hardware counters of 2 of 2 kernels come from a second run" in result.output
    assert "measured by hardware counters" in result.output
    trace = load_trace(tmp_path / "t.parquet")
    assert trace.counted("dram_bytes").tolist() == [1_001_000.0, 64.0]
    assert [trace.ops[op].kind for op in trace.calls.op] == ["gemm", "pointwise"]
    request = json.loads((folder / "request").read_text())
    assert (request["program"], request["options"]["device"], request["warmup"]) == (arguments[1], "cuda", 0)
    shown = json.loads(CliRunner().invoke(app, [*arguments, "--warmup", "3", "--json"]).stdout)
    assert shown["counters"] == {"matched": 2, "ours": 2, "theirs": 2, "unmatched_names": {}}
    product = next(row for row in shown["traffic"] if row["dram_bytes"] == 1_001_000.0)
    assert product["modeled_bytes"] == 3 * 64 * 64 * 4
    assert json.loads((folder / "request").read_text())["warmup"] == 3


def test_command_line_counts_what_agrees_and_says_how_much(ncu, gpu, arguments, tmp_path):
    from reports.cli import app

    ncu(ncu_bytes("void ns::gemm<(int)4>(int *)").decode())
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    said = " ".join(result.output.split())
    assert "Hardware counters of 1 of 2 kernels" in said
    assert "without counters: exp_kernel (1x)." in said
    assert load_trace(tmp_path / "t.parquet").counted("dram_bytes").tolist() == pytest.approx(
        [1_001_000.0, np.nan], nan_ok=True
    )


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        ({"log": DENIED}, "no permission"),
        ({"log": "", "stderr": "Error: \x1b[31m[bold]red", "finishes": False}, "Error: \ufffd[31m[bold]red"),
        ({"log": ncu_bytes("other").decode()}, "none of its 2 kernels are among the 1 that were counted"),
    ],
)
def test_failure_is_one_line_and_exit_code_2_and_leaves_no_file(
    ncu, gpu, arguments, tmp_path, monkeypatch, capsys, plan, said
):
    ncu(**plan)
    line = refused(capsys, monkeypatch, *arguments)
    assert line.startswith("error: ")
    assert said in line
    assert not (tmp_path / "t.parquet").exists()


def test_options_that_cannot_go_together_are_refused(arguments):
    from reports.cli import app

    for option in ("--stream", "--no-timing"):
        result = CliRunner().invoke(app, [*arguments, option])
        assert f"it cannot go with {option}" in str(result.exception)
    if not torch.cuda.is_available():
        assert "sees no CUDA device" in str(CliRunner().invoke(app, arguments).exception)
