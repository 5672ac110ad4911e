"""Which kernels an eager program runs, where they are not those of a serving engine: constants under `eager`.

A chip's `[calibration.eager.X]` holds constants of the kernels that PyTorch itself brings for the kinds of scope X. On
Hopper its attention is FlashAttention-2, on the older matrix instruction, though engines run FlashAttention-3.
"""

from dataclasses import replace

from roofline.chip import Chip
from roofline.chip_families import FOREIGN_PREFIX

_EAGER = "eager."


def eager_chip(chip: Chip) -> Chip:
    """The chip with the constants of eager kernels in place of the engines' own; itself where its file has none.

    Whole scopes change: with `eager.attention`, nothing of `attention` or its parts is kept. The sources say whose
    constants they are, so that no error band of the replaced kernels is taken for them.

    Args:
        chip: as its file says.
    """
    eager = [(key.removeprefix(_EAGER), value) for key, value in chip.calibration if key.startswith(_EAGER)]
    replaced = {key.partition(".")[0] for key, _ in eager}
    if not replaced:
        return chip
    kept = [(key, value) for key, value in chip.calibration if key.partition(".")[0] not in replaced]
    told = dict(chip.sources)
    sources = [(key, text) for key, text in chip.sources if _scope(key) not in replaced]
    for scope in sorted(replaced):
        text = told.get(f"calibration.{_EAGER}{scope}", "no source given")
        sources.append((f"calibration.{scope}", f"{FOREIGN_PREFIX} the kernels of eager programs: {text}"))
    return replace(chip, calibration=tuple(kept + eager), sources=tuple(sources))


def _scope(source_key: str) -> str:
    """First part of the scope that a source belongs to, empty for one that is no calibration."""
    section, _, rest = source_key.partition(".")
    return rest.partition(".")[0] if section == "calibration" else ""
