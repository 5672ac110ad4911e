"""The page of `validate`, built from a small table of one's own."""

import pandas as pd

from reports.validation_page import build_validation_page
from roofline.chipfile import load_chip
from simulator.validation.runs import run_all, scores_frame
from simulator.validation.table_files import file_tables


def test_the_page_shows_every_table_with_its_errors_and_classes_in_order(tmp_path):
    chip = load_chip("h100-sxm")
    sizes = [2048, 8, 300, 40, 9000, 100]
    frame = pd.DataFrame({"kind": "gemm", "dtype": "bfloat16", "m": sizes * 8, "n": 4096, "k": 4096})
    frame["n"] += frame.index * 64
    frame["measured_s"] = 1e-3
    frame.to_csv(tmp_path / "own.csv", index=False)
    runs = list(run_all([(table, chip) for table in file_tables(tmp_path / "own.csv", chip)]))
    page = build_validation_page(runs, scores_frame(runs, by_class=True))
    errors, picture = page.sections
    rows = errors.tables[0].texts()
    assert rows[0][4] == "all"
    assert rows[0][-1] != "-"
    assert rows[1][-2:] == ("-", "-")
    drawn = picture.figures[0].chart.to_dict()
    legend = next(layer["encoding"]["color"] for layer in drawn["layer"] if "color" in layer["encoding"])
    starts = [int(name.split()[1].lstrip(">=").split("-")[0]) for name in legend["scale"]["domain"]]
    assert starts == sorted(starts)
    assert len(starts) > 3
