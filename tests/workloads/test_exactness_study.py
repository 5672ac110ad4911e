"""The usual study of exactness against closed forms."""

import itertools
import math

import pytest
import torch

from workloads.errors import WorkloadError
from workloads.exactness_study import CASES, CHAIN, Case, make_oracle, masked_error, own_case, study
from workloads.oracle import MarkovOracle


def test_one_step_draws_from_marginals_alone() -> None:
    # By hand: state 0, then two tokens; the first by row 0 of the chain, the second by row 0 of its square.
    first = CHAIN[0]
    second = [sum(first[k] * CHAIN[k][j] for k in range(3)) for j in range(3)]
    expected = sum(abs(first[a] * second[b] - first[a] * CHAIN[a][b]) for a, b in itertools.product(range(3), repeat=2))
    assert masked_error(make_oracle("absorbing"), 1, 2) == pytest.approx(expected / 2)


def test_two_tokens_are_drawn_together_once_in_as_many_steps() -> None:
    # Drawn in different steps two tokens are exact, so the error is that of one step times the chance of the same step.
    oracle = make_oracle("absorbing")
    for steps in (2, 5, 40):
        assert masked_error(oracle, steps, 2) == pytest.approx(masked_error(oracle, 1, 2) / steps)


def test_tokens_that_do_not_depend_on_each_other_are_exact_at_once() -> None:
    row = [0.2, 0.3, 0.5]
    assert masked_error(MarkovOracle(torch.tensor([row, row, row], dtype=torch.float64)), 1, 3) == pytest.approx(
        0.0, abs=1e-12
    )


@pytest.mark.parametrize("case", [case for case in CASES if case.noise == "absorbing" and case.sampler != "bd3lm"])
def test_masked_samplers_lie_on_the_closed_form(case: Case) -> None:
    for found in study(cases=(case,), steps=(1, 2, 4), draws=6000):
        expected = masked_error(make_oracle("absorbing"), found.point.steps, 3)
        # A share of n draws deviates by sqrt(p (1 - p) / n); half their sum over all sequences is below the floor.
        assert found.point.total_variation == pytest.approx(expected, abs=found.point.noise_floor)


def test_uniform_noise_in_one_step_draws_from_marginals_as_well() -> None:
    case = next(case for case in CASES if case.label == "udlm")
    (found,) = study(cases=(case,), steps=(1,), draws=6000)
    expected = masked_error(make_oracle("absorbing"), 1, 3)
    assert found.point.total_variation == pytest.approx(expected, abs=found.point.noise_floor)
    assert math.isclose(found.point.noise_floor, math.sqrt(27 / (2 * math.pi * 6000)))


def test_bad_requests_are_one_line() -> None:
    with pytest.raises(WorkloadError, match="steps and draws must be > 0"):
        study(steps=(0,))
    with pytest.raises(WorkloadError, match="noise must be absorbing"):
        make_oracle("pink")


ALL_AT_ONCE = '''
"""Draws every mask at once, however many steps it is given."""

from dataclasses import dataclass

import torch

from workloads.samplers.protocol import Generation, SamplerOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class Options(SamplerOptions):
    rounds: int = 1


@torch.inference_mode()
def sample(model, prompt_BP, options):
    batch, prompt = prompt_BP.shape
    generator = torch.Generator().manual_seed(options.seed)
    masks_BG = prompt_BP.new_full((batch, options.gen_length), model.mask_id)
    tokens_BL = torch.cat((prompt_BP, masks_BG), dim=1)
    chance_BGV = model(tokens_BL)[:, prompt:, : model.mask_id].softmax(-1)
    drawn = torch.multinomial(chance_BGV.flatten(0, 1), 1, generator=generator)
    tokens_BL[:, prompt:].copy_(drawn.view(batch, options.gen_length))
    return Generation(
        tokens=tokens_BL,
        prompt_length=prompt,
        committed_per_forward=(batch * options.gen_length,),
        rows_per_forward=(tokens_BL.numel(),),
    )
'''


def test_sampler_of_ones_own_is_held_against_the_chain(tmp_path) -> None:
    # All at once is one step of ancestral sampling, whatever number of steps it is told.
    file = tmp_path / "at_once.py"
    file.write_text(ALL_AT_ONCE)
    case = own_case(f"{file}:temperature=1", steps_option="rounds")
    assert (case.label, case.steps_option) == ("at_once:temperature=1", "rounds")
    expected = masked_error(make_oracle("absorbing"), 1, 3)
    for found in study(cases=(case,), steps=(1, 4), draws=6000):
        assert found.point.total_variation == pytest.approx(expected, abs=0.03)  # chance of 6,000 draws is 0.027
        assert found.point.nfe == 1


def test_own_case_takes_steps_and_a_temperature_where_the_sampler_has_them() -> None:
    assert own_case("mdlm").steps_option == "steps"
    case = own_case("bd3lm:update=ddpm,block_length=1", noise="absorbing")
    assert case.steps_option == "steps_per_block"
    assert dict(case.options) == {"temperature": 1.0, "update": "ddpm", "block_length": "1"}
    assert dict(own_case("bd3lm:update=ddpm,temperature=0.5").options)["temperature"] == "0.5"


@pytest.mark.parametrize(
    ("text", "more", "message"),
    [
        ("any_order", {}, "none of the options steps, steps_per_block; say which takes a number of steps: gen_length"),
        ("mdlm", {"steps_option": "rounds"}, "has no option 'rounds'"),
        ("mdlm:foo=1", {}, "has no option 'foo'"),
        ("mdlm:steps=4", {}, "steps of sampler 'mdlm' is set by the study"),
        ("mdlm:gen_length=5", {}, "gen_length of sampler 'mdlm' is set by the study"),
        ("mdlm:foo", {}, "options must be key=value, got 'foo'"),
        ("mdlm", {"noise": "pink"}, "noise must be absorbing, uniform or uniform_posterior, got 'pink'"),
        ("mdml", {}, "did you mean 'mdlm'"),
    ],
)
def test_what_is_no_case_is_one_line(text: str, more: dict[str, str], message: str) -> None:
    with pytest.raises(WorkloadError, match=message):
        own_case(text, **more)
