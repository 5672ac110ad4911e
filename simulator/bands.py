"""Error bands: how far a prediction can be from what would be measured, by what validation found for such kernels.

A band is a pair of factors on the predicted time between which 90 % of measured kernels fell. It is looked up from the
most to the least specific: the same kind of kernel, dtype and size class on this very chip; on a chip of the same
family with the other's constants; on a chip of another family. A chip without constants of such kernels runs them at
the rates of its file, which is further off: it takes the band that measured chips have without their constants. Kinds
that no table holds take the band of their nearest relative, else the widest of all.
`roofscape validate --write-bands` makes the file.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib import resources
from pathlib import Path

import numpy as np

from profiler.files import write_atomically
from profiler.op import KINDS
from roofline.chip import Chip
from roofline.chip_families import has_foreign_constants, lacks_constants
from roofline.chipfile import list_chips, load_chip
from simulator.errors import SimulationError
from simulator.op_columns import DTYPES, BoolArray, FloatArray, IntArray, OpColumns
from simulator.size_classes import CLASSES, class_names, class_numbers
from simulator.validation.families import section_of

SCHEMA_VERSION = 1
COVERAGE = 0.90
_FILE = "bands.json"
# Kinds whose kernels no table holds, and the family whose constants they take: elements or rows go the same way.
RELATIVES: dict[str, str] = {
    **dict.fromkeys(("copy", "random", "gather", "scatter"), "elementwise"),
    **dict.fromkeys(("reduction", "norm", "softmax"), "row_scale"),
}
# Whose constants: the chip's, a chip's of its family, another's, nobody's.
OWN, FAMILY, FOREIGN, DATASHEET = "own", "family", "foreign", "datasheet"


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """Where measured kernels of one group lie.

    Attributes:
        chip: that they were measured on; `*` pools all of a basis.
        basis: whose constants predicted them: `own`, `family`, `foreign`, or nobody's: `datasheet`.
        op: family of kernels, or `*`.
        dtype: type, or `*`.
        size_class: or `all`.
        low_ratio: measured over predicted time at the lower end of the band.
        high_ratio: at the upper end.
        rows: kernels that it was found from.
        coverage: part of *other* kernels of the group (those held out) that lies inside.
    """

    chip: str
    basis: str
    op: str
    dtype: str
    size_class: str
    low_ratio: float
    high_ratio: float
    rows: int
    coverage: float | None = None

    @property
    def width(self) -> float:
        """Upper over lower end."""
        return self.high_ratio / self.low_ratio


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OpBands:
    """Bands of a sequence of ops on one chip.

    Attributes:
        low_ratio: lower end over predicted time, [O].
        high_ratio: upper end, [O].
        group: ops with the same number err together, [O].
        basis: what the bands were looked up from, in words.
    """

    low_ratio: FloatArray
    high_ratio: FloatArray
    group: IntArray
    basis: tuple[str, ...]


def save_bands(bands: Sequence[Band], path: str | Path) -> None:
    """Write bands as JSON."""
    document = {"schema": SCHEMA_VERSION, "coverage": COVERAGE, "bands": [asdict(band) for band in bands]}
    text = json.dumps(document, indent=1) + "\n"
    write_atomically(Path(path), lambda temporary: temporary.write_text(text, encoding="utf-8"))


def load_bands(path: str | Path) -> tuple[Band, ...]:
    """Read bands that `save_bands` wrote.

    Raises:
        SimulationError: the file cannot be read, or holds no error bands.
    """
    try:
        return _parse(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise SimulationError(f"cannot read bands {path}: {error.strerror or error}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise SimulationError(f"{path}: not a file of error bands: {error}") from None


@cache
def shipped_bands(name: str = _FILE) -> tuple[Band, ...]:
    """The bands of the last validation, as they ship; empty where there are none.

    Args:
        name: of the file that holds them, among those of this package.
    """
    file = resources.files("simulator") / name
    return _parse(file.read_text(encoding="utf-8")) if file.is_file() else ()


def _parse(text: str) -> tuple[Band, ...]:
    document = json.loads(text)
    if document["schema"] != SCHEMA_VERSION:
        raise ValueError(f"schema must be {SCHEMA_VERSION}, got {document['schema']!r}")
    return tuple(Band(**entry) for entry in document["bands"])


def op_bands(ops: OpColumns, chip: Chip, bands: Sequence[Band] | None = None) -> OpBands | None:
    """The band of every op on a chip; None where nothing was validated at all.

    Args:
        ops: the ops.
        chip: what they run on.
        bands: to look in; the shipped ones where not given.
    """
    known = shipped_bands() if bands is None else tuple(bands)
    if not known:
        return None
    low, high, group = np.ones(len(ops)), np.ones(len(ops)), np.zeros(len(ops), dtype=np.int64)
    numbers: dict[tuple[str, str], int] = {}
    for rows, families, dtype in sorted(_alike(ops), key=lambda found: int(found[0][0])):  # as they appear
        found = _look_up(known, chip, families, dtype)
        # Kernels of one family and type share a model, and those that no table holds share what nobody knows of them.
        key = (found.basis, "" if found.is_unseen else dtype)
        low[rows], high[rows], group[rows] = found.low_ratio, found.high_ratio, numbers.setdefault(key, len(numbers))
    basis = tuple(dict.fromkeys(words for words, _ in numbers))
    return OpBands(low_ratio=low, high_ratio=high, group=group, basis=basis)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """What was looked up for one key."""

    low_ratio: float
    high_ratio: float
    basis: str
    is_unseen: bool = False


_Families = tuple[tuple[str, str], ...]  # (family of kernels, size class) that an op is validated as


def _alike(ops: OpColumns) -> Iterator[tuple[IntArray, _Families, str]]:
    """Rows that take the same band, what they are validated as, and their dtype."""
    for families, chosen in kernel_families(ops):
        rows = np.flatnonzero(chosen)
        columns = [CLASSES.get(family, ("", ()))[0] for family in families]
        sizes = [ops.size(column)[rows, 0] if column else np.zeros(len(rows)) for column in columns]
        classes = [class_numbers(family, values) for family, values in zip(families, sizes, strict=True)]
        codes = np.stack([*classes, ops.dtype[rows, 0]])
        distinct, which = np.unique(codes, axis=1, return_inverse=True)
        for number, (*of_families, dtype) in enumerate(distinct.T.tolist()):
            named = tuple((name, class_names(name)[i]) for name, i in zip(families, of_families, strict=True))
            yield rows[which.reshape(-1) == number], named, DTYPES[dtype]


def kernel_families(ops: OpColumns) -> Iterator[tuple[tuple[str, ...], BoolArray]]:
    """Families of kernels that ops are validated as, and the ops, [O]; those in between have two."""
    queries, keys, is_causal = ops.size("queries")[:, 0], ops.size("keys")[:, 0], ops.size("causal")[:, 0] > 0
    is_one, is_all_reduce = queries <= 1, ops.collective_passes[:, 0] > 1
    is_whole = ~is_one & ~is_causal
    is_short_filter = (ops.size("n") == 1) & (ops.size("batch") > 1) & (ops.size("k") <= 4.0)  # as measured
    is_delta, is_direct = ops.size("delta")[:, 0] > 0, ops.size("direct")[:, 0] > 0
    is_other = ~is_all_reduce & ~is_direct
    parts: dict[str, tuple[tuple[tuple[str, ...], BoolArray], ...]] = {
        "pointwise": ((("elementwise",), np.ones(len(ops), dtype=np.bool_)),),
        "attention": (
            (("attention_decode",), is_one),
            (("attention_prefill",), ~is_one & is_causal),
            (("attention_decode", "attention_bidirectional"), is_whole & (queries < keys)),
            (("attention_bidirectional",), is_whole & (queries >= keys)),
        ),
        "conv": ((("mamba2",), is_short_filter[:, 0]), (("conv",), ~is_short_filter[:, 0])),
        "scan": ((("delta_rule",), is_delta), (("scan",), ~is_delta)),  # no table holds another scan
        "collective": (
            (("all_reduce",), is_all_reduce),
            (("alltoall",), is_direct),
            (("all_gather", "reduce_scatter"), is_other),
        ),
    }
    for code in np.unique(ops.kind[:, 0]):
        kind = KINDS[code]
        for families, chosen in parts.get(kind, (((kind,), np.ones(len(ops), dtype=np.bool_)),)):
            yield families, chosen & (ops.kind[:, 0] == code)


def _look_up(bands: Sequence[Band], chip: Chip, families: _Families, dtype: str) -> _Found:
    """The most specific bands there are; the widest of several."""
    validated = {band.chip for band in bands if band.basis == OWN}
    own_family = [band for band in bands if band.basis == FAMILY]
    candidates: list[tuple[list[Band], str]] = []
    for op, size_class in families:
        relative = RELATIVES.get(op, op)
        section = section_of(relative)
        is_foreign, is_bare = has_foreign_constants(chip, section), lacks_constants(chip, section)
        is_moved = is_foreign or is_bare
        own = [] if is_moved else [b for b in bands if b.basis == OWN and b.chip == chip.name]
        found = _most_specific(own, op, dtype, size_class)
        basis = f"{op} measured on {chip.name}"
        if not found and not is_moved and chip.family in _families_of(validated):
            found = _most_specific(own_family, op, dtype, size_class)
            basis = f"{op} of a chip of the family {chip.family}"
        if not found:
            kind, words = (DATASHEET, "without constants") if is_bare else (FOREIGN, "with constants of another family")
            found = _most_specific([b for b in bands if b.basis == kind], relative, dtype, size_class)
            basis = f"{op} {words}" if relative == op else f"{op} by its nearest relative, {relative}, {words}"
        if found:
            candidates.append((found, basis))
    if not candidates:
        widest = max([b for b in bands if b.basis == FOREIGN] or list(bands), key=lambda band: band.width)
        words = "kinds that no table holds: the widest band taken"
        return _Found(low_ratio=widest.low_ratio, high_ratio=widest.high_ratio, basis=words, is_unseen=True)
    flat = [band for found, _ in candidates for band in found]
    return _Found(
        low_ratio=min(band.low_ratio for band in flat),
        high_ratio=max(band.high_ratio for band in flat),
        basis="; ".join(basis for _, basis in candidates),
    )


def _most_specific(bands: Sequence[Band], op: str, dtype: str, size_class: str) -> list[Band]:
    """Bands of the same op, dtype and class; else of the same op and dtype; else of the same op."""
    of_op = [band for band in bands if band.op == op]
    of_type = [band for band in of_op if band.dtype == dtype]
    same = [band for band in of_type if band.size_class == size_class]
    return same or [band for band in of_type if band.size_class == "all"] or of_op


@cache
def _chip_families() -> dict[str, str]:
    return {name: load_chip(name).family for name in list_chips()}


def _families_of(chips: set[str]) -> set[str]:
    return {_chip_families()[name] for name in chips if name in _chip_families()}


def combine(duration_s: FloatArray, op_counts: FloatArray, bands: OpBands) -> tuple[float, float]:
    """(low_s, high_s) of the sum of all calls.

    Ops of one group err together (the same model on the same kind of kernel), so their deviations add; deviations of
    different groups are taken as independent of each other, so their squares add.

    Args:
        duration_s: of one call of each op, [O].
        op_counts: calls of each op, [O].
        bands: of the ops.

    >>> low, high, group = np.array([0.9, 0.9]), np.array([1.2, 1.2]), np.array([0, 0])
    >>> alike = OpBands(low_ratio=low, high_ratio=high, group=group, basis=("",))
    >>> combine(np.array([1.0, 1.0]), np.array([3.0, 1.0]), alike)
    (3.6, 4.8)
    """
    total_s = duration_s * op_counts
    below = np.bincount(bands.group, weights=total_s * (1.0 - bands.low_ratio))
    above = np.bincount(bands.group, weights=total_s * (bands.high_ratio - 1.0))
    whole = float(total_s.sum())
    return whole - float(np.sqrt((below**2).sum())), whole + float(np.sqrt((above**2).sum()))
