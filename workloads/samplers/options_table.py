"""The options of a sampler with type, default and meaning, read from its `Options` and their docstrings."""

import inspect
from dataclasses import MISSING, dataclass, fields
from types import NoneType
from typing import Any, get_args, get_type_hints

from workloads.samplers.registry import Sampler


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplerOption:
    """One option of a sampler.

    Attributes:
        name: as `--option NAME=VALUE` takes it.
        type: what a value must be, or the allowed ones.
        default: written out; empty where it must be given.
        meaning: from the docstring, empty where that says nothing.
    """

    name: str
    type: str
    default: str
    meaning: str


def describe_options(sampler: Sampler) -> tuple[SamplerOption, ...]:
    """All options of a sampler, its own first."""
    meanings: dict[str, str] = {}
    own: dict[str, None] = {}
    for each in sampler.options_type.__mro__[:-1]:
        meanings = attribute_meanings(each.__doc__ or "") | meanings
        own |= dict.fromkeys(vars(each).get("__annotations__", {}))
    types = get_type_hints(sampler.options_type)
    by_name = {field.name: field for field in fields(sampler.options_type)}
    return tuple(
        SamplerOption(
            name=name,
            type=_type_name(types[name]),
            default="" if by_name[name].default is MISSING else _written(by_name[name].default),
            meaning=meanings.get(name, ""),
        )
        for name in own
        if name in by_name
    )


def attribute_meanings(docstring: str) -> dict[str, str]:
    """What the section `Attributes` of a docstring says of each.

    >>> attribute_meanings("Options.\\n\\n    Attributes:\\n        steps: how often,\\n            at most.\\n")
    {'steps': 'how often, at most.'}
    """
    _, _, section = inspect.cleandoc(docstring).partition("Attributes:\n")
    meanings: dict[str, str] = {}
    name = ""
    for line in section.splitlines():
        if not line.startswith("    "):
            break
        if line.startswith("     "):
            meanings[name] = f"{meanings.get(name, '')} {line.strip()}".lstrip()
        else:
            name, _, text = line.strip().partition(":")
            meanings[name] = text.strip()
    return meanings


def _type_name(expected: Any) -> str:
    kinds = get_args(expected) or (expected,)
    return " or ".join(_written(None) if kind is NoneType else getattr(kind, "__name__", str(kind)) for kind in kinds)


def _written(value: object) -> str:
    """A value as `--option` reads it back."""
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)
