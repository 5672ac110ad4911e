"""The study of the denoising chip: a small part of its space gives a whole report, whose figures hang together."""

import ast
import importlib.util
import json
import re
import sys
from pathlib import Path

import pytest
from browser_visit import Designs, Visit

pytest.importorskip("torch", reason="workloads are captured")
pytest.importorskip("diffusers", reason="FLUX comes from diffusers")

from explorer.space_file import load_space
from reports.formatting import format_count, format_factor, format_number, format_ratio

ORANGE, PALE = "#D55E00", "#eeeeee"
MODULES = ("evidence", "answers", "claims", "pages", "study")  # each imports some of those before it
FOLDER = Path(__file__).resolve().parents[2] / "studies" / "denoising-chip"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """(results, path of the page, what was found as sentences) of 512 designs and workloads that are captured fast."""
    folder = tmp_path_factory.mktemp("study")
    text = (FOLDER / "space.toml").read_text(encoding="utf-8")
    head, *workloads = text.split("[[workload]]\n")
    few = [each for each in workloads if re.search(r'^name = "((?!flux).*-b1|(ar|block)-b8)"', each, re.M)]
    assert len(few) == 7
    shorter = [each.replace("gen_length = 256", "gen_length = 64").replace("steps = 256", "steps = 64") for each in few]
    (folder / "space.toml").write_text("[[workload]]\n".join([head, *shorter]), encoding="utf-8")
    modules = {}
    for name in MODULES:
        spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
        modules[name] = sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(modules[name])
    patch = pytest.MonkeyPatch()
    patch.setattr(modules["study"], "HERE", folder)
    findings, out = folder / "findings.md", folder / "out"
    patch.setattr(sys, "argv", ["study.py", "-o", str(out), "--designs", "512", "--markdown", str(findings)])
    modules["study"].main()
    patch.undo()
    for name in modules:
        del sys.modules[name]
    sentences = [line[2:] for line in findings.read_text().splitlines() if line.startswith("- ")]
    return json.loads((out / "results.json").read_text()), out / "report.html", sentences


def test_figures_hang_together(study):
    results, path, sentences = study
    page = path.read_text()
    assert results["designs"] == 512 and 0 < results["feasible"] < 512
    for row in results["bound"]:
        assert 0 <= row["least"] <= row["median"] <= row["most"] <= 1
        assert row["bound_designs"] + row["compute_designs"] <= 1
    for row in results["regrets"]:
        assert row["loss"] >= -1e-12
        assert row["chip for"] != row["runs"] or row["loss"] == 0
    ends = {row["autoregression"]: row for row in results["mixes"]}
    assert ends[1.0]["loss_autoregression"] == 0 and ends[0.0]["loss_denoising"] == 0
    assert "memory binds most of the time" in page and len(sentences) >= 10
    assert "at most a die of 858 mm2, 1,000 W and 8,000 US$ of materials" in page


def test_decoding_is_never_bound_by_compute_and_denoising_mostly_is(study):
    """What the literature says of batch 1 (arXiv:2510.04146), over every design that was drawn."""
    rows = {row["workload"]: row for row in study[0]["bound"]}
    assert rows["ar-b1"]["compute_designs"] == 0.0
    assert rows["denoise-b1"]["compute_designs"] > 0.5


def test_steps_tell_where_memory_binds(study):
    """More sequences share the weights; at the peaks decoding one token is bound by memory on every design."""
    rows = [row for row in study[0]["steps"] if row["designs"]]
    dense = [row for row in rows if row["program"] == "llama-3.1-8b" and row["axis"] == "batch"]
    assert [row["batch"] for row in dense][:3] == [1, 2, 4] and len(dense) > 7
    assert dense[0]["roofline_designs"] == 1.0
    ideal = [row["roofline_designs"] for row in dense]
    assert ideal == sorted(ideal, reverse=True) and ideal[-1] < 0.5
    for row in rows:
        assert row["memory_designs"] + row["compute_designs"] <= 1
    contexts = {row["program"]: set() for row in rows if row["axis"] == "context"}
    for row in rows:
        if row["axis"] == "context":
            contexts[row["program"]].add(row["designs"])
    assert all(len(held) == 1 for held in contexts.values())  # the same designs at every context


def test_finalists_are_played_with_their_bands(study):
    results, _, _ = study
    played = results["played"]
    assert {row["chip for"] for row in played} == {"autoregression", "denoising"}
    assert {row["job"] for row in played} <= {row["workload"] for row in results["bound"]}
    for row in played:
        assert row["low_s"] < row["event_s"] < row["high_s"] and row["binds"]
        assert abs(row["difference"]) < 0.03  # one stream: both engines play the same plans
    assert results["trust"]["difference"] == max(abs(row["difference"]) for row in played)


def test_every_claim_has_a_verdict(study):
    told = [sentence for sentence in study[2] if sentence.startswith("\u201c")]
    assert len(told) == 4
    for sentence in told:
        verdict = sentence.partition("\u201d ")[2]
        assert verdict.startswith(("Holds. ", "Holds in part. ", "Does not hold. ")), sentence


def test_real_gpus_get_faster_from_one_to_the_next(study):
    """On every workload that they hold: V100, A100, H100, H200, B200, as they were measured to be."""
    seconds = [row["seconds"] for row in study[0]["gpus"]]
    shared = set.intersection(*(set(each) for each in seconds[1:]))
    assert len(shared) >= 4
    for job in shared:
        times = [each[job] for each in seconds[1:]]
        assert times == sorted(times, reverse=True) and len(set(times)) == 4, job


def numbers_of(value):
    """Every number of the results, however deep."""
    if isinstance(value, dict | list):
        return [
            number for each in (value.values() if isinstance(value, dict) else value) for number in numbers_of(each)
        ]
    return [value] if isinstance(value, int | float) else []


def test_every_number_of_the_findings_is_one_of_the_results(study):
    results, _, sentences = study
    writers = (format_count, format_ratio, format_number, format_factor)
    written = {write(number) for number in numbers_of(results) for write in writers}
    computes = [row for row in results["bound"] if row.get("compute_designs", 0) > 0.5]
    denoising = [row for row in results["bound"] if row["designs"] and row["paradigm"] != "autoregressive"]
    written |= {str(len([row for row in computes if row in denoising])), str(len(denoising))}  # counted in the text
    for sentence in sentences:
        without_names = re.sub(r"[A-Za-z][\w-]*", "", sentence)
        for number in re.findall(r"\d[\d.,]*(?: %)?", without_names.replace("\u00a0", " ")):
            assert number.rstrip(".,") in {each.replace("\u00a0", " ") for each in written}, (number, sentence)


def test_no_number_of_the_text_is_typed():
    """Not one string of the page's programs holds a number; names (H100), colors and formats are none."""
    texts = [
        node.value
        for name in ("pages", "claims")
        for node in ast.walk(ast.parse((FOLDER / f"{name}.py").read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    assert any("Elasticity" in text for text in texts)
    typed = [text for text in texts if re.search(r"(?<![\w#.+-])\d", text)]
    assert typed == []


def test_what_is_told_of_the_space_is_so():
    asked = load_space(FOLDER / "space.toml")
    told = f"{asked.space.size:,} GPU-like designs of one die, and {len(asked.workloads)} workloads"
    assert told in " ".join((FOLDER / "README.md").read_text(encoding="utf-8").split())


@pytest.mark.browser
def test_report_can_be_explored_in_a_browser(study, browser):
    """Menus change what is shown, hover shows a design, and a brush in one chart marks its designs in the other."""
    results, path, _ = study
    visit = Visit(browser, path)
    assert visit.messages == [] and visit.requests == [visit.address]
    designs = Designs(visit)
    menus = designs.menus()
    assert menus["batch"] == ["1", "8"] and {"ar", "block", "denoise-b1"} < set(menus["workload"])
    shown = []
    for choice in ({"workload": "ar"}, {"batch": "8"}, {"objective": menus["objective"][1]}):
        designs.choose(**choice)
        shown.append([(point["design"], point["value"]) for point in designs.points()])
    assert all(len(points) > 20 for points in shown) and len({tuple(points) for points in shown}) == 3
    best = {row["design"] for row in (*results["best"], *results["mixes"])}
    assert {int(point["design"]) for point in designs.points() if point["fill"] == ORANGE} == best
    for point in [each for each in designs.points() if each["fill"] == ORANGE][-1:]:  # drawn last, so on top
        text = designs.tooltip(point)
        assert text[text.index("design") + 1] == point["design"]
    left, *_, right = sorted(designs.points(), key=lambda point: point["x"])
    middle = (left["x"] + right["x"]) / 2
    heights = [point["y"] for point in designs.points()]
    designs.brush((left["x"] - 8, min(heights) - 8), (middle, max(heights) + 8))
    bright = [{point["design"] for point in designs.points(view) if point["fill"] != PALE} for view in (0, 1)]
    assert bright[0] == bright[1] == {point["design"] for point in designs.points() if point["x"] < middle}
    visit.context.close()
