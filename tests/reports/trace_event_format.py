"""The trace-event format as its document describes it, checked event by event without a line of Roofscape."""

import json
from collections import defaultdict

_REQUIRED = {
    "X": {"name": str, "cat": str, "ts": (int, float), "dur": (int, float), "pid": int, "tid": int, "args": dict},
    "C": {"name": str, "ts": (int, float), "pid": int, "args": dict},
    "s": {"name": str, "cat": str, "id": int, "ts": (int, float), "pid": int, "tid": int},
    "f": {"name": str, "cat": str, "id": int, "ts": (int, float), "pid": int, "tid": int, "bp": str},
    "M": {"name": str, "pid": int, "tid": int, "args": dict},
}
_METADATA = {"process_name": "name", "process_sort_index": "sort_index", "thread_name": "name"} | {
    "thread_sort_index": "sort_index"
}


def read_events(content):
    """Strict JSON: no NaN, no infinity, no key twice."""

    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    def once(pairs):
        assert len({key for key, _ in pairs}) == len(pairs), pairs
        return dict(pairs)

    document = json.loads(content, parse_constant=refuse, object_pairs_hook=once)
    assert document["displayTimeUnit"] in ("ms", "ns")
    for event in document["traceEvents"]:
        check_event(event)
    check_tracks(document["traceEvents"])
    check_arrows(document["traceEvents"])
    return document


def check_event(event):
    required = _REQUIRED[event["ph"]]
    for key, kind in required.items():
        assert isinstance(event[key], kind) and not isinstance(event[key], bool), event
    assert set(event) == {"ph", *required}, event
    if event["ph"] == "X":
        assert event["dur"] >= 0
    if event["ph"] == "C":
        assert event["args"] and all(isinstance(value, (int, float)) for value in event["args"].values()), event
    if event["ph"] == "f":
        assert event["bp"] == "e"
    if event["ph"] == "M":
        assert set(event["args"]) == {_METADATA[event["name"]]}


def check_tracks(events):
    """Slices of one track are nested or apart, and every track and group has a name."""
    tracks, named = defaultdict(list), set()
    for event in events:
        if event["ph"] == "X":
            start = round(event["ts"] * 1000)
            tracks[event["pid"], event["tid"]].append((start, -round(event["dur"] * 1000)))
        elif event["ph"] == "M" and event["name"] in ("thread_name", "process_name"):
            named.add((event["pid"], event["tid"] if event["name"] == "thread_name" else None))
    for (pid, tid), slices in tracks.items():
        assert {(pid, tid), (pid, None)} <= named
        open_ends = []
        for start, negative in sorted(slices):
            while open_ends and open_ends[-1] <= start:
                open_ends.pop()
            assert not open_ends or start - negative <= open_ends[-1], (pid, tid, start)
            open_ends.append(start - negative)


def check_arrows(events):
    """Every arrow has one beginning and one end, in this order, and both lie on a slice."""
    slices = defaultdict(set)
    for event in events:
        if event["ph"] == "X":
            slices[event["pid"], event["tid"]].add(event["ts"])
    begins = {event["id"]: event for event in events if event["ph"] == "s"}
    ends = {event["id"]: event for event in events if event["ph"] == "f"}
    assert len(begins) + len(ends) == sum(event["ph"] in "sf" for event in events)
    assert begins.keys() == ends.keys()
    for number, begin in begins.items():
        assert begin["ts"] <= ends[number]["ts"]
        for event in (begin, ends[number]):
            assert event["ts"] in slices[event["pid"], event["tid"]]
