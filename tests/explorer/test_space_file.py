"""Space files: nonsense gets one clear line; ranges, fixed values and operating points are read."""

import pytest

from explorer.errors import ExplorationError
from explorer.space_file import load_space

GOOD = """
schema = 1
title = "two knobs"
template = "gpu"
objectives = ["seconds_per_unit", "bill_usd"]

[parameters]
cores = [96, 132]
clock_ghz = { low = 1.0, high = 2.0, steps = 3 }

[fixed]
node = "n5"

[constraints]
max_tdp_w = 700

[[workload]]
name = "denoise"
program = "llada-8b"
gen_length = 64
weight = 2.0
[[workload.point]]
label = "slow"
steps = 64
quality = { value = 0.8, source = "somewhere, table 1" }
[[workload.point]]
label = "fast"
steps = 16
"""


def write(tmp_path, text):
    path = tmp_path / "space.toml"
    path.write_text(text)
    return path


def test_a_space_is_read(tmp_path):
    found = load_space(write(tmp_path, GOOD))
    assert found.space.names == ("cores", "clock_ghz", "denoise")
    assert found.space.size == 2 * 3 * 2
    assert found.goals.objectives == ("seconds_per_unit", "bill_usd")
    assert found.goals.limits == (("max_die_mm2", 858.0), ("max_tdp_w", 700.0))  # the reticle holds unless it is given
    assert dict(found.fixed) == {"node": "n5"}
    (workload,) = found.workloads
    assert (workload.weight, [point.label for point in workload.points]) == (2.0, ["slow", "fast"])
    assert dict(workload.points[1].options) == {"gen_length": 64, "steps": 16}
    assert (workload.points[0].quality, workload.points[0].quality_source) == (0.8, "somewhere, table 1")


@pytest.mark.parametrize(
    ("line", "donor"),
    [
        ("", "h100-sxm"),
        ('constants_of = "nvidia-blackwell"', "b200-sxm"),
        ('constants_of = "a100-sxm-80gb"', "a100-sxm-80gb"),
        ('constants_of = ""', ""),
    ],
)
def test_a_space_says_whose_constants_its_designs_take(tmp_path, line, donor):
    found = load_space(write(tmp_path, GOOD.replace('template = "gpu"', line)))
    assert found.template.constants_of == donor


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("cores = [96, 132]", "cores = []", "parameter 'cores' has no values"),
        ("cores = [96, 132]", "coers = [96]", "has no 'coers'; did you mean 'cores'"),
        ("low = 1.0", "low = 3.0", "low 3.0 is above high 2.0"),
        ("low = 1.0", "low = 0.0", "clock_ghz' must be > 0, got 0.0"),
        ("steps = 3 }", "steps = 3, stride = 2 }", "unknown key 'stride'"),
        ('node = "n5"', "cores = 132", "'cores' is both varied and fixed"),
        ('node = "n5"', "node = 5", "fixed.node must be text"),
        ('node = "n5"', "stacks = -1", "fixed.stacks must be > 0"),
        ("cores = [96, 132]", "l2_mib = [-20, 50]", "l2_mib must be >= 0, got -20"),
        ('node = "n5"', "stacks = [4, 6]", "fixed.stacks must be one finite number"),
        ("cores = [96, 132]", "cores = [96.5, 132]", "parameters.cores must be a whole number, got 96.5"),
        ("cores = [96, 132]", "cores = { low = 1.0, high = 3.0, steps = 4 }", "cores must be a whole number, got 1.6"),
        ("high = 2.0", "high = 1.8e9", "clock_ghz is in GHz: at most 20, got .*; is it in another unit?"),
        ('node = "n5"', "l2_mib = 52428800", "fixed.l2_mib is in MiB: at most 1e.06, got 5.24288e.07"),
        ('node = "n5"', "clock_ghz = 0", "both varied and fixed"),
        ('node = "n5"', "vector_lanes = 0", "fixed.vector_lanes must be > 0, got 0"),
        ('name = "denoise"', 'name = "cores"', "workload 'cores': a name has letters"),
        ('name = "denoise"', 'name = "llada:8b"', "workload 'llada:8b': a name has letters"),
        ("value = 0.8", "value = 75.7", "quality must be a score of at most 1"),
        ("value = 0.8", 'value = "high"', "quality must be a number > 0"),
        ("weight = 2.0", 'unit = "img"', "unit must be token or image"),
        ("max_tdp_w = 700", "max_tdp_w = 0", "max_tdp_w must be a number > 0, got 0"),
        ("max_tdp_w = 700", "max_watts = 1", "unknown constraint 'max_watts'"),
        ('"bill_usd"]', '"speed"]', "unknown objective 'speed'"),
        ('program = "llada-8b"', "", "needs either program or trace"),
        ('label = "slow"', "", "every point needs a label"),
        ("schema = 1", "schema = 2", "schema must be 1, got 2"),
        ("weight = 2.0", "weight = -1", "weight must be a number > 0"),
        ("weight = 2.0", "weight = true", "weight must be a number > 0"),
        ('template = "gpu"', 'template = "quantum"', "unknown template 'quantum'"),
        (
            'template = "gpu"',
            'constants_of = "nvidia-blackwel"',
            "no chip or family .* did you mean 'nvidia-blackwell'",
        ),
        ('template = "gpu"', "constants_of = 3", "constants_of must be the name of a chip or a family, got 3"),
        ('quality = { value = 0.8, source = "somewhere, table 1" }', "quality = 0.8", "quality must be"),
    ],
)
def test_nonsense_is_one_line(tmp_path, old, new, message):
    assert old in GOOD
    with pytest.raises(ExplorationError, match=message) as caught:
        load_space(write(tmp_path, GOOD.replace(old, new)))
    assert "\n" not in str(caught.value) and "space.toml" in str(caught.value)


def test_a_weight_of_nothing_is_one_but_not_for_all(tmp_path):
    further = '[[workload]]\nname = "large"\nprogram = "llama-3.1-70b"\nweight = 0\n'
    found = load_space(write(tmp_path, GOOD + further))
    assert [workload.weight for workload in found.workloads] == [2.0, 0.0]
    with pytest.raises(ExplorationError, match="no \\[\\[workload\\]\\] has a weight above 0"):
        load_space(write(tmp_path, GOOD.replace("weight = 2.0", "weight = 0")))


def test_files_that_are_none(tmp_path):
    with pytest.raises(ExplorationError, match="cannot read space file"):
        load_space(tmp_path / "none.toml")
    with pytest.raises(ExplorationError, match="not valid TOML"):
        load_space(write(tmp_path, "a = ["))
    with pytest.raises(ExplorationError, match="no \\[\\[workload\\]\\]"):
        load_space(write(tmp_path, "schema = 1\n[parameters]\ncores = [1]\n"))
    with pytest.raises(ExplorationError, match="the space is empty"):
        load_space(write(tmp_path, 'schema = 1\n[[workload]]\nname = "a"\nprogram = "llada-8b"\n'))
