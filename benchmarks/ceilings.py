"""How well the ceilings of this machine repeat: two calibrations step by step in turn, their ratios printed.

python benchmarks/ceilings.py [--threads N]
"""

import argparse
from itertools import zip_longest

import torch

from profiler.capture.machine import processor_use
from profiler.capture.microbenchmarks import MicrobenchmarkRun
from roofline.calibration import chip_from_measurements
from roofline.ceilings import ceilings


def main() -> None:
    """Print the second calibration's figures over the first one's, and how busy other programs were meanwhile."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1, help="More than one waits for the slowest of them.")
    torch.set_num_threads(parser.parse_args().threads)
    before = processor_use()
    runs = [MicrobenchmarkRun(mode="brief") for _ in range(2)]
    for _ in zip_longest(*runs):
        pass
    share = before.others_share(processor_use())
    calibrations = [chip_from_measurements(run.result) for run in runs]
    first, second = (calibration.chip for calibration in calibrations)
    for note in (note for calibration in calibrations for note in calibration.notes if "not settled" in note):
        print(note)
    for chip in (first, second):
        print(
            f"{chip.title}: " + ", ".join(f"{m.name} {m.bandwidth_bytes_per_s / 1e9:.1f} GB/s" for m in chip.memories)
        )
    others = {ceiling.label: ceiling.flops_per_s or ceiling.bytes_per_s for ceiling in ceilings(second)}
    worst = 1.0
    for ceiling in ceilings(first):
        own = ceiling.flops_per_s or ceiling.bytes_per_s
        if ceiling.label in others and own and others[ceiling.label]:
            ratio = others[ceiling.label] / own
            worst = max(worst, ratio, 1 / ratio)
            print(f"{ceiling.label:<20} {ratio:6.3f} x")
    busy = "unknown" if share is None else f"{100 * share:.0f} % of a processor"
    print(f"largest difference {100 * (worst - 1):.1f} %; other programs used {busy}")


if __name__ == "__main__":
    main()
