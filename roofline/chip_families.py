"""Calibration constants of a chip's family, for a chip that has none of its own."""

from collections.abc import Callable, Iterable
from dataclasses import replace

from roofline.chip import Chip

FOREIGN_PREFIX = "constants of"
_SAME_FAMILY = "a chip of the same family"
_FACTS = frozenset({"cluster_cores", "k_padding_bytes", "power_of_two_tiles"})  # of the kernels of a generation


def with_family_constants(chip: Chip, names: Iterable[str], load: Callable[[str], Chip]) -> Chip:
    """The chip with the constants that it lacks, taken from the first shipped chip of its family that has them.

    Constants of a scope (`gemm`, `attention.decode`, ...) were fitted together, so a scope is taken whole or not at
    all. What is taken is named among the sources. A measured chip is left as it is: its rates hold what software
    reaches there.

    Args:
        chip: as its file says.
        names: of the shipped chips.
        load: loads one of them by name, as its file says.
    """
    if chip.is_measured:
        return chip
    calibration, sources = chip.calibration, chip.sources
    for name in sorted(set(names) - {chip.name}):
        donor = load(name)
        if donor.family != chip.family:
            continue
        known = {_scope(key) for key, _ in calibration}
        taken = tuple((key, value) for key, value in donor.calibration if _scope(key) not in known)
        calibration += taken
        scopes = dict.fromkeys(_scope(key) for key, _ in taken)
        sources += tuple(_moved(donor, scope, f", {_SAME_FAMILY}") for scope in scopes)
    # Constants of every kernel stand before those of scopes, as they do in a file.
    calibration = tuple(sorted(calibration, key=lambda constant: bool(_scope(constant[0]))))
    return replace(chip, calibration=calibration, sources=sources)


def with_constants_of(chip: Chip, donor: Chip) -> Chip:
    """The chip with all constants of another one instead of its own; `sources` says so.

    What its file says of the kernels that its matrix units take is no constant but a fact of the generation, and stays.
    """
    sources = tuple((key, text) for key, text in chip.sources if key.partition(".")[0] != "calibration")
    scopes = dict.fromkeys(_scope(key) for key, _ in donor.calibration)
    moved = tuple(_moved(donor, scope, "") for scope in scopes)
    own = tuple((key, value) for key, value in chip.calibration if _name(key) in _FACTS)
    stated = {_name(key) for key, _ in own}
    taken = tuple((key, value) for key, value in donor.calibration if _name(key) not in stated)
    return replace(chip, calibration=taken + own, sources=sources + moved)


def has_own_constants(chip: Chip, scope: str) -> bool:
    """Whether constants of a scope stand in the chip's own file, rather than taken from another chip."""
    source = dict(chip.sources).get(_section(scope), "")
    return any(_scope(key) == scope for key, _ in chip.calibration) and not source.startswith(FOREIGN_PREFIX)


def has_foreign_constants(chip: Chip, scope: str) -> bool:
    """Whether constants of a scope were fitted neither on this chip nor on one of its family.

    The source of the scope tells, else that of the section it is a part of (`attention` of `attention.decode`).
    """
    told = dict(chip.sources)
    source = told.get(_section(scope)) or told.get(_section(scope.partition(".")[0]), "")
    return source.startswith(FOREIGN_PREFIX) and not source.partition(":")[0].endswith(_SAME_FAMILY)


def lacks_constants(chip: Chip, scope: str) -> bool:
    """Whether a chip has no constants of a scope, nor of one that it is a part of: its kernels run at the file's rates.

    Those of all kernels alike do not count. A measured chip lacks none: its rates hold what software reaches there.
    """
    known = {_scope(key) for key, _ in chip.calibration}
    parents = {scope.rpartition(".")[0], scope} - {""}
    return bool(scope) and not chip.is_measured and not parents & known


def constants_from(chip: Chip) -> dict[str, tuple[str, ...]]:
    """Chips whose constants this one takes, each with the scopes that it gave; `""` is the scope of all kernels."""
    given: dict[str, tuple[str, ...]] = {}
    for key, source in chip.sources:
        if key.partition(".")[0] == "calibration" and source.startswith(FOREIGN_PREFIX):
            donor = source.removeprefix(FOREIGN_PREFIX).partition(":")[0].partition(",")[0].strip()
            given[donor] = (*given.get(donor, ()), key.removeprefix("calibration").removeprefix("."))
    return given


def own_scopes(chip: Chip) -> tuple[str, ...]:
    """Scopes of the constants that stand in the chip's own file."""
    given = {scope for scopes in constants_from(chip).values() for scope in scopes}
    return tuple(dict.fromkeys(_scope(key) for key, _ in chip.calibration if _scope(key) not in given))


def _moved(donor: Chip, scope: str, why: str) -> tuple[str, str]:
    return _section(scope), f"{FOREIGN_PREFIX} {donor.name}{why}: not fitted to this one"


def _section(scope: str) -> str:
    """The key of a scope among a chip's sources."""
    return f"calibration.{scope}" if scope else "calibration"


def _scope(key: str) -> str:
    return key.rpartition(".")[0]


def _name(key: str) -> str:
    return key.rpartition(".")[2]
