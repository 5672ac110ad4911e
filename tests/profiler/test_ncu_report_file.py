"""`.ncu-rep` reports encoded by hand, read by NVIDIA's own package in a process of its own."""

import json
import subprocess
import sys

import pytest
from ncu_report_samples import ReportKernel, report_bytes

from profiler.errors import TraceError
from profiler.importers import ncu_report_file
from profiler.importers.ncu import import_ncu
from profiler.importers.ncu_report_file import read_report
from profiler.storage import load_trace, save_trace


@pytest.fixture
def write(tmp_path):
    pytest.importorskip("ncu_report", reason="needs NVIDIA's package ncu-report (roofscape[nsight])")

    def write(contents):
        path = tmp_path / "run.ncu-rep"
        path.write_bytes(contents)
        return path

    return write


@pytest.fixture
def answer(tmp_path, monkeypatch):
    """The reading process, as it would end with this code and these outputs."""

    def answer(code, stdout=b"", stderr=b""):
        monkeypatch.setattr(
            ncu_report_file.subprocess,
            "run",
            lambda command, **_: subprocess.CompletedProcess(command, code, stdout, stderr),
        )
        path = tmp_path / "run.ncu-rep"
        path.write_bytes(b"NVR\0")
        return path

    return answer


def test_metrics_device_and_ranges_of_each_kernel_are_read_in_launch_order(write):
    path = write(
        report_bytes(ReportKernel(name="gemm(int*)", ranges=("forward", "decode 3")), ReportKernel(name="exp"))
    )
    trace = import_ncu(path)
    assert [op.name.partition("(")[0] for op in trace.ops] == ["gemm", "exp"]
    assert trace.counted("dram_bytes").tolist() == [1024.0, 1024.0]
    assert trace.counted("l2_bytes").tolist() == [96.0, 96.0]  # sectors of 32 bytes
    assert trace.counted("tensor_instructions").tolist() == [7.0, 7.0]
    assert trace.provenance.device == "Sample GPU"
    assert [trace.phases[phase] for phase in trace.calls.phase] == ["forward/decode 3", ""]


def test_values_that_are_no_count_are_unknown_and_so_is_a_time_without_a_unit(write):
    """The package tells no units of a report made by hand: 2,000 what?"""
    metrics = {
        "dram__bytes.sum": float("nan"),
        "lts__t_bytes.sum": -5.0,
        "l1tex__t_bytes.sum": float("inf"),
        "gpu__time_duration.sum": 2000,
        "sm__cycles_elapsed.avg": 10.0,
        "sm__cycles_elapsed.avg.per_second": 1e9,
        "sm__inst_executed_pipe_tensor.sum": "seven",
    }
    (kernel,) = read_report(write(report_bytes(ReportKernel(name="k", metrics=metrics))))
    assert kernel.metrics == {"sm__cycles_elapsed.avg": 10.0}


@pytest.mark.parametrize("contents", [b"", b"NVR\0", b"text", report_bytes(version=1), report_bytes()[:40]])
def test_what_is_no_report_is_one_line(write, contents):
    with pytest.raises(TraceError, match=r"holds no counted kernel, or is no Nsight Compute report|cannot read it"):
        read_report(write(contents))


@pytest.mark.parametrize(
    ("code", "stderr", "said"),
    [
        (3, b"", r"needs NVIDIA's package ncu-report: pip install 'roofscape\[nsight\]', or export"),
        (4, b"RuntimeError: first\nRuntimeError: no such file", r"cannot read it \(RuntimeError: no such file\)"),
        (-11, b"said before it died", r"cannot read it \(it ended with -11\)"),
        (1, b"", r"cannot read it \(it ended with 1\)"),
    ],
)
def test_end_of_the_reading_process_is_one_line(answer, code, stderr, said):
    with pytest.raises(TraceError, match=said):
        read_report(answer(code, b"", stderr))


def test_reading_process_that_does_not_end_is_given_up(answer, monkeypatch):
    path = answer(0)

    def run(command, **options):
        raise subprocess.TimeoutExpired(command, options["timeout"])

    monkeypatch.setattr(ncu_report_file.subprocess, "run", run)
    with pytest.raises(TraceError, match="did not read it within 600 s"):
        read_report(path)


def test_names_with_line_breaks_and_escapes_come_through_as_they_are(answer):
    entry = {"name": "\x1b[31m<b>\n", "device_name": "", "metrics": [["dram__bytes.sum", 5, "byte"]], "ranges": ["\n"]}
    (kernel,) = read_report(answer(0, json.dumps([entry]).encode()))
    assert kernel.name == "\x1b[31m<b>\n"  # the console and the pages escape them


def test_names_that_are_not_utf8_or_empty_can_be_saved(write, tmp_path):
    contents = report_bytes(ReportKernel(name="good", ranges=("step",)), ReportKernel(name="", ranges=("",)))
    trace = import_ncu(write(contents.replace(b"good", b"g\xff\xfed").replace(b"step", b"s\xffep")))
    assert trace.kernel_names == ("g??d", "(unnamed)")
    assert trace.phases == ("s?ep", "(unnamed)")
    save_trace(trace, tmp_path / "t.parquet")
    assert load_trace(tmp_path / "t.parquet") == trace


def test_missing_file_is_told_before_a_process_starts(tmp_path):
    with pytest.raises(TraceError, match="cannot be read: No such file"):
        read_report(tmp_path / "none.ncu-rep")


def test_package_that_is_missing_is_told_by_its_code(tmp_path):
    """In a real process, in which the package cannot be imported."""
    code = (
        "import sys; sys.modules['ncu_report'] = None; sys.argv[1:] = ['x.ncu-rep']\n"
        "from profiler.importers.ncu_report_file import main; sys.exit(main())"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 3
