"""The command line as a person or a script meets it: results, and one clear line for broken input."""

import gzip
import inspect
import json
import re
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from command_line import refused
from typer.testing import CliRunner

from profiler.capture import capture, phase
from profiler.op import Op
from profiler.storage import load_trace, save_trace
from profiler.traces import Kernels
from reports.cli import app
from reports.commands.options import writable
from reports.commands.report import labels


@pytest.fixture
def trace_file(tmp_path):
    with torch.no_grad(), capture(name="small") as recording, phase("forward"):
        torch.softmax((torch.ones(64, 32) @ torch.ones(32, 16)).exp(), -1)
    save_trace(recording.trace, tmp_path / "small.parquet")
    return tmp_path / "small.parquet"


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


def test_every_command_has_help_that_teaches():
    names = [command.name or command.callback.__name__ for command in app.registered_commands]
    wanted = "capture import export calibrate chips models samplers roofline simulate compare diff report demo".split()
    assert set(names) >= set(wanted)
    for name in names:
        result = run(name, "--help")
        assert result.exit_code == 0
        assert len(result.output) > 300


def test_help_loads_no_torch():
    code = "import sys, reports.cli; sys.exit('torch' in sys.modules or 'pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_analyzing_a_saved_trace_loads_no_torch(trace_file):
    code = (
        "import sys; from reports.cli import app\n"
        f"app(['simulate', {str(trace_file)!r}], standalone_mode=False)\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, capture_output=True).returncode == 0


@pytest.mark.parametrize("command", ["chips", "models", "samplers"])
def test_catalogs_list_and_print_json(command):
    assert run(command).exit_code == 0
    assert len(json.loads(run(command, "--json").output)) >= 2


def test_chip_shows_where_its_figures_come_from():
    output = run("chips", "h100-sxm").output
    assert "989 TFLOP/s" in output
    assert "3.35 TB/s" in output


def test_capture_of_a_script_saves_its_trace(tmp_path):
    script = tmp_path / "program.py"
    script.write_text("import torch\ndef main():\n    return torch.ones(8, 4) @ torch.ones(4, 2)\n")
    result = run("capture", f"py:{script}", "-o", tmp_path / "t.parquet", "--json")
    assert result.exit_code == 0
    summary = json.loads(result.output)
    assert summary["matmul_flops"] == 128
    assert load_trace(tmp_path / "t.parquet").to_frame().matrix_flops.sum() == 128


def test_streamed_capture_saves_the_same_and_commands_read_what_was_cut_off(tmp_path, monkeypatch):
    script = tmp_path / "program.py"
    script.write_text(
        "import torch\ndef main():\n    return torch.ones(8, 4) @ torch.ones(4, 2)\n"
        "def fail():\n    main()\n    raise SystemError\n"
    )
    result = run("capture", f"py:{script}", "--stream", "-o", tmp_path / "t.parquet", "--json")
    assert result.exit_code == 0
    assert json.loads(result.output)["matmul_flops"] == 128
    assert load_trace(tmp_path / "t.parquet").to_frame().matrix_flops.sum() == 128
    assert not (tmp_path / "t.parquet.parts").exists()
    with pytest.raises(SystemError):
        run("capture", f"py:{script}:fail", "--stream", "-o", tmp_path / "u.parquet")
    result = run("roofline", tmp_path / "u.parquet.parts", "--json")
    assert result.exit_code == 0
    assert load_trace(tmp_path / "u.parquet.parts").to_frame().matrix_flops.sum() == 128


@pytest.fixture
def counting_script(tmp_path):
    """A program that leaves one more letter in a file each time it runs."""
    script = tmp_path / "program.py"
    script.write_text(
        "import torch\nfrom pathlib import Path\n"
        f"def main():\n    with Path({str(tmp_path / 'runs')!r}).open('a') as file:\n        file.write('x')\n"
        "    return torch.ones(64, 64) @ torch.ones(64, 64)\n"
    )
    return script, lambda: len((tmp_path / "runs").read_text())


def test_capture_times_the_bare_program_before_it_watches(tmp_path, counting_script):
    script, runs = counting_script
    path = tmp_path / "t.parquet"
    result = run("capture", f"py:{script}", "--warmup", 3, "--repeats", 5, "-o", path, "--json")
    assert runs() == 3 + 5 + 1
    answer = json.loads(result.output)
    assert (answer["window"]["runs"], answer["window"]["warmup_count"]) == (5, 3)
    assert len(answer["window"]["runs_s"]) == 5
    assert answer["calls"] == 3  # two fills and a product, of the one run that was watched
    notes = load_trace(path).provenance.notes
    assert any("over 5 runs after 3 warm-up" in note for note in notes)
    assert set(answer["window"]["warnings"]) <= set(notes)


def test_capture_without_repeats_runs_a_script_once_and_has_no_window(tmp_path, counting_script):
    script, runs = counting_script
    result = run("capture", f"py:{script}", "-o", tmp_path / "t.parquet", "--json")
    assert runs() == 1
    assert json.loads(result.output)["window"] is None


def test_capture_prints_the_window(tmp_path, counting_script):
    script, _runs = counting_script
    output = run("capture", f"py:{script}", "--repeats", 1, "-o", tmp_path / "t.parquet").output
    assert "over 1 run after 2 warm-up" in output
    assert "tells nothing of the spread" in output


def test_capture_refuses_to_time_what_does_not_run(capsys, monkeypatch):
    err = refused(capsys, monkeypatch, "capture", "ar-100m@forward", "--device", "meta", "--repeats", 3)
    assert "nothing runs on meta" in err


@pytest.mark.parametrize(
    ("options", "why"),
    [(("--device", "cpu"), "attaches the kernels of a GPU"), (("--device", "cuda", "--no-timing"), "by time")],
)
def test_capture_refuses_kernels_where_there_can_be_none(capsys, monkeypatch, options, why):
    assert why in refused(capsys, monkeypatch, "capture", "ar-100m@forward", "--kernels", *options)


def test_roofline_prints_a_table_and_json(trace_file):
    assert "gemm" in run("roofline", trace_file).output
    points = json.loads(run("roofline", trace_file, "--by", "kind", "--json").output)["points"]
    gemm = next(point for point in points if point["label"] == "gemm")
    assert gemm["flops"] == 2 * 64 * 32 * 16
    assert gemm["bytes"] == 4 * (64 * 32 + 32 * 16 + 64 * 16)


def test_roofline_tells_no_efficiency_of_a_time_from_another_device(trace_file, tmp_path):
    trace = load_trace(trace_file)
    path = tmp_path / "other.parquet"
    save_trace(measured(trace, "AMD Instinct MI300X", [1e-3] * len(trace.calls)), path)
    there = json.loads(run("roofline", path, "--chip", "mi300x", "--json").stdout)
    elsewhere = json.loads(run("roofline", path, "--chip", "h100-sxm", "--json").stdout)
    assert (there["measured_on"], there["is_measured_on_chip"], elsewhere["is_measured_on_chip"]) == (
        "AMD Instinct MI300X",
        True,
        False,
    )
    assert all(point["efficiency"] > 0 for point in there["points"])
    assert all(point["efficiency"] is None and point["gap_s"] is None for point in elsewhere["points"])
    assert all(point["measured_s"] > 0 for point in elsewhere["points"])


def test_efficiency_of_a_trace_says_what_time_it_is_of(tmp_path):
    """The product takes 1 ms of 10 and has a bound, the other op takes 9 and has none."""
    with torch.no_grad(), capture(name="mixed") as recording:
        torch.ones(64, 32) @ torch.ones(32, 16)
        torch.linalg.qr(torch.ones(8, 8))
    trace = recording.trace
    nobodys = Op(kind="unknown", name="kernel", dtype="unknown", matrix_flops=None, vector_flops=None)
    ops = tuple(nobodys if "qr" in op.name else op for op in trace.ops)
    unknown = [ops[op].kind == "unknown" for op in trace.calls.op]
    times = np.where(unknown, 9e-3 / sum(unknown), 1e-3 / (len(unknown) - sum(unknown)))
    path = tmp_path / "mixed.parquet"
    save_trace(measured(replace(trace, ops=ops), "NVIDIA H100 80GB HBM3", times), path)
    assert "calls that have a bound, 1.00 ms of the 10.0 ms measured" in run("roofline", path).output


def test_simulate_shows_chips_and_changes_side_by_side(tmp_path):
    """Adding two arrays of 40 MB is bound by main memory: twice the bandwidth takes half of the time above launch."""
    with capture(name="add") as recording:
        torch.empty(20_000_000, dtype=torch.bfloat16, device="meta") + torch.empty(
            20_000_000, dtype=torch.bfloat16, device="meta"
        )
    save_trace(recording.trace, tmp_path / "add.parquet")
    chip = tmp_path / "plain.toml"
    chip.write_text(
        'schema = 1\nname = "plain"\nfamily = "none"\nclock_hz = 1e9\ncores = 100\nlaunch_s = 2e-6\n'
        "[vector]\nspecial_flops_per_clock_per_core = 100\n[vector.flops_per_clock_per_core]\nfloat32 = 1000\n"
        "[memory.hbm]\ncapacity_bytes = 8e10\nbandwidth_bytes_per_s = 1e12\nlatency_s = 0\n"
        '[sources]\n"*" = "invented"\n'
    )
    asked = ("simulate", tmp_path / "add.parquet", "--chip", chip, "--change", "hbm.bandwidth_bytes_per_s*2")
    results = json.loads(run(*asked, "--json").stdout)["results"]
    assert [each["change"] for each in results] == ["", "hbm.bandwidth_bytes_per_s*2"]
    first, second = (each["makespan_s"] for each in results)
    assert first == pytest.approx(2e-6 + 120e-6, rel=0.01)  # 1 %: what filling the pipeline leaves
    assert second == pytest.approx(2e-6 + 60e-6, rel=0.01)
    lines = run(*asked, "--chip", "h100-sxm").output
    for label in ("plain, hbm.bandwidth_bytes_per_s*2", "h100-sxm, hbm.bandwidth_bytes_per_s*2", "error band"):
        assert label in lines


def test_chip_of_moved_constants_says_so_where_it_is_shown_and_simulated(trace_file, tmp_path):
    chip = tmp_path / "mine.toml"
    text = (files("roofline") / "chips" / "h100-sxm.toml").read_text()
    head = text[: text.index("[calibration")]
    chip.write_text(head.replace('name = "h100-sxm"', 'name = "mine"') + '[sources]\n"*" = "invented"\n')
    output = run("chips", chip).output
    assert "sections of h100-sxm" in output
    assert sum("not fitted to this chip" in line for line in output.splitlines()) == 1
    notes = json.loads(run("simulate", trace_file, "--chip", chip, "--json").stdout)["notes"]
    assert "kernels take the constants of h100-sxm: not fitted to chip mine" in notes
    notes = json.loads(run("simulate", trace_file, "--chip", "h100-sxm", "--json").stdout)["notes"]
    assert not any("constants of" in note for note in notes)


def test_simulate_plays_what_lies_between_kernels(trace_file, capsys, monkeypatch):
    def result(*options):
        return json.loads(run("simulate", trace_file, "--engine", "event", *options, "--json").output)

    plain, joined, twice = result(), result("--prefetch", "--persistent"), result("--microbatches", "2")
    assert joined["makespan_s"] < plain["makespan_s"]
    assert joined["busy_s"]["launch"] < plain["busy_s"]["launch"]
    assert any("loaded ahead" in note for note in joined["notes"])
    assert twice["calls"] == 2 * plain["calls"]
    assert result("--streams", "2")["makespan_s"] <= plain["makespan_s"] * 1.001
    line = refused(capsys, monkeypatch, "simulate", trace_file, "--persistent")
    assert "add --engine event" in line


@pytest.mark.parametrize("engine", ["analytic", "event"])
def test_simulate_prints_a_table_and_json(trace_file, engine):
    assert "predicted" in run("simulate", trace_file, "--engine", engine).output
    result = json.loads(run("simulate", trace_file, "--engine", engine, "--json").output)
    assert result["makespan_s"] >= result["bound_s"] > 0
    assert result["low_s"] < result["makespan_s"] < result["high_s"]
    assert result["band_basis"]


def test_fused_view_moves_less(trace_file):
    def moved(view):
        (point,) = json.loads(run("roofline", trace_file, "--by", "trace", "--view", view, "--json").output)["points"]
        return point["bytes"]

    assert moved("fused") < moved("eager")


def test_report_is_written(trace_file, tmp_path):
    result = run("report", trace_file, "-o", tmp_path / "r" / "report.html")
    assert result.exit_code == 0
    assert "small" in (tmp_path / "r" / "report.html").read_text(encoding="utf-8")


def test_report_shows_every_chip_that_was_asked_for(trace_file, tmp_path, capsys, monkeypatch):
    page = tmp_path / "chips.html"
    assert run("report", trace_file, "--chip", "h100-sxm", "--chip", "tpu-v5e", "-o", page).exit_code == 0
    text = page.read_text(encoding="utf-8")
    assert "small on h100-sxm" in text
    assert "small on tpu-v5e" in text
    other = tmp_path / "other.toml"
    other.write_text((files("roofline") / "chips" / "tpu-v5e.toml").read_text())
    line = refused(capsys, monkeypatch, "report", trace_file, "--chip", "tpu-v5e", "--chip", other, "-o", page)
    assert "two of the chips are called 'tpu-v5e'" in line


OWN_SAMPLER = '''"""Left to right, two masks at a time, without a cache."""
import torch
from command_line import refused
from workloads.markers import phase
from workloads.samplers.protocol import Generation, SamplerOptions


@torch.inference_mode()
def sample(model, prompt_BP, options: SamplerOptions) -> Generation:
    batch, prompt = prompt_BP.shape
    masks = torch.full((batch, options.gen_length), model.mask_id, dtype=torch.long, device=prompt_BP.device)
    tokens = torch.cat([prompt_BP, masks], dim=1)
    steps = range(prompt, tokens.shape[1], 2)
    for step, first in enumerate(steps):
        with phase("denoise", step=step):
            best = model(tokens).argmax(-1)
            tokens[:, first : first + 2] = best[:, first : first + 2]
    return Generation(
        tokens=tokens,
        prompt_length=prompt,
        committed_per_forward=(2 * batch,) * len(steps),
        rows_per_forward=(tokens.numel(),) * len(steps),
    )
'''


def test_own_sampler_is_compared_with_baselines_in_one_command(tmp_path):
    (tmp_path / "pairs.py").write_text(OWN_SAMPLER)
    contenders = (tmp_path / "pairs.py", "llada", "llada:steps=4", "ar-100m@autoregressive")
    files = ("-o", tmp_path / "report.html", "--markdown", tmp_path / "table.md")
    result = run(
        "compare", *contenders, "--device", "meta", "--prompt-length", 8, "--gen-length", 8, *files, "--json"
    )  # fmt: skip
    rows = {row["sampler"]: row for row in json.loads(result.output)["samplers"]}
    mine = rows[str(tmp_path / "pairs.py")]
    assert (mine["forwards"], mine["tokens_per_forward"], mine["backbone_rows"]) == (4, 2.0, 4 * 16)
    assert rows["llada"]["backbone_rows"] == 8 * 16
    assert rows["llada:steps=4"]["forwards"] == 4
    assert rows["ar-100m@autoregressive"]["backbone_rows"] == 8 + 7
    assert "pairs.py" in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert len((tmp_path / "table.md").read_text(encoding="utf-8").splitlines()) == 6


def test_contender_with_a_broken_option_is_explained(capsys, monkeypatch):
    assert "KEY=VALUE" in refused(capsys, monkeypatch, "compare", "llada:steps", "--device", "meta")


def kineto(path, content):
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    "content",
    [
        gzip.compress(b'{"traceEvents": []}' * 50)[:-20],
        b"\x1f\x8b not gzip",
        b'{"traceEvents": [',
        b"[1, 2]",
        b"{}",
        b"",
    ],
    ids=["truncated gzip", "broken gzip", "cut JSON", "a list", "no events", "empty"],
)
def test_broken_profiler_files_give_one_line(content, tmp_path, capsys, monkeypatch):
    source = kineto(tmp_path / "broken.json.gz", content)
    line = refused(capsys, monkeypatch, "import", "kineto", source, "-o", tmp_path / "t.parquet")
    assert "broken.json.gz" in line
    assert [path.name for path in tmp_path.iterdir()] == ["broken.json.gz"]


def test_unknown_importer_lists_the_known(tmp_path, capsys, monkeypatch):
    assert "kineto" in refused(capsys, monkeypatch, "import", "nothing", tmp_path / "x.json")


def test_parquet_of_another_schema_gives_one_line(tmp_path, capsys, monkeypatch):
    pq.write_table(pa.table({"a": [1]}), tmp_path / "other.parquet")
    assert "not a Roofscape trace" in refused(capsys, monkeypatch, "roofline", tmp_path / "other.parquet")


def test_unknown_chip_lists_the_known(trace_file, capsys, monkeypatch):
    assert "h100-sxm" in refused(capsys, monkeypatch, "roofline", trace_file, "--chip", "h100")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("bandwidth_bytes_per_s = ", "bandwidth_bytes_per_s = -", "bandwidth_bytes_per_s"),
        ("clock_hz = ", "clock_hz = nan # ", "clock_hz"),
        ("launch_s = ", "lunch_s = ", "launch_s"),
        ("cores = ", "cores = ]", ""),
    ],
    ids=["negative bandwidth", "NaN", "misspelled key", "no TOML"],
)
def test_broken_chip_files_give_one_line(old, new, said, trace_file, tmp_path, capsys, monkeypatch):
    from roofline.chipfile import load_chip, save_chip

    chip = save_chip(load_chip("h100-sxm"), tmp_path / "mine.toml")
    text = chip.read_text(encoding="utf-8")
    assert old in text
    chip.write_text(text.replace(old, new, 1), encoding="utf-8")
    line = refused(capsys, monkeypatch, "simulate", trace_file, "--chip", chip)
    assert "mine" in line
    assert said in line


def test_unknown_program_lists_what_can_be_run(capsys, monkeypatch):
    assert "llada-8b" in refused(capsys, monkeypatch, "capture", "no-such-model")


def test_option_without_value_is_explained(capsys, monkeypatch):
    assert "KEY=VALUE" in refused(capsys, monkeypatch, "capture", "ar-100m", "--option", "temperature")


def test_names_of_a_trace_cannot_command_the_terminal(tmp_path):
    with torch.no_grad(), capture(name="[red]\x1b[31mevil\x1b]0;title\x07") as recording:
        torch.ones(2).exp()
    save_trace(recording.trace, tmp_path / "evil.parquet")
    output = run("roofline", tmp_path / "evil.parquet").output
    assert "\x1b" not in output
    assert "\x07" not in output
    assert "[red]" in output


def test_no_help_text_loses_what_stands_in_brackets():
    """Rich takes `[...]` for markup; a default written so was gone from the help."""
    for command in app.registered_commands:
        texts = [
            metadata.help
            for annotation in inspect.get_annotations(command.callback).values()
            for metadata in getattr(annotation, "__metadata__", ())
        ]
        assert not [text for text in texts if text and re.search(r"\[[a-z]", text)]


def test_version_is_that_of_the_package():
    assert run("--version").output == f"roofscape {version('roofscape')}\n"


def test_samplers_explains_one_and_its_options():
    result = run("samplers", "fast_dllm")
    assert "threshold" in result.output
    assert "commit every prediction more probable than this" in result.output
    by_name = {option["name"]: option for option in json.loads(run("samplers", "fast_dllm", "--json").stdout)}
    assert by_name["cache"]["default"] == "dual"


def test_capture_says_what_was_generated(tmp_path):
    arguments = ("capture", "diffusion-100m", "--device", "meta", "--prompt-length", "8", "--gen-length", "8")
    out = tmp_path / "generated.parquet"
    result = run(*arguments, "--steps", "4", "-o", out)
    assert "8 tokens in 4 forwards (2.00 a forward and sequence), 64 rows through the network" in result.output
    assert json.loads(run(*arguments, "-o", out, "--json").stdout)["generation"]["forwards"] == 8


def test_output_that_cannot_be_written_is_refused_before_anything_runs(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("reports.program_capture.capture_program", lambda *_: pytest.fail("it ran"))
    error = refused(capsys, monkeypatch, "capture", "diffusion-100m", "-o", tmp_path)
    assert "cannot write" in error
    assert "Is a directory" in error
    file = tmp_path / "file"
    file.write_text("no folder")
    assert "Not a directory" in refused(capsys, monkeypatch, "pareto", "--csv", file / "points.csv")


_WRITTEN = ("output", "markdown", "csv", "picture", "plot", "constants", "store", "write_bands")


def test_every_option_that_names_a_file_to_write_is_looked_at_first():
    """All but the folder of `demo`."""
    unchecked = []
    for command in app.registered_commands:
        for name, annotation in inspect.get_annotations(command.callback).items():
            options = [each for each in getattr(annotation, "__metadata__", ()) if hasattr(each, "callback")]
            if name in _WRITTEN and not all(each.callback is writable for each in options):
                unchecked.append(f"{command.callback.__name__} --{name}")
    assert unchecked == ["demo --output"]


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="no device that is always full")
@pytest.mark.parametrize("more", [(), ("--json",)])
def test_full_disk_behind_standard_output_is_one_line(trace_file, more):
    command = [sys.executable, "-m", "reports.cli", "roofline", str(trace_file), *more]
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stderr.splitlines()[-1] == "error: cannot write the output: No space left on device"
    assert "Traceback" not in ended.stderr


def measured(trace, device, duration_s):
    calls = replace(trace.calls, duration_s=np.asarray(duration_s, dtype=float))
    return replace(trace, calls=calls, provenance=replace(trace.provenance, device=device))


def test_chip_is_that_of_the_measured_device_unless_another_is_given(trace_file, tmp_path):
    trace = load_trace(trace_file)
    path = tmp_path / "amd.parquet"
    save_trace(measured(trace, "AMD Instinct MI300X", [1e-3] * len(trace.calls)), path)
    assert json.loads(run("roofline", path, "--json").stdout)["chip"] == "mi300x"
    assert json.loads(run("simulate", path, "--json").stdout)["chip"] == "mi300x"
    assert json.loads(run("roofline", path, "--json", "--chip", "h200-sxm").stdout)["chip"] == "h200-sxm"
    assert json.loads(run("roofline", trace_file, "--json").stdout)["chip"] == "h100-sxm"


def test_chip_is_that_of_the_counted_device_where_no_time_is_known(trace_file, tmp_path):
    trace = load_trace(trace_file)
    path = tmp_path / "counted.parquet"
    one, far = np.zeros(1, dtype=np.int64), np.array([np.nan])
    counted = Kernels(call=one, name=one, category=one, attribution=one, stream=one, start_s=far, duration_s=far)
    untimed = measured(trace, "MI300X_A1", [np.nan] * len(trace.calls))
    save_trace(replace(untimed, kernels=replace(counted, dram_bytes=np.array([8.0])), kernel_names=("copy",)), path)
    assert json.loads(run("roofline", path, "--json").stdout)["chip"] == "mi300x"


def test_rows_of_a_measured_trace_begin_with_the_longest_even_where_it_has_no_bound(tmp_path):
    """An op that nobody can bound takes 9 ms, the product 1 ms: the first row says where the time went."""
    with torch.no_grad(), capture(name="mixed") as recording:
        torch.ones(64, 32) @ torch.ones(32, 16)
        torch.linalg.qr(torch.ones(8, 8))
    trace = recording.trace
    unknown = [id(trace.ops[op]) in {id(each) for each in trace.unknown_ops} for op in trace.calls.op]
    assert any(unknown)
    assert not all(unknown)
    times = np.where(unknown, 9e-3 / sum(unknown), 1e-3 / (len(unknown) - sum(unknown)))
    path = tmp_path / "mixed.parquet"
    save_trace(measured(trace, "NVIDIA H100 80GB HBM3", times), path)
    points = json.loads(run("roofline", path, "--by", "op", "--json").stdout)["points"]
    assert points[0]["unknown_calls"] == 1
    assert [point["measured_s"] for point in points] == sorted((p["measured_s"] for p in points), reverse=True)
    share = f"({sum(unknown)} of {len(unknown)} calls and 90 % of the measured time)"
    assert share in run("roofline", path).output


def test_import_prints_the_largest_phases_and_says_how_many_are_left_out(tmp_path):
    events = []
    for number in range(30):
        ids = {"External id": number + 1, "correlation": number + 1}
        for category, name, thread, start, duration in (
            ("user_annotation", f"part{number}", 1, 0, 50.0),
            ("cuda_runtime", "launch", 1, 5, 5.0),
            ("kernel", "k", 7, 20, 1.0 + number),
        ):
            place = {"pid": 0 if thread == 7 else 1, "tid": thread, "ts": 100.0 * number + start, "dur": duration}
            events.append({"ph": "X", "cat": category, "name": name, "args": ids, **place})
    path = tmp_path / "phases.json"
    path.write_text(json.dumps({"traceEvents": events}))
    output = run("import", "kineto", path, "-o", tmp_path / "phases.parquet").output
    assert "phases on an unnamed device" in output
    assert "part29 " in output
    assert "part10 " in output
    assert "part9 " not in output
    assert "10 smaller phases left out" in output


def test_two_runs_of_one_program_stand_in_one_report(trace_file, tmp_path):
    again = tmp_path / "again.parquet"
    again.write_bytes(trace_file.read_bytes())
    page = tmp_path / "page.html"
    run("report", trace_file, again, "-o", page, "--page", "overview")
    assert "small (again)" in page.read_text()
    assert labels([load_trace(trace_file)] * 3, [trace_file, again, again]) == [
        "small (small)",
        "small (again)",
        "small (again) 3",
    ]


def test_roofline_says_how_many_flops_it_leaves_out_for_a_causal_mask(tmp_path):
    with torch.no_grad(), capture(name="masked") as recording:
        query = torch.ones(1, 1, 2, 8)
        torch.nn.functional.scaled_dot_product_attention(query, query, query, is_causal=True)
    save_trace(recording.trace, tmp_path / "t.parquet")
    # Two products of 2 x 2 x 8 multiply-adds: 128 FLOP, of which one of four entries is masked, beside those of ones().
    assert (
        "leave out what a causal mask lets a kernel skip; with it there are 128 FLOP"
        in run("roofline", tmp_path / "t.parquet").output
    )


def test_a_program_that_runs_nothing_is_a_warning(tmp_path):
    (tmp_path / "idle.py").write_text("x = 1\n")
    output = run("capture", f"py:{tmp_path / 'idle.py'}", "-o", tmp_path / "t.parquet").output
    assert "warning: the program ran no operation of PyTorch" in output
