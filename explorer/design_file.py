"""One design by its knobs, as a chip file would describe it: units, memories, energy, area and price, all predicted."""

from dataclasses import dataclass, replace

import numpy as np

from explorer.designs import Design, build, read_knobs
from explorer.evaluator import Evaluator, constants_of
from explorer.finalists import chip_of
from explorer.objectives import Goals
from explorer.package import Package, package_of
from explorer.technology import Technology
from explorer.templates.template import load_template
from roofline.chip import Chip


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DesignedChip:
    """One design and what it takes.

    Attributes:
        design: its knobs and hardware, one row.
        chip: as a chip file describes it.
        package: area, power and cost, one row.
    """

    design: Design
    chip: Chip
    package: Package


def template_evaluator(template: str, technology: Technology) -> Evaluator:
    """What builds the designs of a template with nothing fixed and nothing to run."""
    loaded = load_template(template)
    return Evaluator(template=loaded, technology=technology, jobs=(), goals=Goals(), calibration=constants_of(loaded))


def design_by_knobs(text: str, evaluator: Evaluator, name: str) -> DesignedChip:
    """The design of `cores=160,dram=hbm4`: the rest as the evaluator fixes it, else the template's defaults.

    Args:
        text: knobs and values; empty for the defaults.
        evaluator: with the template and what it fixes.
        name: of the chip, the stem of its file.

    Raises:
        ExplorationError: an unknown knob, node or memory, or a combination that cannot be built.
    """
    knobs = {**evaluator.fixed, **read_knobs(text, evaluator.template)}
    hardware = build((knobs,), evaluator)
    package = package_of(hardware, evaluator.technology)
    values = {knob: np.array([value]) for knob, value in knobs.items()}
    chip = replace(
        chip_of(evaluator, values, name),
        die_area_mm2=float(package.area.compute_mm2[0]),
        process_node=str(hardware.node[0]),
        price_usd=float(package.cost.price_usd[0]),
    )
    label = text.strip() or f"{evaluator.template.name} with its defaults"
    return DesignedChip(design=Design(label=label, knobs=knobs, hardware=hardware), chip=chip, package=package)
