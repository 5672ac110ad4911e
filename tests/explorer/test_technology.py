"""The technology file: shipped figures all have a source, files of one's own change what they name."""

import tomllib
from importlib import resources

import pytest

from explorer.errors import ExplorationError
from explorer.technology import load_technology


def test_every_shipped_figure_has_a_source_and_every_source_a_figure():
    document = tomllib.loads((resources.files("explorer") / "technology.toml").read_text(encoding="utf-8"))
    technology = load_technology()
    figures = {
        f"{section}.{name}" if section in {"area", "energy", "cost"} else f"{section}.{name}.{key}"
        for section in ("area", "energy", "cost", "node", "dram")
        for name, table in document[section].items()
        for key in (table if isinstance(table, dict) else [""])
    }
    used = set()
    for figure in figures:
        assert len(technology.source(figure)) > 3, figure
        parts = figure.split(".")
        used |= {figure, f"{parts[0]}.{parts[-1]}", ".".join(parts[:-1])}
    assert set(document["sources"]) <= used


def test_a_file_of_ones_own_holds_only_what_it_changes(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('schema = 1\n[node.n5]\nwafer_usd = 12_000\n[sources]\n"node.n5.wafer_usd" = "a quote"\n')
    mine, shipped = load_technology(path), load_technology()
    row = [node.name for node in mine.nodes].index("n5")
    assert mine.nodes[row].wafer_usd == 12_000
    assert mine.nodes[row].logic_density == shipped.nodes[row].logic_density
    assert mine.source("node.n5.wafer_usd") == "a quote"
    assert mine.source("node.n4.wafer_usd") == shipped.source("node.n4.wafer_usd")


def test_a_new_node_can_be_added(tmp_path):
    row = "\n".join(
        f"{key} = 1.0"
        for key in (
            *("logic_density", "sram_ratio", "energy_ratio", "clock_hz", "link_phy_mm2_s_per_gb"),
            *("wafer_usd", "defects_per_cm2", "masks_usd"),
        )
    )
    path = tmp_path / "mine.toml"
    path.write_text(f'schema = 1\n[node.a14]\n{row}\n[sources]\n"node.a14" = "invented"\n')
    assert load_technology(path).nodes[-1].name == "a14"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("schema = 2", "schema must be 1"),
        ("schema = 1\n[nodes]", "unknown section 'nodes'; known: node, dram"),
        ("schema = 1\n[node.n5]\nwafer_usd = 1", "node.n5.wafer_usd has no source"),
        ('schema = 1\n[node.n5]\nwafer_usd = -1\n[sources]\n"*" = "x"', "node.n5.wafer_usd must be above 0, got -1"),
        ('schema = 1\n[node.n5]\nwafer_usd = "x"\n[sources]\n"*" = "x"', "node.n5.wafer_usd must be a number, got 'x'"),
        ('schema = 1\n[node.n5]\nwafers = 1\n[sources]\n"*" = "x"', "unknown key node.n5.wafers; known: logic_density"),
        ('schema = 1\n[node.n9]\nwafer_usd = 1\n[sources]\n"*" = "x"', "node.n9.logic_density is missing"),
        ('schema = 1\n[cost]\nutilization = 2\n[sources]\n"*" = "x"', "cost.utilization must be at most 1, got 2"),
        ('schema = 1\n[area]\nbase_node = "n9"\n[sources]\n"*" = "x"', "area.base_node must be one of n12"),
        ('schema = 1\n[area]\ncore_mm2 = nan\n[sources]\n"*" = "x"', "area.core_mm2 must be a number, got nan"),
        ('schema = 1\n[dram]\nhbm3 = 1\n[sources]\n"*" = "x"', "dram.hbm3 must be a table"),
        ("schema = ", "not valid TOML"),
    ],
)
def test_mistakes_are_one_line(tmp_path, text, message):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(ExplorationError) as caught:
        load_technology(path)
    assert message in str(caught.value)
    assert "mine.toml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_one_line(tmp_path):
    with pytest.raises(ExplorationError, match="cannot read technology file"):
        load_technology(tmp_path / "absent.toml")
