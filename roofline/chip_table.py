"""`Table`: one section of a chip file, read key by key with errors that say what, where, and what is allowed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isfinite

from profiler.op import DTYPE_BITS
from roofline.errors import ChipError
from workloads.hints import did_you_mean, known_names

# Identifiers, not figures: they need no source.
_UNSOURCED = ("schema", "sources")


@dataclass(frozen=True, slots=True)
class Table:
    """A section of a chip file with its dotted path; `chip` and `file` are for messages.

    What is missing, or of another type than is asked for, raises a `ChipError` that names key, value and file.
    """

    values: dict[str, object]
    path: str
    chip: str
    file: str

    @classmethod
    def root(cls, document: dict[str, object], file: str) -> "Table":
        """The whole file."""
        name = document.get("name")
        return cls(document, "", name if isinstance(name, str) else "?", file)

    def __contains__(self, key: str) -> bool:
        return key in self.values

    @property
    def name(self) -> str:
        """The last part of the section's path."""
        return self.path.rpartition(".")[2]

    def error(self, key: str, problem: str) -> ChipError:
        """One line: the chip, the dotted key, the problem, the file."""
        return ChipError(f"chip {self.chip!r}: {self._dotted(key)} {problem} ({self.file})")

    def allow(self, keys: Sequence[str]) -> "Table":
        """Refuse keys that are not among these; returns the table itself."""
        for key in self.values:
            if key not in keys:
                raise self.error(key, f"is not a known key; {known_names(key, keys, 'allowed')}")
        return self

    def one_of(self, *keys: str) -> str:
        """The one key of several that is there."""
        present = [key for key in keys if key in self.values]
        if len(present) != 1:
            found = f"got {' and '.join(present)}" if present else "got none"
            raise ChipError(
                f"chip {self.chip!r}: {self.path} needs exactly one of {', '.join(keys)}, {found} ({self.file})"
            )
        return present[0]

    def number(self, key: str, *, zero: bool = False) -> float:
        """A finite number above zero, or from zero up where `zero` is set."""
        value = self._required(key)
        allowed = ">= 0" if zero else "> 0"
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.error(key, f"must be a number {allowed}, got {value!r}")
        if not isfinite(value) or value < 0 or (value == 0 and not zero):
            raise self.error(key, f"must be {allowed} and finite, got {value}")
        return float(value)

    def optional_number(self, key: str, *, zero: bool = False) -> float | None:
        """A number as `number` reads it, None where the key is absent."""
        return self.number(key, zero=zero) if key in self.values else None

    def integer(self, key: str) -> int:
        """A whole number above zero."""
        value = self._required(key)
        if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
            raise self.error(key, f"must be a whole number > 0, got {value!r}")
        return value

    def string(self, key: str, *, default: str | None = None) -> str:
        """A text; required where no default is given."""
        value = self._required(key) if default is None else self.values.get(key, default)
        if not isinstance(value, str) or (default is None and not value.strip()):
            raise self.error(key, f"must be a text that is not empty, got {value!r}")
        return value

    def boolean(self, key: str, *, default: bool) -> bool:
        """True or false."""
        value = self.values.get(key, default)
        if not isinstance(value, bool):
            raise self.error(key, f"must be true or false, got {value!r}")
        return value

    def table(self, key: str, *, required: bool = True) -> "Table":
        """The section below this one; an empty one where it is absent and not required."""
        if key not in self.values and not required:
            return Table({}, self._dotted(key), self.chip, self.file)
        value = self._required(key)
        if not isinstance(value, dict):
            raise self.error(key, f"must be a section [{self._dotted(key)}], got {value!r}")
        return Table(value, self._dotted(key), self.chip, self.file)

    def tables(self) -> tuple["Table", ...]:
        """All sections below this one, in the file's order."""
        return tuple(self.table(key) for key in self.values)

    def numbers(self, *, zero: bool = False) -> tuple[tuple[str, float], ...]:
        """All keys as (name, number), in the file's order."""
        return tuple((key, self.number(key, zero=zero)) for key in self.values)

    def nested_numbers(self) -> tuple[tuple[str, float], ...]:
        """All figures from zero up in this section and those below it as (dotted name, number), in the file's order."""
        figures: list[tuple[str, float]] = []
        for key, value in self.values.items():
            if isinstance(value, dict):
                figures += [(f"{key}.{name}", number) for name, number in self.table(key).nested_numbers()]
            else:
                figures.append((key, self.number(key, zero=True)))
        return tuple(figures)

    def dtype_numbers(self) -> tuple[tuple[str, float], ...]:
        """All keys as (dtype, number); a key must be a known dtype."""
        for key in self.values:
            if key not in DTYPE_BITS:
                raise self.error(key, f"is not a known dtype; {known_names(key, DTYPE_BITS, 'allowed')}")
        return self.numbers()

    def strings(self) -> tuple[tuple[str, str], ...]:
        """All keys as (name, text), in the file's order."""
        return tuple((key, self.string(key)) for key in self.values)

    def unsourced(self, sources: tuple[tuple[str, str], ...]) -> tuple[str, ...]:
        """Figures of the file that no source covers; a source that names no figure is an error."""
        keys = [key for key, _ in sources]
        leaves = [path for path in self._figures() if path.partition(".")[0] not in _UNSOURCED]
        for key in keys:
            if not any(covers(key, path) for path in leaves):
                known = sorted({path for leaf in leaves for path in (leaf, leaf.rpartition(".")[0]) if path})
                near = did_you_mean(key, known)
                raise self.error(f"sources.{key}", f"names no figure of this file{near and '; ' + near}")
        return tuple(path for path in leaves if not any(covers(key, path) for key in keys))

    def _figures(self) -> Iterator[str]:
        for key, value in self.values.items():
            if isinstance(value, dict):
                yield from self.table(key)._figures()
            elif isinstance(value, int | float) and not isinstance(value, bool):
                yield self._dotted(key)

    def _required(self, key: str) -> object:
        if key not in self.values:
            raise self.error(key, "is missing")
        return self.values[key]

    def _dotted(self, key: str) -> str:
        return f"{self.path}.{key}" if self.path else key


def covers(source_key: str, path: str) -> bool:
    """Whether a source given for `source_key` covers the figure at `path`: the key itself, a section, or `*`.

    >>> covers("memory.hbm", "memory.hbm.latency_s"), covers("memory.l1", "memory.l10.latency_s"), covers("*", "cores")
    (True, False, True)
    """
    return source_key in ("*", path) or path.startswith(f"{source_key}.")


def find_source(sources: tuple[tuple[str, str], ...], path: str) -> str | None:
    """The source of the figure at `path`, the most specific one that covers it; None where there is none.

    >>> find_source((("memory", "sheet"), ("memory.l2.latency_s", "measured")), "memory.l2.latency_s")
    'measured'
    """
    covering = [(key, text) for key, text in sources if covers(key, path)]
    return max(covering, key=lambda entry: len(entry[0]) if entry[0] != "*" else 0)[1] if covering else None
