"""Rates over time from work done in intervals: what a counter track shows."""

import numpy as np

from profiler.traces import FloatArray, IntArray


def binned_amounts(start_ns: IntArray, end_ns: IntArray, amounts: FloatArray, edges_ns: FloatArray) -> FloatArray:
    """The part of each interval's amount that falls into each bin, summed; an interval does its work evenly.

    Args:
        start_ns: [intervals].
        end_ns: [intervals]; where it is the start, all is done at that moment.
        amounts: [intervals], all known.
        edges_ns: ascending, the first at or before all starts and the last at or after all ends, [bins + 1].

    Returns:
        [bins]; their sum is the sum of the amounts.

    >>> binned_amounts(np.array([0, 5]), np.array([10, 15]), np.array([10.0, 20.0]), np.array([0.0, 5, 10, 15]))
    array([ 5., 15., 10.])
    """
    lasting = end_ns > start_ns
    begin, end = start_ns[lasting].astype(np.float64), end_ns[lasting].astype(np.float64)
    rate = amounts[lasting] / (end - begin)
    done = _ramps(begin, rate, edges_ns) - _ramps(end, rate, edges_ns)
    momentary, _ = np.histogram(start_ns[~lasting], bins=edges_ns, weights=amounts[~lasting])
    return np.asarray(np.maximum(np.diff(done), 0.0) + momentary)


def _ramps(at: FloatArray, rate: FloatArray, edges_ns: FloatArray) -> FloatArray:
    """Sum over all ramps of rate x (edge - at) for those that began before each edge, [edges]."""
    order = np.argsort(at)
    began = np.searchsorted(at[order], edges_ns, side="left")
    rates = np.concatenate([[0.0], np.cumsum(rate[order])])[began]
    offsets = np.concatenate([[0.0], np.cumsum(rate[order] * at[order])])[began]
    return np.asarray(rates * edges_ns - offsets)
