"""`Provenance`: where a result comes from, so that anybody can make it again."""

import shlex
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib import metadata

TRACKED_PACKAGES = ("roofscape", "torch", "numpy", "pandas", "transformers", "diffusers", "simpy")


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """Origin of a trace, a chip measurement or a simulation.

    Attributes:
        source: how it came to be: `capture`, `import kineto`, `calibrate`, `simulate`, ...
        created_utc: ISO 8601 time, empty where the same input must give the same bytes.
        command: the command line or program that made it.
        device: name of the device that the program ran on (`meta` where it only pretended to run).
        clock_hz: clock of that device where it could be read.
        seed: seed of the program's randomness where one was used.
        packages: (name, version) of the packages that shape the result.
        notes: anything a reader must know, one sentence each.
    """

    source: str
    created_utc: str = ""
    command: str = ""
    device: str = ""
    clock_hz: float | None = None
    seed: int | None = None
    packages: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()


def record_provenance(
    source: str,
    *,
    device: str = "",
    clock_hz: float | None = None,
    seed: int | None = None,
    notes: tuple[str, ...] = (),
) -> Provenance:
    """Provenance of something made now, by this process, with the packages installed here."""
    return Provenance(
        source=source,
        created_utc=datetime.now(UTC).isoformat(timespec="seconds"),
        command=shlex.join(sys.argv),
        device=device,
        clock_hz=clock_hz,
        seed=seed,
        packages=installed_versions(),
        notes=notes,
    )


@cache
def installed_versions() -> tuple[tuple[str, str], ...]:
    """(name, version) of those of the tracked packages that are installed."""
    versions = []
    for name in TRACKED_PACKAGES:
        try:
            versions.append((name, metadata.version(name)))
        except metadata.PackageNotFoundError:
            continue
    return tuple(versions)
