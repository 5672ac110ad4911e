"""What a B200 draws while it waits, and what a step of decoding takes beyond that, from pairs of runs of a model.

    python benchmarks/waiting_power.py [TABLE.md]

Eight sequences took 5 to 14 ms a step in conversations and 17 to 45 ms in problem solving, where the host was slow. The
joules of two such steps differ by what the predictions differ by and by the power of waiting, over the longer time:
the table of docs/whole-models.md. A minute. With a file name the table is written there (`make whole-models`).
"""

import sys

from reports.markdown import markdown_table, print_or_write
from reports.whole_model_figures import read_measured_models
from reports.whole_models import predict_models
from roofline.chipfile import load_chip
from simulator.energy import static_w

CHIP, SEQUENCES = "b200-sxm", 8
HEADINGS = (
    *("model", "mean step, ms", "with a slow host, ms", "W while waiting"),
    *("J of a step beyond that", "predicted beyond static power", "ratio"),
)


def main(path: str = "") -> None:
    rows = [one for one in read_measured_models() if (one.chip, one.batch) == (CHIP, SEQUENCES) and one.task]
    frame = predict_models(tuple(rows))
    frame["step_j"] = frame.measured_w * frame.measured_mean_s
    frame["dynamic_j"] = (frame.predicted_w - float(static_w(load_chip(CHIP), 1.0))) * frame.predicted_mean_s
    lines = []
    for model, runs in frame.groupby("model", sort=False):
        if len(runs) != 2:
            continue
        quick, slow = (runs[runs.task == task].iloc[0] for task in ("chat", "reasoning"))
        more_j = slow.step_j - quick.step_j - (slow.dynamic_j - quick.dynamic_j)
        waiting_w = more_j / (slow.measured_mean_s - quick.measured_mean_s)
        beyond_j = quick.step_j - waiting_w * quick.measured_mean_s
        lines.append(
            [
                *(str(model), f"{1e3 * quick.measured_mean_s:.3g}", f"{1e3 * slow.measured_mean_s:.3g}"),
                *(f"{waiting_w:.0f}", f"{beyond_j:.3g}", f"{quick.dynamic_j:.3g}", f"{beyond_j / quick.dynamic_j:.2f}"),
            ]
        )
    print_or_write(markdown_table(HEADINGS, lines, [False] + [True] * (len(HEADINGS) - 1)), path)


if __name__ == "__main__":
    main(*sys.argv[1:])
