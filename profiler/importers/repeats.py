"""Finds where a sequence occurs in another, to explain kernels launched unseen by an equal run launched in sight."""

from collections.abc import Hashable, Sequence

_LARGEST_COMPARISON = 20_000_000  # items; a longer one is given up, which explains nothing


def find_runs(run: Sequence[Hashable], sequence: Sequence[Hashable]) -> list[int]:
    """Every position at which `run` occurs in `sequence`, overlapping ones included (Knuth-Morris-Pratt).

    >>> find_runs("aba", "ababa")
    [0, 2]
    >>> find_runs("", "ab")
    []
    """
    if not run or len(run) > len(sequence):
        return []
    fallback = [0] * len(run)
    matched = 0
    for index in range(1, len(run)):
        while matched and run[index] != run[matched]:
            matched = fallback[matched - 1]
        matched += run[index] == run[matched]
        fallback[index] = matched
    found, matched = [], 0
    for index, item in enumerate(sequence):
        while matched and (matched == len(run) or item != run[matched]):
            matched = fallback[matched - 1]
        matched += item == run[matched]
        if matched == len(run):
            found.append(index - len(run) + 1)
    return found


def match_run(run: Sequence[Hashable], sequence: Sequence[Hashable], meanings: Sequence[Hashable]) -> int | None:
    """Where `run` occurs in `sequence`, provided that all occurrences mean the same; None where they do not.

    Args:
        run: what is to be explained.
        sequence: what is already explained.
        meanings: what each item of `sequence` stands for.

    >>> match_run("ab", "abcab", "xyzxy"), match_run("ab", "abcab", "xyzxw"), match_run("ba", "abc", "xyz")
    (0, None, None)
    """
    starts = find_runs(run, sequence)
    if not starts or len(starts) * len(run) > _LARGEST_COMPARISON:
        return None
    wanted = meanings[starts[0] : starts[0] + len(run)]
    same = all(meanings[start : start + len(run)] == wanted for start in starts[1:])
    return starts[0] if same else None
