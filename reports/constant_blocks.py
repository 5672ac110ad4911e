"""What pages show of docs/tables/constants.md: names, units, meanings and the span of values over the chips."""

from collections.abc import Callable, Iterator
from pathlib import Path

from reports.constants_table import GENERAL
from reports.markdown import markdown_table
from reports.table_blocks import Row, read_tables
from roofline.chipfile import list_chips, load_chip

# Sections of a chip's calibration, sections below them included, and the page that tells what they do.
PAGES: dict[str, str] = {
    "gemm": "products",
    "attention": "attention",
    "eager.attention": "attention",
    "elementwise": "elementwise",
    "eager.elementwise": "elementwise",
    "rows": "elementwise",
    "eager.rows": "elementwise",
    "topk": "selection",
    "moe": "experts",
    "conv": "sequences",
    "eager.conv": "sequences",
    "scan": "sequences",
    "collective": "collectives",
}
# What stands for a constant of all kernels where a chip and its family have none.
_WITHOUT = {
    "matrix_efficiency": "1",
    "memory_efficiency": "1",
    "t0_s": "`launch_s`, and main memory's latency at the start",
    "k_step_clocks": "0",
    "ingest_bytes_per_clock_per_core": "bandwidth of the core's own memory, else no limit",
    "epilogue_bytes_per_clock_per_core": "as ingest",
    "split_k_s": "`launch_s`",
    "wave_s": "latency of the memory next to main memory",
    "smooth_max_p": "infinity: a plain maximum",
    "cluster_cores": "1",
    "array_load_clocks": "rows of the array",
}
_FIXED_COLUMNS = ("constant", "unit", "stands for")


def general(tables: Path) -> str:
    """The constants of all kernels, with what stands in for each."""
    (rows,) = (rows for section, rows in _sections(tables) if section == GENERAL)
    lines = [
        [f"`{row['constant']}`", row["unit"], row["stands for"], _span([row]), _WITHOUT.get(row["constant"], "")]
        for row in rows
    ]
    return markdown_table(["constant", "unit", "stands for", "values", "without it"], lines, [False] * 5)


def sections(tables: Path) -> str:
    """Sections of `[calibration]`: how many constants, the chips that have their own, and the page about them."""
    lines = []
    for whole, page in PAGES.items():
        parts = [(section, rows) for section, rows in _sections(tables) if _is_part(section, whole)]
        names = [f"`{whole}`", *(f"`{section.removeprefix(whole)}`" for section, _ in parts if section != whole)]
        constants = {row["constant"] for _, rows in parts for row in rows}
        chips = dict.fromkeys(name for _, rows in parts for name in rows[0] if name not in _FIXED_COLUMNS)
        lines.append([", ".join(names), str(len(constants)), ", ".join(sorted(chips)), f"[{page}](kernels/{page}.md)"])
    headings = ["section, and those below it", "constants", "chips with their own", "page"]
    return markdown_table(headings, lines, [False, True, False, False])


def of_section(section: str) -> Callable[[Path], str]:
    """A builder of the block of one section: its constants and those of the sections below it."""

    def build(tables: Path) -> str:
        rows = [row for name, part in _sections(tables) if _is_part(name, section) for row in part]
        lines = []
        for constant in dict.fromkeys(row["constant"] for row in rows):
            same = [row for row in rows if row["constant"] == constant]
            lines.append([f"`{constant}`", same[0]["unit"], same[0]["stands for"], _span(same)])
        return markdown_table(["constant", "unit", "stands for", "values"], lines, [False] * 4)

    return build


def energy(_: Path) -> str:
    """Energy constants of every shipped chip that has them, from the chip files."""
    lines = []
    for chip in map(load_chip, list_chips()):
        if chip.energy is None:
            continue
        each = chip.energy
        matrix, memory = dict(each.matrix_j_per_flop).get("bfloat16"), dict(each.memory_j_per_byte)
        lines.append(
            [
                chip.name,
                *(f"{watts:g}" for watts in (each.static_w, each.core_w)),
                *("" if joules is None else f"{1e12 * joules:.3g}" for joules in (matrix, each.vector_j_per_flop)),
                ", ".join(f"{name} {1e12 * joules:.3g}" for name, joules in memory.items()),
                "" if chip.tdp_w is None else f"{chip.tdp_w:g}",
            ]
        )
    headings = ["chip", "`static_w`", "`core_w`", "matrix, pJ/FLOP (bfloat16)", "vector, pJ/FLOP", "memories, pJ/byte"]
    is_number = [False, True, True, True, True, False, True]
    return markdown_table([*headings, "`tdp_w`"], lines, is_number)


def _sections(tables: Path) -> Iterator[tuple[str, list[Row]]]:
    path = tables / "constants.md"
    names = [line[3:] for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("## ")]
    return zip(names, read_tables(path), strict=True)


def _is_part(section: str, whole: str) -> bool:
    return section == whole or section.startswith(f"{whole}.")


def _span(rows: list[Row]) -> str:
    """The least and greatest value over chips and sections, as the table writes them."""
    values = sorted(
        (value for row in rows for name, value in row.items() if name not in _FIXED_COLUMNS and value), key=float
    )
    return values[0] if values[0] == values[-1] else f"{values[0]} to {values[-1]}"
