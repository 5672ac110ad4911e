"""`roofscape known-chips`: area, power and cost of real chips, predicted beside what others published."""

from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reports.commands.options import AsJson, writable

if TYPE_CHECKING:
    from explorer.known import Comparison, Together
    from explorer.technology import Technology

_TARGET = 0.15
_TITLES = {
    "area_mm2": "compute dies, mm2",
    "tdp_w": "TDP, W",
    "power_at_measured_rate_w": "of these, where a rate was measured",
    "power_at_datasheet_clock_w": "power at the datasheet's clock against TDP, W",
    "bill_usd": "bill, USD",
    "price_usd": "price, USD",
    "cost_usd": "cost: the bill, else the price, USD",
    "logic_usd": "of the bill: dies, USD",
    "dram_usd": "of the bill: DRAM, USD",
    "packaging_usd": "of the bill: package, USD",
    "test_usd": "of the bill: test and assembly, USD",
}
_COLUMNS = ("area_mm2", "tdp_w", "power_at_datasheet_clock_w", "bill_usd", "price_usd")
HEADINGS = (
    *("chip", "dies, mm2", "predicted", "error %", "TDP, W", "predicted", "error %", "at peak, W", "error %"),
    *("bill, USD", "predicted", "error %", "price, USD", "predicted", "error %", "all three"),
)
_NARROW = (  # the same for a terminal
    *("chip", "mm2", "model", "off %", "TDP, W", "model", "off %", "peak, W", "off %"),
    *("bill, $", "model", "off %", "price, $", "model", "off %", "all 3"),
)


def known_chips(
    chip: Annotated[str | None, typer.Argument(help="A known chip, for its parts and sources; default: all.")] = None,
    technology: Annotated[Path | None, typer.Option(help="TOML file with figures of your own.")] = None,
    markdown: Annotated[Path | None, typer.Option(callback=writable, help="Also write the table as Markdown.")] = None,
    as_json: AsJson = False,
) -> None:
    """Hold predicted area, power and cost against what was published of real chips.

    TDP is the power of a large product at the rate that such products were measured to reach, as a chip slows down to
    keep to its TDP; where no rate was found, and under "at peak", at 0.8 of the datasheet's peak. TPUs keep their
    clock: their TDP is that of everything at once. Bills are estimates by others; prices are what is asked, and
    predicted from the bill. The cost of a chip is its bill where one was published, else its price.

      roofscape known-chips h100-sxm
    """
    from explorer.known import compare, known_chips, together
    from explorer.technology import load_technology
    from reports.console import print_json, print_line
    from reports.markdown import write_markdown

    figures = load_technology(technology)
    if chip is not None:
        _one(chip, figures, as_json)
        return
    comparisons = compare(figures)
    names = [str(name) for name in known_chips().name]
    all_three = together(comparisons, _TARGET)
    rows = [[*_cells(name, row, comparisons), _verdict(row, all_three)] for row, name in enumerate(names)]
    counts = _counts(all_three)
    if markdown is not None:
        write_markdown(HEADINGS, rows, markdown, _sentence(counts))
    if as_json:
        summary = [_summary(each) for each in comparisons]
        print_json({"chips": _records(names, comparisons), "summary": summary, "together": counts})
        return
    _print(rows, comparisons)
    print_line(_sentence(counts))
    if markdown is not None:
        print_line(f"wrote {markdown}")


def _number(value: float) -> str:
    return f"{value:.0f}" if isfinite(value) else ""


def _percent(ratio: float) -> str:
    return f"{100 * ratio:+.1f}" if isfinite(ratio) else ""


def _cells(name: str, row: int, comparisons: "tuple[Comparison, ...]") -> list[str]:
    cells = [name]
    for each in comparisons:
        if each.figure not in _COLUMNS:
            continue
        if each.figure != "power_at_datasheet_clock_w":
            cells.append(_number(each.published[row]))
        cells += [_number(each.predicted[row]), _percent(each.error_ratio[row])]
    return cells


def _verdict(row: int, found: "Together") -> str:
    """Whether area, TDP and cost of a chip are all within the target; empty where one is not published."""
    return ("yes" if found.within[row] else "no") if found.published[row] else ""


def _counts(found: "Together") -> dict[str, int]:
    """Boards and dies of which all three were published, and of these those within the target in all three."""
    import numpy as np

    from explorer.known import published

    dies = np.array(published().dies)
    return {
        "published": int(found.published.sum()),
        "published_dies": len(set(dies[found.published])),
        "within_15_percent": int(found.within.sum()),
        "within_15_percent_dies": len(set(dies[found.within])),
        "predictions": int((found.published & found.is_prediction).sum()),
        "predictions_within_15_percent": int((found.within & found.is_prediction).sum()),
    }


def _records(names: list[str], comparisons: "tuple[Comparison, ...]") -> list[dict[str, object]]:
    return [
        {
            "chip": name,
            **{
                each.figure: {
                    "published": float(each.published[row]),
                    "predicted": float(each.predicted[row]),
                    "error_ratio": float(each.error_ratio[row]),
                    "is_prediction": bool(each.is_prediction[row]),
                }
                for each in comparisons
            },
        }
        for row, name in enumerate(names)
    ]


def _summary(each: "Comparison") -> dict[str, object]:
    import numpy as np

    known = np.isfinite(each.error_ratio)
    within = each.within(_TARGET)
    return {
        "figure": each.figure,
        "published": int(known.sum()),
        "within_15_percent": int(within.sum()),
        "predictions": int((known & each.is_prediction).sum()),
        "predictions_within_15_percent": int((within & each.is_prediction).sum()),
        "mean_error_percent": float(100 * np.abs(each.error_ratio[known]).mean()),
    }


def _sentence(found: dict[str, int]) -> str:
    return (
        "Area, TDP and cost (the bill where one was published, else the price) were all published of "
        f"{found['published']} boards on {found['published_dies']} dies: {found['within_15_percent']} boards on "
        f"{found['within_15_percent_dies']} dies are within 15 % in all three. {found['predictions']} of the boards "
        f"chose no constant of any of the three; {found['predictions_within_15_percent']} of these are within."
    )


def _print(rows: list[list[str]], comparisons: "tuple[Comparison, ...]") -> None:
    from reports.console import print_table

    print_table("Known chips: published, predicted (model) and error", _NARROW, rows)
    summaries = [_summary(each) for each in comparisons]
    print_table(
        "Within 15 % of the published; predictions are chips that chose no constant of that figure",
        ("figure", "chips", "within", "predictions", "within", "mean absolute error %"),
        [
            (
                _TITLES[str(each["figure"])],
                *(str(each[key]) for key in ("published", "within_15_percent")),
                *(str(each[key]) for key in ("predictions", "predictions_within_15_percent")),
                f"{each['mean_error_percent']:.0f}",
            )
            for each in summaries
        ],
    )


def _one(name: str, technology: "Technology", as_json: bool) -> None:
    """Parts of one chip's area and bill, its energy, and where its figures come from."""
    from dataclasses import asdict

    from explorer.known import known_chip, sources_of
    from explorer.package import package_of
    from reports.console import print_json, print_line, print_table

    design = known_chip(name)
    package = package_of(design, technology)
    area, cost = package.area, package.cost
    tables = {
        "area_mm2": {**area.parts(), "compute_mm2": area.compute_mm2, "base_mm2": area.base_mm2},
        "power": asdict(package.power),
        "cost": {**asdict(cost), "bill_usd": cost.bill_usd, "usd_per_hour": cost.usd_per_hour},
    }
    numbers = {title: {key: float(value[0]) for key, value in table.items()} for title, table in tables.items()}
    if as_json:
        print_json({"chip": name, **numbers, "sources": dict(sources_of(name))})
        return
    for title, table in numbers.items():
        rows = [(key, f"{value:.4g}") for key, value in table.items()]
        print_table(f"{name}: {title.replace('_', ' ')}, predicted", ("figure", "value"), rows)
    for key, source in sources_of(name):
        print_line(f"{key}: {source}")
