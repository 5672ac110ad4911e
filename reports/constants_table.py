"""Every calibration constant of the chips, with unit, meaning and source, as one Markdown page."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from reports.markdown import markdown_table, write_text
from roofline.chip import Chip
from roofline.chip_families import has_own_constants
from roofline.chip_table import find_source
from simulator.validation.families import constants_of_section

GENERAL = "all kernels"
# Constants that no family's fit moves: those of every kernel without its own, and those that choose a rule.
_UNFITTED = {
    "matrix_efficiency": "achievable part of the matrix peak (above 1 counts as 1)",
    "memory_efficiency": "achievable part of main memory's bandwidth",
    "t0_s": "fixed cost of a kernel, first access included",
    "k_step_clocks": "latency of a 128-byte step along K",
    "ingest_bytes_per_clock_per_core": "operands that a core takes in",
    "epilogue_bytes_per_clock_per_core": "write-back of a tile",
    "split_k_s": "second pass of a split reduction",
    "wave_s": "exposed latency of each wave",
    "smooth_max_p": "exponent of the smooth maximum",
    "power_of_two_tiles": "1: tile sides are powers of two alone",
    "cluster_cores": "neighbors that fetch a common panel once",
    "array_load_clocks": "clocks in which a systolic array takes in its next weights",
    "generation": "of FlashAttention: 2, 3, 4; 0 for the default tiles",
    "split_limit": "most parts into which keys are split",
    "softmax_instructions": "vector instructions of attention for a query and a key (4 where a chip says nothing)",
    "thread_clocks": "a core's time for a thread of eager kernels that find elements one by one",
    "dimension_clocks": "for each element, along each dimension",
    "operand_clocks": "for each element, per operand",
    "conversion_clocks": "and where it is converted",
    "join_clocks": "for each element of a concatenation that is strided",
    "function_clocks": "for each element of sigmoid, silu and the like",
    "gelu_clocks": "for each element of gelu",
    "norm_row_clocks": "a core's time for a row of a layer norm in eager programs",
    "rms_row_clocks": "a core's time for a row of a root-mean-square norm in one kernel",
    "short_norm_row_clocks": "and for a row of fewer than 512 columns of a norm",
    "reduced_row_clocks": "and for a row of a sum or mean, which a warp takes",
    "warp_block_clocks": "for a block of short rows of a softmax",
    "odd_row_clocks": "for a long row of a softmax that is no multiple of 16 bytes",
    "odd_column_clocks": "and for each of its columns",
    "kept_row_bytes": "longest row of a softmax that a block keeps in shared memory; longer ones are read three times",
    "softmax_efficiency": "part of main memory's bandwidth in a softmax of rows beyond 1,024 columns",
    "wide_block_flops_per_clock": "of a block alone on its core, of attention with heads of more than 256",
    "wide_core_flops_per_clock": "of a core full of them",
    "mask_ratio": "time of attention that is given a mask as a tensor, over that of flash kernels",
    "pair_clocks": "a core's time for a pair of positions in a chunk of Mamba-2, between two products",
    "layout_efficiency": "part of main memory's bandwidth while a convolution's tensors are laid out anew",
    "bias_efficiency": "the same while its bias is added",
    "sector_efficiency": "part of the last cache's bandwidth for elements that lie apart, a sector each",
    "k_padding_bytes": "step along K to which products are padded",
    "largest_tiles_first": "1: products that fill every core take the largest tile, whole",
    "split_least_macs": "multiply-adds below which K is not split",
    "skinny_split_fill": "small tiles a core up to which a skinny product's K is split",
    "split_least_k": "length of the shortest K that is split",
    "slice_below_macs": "multiply-adds below which threads share a K that is not split",
    "slice_s": "what summing their parts takes, s",
    "slow_most_rows": "rows up to which kernels with slow steps run",
    "slow_least_columns": "columns from which they run",
    "slow_most_columns": "columns up to which they run",
    "slow_least_k": "length of K from which they run",
    "slow_most_k": "length of K up to which they run",
    "slow_step_ratio": "time of a step of theirs over that of others",
    "counter_tiles_per_core": "largest tiles a core, beyond which blocks take tiles by a counter",
    "least_rows_of_96_tiles": "rows from which tiles with a side of 96 are taken",
    "untuned_tile_rows": "rows of the tile of a layer of experts that the library did not tune",
    "untuned_tile_columns": "its columns",
}


def write_constants(chips: Sequence[Chip], path: Path) -> None:
    """Write a section for each scope: a row a constant, a column for each chip that has any there, and the sources.

    Raises:
        ReportError: where the file cannot be written.
    """
    write_text("".join(_page(chips)), path)


def _page(chips: Sequence[Chip]) -> Iterator[str]:
    yield "# Calibration constants\n\nAs the chip files hold them; a chip without a column takes those of its family.\n"
    scopes = dict.fromkeys(_scope(name) for chip in chips for name, _ in chip.calibration)
    for scope in sorted(scopes):
        holders = [chip for chip in chips if has_own_constants(chip, scope)]
        yield f"\n## {scope or GENERAL}\n\n{_table(scope, holders)}\n"
        yield from (f"- {chip.name}: {'; '.join(_sources(chip, scope))}\n" for chip in holders)


def _sources(chip: Chip, scope: str) -> list[str]:
    found = (find_source(chip.sources, f"calibration.{name}") for name, _ in chip.calibration if _scope(name) == scope)
    return list(dict.fromkeys(source or "no source given" for source in found))


def _table(scope: str, chips: Sequence[Chip]) -> str:
    known = constants_of_section(scope)
    values = [
        {name.rpartition(".")[2]: value for name, value in chip.calibration if _scope(name) == scope} for chip in chips
    ]
    rows = []
    for name in dict.fromkeys(name for each in values for name in each):
        constant = known.get(name)
        unit, meaning = (constant.unit, constant.meaning) if constant else ("", _UNFITTED.get(name, ""))
        rows.append([name, unit, meaning, *(f"{each[name]:.4g}" if name in each else "" for each in values)])
    headings = ["constant", "unit", "stands for", *(chip.name for chip in chips)]
    return markdown_table(headings, rows, [False] * 3 + [True] * len(chips))


def _scope(dotted: str) -> str:
    return dotted.rpartition(".")[0]
