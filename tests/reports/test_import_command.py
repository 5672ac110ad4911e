"""What `import`, `roofline`, `simulate` and `report` say of a profile of a real device, beside their tables."""

import json

import pytest
from command_line import refused
from typer.testing import CliRunner

from reports.cli import app

GEMM = {"Input Dims": [[64, 128], [128, 32]], "Input Strides": [[128, 1], [1, 128]], "Input type": ["float"] * 2}


def _event(category, name, start_us, duration_us, **args):
    on_device = category in ("kernel", "gpu_memcpy")
    place = {"pid": 0, "tid": 7} if on_device else {"pid": 1, "tid": 1}
    args |= {"device": 0, "stream": 7} if on_device else {}
    return {"ph": "X", "cat": category, "name": name, "ts": start_us, "dur": duration_us, "args": args, **place}


@pytest.fixture
def profile(tmp_path):
    """A copy from the host of 60 us, a product of 30 us and a kernel of 10 us that nobody launched; no device named."""
    events = [
        _event("cpu_op", "aten::mm", 10, 20, **{"External id": 7}, **GEMM),
        _event("cuda_runtime", "cudaLaunchKernel", 15, 5, correlation=3, **{"External id": 7}),
        _event("gpu_memcpy", "Memcpy HtoD (Pageable -> Device)", 40, 60, bytes=1_000_000, correlation=1),
        _event("kernel", "gemm", 110, 30, correlation=3, **{"External id": 7}),
        _event("kernel", "mystery", 150, 10, correlation=99),
    ]
    path = tmp_path / "profile.json"
    path.write_text(json.dumps({"traceEvents": events}))
    return path


def run(*arguments):
    return CliRunner().invoke(app, [*map(str, arguments)], catch_exceptions=False)


@pytest.fixture
def trace(profile, tmp_path):
    run("import", "kineto", profile, "-o", tmp_path / "t.parquet", "--device", "NVIDIA H100 SXM")
    return tmp_path / "t.parquet"


def test_a_device_that_the_file_does_not_name_can_be_named(profile, trace, tmp_path):
    run("import", "kineto", profile, "-o", tmp_path / "unnamed.parquet")
    unnamed = json.loads(run("roofline", tmp_path / "unnamed.parquet", "--json").stdout)
    named = json.loads(run("roofline", trace, "--json").stdout)
    assert (unnamed["is_measured_on_chip"], named["is_measured_on_chip"]) == (False, True)
    assert "`roofscape import --device` names it" in run("roofline", tmp_path / "unnamed.parquet").output
    assert (named["measured_on"], named["chip"]) == ("NVIDIA H100 SXM", "h100-sxm")


def test_a_device_that_the_file_names_is_not_named_otherwise(profile, tmp_path, capsys, monkeypatch):
    named = {**json.loads(profile.read_text()), "deviceProperties": [{"id": 0, "name": "NVIDIA A100-SXM4-80GB"}]}
    profile.write_text(json.dumps(named))
    out = tmp_path / "t.parquet"
    line = refused(capsys, monkeypatch, "import", "kineto", profile, "-o", out, "--device", "NVIDIA H100 SXM")
    assert "this one names 'NVIDIA A100-SXM4-80GB', got 'NVIDIA H100 SXM'" in line
    assert not out.exists()


def test_copies_from_the_host_are_told_apart_from_what_the_device_limits(trace, tmp_path):
    said = run("roofline", trace).output
    assert "copies between host and device (1) took 60.0 µs" in said
    run("report", trace, "-o", tmp_path / "page.html", "--page", "overview")
    assert "copies between host and device (1) took" in (tmp_path / "page.html").read_text()


def test_simulations_say_how_much_of_the_trace_they_know_nothing_of(trace, tmp_path):
    assert "1 of 3 calls and 10 % of the measured time" in run("simulate", trace).output
    run("report", trace, "-o", tmp_path / "page.html", "--page", "overview")
    assert ", without what is unknown of 1 calls" in (tmp_path / "page.html").read_text()


def test_a_report_simulates_in_the_mode_that_is_asked_for(trace, tmp_path):
    pages = {}
    for mode in ("graph", "eager"):
        run("report", trace, "-o", tmp_path / "page.html", "--mode", mode, "--chip", "h100-sxm")
        pages[mode] = (tmp_path / "page.html").read_text()
        assert f"analytic engine, {mode} mode" in pages[mode]
    assert pages["graph"] != pages["eager"]


def test_a_profile_of_which_nothing_is_known_claims_nothing(tmp_path):
    events = [_event("kernel", "mystery", 150, 10, correlation=99)]
    (tmp_path / "p.json").write_text(
        json.dumps({"traceEvents": events, "deviceProperties": [{"id": 0, "name": "NVIDIA H100 80GB HBM3"}]})
    )
    run("import", "kineto", tmp_path / "p.json", "-o", tmp_path / "p.parquet")
    run("report", tmp_path / "p.parquet", "-o", tmp_path / "page.html", "--page", "overview")
    page = (tmp_path / "page.html").read_text()
    assert "Nothing is known of the FLOPs and bytes of p as a whole." in page
    assert "on NVIDIA H100 80GB HBM3; 1 of its 1 calls have unknown FLOPs or bytes" in page
    assert "which is not h100-sxm" not in page
    assert "p: simulated" not in page


def test_kernels_whose_times_nobody_knows_are_counted_in_a_sentence_of_their_own(tmp_path):
    lines = ["Index,KernelName,BeginNs,EndNs,FETCH_SIZE,WRITE_SIZE", "0,copy,8.1E+14,8.1E+14,64,32"]
    (tmp_path / "wide.csv").write_text("\n".join(lines))
    run("import", "rocprof", tmp_path / "wide.csv", "-o", tmp_path / "t.parquet")
    run("report", tmp_path / "t.parquet", "-o", tmp_path / "page.html", "--page", "overview")
    assert (
        "1 kernels of unknown times; 1 of them are explained by no operation." in (tmp_path / "page.html").read_text()
    )


def test_a_diff_of_simulations_says_on_which_chips(trace):
    result = run("diff", trace, trace, "--chip", "h100-sxm", "--chip", "b200-sxm", "--by", "kind", "--json")
    notes = json.loads(result.stdout)["comparisons"][0]["notes"]
    assert "A was simulated on h100-sxm, B on b200-sxm, by the analytic engine in graph mode" in notes
