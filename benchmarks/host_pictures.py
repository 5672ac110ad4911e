"""What a host takes to make pictures of what a VAE decoded: CPU time of `diffusers`' image processor.

    python benchmarks/host_pictures.py

Batches of 1,024 x 1,024 pixels in bfloat16, already in the host's memory, to lists of PIL images, on one thread. CPU
time, not the clock's, so that other programs on the machine count little; docs/whole-models.md says where the figures
are used. Needs `roofscape[models]`.
"""

import platform
import statistics
import time

import torch
from diffusers.image_processor import VaeImageProcessor

RUNS = 15


def main() -> None:
    torch.set_num_threads(1)
    print(f"{platform.processor() or platform.machine()}, torch {torch.__version__}, {RUNS} runs a line")
    for pictures in (1, 2, 4, 8, 16):
        taken_s = [cpu_s(pictures) for _ in range(RUNS + 2)][2:]
        each_ms = [1e3 * seconds / pictures for seconds in taken_s]
        print(
            f"{pictures:2d} pictures: {statistics.median(each_ms):5.1f} ms of CPU time each, median; "
            f"{min(each_ms):5.1f} to {max(each_ms):5.1f}"
        )


def cpu_s(pictures: int) -> float:
    """CPU time of one batch."""
    processor, decoded = VaeImageProcessor(), torch.rand(pictures, 3, 1024, 1024).bfloat16()
    begun_s = time.process_time()
    processor.numpy_to_pil(processor.pt_to_numpy(decoded))
    return time.process_time() - begun_s


if __name__ == "__main__":
    main()
