"""`roofscape design`: one design by its knobs, what it takes in silicon, watts and dollars, and its chip file."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reports.commands.options import AsJson, writable

if TYPE_CHECKING:
    from explorer.design_file import DesignedChip
    from explorer.evaluator import Evaluator
    from explorer.technology import Technology


def design(
    template: Annotated[
        str | None,
        typer.Argument(help="gpu, systolic or dataflow, or a space file for what it fixes; none: list knobs."),
    ] = None,
    knobs: Annotated[
        str,
        typer.Option("--set", help="Knobs that differ: cores=160,dram=hbm4,node=n3e; the rest as fixed, or default."),
    ] = "",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", callback=writable, help="Chip file to write (.toml).")
    ] = None,
    technology: Annotated[Path | None, typer.Option(help="TOML file with figures of silicon of your own.")] = None,
    as_json: AsJson = False,
) -> None:
    """Build one chip from counts of units: its area, power and cost, and a chip file with energy for all commands.

      roofscape design                                                      # templates, knobs, nodes, memories

      roofscape design gpu --set cores=160,l2_mib=256,dram=hbm4,node=n3e -o mine.toml

      roofscape simulate llada.parquet --chip h100-sxm --chip mine.toml

    Everything is predicted; `roofscape known-chips` shows by how much such figures miss on real chips.
    """
    from explorer.design_file import design_by_knobs
    from explorer.technology import load_technology
    from reports.console import print_json, print_line, remark
    from roofline.chipfile import save_chip

    if template is None:
        _list(load_technology(technology), as_json)
        return
    evaluator = _evaluator(template, technology)
    found = design_by_knobs(knobs, evaluator, "design" if output is None else output.stem)
    _, broken = evaluator.goals.violation(found.package.figures())
    limits = [text for text, excess in broken if excess[0] > 0]
    is_held_up = bool(found.design.hardware.is_held_up_by_cache[0])
    if output is not None:
        save_chip(found.chip, output)
    if as_json:
        told = {"template": evaluator.template.name, "knobs": found.design.knobs, "broken": limits}
        print_json({**told, "is_held_up_by_cache": is_held_up, **_numbers(found)})
        return
    _print(found)
    for limit in limits:
        remark(f"note: {limit}")
    if is_held_up:
        remark("note: l2 gives less than main memory, which it holds up; raise l2_bytes_per_clock")
    donor = evaluator.template.constants_of
    print_line(f"kernels take the constants of {donor}" if donor else "kernels run at peak rates, without constants")
    if output is not None:
        print_line(f"wrote {output}")
        remark(f"next: roofscape simulate TRACE --chip h100-sxm --chip {output}")


def _evaluator(template: str, technology: Path | None) -> "Evaluator":
    """What builds designs of a template or of a space file; figures of one's own come before those of the space."""
    from dataclasses import replace

    from explorer.design_file import template_evaluator
    from explorer.space_file import load_space
    from explorer.technology import load_technology
    from reports.prepared import bare_evaluator

    if not template.endswith(".toml"):
        return template_evaluator(template, load_technology(technology))
    space = load_space(template)
    return bare_evaluator(replace(space, technology=technology or space.technology))


def _list(figures: "Technology", as_json: bool) -> None:
    """Templates with their knobs, and what nodes and memories there are."""
    from dataclasses import asdict

    from explorer.templates.template import list_templates, load_template
    from reports.console import print_json, print_line, print_table

    loaded = [load_template(name) for name in list_templates()]
    nodes, drams = [node.name for node in figures.nodes], [dram.name for dram in figures.drams]
    if as_json:
        templates = {each.name: [asdict(knob) for knob in each.knobs] for each in loaded}
        print_json({"templates": templates, "nodes": nodes, "drams": drams})
        return
    for each in loaded:
        rows = [(knob.name, str(knob.default), knob.unit, knob.meaning) for knob in each.knobs]
        print_table(f"{each.name}: {each.title}", ("knob", "default", "unit", "meaning"), rows, left=4)
    print_line(f"node: {', '.join(nodes)}")
    print_line(f"dram: {', '.join(drams)}")


def _numbers(found: "DesignedChip") -> dict[str, dict[str, float]]:
    """All figures, each in the unit of its name and areas in mm2, by what they are of."""
    from dataclasses import asdict

    area, power, cost = found.package.area, found.package.power, found.package.cost
    tables = {
        "area_mm2": {
            **area.parts(),
            "compute_mm2": area.compute_mm2,
            "die_mm2": area.die_mm2,
            "base_mm2": area.base_mm2,
        },
        "power": asdict(power),
        "cost": {**asdict(cost), "bill_usd": cost.bill_usd, "usd_per_hour": cost.usd_per_hour},
    }
    return {title: {key: float(value[0]) for key, value in table.items()} for title, table in tables.items()}


def _print(found: "DesignedChip") -> None:
    from reports import formatting
    from reports.chip_figures import figure_rows
    from reports.commands.catalog import ceiling_rows
    from reports.console import print_line, print_table

    numbers = _numbers(found)
    area, cost = numbers["area_mm2"], numbers["cost"]
    print_line(found.design.label)
    print_table("Ceilings, predicted", ("ceiling", "rate"), ceiling_rows(found.chip))
    print_table("Figures, predicted", ("figure", "value"), figure_rows(found.chip), left=2)
    shares = sorted(((part, mm2) for part, mm2 in area.items() if not part.endswith("_mm2")), key=lambda each: -each[1])
    rows = [
        (part.replace("_", " "), f"{mm2:,.1f} mm2", formatting.format_ratio(mm2 / area["compute_mm2"]))
        for part, mm2 in shares
        if mm2
    ]
    rows.append(("all compute dies", f"{area['compute_mm2']:,.0f} mm2", f"{area['die_mm2']:,.0f} mm2 each"))
    print_table("Area, predicted", ("part", "silicon", "share"), rows)
    bill = [
        (name, f"{cost[f'{key}_usd']:,.0f} US$")
        for name, key in (
            ("dies", "logic"),
            ("main memory", "dram"),
            ("package", "packaging"),
            ("test, assembly", "test"),
        )
    ]
    bill += [
        ("bill of materials", f"{cost['bill_usd']:,.0f} US$"),
        ("price", f"{cost['price_usd']:,.0f} US$"),
        ("an hour of service", f"{cost['usd_per_hour']:,.2f} US$"),
        ("good dies", formatting.format_ratio(cost["die_yield"])),
    ]
    print_table("Cost, predicted", ("what", "US$"), bill)
