"""The page that `roofscape explore` writes, and what it prints."""

from collections.abc import Sequence

import pandas as pd

from reports.charts.exploration import TITLES, curve_chart, front_chart, most_designs, steps_chart, tradeoff_chart
from reports.charts.sensitivity import effects_chart, indices_chart
from reports.console import print_line, print_table
from reports.exploration import Exploration
from reports.formatting import (
    format_change,
    format_count,
    format_joules,
    format_number,
    format_ratio,
    format_seconds,
    format_text,
    format_watts,
)
from reports.report import Column, Figure, Report, Section, TableView, numbers, texts

_MOST_ROWS = 40
_OBJECTIVE_FORMAT = {
    "seconds_per_unit": format_seconds,
    "joules_per_unit": format_joules,
    "tdp_w": format_watts,
    "quality_loss": format_ratio,
}


def _by(change: float) -> str:
    return format_change(1.0 + change)


def _percent(part: float) -> str:
    return f"{100 * part:.1f} %"


_PLAYED = (
    *texts(design="design", job="workload"),
    *numbers(format_seconds, closed_s="closed form", event_s="event engine"),
    *numbers(_by, difference="difference"),
    *numbers(format_seconds, low_s="90 % from", high_s="to"),
    *numbers(format_joules, event_j="energy"),
    *texts(binds="what takes the time"),
)
_WHOLE = (
    *texts(parameter="parameter", objective="objective"),
    *numbers(_percent, first_order="alone", first_order_error="+-", total="with others", total_error="+-"),
    *numbers("{:.3f}".format, mean_absolute="mean effect", spread="its spread"),
)
_STEPS = (
    *texts(parameter="parameter", step="step", objective="objective"),
    *numbers(_by, change="change"),
    *texts(feasible="holds constraints"),
)


def build_exploration_page(exploration: Exploration) -> Report:
    """The page: findings, designs to brush, the front, what each parameter is worth, both engines, the search."""
    asked, front = exploration.asked, exploration.front_frame()
    parameters = asked.space.names
    designs = _drawn(exploration, front)
    jobs = [job.name for job in exploration.evaluator.jobs]
    sections = [
        Section(
            title="Designs",
            text="Every point is a design; those in orange are beaten by no other in all objectives of the search.",
            figures=(Figure(chart=front_chart(designs, jobs, parameters, asked.goals.objectives)),),
        ),
        *_tradeoffs(designs, parameters, asked.goals.objectives),
        Section(title="The front", tables=(front_table(exploration, front),)),
    ]
    if exploration.steps:
        steps = exploration.steps_frame()
        sections.append(
            Section(
                title="What a step is worth",
                text=f"Around design {exploration.finalists()[0]}, the knee of the front.",
                figures=(Figure(chart=steps_chart(steps)),),
                tables=(TableView(title="Steps", frame=steps, columns=_STEPS),),
            )
        )
    if exploration.sobol is not None and exploration.morris is not None:
        sections.append(_whole_section(exploration))
    if exploration.played:
        sections.append(
            Section(
                title="Finalists by the event engine",
                text="The knee and the best design of each objective, played kernel by kernel.",
                tables=(TableView(title="Both engines", frame=exploration.played_frame(), columns=_PLAYED),),
            )
        )
    sections.append(Section(title="The search", figures=(Figure(chart=curve_chart(exploration.curve_frame())),)))
    return Report(title=asked.title, findings=tuple(findings(exploration, front)), sections=tuple(sections))


def _tradeoffs(designs: pd.DataFrame, parameters: Sequence[str], objectives: Sequence[str]) -> list[Section]:
    """The plane of each pair of objectives, where the search has two or more."""
    if len(objectives) < 2:
        return []
    return [Section(title="Trade-offs", figures=(Figure(chart=tradeoff_chart(designs, parameters, objectives)),))]


def _whole_section(exploration: Exploration) -> Section:
    """What each parameter decides over the whole space."""
    sobol, morris, whole = exploration.sobol, exploration.morris, exploration.whole_frame()
    assert sobol is not None and morris is not None
    return Section(
        title="What decides over the whole space",
        text=(
            "Sobol indices: the part of the variance of an objective that a parameter explains alone, and in which it "
            f"takes part at all; from {format_count(sobol.samples)} samples, with their standard errors. Effects by "
            f"Morris, from {format_count(morris.trajectories)} walks: what the objective would change by over all "
            "values of the parameter, and how much that depends on the others. Both of logarithms (0.69 is a factor "
            "of two), but of 1 - quality itself. Limits are not looked at, and every design counts as holding the "
            "workloads."
        ),
        figures=(Figure(chart=indices_chart(whole)), Figure(chart=effects_chart(whole))),
        tables=(TableView(title="Indices and effects", frame=whole, columns=_WHOLE),),
    )


def findings(exploration: Exploration, front: pd.DataFrame) -> list[str]:
    """What the search found, in sentences whose every figure is computed."""
    asked = exploration.asked
    result = exploration.result
    assert result is not None
    found = [
        f"{format_count(len(exploration.index))} of {format_count(asked.space.size)} designs were evaluated; "
        f"{format_count(int(result.feasible.sum()))} hold all constraints and {format_count(len(front))} are beaten by "
        f"no other. All figures are predicted, {_constants(asked.template.constants_of)}."
    ]
    for objective in asked.goals.objectives:
        row = int(front[objective].argmin())
        best = {name: front[name].iloc[row] for name in ("design", objective, *asked.space.names)}
        values = ", ".join(f"{name} {_value(best[name])}" for name in asked.space.names)
        found.append(
            f"Best {TITLES[objective]}: {_write(objective, best[objective])} by design {best['design']}: {values}."
        )
    for job in exploration.evaluator.jobs:
        parts = front[f"{job.name}.memory_part"].dropna()
        share = "no design of the front holds it in memory"
        if len(parts):
            bound = f"{format_ratio(parts.min())} to {format_ratio(parts.max())}"
            share = f"memory binds {bound} of the kernels' time over the front"
        found.append(f"{job.name}: {share}{'' if job.weight else '; of weight 0, it judged no design'}.")
    held_up = exploration.held_up_by_cache(front)
    if held_up:
        found.append(
            f"On {format_count(held_up)} of {format_count(len(front))} designs of the front the shared cache gives "
            "less than main memory and holds it up: vary l2_bytes_per_clock as well."
        )
    if exploration.sobol is not None:
        for number, objective in enumerate(asked.goals.objectives):
            total = exploration.sobol.total[:, number]
            first = int(total.argmax())
            found.append(
                f"Over the whole space {asked.space.names[first]} decides most about {TITLES[objective]}: it takes "
                f"part in {format_ratio(total[first])} of the variance "
                f"(+- {format_ratio(exploration.sobol.total_error[first, number])})."
            )
    if exploration.not_weighed:
        found.append(f"What decides over the whole space was not found: {exploration.not_weighed}.")
    if exploration.played:
        worst = max(exploration.played, key=lambda each: abs(each.difference))
        found.append(
            f"The event engine differs from the closed form by at most {format_ratio(abs(worst.difference))} on the "
            f"finalists ({worst.job} on design {worst.design})."
        )
    return found


def _constants(donor: str) -> str:
    return f"kernels with the constants of {donor}" if donor else "kernels at peak rates"


def front_table(exploration: Exploration, front: pd.DataFrame) -> TableView:
    """The front: parameters, objectives and what the design takes."""
    asked = exploration.asked
    objectives = [name for name in asked.goals.objectives if name not in ("area_mm2", "tdp_w", "bill_usd")]
    columns = [
        Column(name="design", header="design", write=format_count, is_number=True),
        *(Column(name=name, header=name, write=_value, is_number=True) for name in asked.space.names),
        *(
            Column(name=name, header=TITLES[name], write=_OBJECTIVE_FORMAT.get(name, format_number), is_number=True)
            for name in objectives
        ),
        *numbers(format_number, area_mm2="mm2", tdp_w="TDP W", bill_usd="bill US$"),
    ]
    shown = front.head(_MOST_ROWS)
    note = f"The first {len(shown)} of {len(front)} designs." if len(shown) < len(front) else ""
    return TableView(title="Designs that no other beats", frame=shown, columns=tuple(columns), note=note)


def print_exploration(exploration: Exploration) -> None:
    """The front and the findings on the terminal."""
    front = exploration.front_frame()
    table = front_table(exploration, front.head(12))
    print_table(exploration.asked.title, [column.header for column in table.columns], table.texts())
    for sentence in findings(exploration, front):
        print_line(sentence)


def _drawn(exploration: Exploration, front: pd.DataFrame) -> pd.DataFrame:
    """Designs that the chart shows: the front first, others evenly drawn."""
    most = most_designs(len(exploration.evaluator.jobs)) // 2
    some = front.iloc[:: max(1, -(-len(front) // most))].assign(on_front=True)
    others = exploration.all_frame(most)
    others = others[~others["design"].isin(front["design"])].assign(on_front=False)
    return pd.concat([others, some], ignore_index=True)  # the front is drawn last, so above


def _value(value: object) -> str:
    return format_number(float(value)) if isinstance(value, int | float) and value % 1 else format_text(value)


def _write(objective: str, value: float) -> str:
    return _OBJECTIVE_FORMAT.get(objective, format_number)(value)
