"""Trains the models that ship under `workloads/trained/`: one backbone, four ways of generating, one task, one seed.

    python training/train_sudoku.py                 # about half an hour on two quiet cores
    python training/train_sudoku.py --kinds ar      # some of them

It stands outside the packages because the wheel ships what it made, not how it was made: task and losses, which tests
check, are in `workloads/trained/`. Each model trains in a process of its own with one thread, two at a time: two
threads on a model this small mostly wait for each other. Snapshots go to `--folder`; at the end the script measures
their accuracy with the project's own samplers, and writes weights and log to `workloads/trained/weights/`.
"""

import argparse
import json
import math
import multiprocessing
import platform
import shutil
import time
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch.nn.attention import SDPBackend, sdpa_kernel

from workloads.presets import load_preset
from workloads.samplers.registry import load_sampler
from workloads.trained import losses, sudoku
from workloads.trained.catalog import load_snapshot
from workloads.trained.evaluation import evaluate
from workloads.transformer import Transformer

WEIGHTS = Path(__file__).resolve().parent.parent / "workloads" / "trained" / "weights"
STEPS = {"ar": 2400, "masked": 2400, "block": 1200, "uniform": 1600}
BATCH = 128
LEARNING_RATE = 2e-3
WARM_UP_STEPS = 100
SNAPSHOTS = 8
BLOCK_LENGTH = 4
SEED = 20
PROBLEMS = 500
# How accuracy over time is measured: each model with as many steps as it can use.
FULL_STEPS: dict[str, tuple[str, dict[str, object]]] = {
    "ar": ("autoregressive", {}),
    "masked": ("llada", {"steps": 16}),
    "block": ("sdar", {"block_length": BLOCK_LENGTH, "strategy": "low_confidence_static", "temperature": 0.0}),
    "uniform": ("udlm", {"steps": 32, "routing": "confidence", "temperature": 0.0}),
}


def main() -> None:
    """Train, measure, and write what ships."""
    arguments = _arguments()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    if not arguments.measure_only:
        jobs = [(kind, arguments.folder) for kind in arguments.kinds]
        with multiprocessing.get_context("spawn").Pool(2, maxtasksperchild=1) as pool:
            pool.starmap(train, jobs, chunksize=1)
    torch.set_num_threads(1)
    for kind in arguments.kinds:
        ship(kind, arguments.folder)


def train(kind: str, folder: Path) -> None:
    """Train one model; snapshots and `<kind>.json` with losses and seconds go to `folder`."""
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(SEED)
    model = Transformer(load_preset(WEIGHTS / f"sudoku-{kind}.toml"), seed=SEED)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, STEPS[kind]))
    # Without matrix units for it, bfloat16 takes seven times as long as float32 (measured on an EPYC with AVX2).
    has_bfloat16 = torch.cpu._is_amx_tile_supported()
    backend = SDPBackend.MATH if has_bfloat16 else SDPBackend.FLASH_ATTENTION
    rows, recent, start_s = [], [], time.perf_counter()
    for step in range(1, STEPS[kind] + 1):
        tokens_BL = sudoku.draw_problems(BATCH, generator, held_out=False)
        with sdpa_kernel(backend), torch.autocast("cpu", dtype=torch.bfloat16, enabled=has_bfloat16):
            loss = _loss(kind, model, tokens_BL, generator)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        recent.append(loss.item())
        if step % 50 == 0:
            seconds = time.perf_counter() - start_s
            rows.append({"step": step, "loss_nats_per_token": sum(recent) / len(recent), "elapsed_s": seconds})
            print(
                f"{kind} {step}/{STEPS[kind]}: loss {rows[-1]['loss_nats_per_token']:.4f}, {seconds:.0f} s", flush=True
            )
            recent = []
        if step % (STEPS[kind] // SNAPSHOTS) == 0:
            save(model, folder / f"{kind}-{step}.safetensors")
    versions = {"python": platform.python_version(), "torch": torch.__version__}
    cpu_s = time.process_time()
    log = {
        "kind": kind,
        "cpu_s": cpu_s,
        "steps": STEPS[kind],
        "batch": BATCH,
        "seed": SEED,
        "dtype": "bfloat16" if has_bfloat16 else "float32",
        "versions": versions,
        "losses": rows,
    }
    (folder / f"{kind}.json").write_text(json.dumps(log, indent=1), encoding="utf-8")


def ship(kind: str, folder: Path) -> None:
    """Measure every snapshot on held-out problems, then add the last one and its log to what ships."""
    name, (sampler, options) = f"sudoku-{kind}", FULL_STEPS[kind]
    log = json.loads((folder / f"{kind}.json").read_text(encoding="utf-8"))
    accuracies = []
    for step in sorted(int(path.stem.rpartition("-")[2]) for path in folder.glob(f"{kind}-*.safetensors")):
        model = load_snapshot(name, folder / f"{kind}-{step}.safetensors")
        found = evaluate(model, load_sampler(sampler), options, problems=PROBLEMS, batch=100)
        accuracies.append({"step": step, "problems": found.problems, "solved": found.solved})
        print(f"{name} after {step} steps: {found.solved} of {found.problems} by {sampler} {options}", flush=True)
    log |= {"sampler": sampler, "options": options, "accuracies": accuracies}
    path = WEIGHTS / "training_log.json"
    shipped = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"models": {}}
    shipped["models"][name] = log
    shutil.copyfile(folder / f"{kind}-{accuracies[-1]['step']}.safetensors", WEIGHTS / f"{name}.safetensors")
    path.write_text(json.dumps(shipped, indent=1) + "\n", encoding="utf-8")


def save(model: Transformer, path: Path) -> None:
    """Write the weights in bfloat16."""
    save_file({name: weight.detach().bfloat16().contiguous() for name, weight in model.state_dict().items()}, path)


def _loss(kind: str, model: Transformer, tokens_BL: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    prompt_length = sudoku.CELLS
    if kind == "ar":
        return losses.autoregressive_loss(model, tokens_BL, prompt_length)
    if kind == "uniform":
        return losses.uniform_loss(model, tokens_BL, prompt_length, generator)
    if kind == "masked":
        return losses.masked_loss(model, tokens_BL, prompt_length, sudoku.MASK_ID, generator)
    return losses.block_loss(model, tokens_BL, prompt_length, BLOCK_LENGTH, sudoku.MASK_ID, generator)


def _rate(step: int, steps: int) -> float:
    """Learning rate as a share of its peak: linear warm-up, then half a cosine to zero."""
    if step < WARM_UP_STEPS:
        return (step + 1) / WARM_UP_STEPS
    return 0.5 * (1 + math.cos(math.pi * (step - WARM_UP_STEPS) / (steps - WARM_UP_STEPS)))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", nargs="+", choices=tuple(STEPS), default=list(STEPS))
    parser.add_argument("--measure-only", action="store_true", help="measure and ship the snapshots of --folder")
    parser.add_argument("--folder", type=Path, default=Path("out/training"), help="where snapshots go")
    return parser.parse_args()


if __name__ == "__main__":
    main()
