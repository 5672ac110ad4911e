import math

import pytest

from reports import formatting

FORMATTERS = [
    getattr(formatting, name)
    for name in dir(formatting)
    if name.startswith("format_") and name not in ("format_text", "format_name")
]


@pytest.mark.parametrize("write", FORMATTERS, ids=lambda write: write.__name__)
@pytest.mark.parametrize("absent", [None, math.nan])
def test_unknown_is_named_and_never_zero(write, absent):
    assert write(absent) == "unknown"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0 s"),
        (1.0, "1.00 s"),
        (0.00123, "1.23 ms"),
        (2.5e-6, "2.50 µs"),
        (9.996e-7, "1.00 µs"),
        (4.5e-10, "450 ps"),
        (119.0, "119 s"),
        (150.0, "2.50 min"),
        (86400.0, "24.0 h"),
        (-0.002, "-2.00 ms"),
    ],
)
def test_seconds(seconds, text):
    assert formatting.format_seconds(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.00 kB"), (16.06e9, "16.1 GB"), (999.6e9, "1.00 TB"), (1.5, "1.50 B")],
)
def test_bytes_are_decimal(count, text):
    assert formatting.format_bytes(count) == text


def test_prefix_steps_up_where_rounding_reaches_a_thousand():
    assert formatting.format_flops(999_499) == "999 kFLOP"
    assert formatting.format_flops(999_501) == "1.00 MFLOP"


def test_rates_and_energies():
    assert formatting.format_flops_per_s(44.7e12) == "44.7 TFLOP/s"
    assert formatting.format_bytes_per_s(3.35e12) == "3.35 TB/s"
    assert formatting.format_joules(5.74e-1) == "574 mJ"
    assert formatting.format_watts(0.25) == "250 mW"
    assert formatting.format_watts(1500) == "1,500 W"
    assert formatting.format_hertz(1.83e9) == "1.83 GHz"


@pytest.mark.parametrize(
    ("ratio", "text"), [(0, "0 %"), (0.00004, "0.004 %"), (0.016, "1.6 %"), (0.0996, "10 %"), (12.0, "1,200 %")]
)
def test_ratios(ratio, text):
    assert formatting.format_ratio(ratio) == text


def test_infinity_is_said():
    assert formatting.format_seconds(math.inf) == "infinite h"
    assert formatting.format_bytes(math.inf) == "infinite B"


def test_display_unit_divides_the_largest_into_its_prefix():
    assert formatting.display_unit(0.0, "s") == (1.0, "s")
    assert formatting.display_unit(999.0, "J") == (1.0, "J")
    assert formatting.display_unit(2e-5, "s") == (pytest.approx(1e-6), "µs")


def test_shorten_keeps_both_ends():
    name = "a" * 200 + "z" * 100
    short = formatting.shorten(name, limit=40)
    assert short.startswith("aaaa")
    assert short.endswith("zzzz")
    assert " ... " in short
    assert len(short) < 45
