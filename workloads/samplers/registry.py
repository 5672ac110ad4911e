"""Finds samplers: a file of this folder that defines `sample` is one, under the name of its stem.

Listing reads the source text only, so it needs no torch; loading imports the one file that is asked for.
"""

import ast
import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from types import ModuleType, NoneType
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

from workloads.errors import WorkloadError
from workloads.hints import known_names

if TYPE_CHECKING:
    from workloads.samplers.protocol import Generation, SamplerOptions

SAMPLERS_FOLDER = Path(__file__).parent


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplerListing:
    """A sampler as its file presents it: the stem, and the first line of its docstring."""

    name: str
    summary: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampler:
    """A loaded sampler: its name, its `sample` function and the type of its options.

    Attributes:
        name: the file's stem.
        sample: `(model, prompt_BP, options) -> Generation`.
        options_type: its `Options`, or `SamplerOptions`.
        prepare: `(model, options) -> model`, run once before `sample` and not measured, for samplers that need more
            beside the network (a drafter); as it is where the file defines none.
    """

    name: str
    sample: "Callable[..., Generation]"
    options_type: "type[SamplerOptions]"
    prepare: "Callable[..., Any]"

    def build_options(self, given: Mapping[str, object]) -> "SamplerOptions":
        """This sampler's options from names and values; a text is read as the type that its option has.

        Raises:
            WorkloadError: an option is unknown, missing, or not of its type.
        """
        values = convert_options(self.options_type, given, f"sampler {self.name!r}")
        missing = [
            option.name
            for option in fields(self.options_type)
            if option.default is MISSING and option.default_factory is MISSING and option.name not in values
        ]
        if missing:
            raise WorkloadError(f"sampler {self.name!r} needs {', '.join(missing)}")
        return self.options_type(**values)


def convert_options(options_type: type, given: Mapping[str, object], where: str) -> dict[str, Any]:
    """Values by option name, each as the type that its option has in a dataclass of plain types.

    Raises:
        WorkloadError: an option is unknown, or a value not of its type.
    """
    types = get_type_hints(options_type)
    values: dict[str, Any] = {}
    for key, value in given.items():
        if key not in types:
            raise WorkloadError(f"{where} has no option {key!r}; it takes: {', '.join(types)}")
        values[key] = _convert(value, types[key], f"{where}: option {key}")
    return values


def list_samplers() -> tuple[SamplerListing, ...]:
    """The samplers that ship with Roofscape, sorted by name; none is imported."""
    listings = []
    for path in sorted(SAMPLERS_FOLDER.glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if any(isinstance(node, ast.FunctionDef) and node.name == "sample" for node in tree.body):
            summary = (ast.get_docstring(tree) or "").partition("\n")[0]
            listings.append(SamplerListing(name=path.stem, summary=summary))
    return tuple(listings)


def load_sampler(name_or_path: str | Path) -> Sampler:
    """Import a sampler by name, or from a Python file of your own.

    Raises:
        WorkloadError: the name is unknown, the file cannot be read, or it defines no `sample`.
    """
    text = str(name_or_path)
    if text.endswith(".py"):
        return _from_module(load_python_file(Path(text)), Path(text).stem)
    known = [listing.name for listing in list_samplers()]
    if text not in known:
        raise WorkloadError(f"unknown sampler {text!r}; {known_names(text, known)}; or give the path of a .py file")
    return _from_module(importlib.import_module(f"workloads.samplers.{text}"), text)


def load_python_file(path: Path) -> ModuleType:
    """Run a Python file as a module of its own; what it raises itself passes through.

    Raises:
        WorkloadError: the file cannot be read, is not Python, or imports what is not installed.
    """
    try:
        ast.parse(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise WorkloadError(f"Python file {path}: cannot be read ({error.strerror or error})") from None
    except (SyntaxError, ValueError) as error:
        raise WorkloadError(f"Python file {path}: is not valid Python ({error})") from None
    module_name = f"roofscape_user_file_{path.stem}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None:
        raise WorkloadError(f"Python file {path}: cannot be loaded; its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # dataclasses and pickles look their module up by name
    try:
        spec.loader.exec_module(module)
    except ModuleNotFoundError as error:
        raise WorkloadError(f"Python file {path}: imports {error.name}, which is not installed here") from error
    return module


def _from_module(module: ModuleType, name: str) -> Sampler:
    from workloads.samplers.protocol import SamplerOptions  # noqa: PLC0415 - it imports torch, which listing must not

    sample = getattr(module, "sample", None)
    options_type = getattr(module, "Options", SamplerOptions)
    if not callable(sample):
        raise WorkloadError(f"sampler {name!r}: {module.__file__} must define sample(model, prompt_BP, options)")
    if not (isinstance(options_type, type) and issubclass(options_type, SamplerOptions)):
        raise WorkloadError(f"sampler {name!r}: Options in {module.__file__} must be a subclass of SamplerOptions")
    prepare = getattr(module, "prepare", _unchanged)
    return Sampler(name=name, sample=sample, options_type=options_type, prepare=prepare)


def _unchanged(model: object, options: object) -> object:
    return model


def _convert(value: object, expected: Any, where: str) -> object:
    """A value as one of the plain types `expected` allows; whole numbers pass as floats, texts are parsed."""
    allowed = get_args(expected) or (expected,)
    if value in (None, "none") and NoneType in allowed:
        return None
    for kind in allowed:
        if type(value) is kind:
            return value
        if kind is bool and value in ("true", "false"):
            return value == "true"
        if kind in (int, float) and isinstance(value, str | (int if kind is float else str)):
            try:
                return kind(value)
            except ValueError:
                continue
    names = ", ".join("none" if kind is NoneType else getattr(kind, "__name__", str(kind)) for kind in allowed)
    raise WorkloadError(f"{where} must be of type {names}, got {value!r}")
