"""Importing 100 MB of Kineto JSON: seconds, CPU seconds and peak memory, in a process of its own.

    python benchmarks/importing.py [TRACE.json.gz] [--megabytes 100]

The file is made by repeating a small one (or the given one) with times, correlation and external ids moved on, so that
every repetition holds ops, launches and kernels that belong together. Fails over 60 s of CPU time or 1.5 GB.
"""

import argparse
import gzip
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
LIMIT_S = 60.0
LIMIT_BYTES = 1.5e9
_IDS = ("correlation", "External id", "external id")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, nargs="?", help="a Kineto file to repeat (default: a small one)")
    parser.add_argument("--megabytes", type=int, default=100)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        return measure(arguments.source)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.json"
        write_large(path, read_document(arguments.source), arguments.megabytes * 10**6)
        command = [sys.executable, str(Path(__file__)), str(path), "--child"]
        figures = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    print(
        f"{figures['file_bytes'] / 1e6:.0f} MB, {figures['kernels']} kernels, {figures['calls']} calls: "
        f"{figures['wall_s']:.1f} s, {figures['cpu_s']:.1f} s of CPU time, "
        f"peak memory {figures['peak_bytes'] / 1e9:.2f} GB"
    )
    return int(figures["cpu_s"] > LIMIT_S or figures["peak_bytes"] > LIMIT_BYTES)


def measure(path: Path) -> int:
    sys.path.insert(0, str(ROOT))
    from profiler.importers.kineto import import_kineto  # noqa: PLC0415  # the parent must not hold its memory

    wall_s, cpu_s = time.perf_counter(), time.process_time()
    trace = import_kineto(path)
    figures = {
        "wall_s": time.perf_counter() - wall_s,
        "cpu_s": time.process_time() - cpu_s,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "file_bytes": path.stat().st_size,
        "kernels": len(trace.kernels),
        "calls": len(trace.calls),
    }
    print(json.dumps(figures))
    return 0


def read_document(source: Path | None) -> dict[str, Any]:
    if source is None:
        sys.path.insert(0, str(ROOT / "tests" / "samples"))
        from foreign_samples import KINETO_EVENTS, kineto_bytes  # noqa: PLC0415  # only where no file is given

        return dict(json.loads(kineto_bytes(*KINETO_EVENTS)))
    raw = source.read_bytes()
    return dict(json.loads(gzip.decompress(raw) if source.suffix == ".gz" else raw))


def write_large(path: Path, document: dict[str, Any], wanted_bytes: int) -> None:
    events = document.pop("traceEvents")
    timed = [event for event in events if isinstance(event.get("ts"), int | float)]
    span_us = max(e["ts"] + e.get("dur", 0) for e in timed) - min(event["ts"] for event in timed) + 10
    ids = 1 + max(arg for event in events for name in _IDS if isinstance(arg := event.get("args", {}).get(name), int))
    with path.open("w", encoding="utf-8") as handle:
        handle.write(json.dumps(document)[:-1] + ', "traceEvents": [')
        round_number, written = 0, 0
        while written < wanted_bytes:
            text = json.dumps([moved(event, round_number * span_us, round_number * ids) for event in events])[1:-1]
            written += handle.write(("," if round_number else "") + text)
            round_number += 1
        handle.write("]}")


def moved(event: dict[str, Any], later_us: float, ids: int) -> dict[str, Any]:
    copy = {**event, "args": dict(event.get("args", {}))}
    if isinstance(event.get("ts"), int | float):
        copy["ts"] = event["ts"] + later_us
    for name in _IDS:
        if isinstance(copy["args"].get(name), int):
            copy["args"][name] += ids
    return copy


if __name__ == "__main__":
    sys.exit(main())
