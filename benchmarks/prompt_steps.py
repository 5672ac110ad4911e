"""Steps of serving with prompts in them, longer than those without: what the device and what the host takes.

    python benchmarks/prompt_steps.py [TABLE.md]

Nemotron Nano 9B in conversations on one H100 (reports/whole_models.toml), whose steps with prompts take 34 to 45 ms
longer than others by the published percentiles: the table of docs/whole-models.md. At the full clock; some seconds.
With a file name the table is written there (`make whole-models`).
"""

import sys

import numpy as np

from reports.arriving_prompts import prompt_steps
from reports.markdown import markdown_table, print_or_write
from reports.serving_steps import issue_s, step_cost
from reports.whole_model_figures import read_measured_models

MODEL, CHIP, BATCHES = "nemotron-nano-9b-v2", "h100-sxm", (8, 127)
HEADINGS = ("sequences", "of the steps, %", "tokens of prompts", "issuing, ms", "step, ms", "beyond one without, ms")


def main(path: str = "") -> None:
    lines = []
    for one in read_measured_models():
        if (one.model, one.chip, one.task) != (MODEL, CHIP, "chat") or one.batch not in BATCHES:
            continue
        without_s = _full_clock_s(step_cost(one, 0.0).time_s)
        for share, tokens in prompt_steps(one.batch / one.output, one.prompt)[1:]:
            cost = step_cost(one, tokens)
            step_s = _full_clock_s(cost.time_s)
            figures = (1e3 * issue_s(one, tokens, cost), 1e3 * step_s, 1e3 * (step_s - without_s))
            lines.append([str(one.batch), f"{100 * share:.2g}", f"{tokens:,.0f}", *(f"{ms:.1f}" for ms in figures)])
    print_or_write(markdown_table(HEADINGS, lines, [True] * len(HEADINGS)), path)


def _full_clock_s(time_s: "np.ndarray | float") -> float:
    return float(np.ravel(time_s)[-1])


if __name__ == "__main__":
    main(*sys.argv[1:])
