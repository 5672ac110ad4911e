"""What pages show of the tables in docs/tables: errors of kernels, errors of whole models, chips."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import median

from reports.errors import ReportError
from reports.markdown import markdown_table
from simulator.bands import DATASHEET, FAMILY, FOREIGN, OWN, Band, shipped_bands

_CHIPS = {
    "h100-sxm": "H100",
    "h200-sxm": "H200",
    "b200-sxm": "B200",
    "a100-sxm-80gb": "A100",
    "l40s": "L40S",
}
_KERNELS = {
    "gemm": "matrix products",
    "attention_prefill": "attention, causal prefill",
    "attention_bidirectional": "attention, bidirectional",
    "attention_decode": "attention, decoding",
    "attention_block": "attention, a block on a cache",
    "moe": "layers of experts",
    "mamba2": "causal convolution of Mamba-2",
    "delta_rule": "scan of the gated delta rule",
    "elementwise": "scaling to 8 bits",
    "mixing": "mixing of residual streams",
    "row_scale": "scaling by each row's largest",
    "topk": "top-k",
    "all_reduce": "all-reduce",
    "all_gather": "all-gather",
    "reduce_scatter": "reduce-scatter",
    "alltoall": "all-to-all",
}
_TYPES = {"bfloat16": "", "float32": "", "float8_e4m3fn": ", float8"}

# Families that a page of docs/kernels is about.
FAMILIES: dict[str, tuple[str, ...]] = {
    "products": ("gemm",),
    "attention": ("attention_prefill", "attention_bidirectional", "attention_decode", "attention_block"),
    "elementwise": ("elementwise", "mixing", "row_scale"),
    "selection": ("topk",),
    "experts": ("moe",),
    "sequences": ("mamba2", "delta_rule"),
    "collectives": ("all_reduce", "all_gather", "reduce_scatter", "alltoall"),
}
_SPEED = ("simulated", "tokens/s", "J/token")
SCENARIO_COLUMNS: dict[str, tuple[str, ...]] = {
    "infill": ("contender", "way", "written", "forwards", *_SPEED),
    "edit": ("contender", "way", "written", "forwards", *_SPEED),
    "rollouts": ("contender", "forwards", *_SPEED),
}
# Errors in the table of known chips, by column; of cost the bill's where one was published, else the price's.
_CHIP_ERRORS = {"area": (3,), "TDP": (6,), "cost": (11, 14)}
_NEAR_PERCENT = 15.0
_LEAST_COVERAGE, _MOST_COVERAGE = 0.85, 0.95

Row = dict[str, str]


def read_tables(path: Path) -> list[list[Row]]:
    """The tables of a Markdown file, each a list of rows by heading.

    Raises:
        ReportError: there is no such file.
    """
    return [
        [dict(zip(headings, row, strict=True)) for row in rows]
        for headings, _, *rows in (list(map(_cells, lines)) for lines in _table_lines(path))
    ]


def last_table(name: str) -> Callable[[Path], str]:
    """A builder of the block that shows the last table of a file as it stands."""

    def build(tables: Path) -> str:
        return "\n".join(_table_lines(tables / name)[-1])

    return build


def chosen_columns(name: str, headings: tuple[str, ...]) -> Callable[[Path], str]:
    """A builder of the block that shows some columns of the first table of a file, the first of them text."""

    def build(tables: Path) -> str:
        rows = [[row[heading] for heading in headings] for row in read_tables(tables / name)[0]]
        return markdown_table(headings, rows, [False, *[True] * (len(headings) - 1)])

    return build


def _table_lines(path: Path) -> list[list[str]]:
    if not path.is_file():
        raise ReportError(f"no table {path}")
    found: list[list[str]] = [[]]
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("|"):
            found[-1].append(line)
        elif found[-1]:
            found.append([])
    return [lines for lines in found if lines]


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().removeprefix("|").removesuffix("|").split("|")]


def errors(tables: Path) -> str:
    """Mean error of each family of kernels on each chip, on the backend its constants were fitted to; baselines."""
    rows = [row for row in read_tables(tables / "validation.md")[0] if row["backend"].endswith("(fitted)")]
    kinds = list(dict.fromkeys((row["op"], row["dtype"]) for row in rows))
    lines = []
    for op, dtype in sorted(kinds, key=lambda kind: _place(kind[0])):
        chosen = [row for row in rows if (row["op"], row["dtype"]) == (op, dtype)]
        mean = {row["chip"]: row["mean %"] for row in chosen}
        spans = [_span(row[f"{kind} roofline %"] for row in chosen) for kind in ("datasheet", "fitted")]
        lines.append([_KERNELS.get(op, op) + _TYPES.get(dtype, f", {dtype}"), *_on_chips(mean), *spans])
    headings = ["kernels", *_CHIPS.values(), "datasheet roofline", "fitted roofline"]
    return markdown_table(headings, lines, [False, *[True] * (len(headings) - 1)])


def errors_of(ops: tuple[str, ...]) -> Callable[[Path], str]:
    """A builder of the block of some families: mean error of every library's rows on each chip."""

    def build(tables: Path) -> str:
        rows = [row for row in read_tables(tables / "validation.md")[0] if row["op"] in ops]
        found: dict[tuple[str, str, str], Row] = {}
        for row in rows:
            library = row["backend"].split()[0] + (", fitted" if row["backend"].endswith("(fitted)") else "")
            found.setdefault((row["op"], row["dtype"], library), {})[row["chip"]] = row["mean %"]
        kinds = sorted(found, key=lambda kind: (ops.index(kind[0]), kind[1]))
        lines = [
            [_KERNELS.get(op, op) + _TYPES.get(dtype, f", {dtype}"), library, *_on_chips(found[op, dtype, library])]
            for op, dtype, library in kinds
        ]
        return markdown_table(["kernels", "library", *_CHIPS.values()], lines, [False] * 2 + [True] * len(_CHIPS))

    return build


def _on_chips(values: Row) -> list[str]:
    return [values.get(chip, "") for chip in _CHIPS]


def few_rows(tables: Path) -> str:
    """Mean error of bfloat16 products by rows, on each chip."""
    rows = [
        row for row in read_tables(tables / "size_classes.md")[0] if row["op"] == "gemm" and row["dtype"] == "bfloat16"
    ]
    classes = list(dict.fromkeys(row["size class"] for row in rows if row["size class"] != "all"))
    classes = [each for each in classes if "<=" not in each] + [each for each in classes if "<=" in each] + ["all"]
    mean = {(row["chip"], row["size class"]): row["mean %"] for row in rows}
    lines = [[_class_title(each), *(mean.get((chip, each), "") for chip in _CHIPS)] for each in classes]
    return markdown_table(["rows", *_CHIPS.values()], lines, [False, *[True] * len(_CHIPS)])


def known_chips(tables: Path) -> str:
    """Of area, TDP and cost: the boards that are within 15 %, and how far off every other is."""
    boards = [_cells(line) for line in _table_lines(tables / "known_chips.md")[0][2:]]
    lines = []
    for title, columns in _CHIP_ERRORS.items():
        errors = {board[0]: next((board[each] for each in columns if board[each]), "") for board in boards}
        known = {name: float(error) for name, error in errors.items() if error}
        off = sorted((name for name in known if abs(known[name]) > _NEAR_PERCENT), key=lambda name: known[name])
        text = ", ".join(f"{name} {known[name]:+.0f}" for name in off)
        lines.append([title, str(len(known)), str(len(known) - len(off)), text])
    headings = ["what", "boards", "within 15 %", "the others, error in %"]
    return markdown_table(headings, lines, [False, True, True, False])


def bands(_: Path) -> str:
    """Of the shipped error bands, by whose constants predict: how wide they are, and what they hold of other rows."""
    titles = {
        OWN: "the chip's own",
        FAMILY: "of a chip of its family",
        FOREIGN: "of another family",
        DATASHEET: "none: the rates of its file",
    }
    lines = []
    for basis, title in titles.items():
        for is_whole, part in ((True, "all sizes"), (False, "a size class")):
            chosen = [
                band for band in shipped_bands() if band.basis == basis and (band.size_class == "all") == is_whole
            ]
            if chosen:
                ends = (median(band.low_ratio for band in chosen), median(band.high_ratio for band in chosen))
                lines.append([title, part, str(len(chosen)), *(f"{end:.2f}" for end in ends), *_coverage(chosen)])
    headings = ["constants", "for", "bands", "low (median)", "high (median)"]
    held = ["rows held out inside, % (median)", "bands with 85 to 95 % inside"]
    return markdown_table([*headings, *held], lines, [False, False, *[True] * 5])


def _coverage(chosen: Sequence[Band]) -> list[str]:
    """The median part of rows held out inside these bands in percent, and how many bands hold 85 to 95."""
    known = [band.coverage for band in chosen if band.coverage is not None]
    if not known:
        return ["", ""]
    near = sum(_LEAST_COVERAGE <= each <= _MOST_COVERAGE for each in known)
    return [f"{100.0 * median(known):.0f}", str(near)]


def _place(op: str) -> int:
    """Where a family stands in the summary; one that it does not know comes last."""
    return list(_KERNELS).index(op) if op in _KERNELS else len(_KERNELS)


def _class_title(name: str) -> str:
    return name.removeprefix("m ").replace("-", " to ").replace(">=", "from ").replace("<=", "up to ")


def _span(values: Iterable[str]) -> str:
    """The least and the greatest of some percentages, rounded to whole ones."""
    known = [float(value) for value in values if value]
    low, high = (f"{each:.0f}" for each in (min(known), max(known)))
    return low if low == high else f"{low} to {high}"
