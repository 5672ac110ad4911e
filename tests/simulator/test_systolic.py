"""Systolic arrays: closed forms of padding, on toy chips whose memory never binds."""

from dataclasses import replace

import pytest

from roofline.chip import Memory
from roofline.chipfile import load_chip, save_chip
from roofline.errors import ChipError
from simulator.plans import plan_ops


@pytest.fixture
def array_chip(build):
    """128 x 128 cells of one core at 1 GHz, with a memory that nobody waits for."""
    memory = Memory(name="sram", capacity_bytes=1e12, bandwidth_bytes_per_s=1e18, latency_s=0.0)
    return build.chip(
        cores=1,
        clock_hz=1e9,
        launch_s=0.0,
        matrix_macs=(("bfloat16", 128.0 * 128.0),),
        matrix_array=(128, 128),
        memories=(memory,),
        calibration=(("wave_s", 0.0),),
    )


def seconds(op, chip):
    return float(plan_ops([op], [chip]).duration_s[0, 0])


def test_full_tiles_run_at_the_peak(build, array_chip):
    assert seconds(build.gemm(1024, 1024, 1024), array_chip) == pytest.approx(1024**3 / (128**2 * 1e9), rel=1e-3)


@pytest.mark.parametrize("rows", [1, 8, 100, 128])
def test_few_rows_take_as_long_as_the_weights_are_shifted_in(build, array_chip, rows):
    """1024 x 1024 weights are 64 arrays full, each shifted in within 128 clocks."""
    assert seconds(build.gemm(rows, 1024, 1024), array_chip) == pytest.approx(64 * 128e-9, rel=1e-3)


def test_shallow_reduction_leaves_rows_of_the_array_empty(build, array_chip):
    deep, shallow = (seconds(build.gemm(1024, 1024, k), array_chip) for k in (128, 64))
    assert shallow == pytest.approx(deep, rel=1e-3)


def test_narrow_heads_leave_columns_empty(build, array_chip):
    """Scores reduce over 64 of 128 rows of the array, and the weighted sum fills 64 of its 128 columns."""
    narrow = seconds(build.attention(1, 1, 1, 1024, 1024, 64, False), replace(array_chip, special_flops=1e12))
    wide = seconds(build.attention(1, 1, 1, 1024, 1024, 128, False), replace(array_chip, special_flops=1e12))
    assert narrow == pytest.approx(wide, rel=1e-2)


@pytest.mark.parametrize("side", [256, 512])
def test_wide_arrays_are_filled_by_wide_tiles(build, array_chip, side):
    """Weights of a whole array stay while all rows stream through: no tile of a GPU's size cuts them short."""
    wide = replace(array_chip, matrix_macs=(("bfloat16", float(side * side)),), matrix_array=(side, side))
    assert seconds(build.gemm(2048, 2048, 2048), wide) == pytest.approx(2048**3 / (side**2 * 1e9), rel=1e-3)


def test_weights_that_come_in_faster_serve_few_rows(build, array_chip):
    """64 arrays full, each shifted in within 40 clocks, or at work on 64 rows."""
    quick = replace(array_chip, calibration=(*array_chip.calibration, ("array_load_clocks", 40.0)))
    assert seconds(build.gemm(1, 1024, 1024), quick) == pytest.approx(64 * 40e-9, rel=1e-3)
    assert seconds(build.gemm(64, 1024, 1024), quick) == pytest.approx(64 * 64e-9, rel=1e-3)


def test_attention_fills_arrays_wider_than_its_heads_by_half(build, array_chip):
    """Scores reduce over 128 of 256 rows, sums fill 128 of 256 columns: half of the peak, softmax aside."""
    wide = replace(
        array_chip,
        matrix_macs=(("bfloat16", 256.0 * 256.0),),
        matrix_array=(256, 256),
        special_flops=1e12,
        vector_flops=(("float32", 1e12),),
    )
    op = build.attention(1, 1, 1, 4096, 4096, 128, False)
    assert seconds(op, wide) == pytest.approx(2 * 2 * 4096**2 * 128 / (256**2 * 1e9), rel=1e-2)


@pytest.mark.parametrize(("name", "measured"), [("tpu-v5e", 0.6686), ("tpu-v5p", 0.7031)])
def test_products_are_no_slower_than_training_steps_of_which_they_are_a_part(build, name, measured):
    """Part of the peak that whole steps of 32B and 64B models reach, the optimizer and links included (MaxText)."""
    chip = load_chip(name)
    for rows, columns, depth in ((8192, 8192, 8192), (16384, 16384, 16384), (65536, 4096, 4096), (32768, 28672, 8192)):
        peak_s = 2 * rows * columns * depth / chip.matrix_flops_per_s("bfloat16")
        assert peak_s / seconds(build.gemm(rows, columns, depth), chip) > measured


def test_types_without_matrix_units_are_not_padded(build, array_chip):
    plain = replace(array_chip, matrix_array=(1, 1))
    op = build.gemm(8, 64, 64, dtype="float32")
    assert seconds(op, array_chip) == seconds(op, plain)


def test_chip_file_keeps_the_array(tmp_path, array_chip):
    assert load_chip(save_chip(array_chip, tmp_path / "a.toml")).matrix_array == (128, 128)
    text = (tmp_path / "a.toml").read_text()
    (tmp_path / "half.toml").write_text(text.replace("array_columns = 128\n", ""))
    with pytest.raises(ChipError, match="array_columns"):
        load_chip(tmp_path / "half.toml")


@pytest.mark.parametrize("name", ["tpu-v5e", "tpu-v5p", "tpu-v6e", "groq-lpu-v1"])
def test_shipped_arrays_give_the_published_peaks(name):
    """TFLOP/s of 16-bit products: jax-ml/scaling-book (TPU), techpowerup.com (Groq)."""
    published = {"tpu-v5e": 197e12, "tpu-v5p": 459e12, "tpu-v6e": 918e12, "groq-lpu-v1": 188e12}
    assert load_chip(name).matrix_flops_per_s("bfloat16") == pytest.approx(published[name], rel=0.005)
