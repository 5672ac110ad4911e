from pathlib import Path
from typing import get_type_hints

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from workloads.errors import WorkloadError
from workloads.presets import ModelPreset
from workloads.samplers.registry import list_samplers, load_sampler
from workloads.transformer import Transformer

OWN_SAMPLER = '''
"""Repeats the last prompt token."""
from dataclasses import dataclass

from workloads.samplers.protocol import Generation, SamplerOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class Options(SamplerOptions):
    times: int | None = None
    loud: bool = False


def sample(model, prompt_BP, options):
    tokens = prompt_BP[:, -1:].repeat(1, 1 + options.gen_length)
    return Generation(tokens=tokens, prompt_length=1, committed_per_forward=(), rows_per_forward=())
'''


def test_samplers_are_listed_with_the_first_line_of_their_docstring() -> None:
    summaries = {listing.name: listing.summary for listing in list_samplers()}

    assert summaries["autoregressive"].startswith("Autoregressive decoding with prefill and KV cache")
    assert summaries["llada"].startswith("LLaDA: masked diffusion in blocks")
    assert not {"protocol", "registry"} & set(summaries)


def test_every_listed_sampler_loads_with_default_options() -> None:
    for listing in list_samplers():
        sampler = load_sampler(listing.name)
        assert listing.summary
        assert sampler.build_options({"gen_length": 8}).gen_length == 8


def test_a_file_of_ones_own_joins(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(OWN_SAMPLER)
    sampler = load_sampler(file)

    options = sampler.build_options({"gen_length": "2", "times": "3", "loud": "true", "temperature": 1})

    assert sampler.name == "mine"
    assert (options.gen_length, options.times, options.loud, options.temperature) == (2, 3, True, 1.0)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"gen_length": 4, "stepps": 2}, r"'llada' has no option 'stepps'; it takes: .*steps, block_length"),
        ({"steps": 2}, r"'llada' needs gen_length"),
        ({"gen_length": "four"}, r"option gen_length must be of type int, got 'four'"),
        ({"gen_length": 4.5}, r"option gen_length must be of type int, got 4.5"),
        ({"gen_length": True}, r"option gen_length must be of type int, got True"),
        ({"gen_length": 4, "cfg_scale": None}, r"option cfg_scale must be of type float, got None"),
    ],
)
def test_wrong_options_are_named(given: dict[str, object], message: str) -> None:
    with pytest.raises(WorkloadError, match=message):
        load_sampler("llada").build_options(given)


def test_unknown_and_broken_samplers_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(
        WorkloadError, match=r"unknown sampler 'lada'; did you mean 'llada'\? known: .*autoregressive.*llada"
    ):
        load_sampler("lada")
    with pytest.raises(WorkloadError, match=r"absent\.py: cannot be read"):
        load_sampler(tmp_path / "absent.py")
    (tmp_path / "empty.py").write_text("x = 1\n")
    with pytest.raises(WorkloadError, match=r"must define sample\(model, prompt_BP, options\)"):
        load_sampler(tmp_path / "empty.py")
    (tmp_path / "broken.py").write_text("def sample(:\n")
    with pytest.raises(WorkloadError, match=r"broken\.py: is not valid Python"):
        load_sampler(tmp_path / "broken.py")
    (tmp_path / "options.py").write_text("def sample(): ...\nOptions = dict\n")
    with pytest.raises(WorkloadError, match=r"Options in .* must be a subclass of SamplerOptions"):
        load_sampler(tmp_path / "options.py")


@pytest.mark.parametrize("name", [listing.name for listing in list_samplers()])
def test_every_sampler_runs_the_same_operations_on_meta_as_on_cpu(name: str, tiny_diffusion: ModelPreset) -> None:
    class Names(TorchDispatchMode):
        def __init__(self) -> None:
            super().__init__()
            self.seen: list[str] = []

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            if "aten.resolve" not in str(func):  # a count read back at the end, which meta cannot
                self.seen.append(f"{func} {[tuple(a.shape) for a in args if isinstance(a, torch.Tensor)]}")
            return func(*args, **(kwargs or {}))

    sampler = load_sampler(name)
    # Where values decide how many tokens a step commits, both devices are told the same number instead.
    assumed = {"assumed_commits": 2} if "assumed_commits" in get_type_hints(sampler.options_type) else {}
    for temperature in (0.0, 1.0):
        options = sampler.build_options({"gen_length": 4, "temperature": temperature, **assumed})
        runs = []
        for device in ("cpu", "meta"):
            prompt = torch.zeros((2, 3), dtype=torch.long, device=device)
            model = sampler.prepare(Transformer(tiny_diffusion, device=device), options)
            with Names() as names:
                sampler.sample(model, prompt, options)
            runs.append(names.seen)
        assert len(runs[0]) > 100
        assert runs[0] == runs[1]


def test_file_that_imports_what_is_not_installed_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "needs.py"
    path.write_text("import no_such_module_anywhere\n")
    with pytest.raises(WorkloadError, match=r"needs\.py: imports no_such_module_anywhere, which is not installed"):
        load_sampler(path)
