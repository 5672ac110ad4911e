"""What an error says after an unknown name: the nearest known one, and all of them."""

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(name: str, known: Iterable[str], *, alike: float = 0.6) -> str:
    """The nearest of the known names as a question, empty where none is near.

    >>> did_you_mean("coers", ("cores", "stacks"))
    "did you mean 'cores'?"
    """
    near = get_close_matches(name, tuple(known), n=1, cutoff=alike)
    return f"did you mean {near[0]!r}?" if near else ""


def known_names(name: str, known: Iterable[str], word: str = "known") -> str:
    """The nearest of the known names, where one is near, and all of them.

    >>> known_names("coers", ("cores", "stacks"))
    "did you mean 'cores'? known: cores, stacks"
    >>> known_names("?", ("cores", "stacks"), "allowed")
    'allowed: cores, stacks'
    """
    names = tuple(known)
    return f"{did_you_mean(name, names)} {word}: {', '.join(names)}".lstrip()
