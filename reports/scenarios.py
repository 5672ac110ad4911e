"""Runs scenarios: each contender's part is recorded, costed and simulated; one row per size, contender and chip."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd

from profiler.capture import capture
from profiler.traces import Trace
from reports.frames import columns_of, frame_of, ratio
from reports.pareto import wilson_interval
from reports.subject import Paradigm, Subject
from reports.summary_rows import summary_frame
from roofline.chip import Chip
from simulator.analytic import simulate
from workloads.scenarios.networks import TaskQuality, build_network, check_answers, given_tokens, sequences_of
from workloads.scenarios.preparing import Outcome, PreparedJob, prepare
from workloads.scenarios.scenario import Contender, GenerateJob, Job, RolloutsJob, Scenario, describe
from workloads.transformer import Transformer

ROW_COLUMNS = columns_of(
    text="scenario size contender paradigm way chip bound_by quality_basis quality_task quality_source unknown_ops",
    number="sequences tokens written_tokens forwards rows flops bytes weights_share intensity bound_s simulated_s "
    "simulated_tokens_per_s energy_j j_per_token measured_s quality quality_low quality_high kept_share "
    "solved_once_share",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One contender's part of one size of the job, ready to run.

    Attributes:
        scenario: what it belongs to.
        contender: who.
        job: the job in this size.
        network: its model.
        prepared: what to run.
    """

    scenario: Scenario
    contender: Contender
    job: Job
    network: Transformer
    prepared: PreparedJob


def build_entry(scenario: Scenario, contender: Contender, job: Job) -> Entry:
    """Build the network and prepare the job."""
    network = build_network(scenario, contender, job)
    given = given_tokens(scenario, contender, job, network)
    prepared = prepare(network, contender, job, given, scenario.seed)
    return Entry(scenario=scenario, contender=contender, job=job, network=network, prepared=prepared)


def record(entry: Entry) -> tuple[Trace, Outcome]:
    """Run once, after a warm-up where it really runs, and record it."""
    scenario = entry.scenario
    if scenario.device != "meta":
        entry.prepared.run()
    with capture(name=entry.contender.label, vocab_size=entry.network.vocab, seed=scenario.seed) as recording:
        outcome = entry.prepared.run()
    return recording.trace, outcome


def run_scenario(
    scenario: Scenario, chips: Sequence[Chip], on_entry: Callable[[str], object] = lambda text: None
) -> pd.DataFrame:
    """One row per size, contender and chip, with `ROW_COLUMNS`; counted, simulated and measured under their own names.

    Args:
        scenario: what to run.
        chips: what to simulate on.
        on_entry: called with a text before each contender's part.
    """
    rows: list[dict[str, object]] = []
    for job in scenario.jobs:
        for contender in scenario.contenders:
            on_entry(" ".join(filter(None, (contender.label, describe(job, scenario.jobs)))))
            rows += _rows(build_entry(scenario, contender, job), chips)
    return frame_of(rows, ROW_COLUMNS)


def _rows(entry: Entry, chips: Sequence[Chip]) -> list[dict[str, object]]:
    trace, outcome = record(entry)
    scenario, job, contender = entry.scenario, entry.job, entry.contender
    samples = job.samples if isinstance(job, RolloutsJob) else 1
    shared = {
        "scenario": scenario.name,
        "size": describe(job, scenario.jobs),
        "contender": contender.label,
        "way": entry.prepared.way or "",
        "sequences": sequences_of(job) * samples,
        "tokens": entry.prepared.asked,
        "written_tokens": entry.prepared.written,
        "forwards": len(outcome.rows_per_forward),
        "rows": sum(outcome.rows_per_forward),
        **_quality(entry),
    }
    subjects = [
        Subject(
            label=contender.label,
            trace=trace,
            chip=chip,
            paradigm=_paradigm(contender),
            simulation=simulate(trace, chip),
            tokens=entry.prepared.asked,
            nfe=len(outcome.rows_per_forward),
        )
        for chip in chips
    ]
    return [{**row, **shared} for row in summary_frame(subjects).to_dict("records")]  # type: ignore[dict-item]  # names are text


def _paradigm(contender: Contender) -> Paradigm:
    return "autoregressive" if contender.sampler in {"autoregressive", "speculative"} else "diffusion"


def _quality(entry: Entry) -> dict[str, object]:
    """Measured where the task's answers are checked, published where somebody measured this point, else unknown."""
    scenario, job, contender = entry.scenario, entry.job, entry.contender
    unknown: dict[str, object] = dict.fromkeys(
        ("quality", "quality_low", "quality_high", "kept_share", "solved_once_share")
    )
    texts = {"quality_basis": "unknown", "quality_task": "", "quality_source": ""}
    if scenario.task == "sudoku":
        checked = check_answers(scenario, contender, job, entry.network)
        return {**unknown, **texts, **_measured(checked, scenario.problems)}
    published = contender.quality
    if published is None or not isinstance(job, GenerateJob) or published.gen_length not in {None, job.gen_length}:
        return {**unknown, **texts}
    return {
        **unknown,
        "quality": published.value,
        "quality_basis": "published",
        "quality_task": published.task,
        "quality_source": published.source,
    }


def _measured(checked: TaskQuality, problems: int) -> dict[str, object]:
    low, high = wilson_interval(checked.solved, checked.answers)
    return {
        "quality": checked.solved / checked.answers,
        "quality_low": low,
        "quality_high": high,
        "quality_basis": "measured",
        "quality_task": "4x4 Sudoku, held-out problems, solved exactly",
        "kept_share": ratio(checked.kept, checked.answers),
        "solved_once_share": ratio(checked.solved_once, problems),
    }
