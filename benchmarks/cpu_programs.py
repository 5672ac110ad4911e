"""Programs on this CPU, measured and predicted by micro-benchmarks that know none of them.

python benchmarks/cpu_programs.py [--threads N] [--chip FILE] [--only NAME ...]

Without a chip file the machine is calibrated first, with as many threads. One thread is timed by the processor, so that
other programs count little; more of them by the wall clock, which means something on a quiet machine alone.
"""

import argparse
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

import torch
from diffusers import DiTTransformer2DModel, UNet2DModel
from torch import nn
from transformers import ResNetConfig, ResNetModel, ViTConfig, ViTModel

from profiler.capture import capture
from profiler.capture.machine import processor_use
from reports.commands.measuring import measure_machine
from roofline.chip import Chip
from roofline.chipfile import load_chip
from simulator import analytic
from workloads.programs import resolve_program

_RUNS, _SECONDS = (3, 9), 8.0


def main() -> None:
    """Print one row a program: measured, predicted with its band, their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--chip", type=Path, help="A file that calibrate wrote with as many threads.")
    parser.add_argument("--only", nargs="*", default=list(PROGRAMS), choices=list(PROGRAMS), metavar="NAME")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    warnings.simplefilter("ignore")
    before = processor_use()
    chip = load_chip(given.chip) if given.chip else measure_machine(brief=True, name="this-machine").chip
    print(f"{chip.title}\n{'program':<18}{'measured':>12}{'predicted':>12}{'low':>10}{'high':>10}{'ratio':>8}  inside")
    errors, inside = [], 0
    with torch.inference_mode():
        for name in given.only:
            measured_s, predicted_s, low_s, high_s = _compare(PROGRAMS[name](), chip, given.threads)
            is_inside = low_s <= measured_s <= high_s
            errors.append(abs(predicted_s / measured_s - 1.0))
            inside += is_inside
            times = f"{1e3 * measured_s:9.1f} ms {1e3 * predicted_s:9.1f} ms{1e3 * low_s:10.1f}{1e3 * high_s:10.1f}"
            print(f"{name:<18}{times}{predicted_s / measured_s:8.2f}  {'yes' if is_inside else 'NO'}", flush=True)
    share = before.others_share(processor_use())
    print(f"inside their band: {inside} of {len(errors)}; error: median {100 * median(errors):.0f} %, ", end="")
    print(f"largest {100 * max(errors):.0f} %; other programs used {100 * (share or 0.0):.0f} % of a processor")


def _compare(run: Callable[[], object], chip: Chip, threads: int) -> tuple[float, float, float, float]:
    """(fastest of some runs, predicted time, ends of its band), seconds."""
    clock = time.process_time if threads == 1 else time.perf_counter
    run()
    times: list[float] = []
    until = time.monotonic() + _SECONDS
    while len(times) < _RUNS[0] or (len(times) < _RUNS[1] and time.monotonic() < until):
        start = clock()
        run()
        times.append(clock() - start)
    with capture(timing=False) as recording:
        run()
    result = analytic.simulate(recording.trace, chip, mode="eager")
    return min(times), result.makespan_s, result.low_s or 0.0, result.high_s or float("inf")


def _preset(name: str, **options: object) -> Callable[[], object]:
    return resolve_program(name, device="cpu", **options).run  # type: ignore[arg-type]


def _resnet(batch: int) -> Callable[[], object]:
    """ResNet-50 at 224 px."""
    return partial(ResNetModel(ResNetConfig()).eval(), torch.rand(batch, 3, 224, 224))


def _vit(batch: int) -> Callable[[], object]:
    """ViT-S/16 at 224 px."""
    sizes = {"hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6, "intermediate_size": 1536}
    return partial(ViTModel(ViTConfig(**sizes)).eval(), torch.rand(batch, 3, 224, 224))


def _dit(batch: int) -> Callable[[], object]:
    """A forward of DiT-S/2 on latents of 32 x 32."""
    sizes = {"num_attention_heads": 6, "attention_head_dim": 64, "num_layers": 12, "sample_size": 32, "patch_size": 2}
    model = DiTTransformer2DModel(in_channels=4, out_channels=8, num_embeds_ada_norm=1000, **sizes).eval()
    ones = torch.ones(batch, dtype=torch.long)
    return partial(model, torch.rand(batch, 4, 32, 32), ones, ones)


def _unet(batch: int) -> Callable[[], object]:
    """A forward of a small U-Net with attention on pictures of 32 x 32."""
    down, up = ("DownBlock2D", "AttnDownBlock2D", "DownBlock2D"), ("UpBlock2D", "AttnUpBlock2D", "UpBlock2D")
    sizes = {"sample_size": 32, "block_out_channels": (64, 128, 128)}
    model = UNet2DModel(down_block_types=down, up_block_types=up, **sizes).eval()
    return partial(model, torch.rand(batch, 3, 32, 32), 10)


def _mlp(batch: int, width: int = 256) -> Callable[[], object]:
    """Twenty forwards of sixteen small layers whose weights stay in the caches."""
    layers = [nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width)) for _ in range(16)]
    model, rows = nn.Sequential(*layers).eval(), torch.rand(batch, width)
    return lambda: [model(rows) for _ in range(20)]


PROGRAMS: dict[str, Callable[[], Callable[[], object]]] = {
    "ar": partial(_preset, "ar-100m", prompt_length=64, gen_length=64),
    "ar, batch 4": partial(_preset, "ar-100m", prompt_length=128, gen_length=24, batch=4),
    "ar, batch 16": partial(_preset, "ar-100m", prompt_length=32, gen_length=16, batch=16),
    "ar, bfloat16": partial(_preset, "ar-100m", dtype="bfloat16", prompt_length=32, gen_length=32),
    "gpt-2": partial(_preset, "gpt-2", prompt_length=32, gen_length=24),
    "smollm2-135m": partial(_preset, "smollm2-135m", prompt_length=32, gen_length=24),
    "diffusion": partial(_preset, "diffusion-100m", prompt_length=64, gen_length=64, steps=8, block_length=32),
    "diffusion, batch 2": partial(
        _preset, "diffusion-100m", prompt_length=32, gen_length=32, steps=4, block_length=32, batch=2
    ),
    "forward, 512": partial(_preset, "ar-100m@forward", seq_len=512),
    "forward, bfloat16": partial(_preset, "diffusion-100m@forward", dtype="bfloat16", seq_len=256),
    "resnet-50": partial(_resnet, 1),
    "resnet-50, batch 4": partial(_resnet, 4),
    "vit-s": partial(_vit, 1),
    "dit-s": partial(_dit, 1),
    "dit-s, batch 4": partial(_dit, 4),
    "u-net": partial(_unet, 1),
    "u-net, batch 4": partial(_unet, 4),
    "mlp": partial(_mlp, 1),
    "mlp, batch 64": partial(_mlp, 64),
}


if __name__ == "__main__":
    main()
