"""`roofscape design`: one design by its knobs, and the chip file that all other commands take."""

import json

import pytest
from command_line import refused
from typer.testing import CliRunner

from reports.cli import app
from roofline.chipfile import load_chip


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


def test_without_a_template_knobs_nodes_and_memories_are_listed():
    told = json.loads(run("design", "--json").stdout)
    assert set(told["templates"]) == {"gpu", "systolic", "dataflow"}
    assert "n3e" in told["nodes"]
    assert "hbm4" in told["drams"]
    assert "l2_bytes_per_clock" in run("design").output


def test_chip_file_of_a_design_has_its_units_memories_energy_and_area(tmp_path):
    """160 cores x 4,096 MACs x 2 x 1.5 GHz = 1.966 PFLOP/s; six stacks of HBM3 hold 96 GB."""
    file = tmp_path / "mine.toml"
    knobs = "cores=160,matrix_macs=4096,clock_ghz=1.5,stacks=6,node=n3e"
    told = json.loads(run("design", "gpu", "--set", knobs, "-o", file, "--json").stdout)
    chip = load_chip(str(file))
    assert chip.name == "mine"
    assert chip.matrix_flops_per_s("bfloat16") == pytest.approx(160 * 4096 * 2 * 1.5e9)
    assert chip.main_memory.capacity_bytes == pytest.approx(6 * 16e9)
    assert chip.energy.static_w == pytest.approx(told["power"]["static_w"])
    assert chip.die_area_mm2 == pytest.approx(told["area_mm2"]["compute_mm2"])
    assert chip.tdp_w == pytest.approx(told["power"]["tdp_w"])
    assert (chip.process_node, chip.price_usd) == ("n3e", pytest.approx(told["cost"]["price_usd"]))
    parts = {name: value for name, value in told["area_mm2"].items() if not name.endswith("_mm2")}
    assert sum(parts.values()) == pytest.approx(told["area_mm2"]["compute_mm2"])
    output = run("chips", file).output
    assert "sections of h100-sxm" in output
    assert "1.97 PFLOP/s" in output


def test_defaults_of_every_template_are_a_chip_that_loads(tmp_path):
    for template in ("gpu", "systolic", "dataflow"):
        file = tmp_path / f"{template}-like.toml"
        assert run("design", template, "-o", file).exit_code == 0
        assert load_chip(str(file)).energy is not None


def test_space_file_says_what_is_fixed(tmp_path):
    space = tmp_path / "space.toml"
    space.write_text(
        'schema = 1\n[parameters]\ncores = [96, 132]\n[fixed]\nstacks = 8\ndram = "hbm3e"\n'
        '[[workload]]\nname = "ar"\nprogram = "ar-100m"\n'
    )
    told = json.loads(run("design", space, "--set", "cores=96", "--json").stdout)
    assert told["knobs"] == {"stacks": 8, "dram": "hbm3e", "cores": 96.0}


def test_figures_of_ones_own_count_for_templates_and_spaces(tmp_path):
    """A wafer of N4 at twice the shipped 19,000 US$ makes each die cost twice as much."""
    mine = tmp_path / "mine.toml"
    mine.write_text('schema = 1\n[node.n4]\nwafer_usd = 38_000\n[sources]\n"node.n4.wafer_usd" = "invented"\n')
    space = tmp_path / "space.toml"
    space.write_text(
        'schema = 1\n[parameters]\ncores = [96, 132]\n[fixed]\nnode = "n4"\n'
        '[[workload]]\nname = "ar"\nprogram = "ar-100m"\n'
    )
    for asked in ("gpu", space):
        shipped, own = (
            json.loads(run("design", asked, *more, "--json").stdout)["cost"] for more in ((), ("--technology", mine))
        )
        assert own["logic_usd"] == pytest.approx(2 * shipped["logic_usd"])
        assert own["dram_usd"] == shipped["dram_usd"]


def test_cache_slower_than_main_memory_is_told():
    """5,300 bytes a clock at 1.83 GHz are 9.7 TB/s; eight stacks of HBM4 give 16, five of HBM3 3.35."""
    assert "raise l2_bytes_per_clock" in run("design", "gpu", "--set", "dram=hbm4,stacks=8").output
    assert "raise l2_bytes_per_clock" not in run("design", "gpu").output
    assert "raise l2_bytes_per_clock" not in run("design", "dataflow").output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("gpuu",), "unknown template 'gpuu'; did you mean 'gpu'?"),
        (("gpu", "--set", "coers=3"), "template gpu has no knob 'coers'; did you mean 'cores'?"),
        (("gpu", "--set", "node=n3"), "unknown process node 'n3'; known: n12"),
        (("gpu", "--set", "dram=none"), "cannot be built: dram is none"),
    ],
)
def test_what_is_no_design_is_one_line(arguments, message, capsys, monkeypatch):
    assert message in refused(capsys, monkeypatch, "design", *arguments)
