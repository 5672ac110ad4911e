"""Images that others drew on their own boards, beside predictions: the rows of `reports/other_boards.toml`.

    python benchmarks/other_boards.py [TABLE.md]

A quarter of a minute. With a file name the table is written there (`make whole-models`).
"""

import sys
from importlib import resources

from reports.markdown import markdown_table, print_or_write
from reports.whole_model_figures import read_measured_models
from reports.whole_models import predict_models

HEADINGS = ("model", "chip", "source", "pictures", "call", "a step, ms", "predicted, ms", "error %")


def main(path: str = "") -> None:
    given = resources.files("reports").joinpath("other_boards.toml").read_text(encoding="utf-8")
    lines = [
        [
            str(row["model"]),
            str(row["chip"]),
            str(row["source"]).partition(":")[0],
            str(row["batch"]),
            str(row["task"]),
            f"{1e3 * row['measured_s']:.4g}",
            f"{1e3 * row['predicted_s']:.4g}",
            f"{row['time_error_percent']:+.1f}",
        ]
        for row in predict_models(read_measured_models(given)).to_dict("records")
    ]
    print_or_write(markdown_table(HEADINGS, lines, [False] * 3 + [True] * 5), path)


if __name__ == "__main__":
    main(*sys.argv[1:])
