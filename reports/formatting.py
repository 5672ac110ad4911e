"""How quantities are written for people: the only place where units are formatted.

What is unknown (None or NaN) is written `unknown`, never 0.
"""

from collections.abc import Callable
from math import floor, isinf, isnan, log10

UNKNOWN = "unknown"

Formatter = Callable[[float | None], str]

_PREFIXES = ("", "k", "M", "G", "T", "P", "E", "Z")
_SMALL_PREFIXES = ("", "m", "µ", "n", "p", "f")


def format_seconds(seconds: float | None) -> str:
    """A duration.

    >>> format_seconds(0.00123), format_seconds(4.5e-7), format_seconds(90.0), format_seconds(7200.0)
    ('1.23 ms', '450 ns', '90.0 s', '2.00 h')
    """
    if seconds is None or isnan(seconds):
        return UNKNOWN
    if abs(seconds) >= 7200:
        return f"{three_digits(seconds / 3600)} h"
    if abs(seconds) >= 120:
        return f"{three_digits(seconds / 60)} min"
    return _prefixed(seconds, "s", large=("",))


def format_bytes(count: float | None) -> str:
    """An amount of data; GB is 1e9 bytes.

    >>> format_bytes(16.06e9), format_bytes(512)
    ('16.1 GB', '512 B')
    """
    return _prefixed(count, "B", small=("",))


def format_flops(flops: float | None) -> str:
    """A count of floating-point operations.

    >>> format_flops(2.5e12)
    '2.50 TFLOP'
    """
    return _prefixed(flops, "FLOP", small=("",))


def format_flops_per_s(flops_per_s: float | None) -> str:
    """A rate of computing.

    >>> format_flops_per_s(44.7e12)
    '44.7 TFLOP/s'
    """
    return _prefixed(flops_per_s, "FLOP/s", small=("",))


def format_bytes_per_s(bytes_per_s: float | None) -> str:
    """A bandwidth.

    >>> format_bytes_per_s(3.35e12)
    '3.35 TB/s'
    """
    return _prefixed(bytes_per_s, "B/s", small=("",))


def format_joules(joules: float | None) -> str:
    """An energy.

    >>> format_joules(0.05), format_joules(1234.0)
    ('50.0 mJ', '1.23 kJ')
    """
    return _prefixed(joules, "J")


def low_to_high(low: float | None, high: float | None, format_value: Formatter) -> str:
    """Both ends of a band.

    >>> low_to_high(0.05, 1234.0, format_joules)
    '50.0 mJ to 1.23 kJ'
    >>> low_to_high(None, None, format_joules)
    'unknown'
    """
    if low is None or high is None or isnan(low) or isnan(high):
        return UNKNOWN
    return f"{format_value(low)} to {format_value(high)}"


def format_watts(watts: float | None) -> str:
    """A power; never in kilowatts, so that devices compare at a glance.

    >>> format_watts(1000.0)
    '1,000 W'
    """
    return _prefixed(watts, "W", large=("",))


def format_hertz(hertz: float | None) -> str:
    """A clock.

    >>> format_hertz(1.83e9)
    '1.83 GHz'
    """
    return _prefixed(hertz, "Hz", small=("",))


def format_ratio(ratio: float | None) -> str:
    """A ratio 0-1 as a percentage.

    >>> format_ratio(0.634), format_ratio(0.0042), format_ratio(1.5)
    ('63 %', '0.42 %', '150 %')
    """
    if ratio is None or isnan(ratio):
        return UNKNOWN
    percent = 100 * ratio
    if percent == 0 or abs(percent) >= 9.95:
        return f"{percent:,.0f} %"
    return f"{percent:.1f} %" if abs(percent) >= 0.995 else f"{percent:.2g} %"


def format_factor(factor: float | None) -> str:
    """How many times one figure is another.

    >>> format_factor(2.345)
    '2.35x'
    """
    return UNKNOWN if factor is None or isnan(factor) else f"{three_digits(factor)}x"


def format_change(ratio: float | None) -> str:
    """How much larger or smaller one figure is than another; from twice as large on as a factor.

    >>> format_change(1.123), format_change(0.5), format_change(3.0), format_change(1.0)
    ('+12.3 %', '-50.0 %', '3.00x', '0.0 %')
    """
    if ratio is None or isnan(ratio):
        return UNKNOWN
    if ratio >= 2:
        return format_factor(ratio)
    percent = round(100 * (ratio - 1), 1)
    return f"{percent:+.1f} %" if percent else "0.0 %"


def format_count(count: float | None) -> str:
    """A whole number.

    >>> format_count(1465)
    '1,465'
    """
    return UNKNOWN if count is None or isnan(count) else f"{count:,.0f}"


def format_intensity(flops_per_byte: float | None) -> str:
    """An arithmetic intensity.

    >>> format_intensity(811.6), format_intensity(1.0)
    ('812 FLOP/byte', '1.00 FLOP/byte')
    """
    return UNKNOWN if flops_per_byte is None or isnan(flops_per_byte) else f"{three_digits(flops_per_byte)} FLOP/byte"


def format_number(value: float | None) -> str:
    """A figure whose unit stands elsewhere, for example above its column.

    >>> format_number(811.6)
    '812'
    """
    return UNKNOWN if value is None or isnan(value) else three_digits(value)


def format_tokens_per_s(tokens_per_s: float | None) -> str:
    """A generation rate.

    >>> format_tokens_per_s(1234.5)
    '1,230 tokens/s'
    """
    return UNKNOWN if tokens_per_s is None or isnan(tokens_per_s) else f"{three_digits(tokens_per_s)} tokens/s"


def display_unit(largest: float, unit: str) -> tuple[float, str]:
    """What to divide figures by, and the unit to write, so that the largest has one to three digits before its point.

    >>> display_unit(0.138, "s"), display_unit(3.3e10, "B")
    ((0.001, 'ms'), (1000000000.0, 'GB'))
    """
    if not largest > 0 or isinf(largest):
        return 1.0, unit
    exponent = min(max(floor(log10(largest) / 3), 1 - len(_SMALL_PREFIXES)), len(_PREFIXES) - 1)
    prefix = _PREFIXES[exponent] if exponent >= 0 else _SMALL_PREFIXES[-exponent]
    return 1000.0**exponent, f"{prefix}{unit}"


def format_text(text: object) -> str:
    """Any text; None and NaN are unknown.

    >>> format_text("hbm"), format_text(None)
    ('hbm', 'unknown')
    """
    if text is None or (isinstance(text, float) and isnan(text)):
        return UNKNOWN
    return str(text)


def shorten(name: str, limit: int = 140) -> str:
    """A long name with its middle left out, such as a kernel's with all its template arguments.

    >>> shorten("void very_long_kernel_name<float, 4>(int)", limit=16)
    'void ver ... >(int)'
    """
    if len(name) <= limit:
        return name
    tail = limit * 2 // 5
    return f"{name[: limit - tail - 2]} ... {name[-tail:]}"


def three_digits(value: float) -> str:
    """A number to three significant digits, without an exponent.

    >>> [three_digits(value) for value in (0.01234, 9.999, 123.4, 45678.0, 0.0)]
    ['0.0123', '10.0', '123', '45,700', '0']
    """
    if value == 0:
        return "0"
    if isinf(value):
        return "infinite" if value > 0 else "-infinite"
    rounded = float(f"{value:.2e}")
    decimals = max(0, 2 - floor(log10(abs(rounded))))
    return f"{rounded:,.{decimals}f}"


def _prefixed(
    value: float | None, unit: str, *, large: tuple[str, ...] = _PREFIXES, small: tuple[str, ...] = _SMALL_PREFIXES
) -> str:
    """A value with the SI prefix that leaves one to three digits before the point, as far as the prefixes go."""
    if value is None or isnan(value):
        return UNKNOWN
    if value == 0 or isinf(value):
        return f"{three_digits(value)} {unit}"
    exponent = floor(log10(abs(float(f"{value:.2e}"))) / 3)
    exponent = min(max(exponent, 1 - len(small)), len(large) - 1)
    prefix = large[exponent] if exponent >= 0 else small[-exponent]
    scaled = value / 1000.0**exponent
    is_whole = not prefix and float(scaled).is_integer() and unit not in ("s", "J")
    return f"{scaled:,.0f} {unit}" if is_whole else f"{three_digits(scaled)} {prefix}{unit}"
