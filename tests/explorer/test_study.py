"""The study of the denoising chip: a small part of its space gives a whole report, whose figures hang together."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="workloads are captured")
pytest.importorskip("diffusers", reason="FLUX comes from diffusers")

FOLDER = Path(__file__).resolve().parents[2] / "studies" / "denoising-chip"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """(results, page) of 64 designs and the workloads that are captured fast."""
    folder = tmp_path_factory.mktemp("study")
    text = (FOLDER / "space.toml").read_text(encoding="utf-8")
    head, *workloads = text.split("[[workload]]\n")
    few = [each for each in workloads if 'b1"' in each and "flux" not in each]
    assert len(few) == 5
    shorter = [each.replace("gen_length = 256", "gen_length = 64").replace("steps = 256", "steps = 64") for each in few]
    (folder / "space.toml").write_text("[[workload]]\n".join([head, *shorter]), encoding="utf-8")
    modules = {}
    for name in ("answers", "pages", "study"):
        spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
        modules[name] = sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(modules[name])
    patch = pytest.MonkeyPatch()
    patch.setattr(modules["study"], "HERE", folder)
    patch.setattr(sys, "argv", ["study.py", "-o", str(folder / "out"), "--designs", "512"])
    modules["study"].main()
    patch.undo()
    for name in modules:
        del sys.modules[name]
    return json.loads((folder / "out" / "results.json").read_text()), (folder / "out" / "report.html").read_text()


def test_figures_hang_together(study):
    results, page = study
    assert results["designs"] == 512 and 0 < results["feasible"] < 512
    for row in results["bound"]:
        assert 0 <= row["least"] <= row["median"] <= row["most"] <= 1
        assert row["bound_designs"] + row["compute_designs"] <= 1
    for row in results["regrets"]:
        assert row["loss"] >= -1e-12
        assert row["chip for"] != row["runs"] or row["loss"] == 0
    ends = {row["autoregression"]: row for row in results["mixes"]}
    assert ends[1.0]["loss_autoregression"] == 0 and ends[0.0]["loss_denoising"] == 0
    assert "memory binds most of its time" in page


def test_decoding_is_never_bound_by_compute_and_denoising_mostly_is(study):
    """What the literature says of batch 1 (arXiv:2510.04146), over every design that was drawn."""
    rows = {row["workload"]: row for row in study[0]["bound"]}
    assert rows["ar-b1"]["compute_designs"] == 0.0
    assert rows["denoise-b1"]["compute_designs"] > 0.8


def test_real_gpus_get_faster_from_one_to_the_next(study):
    """On every workload that they hold: V100, A100, H100, H200, B200, as they were measured to be."""
    seconds = [row["seconds"] for row in study[0]["gpus"]]
    shared = set.intersection(*(set(each) for each in seconds[1:]))
    assert len(shared) >= 4
    for job in shared:
        times = [each[job] for each in seconds[1:]]
        assert times == sorted(times, reverse=True) and len(set(times)) == 4, job
