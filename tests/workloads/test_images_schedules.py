"""Schedulers against closed forms: for Gaussian data the best denoiser is linear and every flow has an exact end.

Data N(MEAN, SPREAD^2) with noise, x = a x0 + b n, is N(a MEAN, a^2 SPREAD^2 + b^2), and along the probability flow
each point keeps its place in that Gaussian, measured in its standard deviations (Song et al., arXiv 2011.13456,
eq. 13).
"""

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch

pytest.importorskip("diffusers")
pytest.importorskip("transformers")

from profiler.capture import capture
from workloads.errors import WorkloadError
from workloads.images.denoising import denoise
from workloads.images.schedules import SAMPLERS, build_scheduler

MEAN, SPREAD = 0.7, 0.5
SCHEDULE = {"num_train_timesteps": 1000, "beta_start": 0.0001, "beta_end": 0.02, "beta_schedule": "linear"}
FLOW = {"num_train_timesteps": 1000, "shift": 3.0}
START = torch.tensor([[-1.5], [-0.3], [0.4], [2.0]], dtype=torch.float64)
Noise = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def alpha_bars() -> np.ndarray:
    """Cumulative products of 1 - beta for the linear schedule, written out."""
    return np.cumprod(1 - np.linspace(0.0001, 0.02, 1000))


def best_noise(x: torch.Tensor, a: float, b: float) -> torch.Tensor:
    """E[n | x] for x = a x0 + b n."""
    return b * (x - a * MEAN) / (a**2 * SPREAD**2 + b**2)


def noise_network() -> Noise:
    """The exact noise for the model input sqrt(abar) x0 + sqrt(1 - abar) n; sigma is linear between timesteps."""
    sigmas = np.sqrt((1 - alpha_bars()) / alpha_bars())

    def predict(shown: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        sigma = float(np.interp(float(timestep), np.arange(1000), sigmas))
        a = 1 / math.sqrt(1 + sigma**2)
        return best_noise(shown, a, sigma * a)

    return predict


def flow_network(shown: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
    """The exact velocity E[n - x0 | x] for x = (1 - t) x0 + t n."""
    t = float(timestep) / 1000
    noise = best_noise(shown, 1 - t, t)
    variance = (1 - t) ** 2 * SPREAD**2 + t**2
    data = MEAN + (1 - t) * SPREAD**2 * (shown - (1 - t) * MEAN) / variance
    return noise - data


def draw(sampler: str, steps: int, start: torch.Tensor = START) -> tuple[torch.Tensor, object]:
    prediction = "flow" if sampler.startswith("flow ") or sampler == "flow_match" else "noise"
    name = sampler.removeprefix("flow ")
    scheduler = build_scheduler(
        name, prediction, FLOW if prediction == "flow" else SCHEDULE, steps=steps, positions=256
    )
    return denoise(flow_network if prediction == "flow" else noise_network(), start, scheduler), scheduler


def exact_end(sampler: str, scheduler: object) -> torch.Tensor:
    """Where the probability flow takes START from the scheduler's first noise level to its last."""
    if sampler == "ddim":
        first, last = alpha_bars()[int(scheduler.timesteps[0])], alpha_bars()[0]
        (a, b), (a_end, b_end) = ((math.sqrt(v), math.sqrt(1 - v)) for v in (first, last))
        x = START
    elif sampler == "dpmpp_2m":
        first = alpha_bars()[int(scheduler.timesteps[0])]
        (a, b), (a_end, b_end), x = (math.sqrt(first), math.sqrt(1 - first)), (1.0, 0.0), START
    elif sampler.startswith("flow"):
        t = float(scheduler.sigmas[0])
        (a, b), (a_end, b_end), x = (1 - t, t), (1.0, 0.0), START
    else:  # euler and heun walk x0 + sigma n
        (a, b), (a_end, b_end), x = (1.0, float(scheduler.sigmas[0])), (1.0, 0.0), START * scheduler.init_noise_sigma

    def deviation(a: float, b: float) -> float:
        return math.sqrt(a**2 * SPREAD**2 + b**2)

    return a_end * MEAN + deviation(a_end, b_end) / deviation(a, b) * (x - a * MEAN)


@pytest.mark.parametrize("sampler", ["ddim", "euler", "flow_match"])
def test_first_order_halves_its_error_with_twice_the_steps(sampler: str) -> None:
    errors = errors_to_exact_flow(sampler, (10, 20, 40, 80, 160))

    ratios = [coarse / fine for coarse, fine in pairwise(errors)]
    assert ratios == [pytest.approx(2.0, rel=0.1)] * 4  # the rest is of second order
    assert errors[-1] < 0.02


@pytest.mark.parametrize("sampler", ["heun", "dpmpp_2m", "flow heun", "flow dpmpp_2m"])
def test_second_order_divides_its_error_by_sixteen_with_four_times_the_steps(sampler: str) -> None:
    coarse, fine = errors_to_exact_flow(sampler, (10, 40))

    assert coarse / fine > 12  # first order gains 4
    assert fine < 0.01


def errors_to_exact_flow(sampler: str, steps: tuple[int, ...]) -> list[float]:
    ends = [draw(sampler, count) for count in steps]
    return [float((end - exact_end(sampler, scheduler)).abs().max()) for end, scheduler in ends]


def test_ddim_step_is_the_formula_of_its_paper() -> None:
    """arXiv 2010.02502, eq. 12 with sigma = 0, from timestep 500 to 0."""
    end, scheduler = draw("ddim", 2)

    assert scheduler.timesteps.tolist() == [500, 0]
    x = START
    for now, then in ((500, 0), (0, 0)):  # the last step stays at the first noise level, as set_alpha_to_one = False
        a, b = math.sqrt(alpha_bars()[now]), math.sqrt(1 - alpha_bars()[now])
        noise = best_noise(x, a, b)
        x = math.sqrt(alpha_bars()[then]) * (x - b * noise) / a + math.sqrt(1 - alpha_bars()[then]) * noise
    torch.testing.assert_close(end, x, rtol=1e-5, atol=1e-5)  # tables are float32


def test_flow_match_steps_along_the_velocity_between_shifted_levels() -> None:
    """arXiv 2403.03206: t -> 3 t / (1 + 2 t), x <- x + (t' - t) v."""
    end, scheduler = draw("flow_match", 3)

    levels = [float(level) for level in scheduler.sigmas]
    assert levels[0] == pytest.approx(1.0)
    assert levels[-1] == 0.0
    x = START
    for now, then in pairwise(levels):
        x = x + (then - now) * flow_network(x, torch.tensor([1000 * now]))
    torch.testing.assert_close(end, x, rtol=1e-5, atol=1e-5)


def test_heun_step_averages_the_slopes_at_both_ends() -> None:
    """arXiv 2206.00364, algorithm 1: the last step, which ends at sigma = 0, is an Euler step."""
    end, scheduler = draw("heun", 2)

    first, second = float(scheduler.sigmas[0]), float(scheduler.sigmas[1])

    def slope(x: torch.Tensor, sigma: float) -> torch.Tensor:
        return sigma * (x - MEAN) / (SPREAD**2 + sigma**2)

    x = START * scheduler.init_noise_sigma
    guess = x + (second - first) * slope(x, first)
    x = x + (second - first) * (slope(x, first) + slope(guess, second)) / 2
    x = x - second * slope(x, second)
    torch.testing.assert_close(end, x, rtol=1e-4, atol=1e-4)  # 157 sigmas at the start, in float32 tables


def test_ddpm_has_the_mean_and_spread_that_its_posterior_gives() -> None:
    """arXiv 2006.11239, eq. 6 and 7: with a linear denoiser each step maps a Gaussian to a Gaussian.

    Fifty of a thousand timesteps: the spread ends 11 % below the data's, an error that the recursion has as well.
    """
    count, steps = 20_000, 50
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(count, 1, generator=generator, dtype=torch.float64)
    scheduler = build_scheduler("ddpm", "noise", SCHEDULE, steps=steps, positions=256)

    end = denoise(noise_network(), start, scheduler, generator=generator)

    mean, variance = ddpm_moments(steps)
    assert float(end.mean()) == pytest.approx(mean, abs=4 * math.sqrt(variance / count))  # 4 standard errors
    assert float(end.std()) == pytest.approx(math.sqrt(variance), rel=4 / math.sqrt(2 * count))


def test_ddpm_tends_to_the_data_with_many_steps() -> None:
    count = 4000
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(count, 1, generator=generator, dtype=torch.float64)
    scheduler = build_scheduler("ddpm", "noise", SCHEDULE, steps=1000, positions=256)

    end = denoise(noise_network(), start, scheduler, generator=generator)

    # 4 standard errors, and the 1 % that 1000 steps with the small variance still lack
    assert float(end.mean()) == pytest.approx(MEAN, abs=4 * SPREAD / math.sqrt(count))
    assert float(end.std()) == pytest.approx(SPREAD, rel=4 / math.sqrt(2 * count) + 0.01)


def ddpm_moments(steps: int) -> tuple[float, float]:
    """Mean and variance after ancestral steps from N(0, 1) at evenly spaced timesteps, the last of them 0."""
    mean, variance, stride = 0.0, 1.0, 1000 // steps
    for t in range(1000 - stride, -1, -stride):
        now, then = alpha_bars()[t], alpha_bars()[t - stride] if t else 1.0
        alpha = now / then
        gain = math.sqrt(now) * SPREAD**2 / (now * SPREAD**2 + 1 - now)  # of E[x0 | x] in x
        of_data = math.sqrt(then) * (1 - alpha) / (1 - now)
        of_state = math.sqrt(alpha) * (1 - then) / (1 - now)
        offset = of_data * (MEAN - gain * math.sqrt(now) * MEAN)
        slope = of_data * gain + of_state
        mean, variance = slope * mean + offset, slope**2 * variance + (1 - then) / (1 - now) * (1 - alpha)
    return mean, variance


@pytest.mark.parametrize(("prediction", "sampler"), [(p, s) for p, names in SAMPLERS.items() for s in names])
@pytest.mark.parametrize("steps", [1, 2, 18])
def test_every_step_asks_once_and_heun_twice_but_for_the_last(prediction: str, sampler: str, steps: int) -> None:
    """One per step; Heun 2 steps - 1: 18 steps are 35 evaluations in arXiv 2206.00364, table 2."""
    schedule = FLOW if prediction == "flow" else SCHEDULE
    asked = []
    denoise(
        lambda shown, timestep: asked.append(float(timestep)) or torch.zeros_like(shown),
        torch.ones(1, 1),
        build_scheduler(sampler, prediction, schedule, steps=steps, positions=1),
    )

    expected = {1: 1, 2: 3, 18: 35}[steps] if sampler == "heun" else steps
    assert len(asked) == expected
    assert asked == sorted(asked, reverse=True)


@pytest.mark.parametrize(("sampler", "evaluations"), [("ddim", [0, 1, 2]), ("heun", [0, 0, 1, 1, 2])])
def test_steps_are_marked_and_tables_are_not_recorded(sampler: str, evaluations: list[int]) -> None:
    start = torch.ones(2, 3, device="meta")
    scheduler = build_scheduler(sampler, "noise", SCHEDULE, steps=3, positions=1)

    with capture() as recording:
        denoise(lambda shown, timestep: shown.tanh(), start, scheduler)

    frame = recording.trace.to_frame()
    network = frame[frame.name == "aten::tanh"]
    assert set(network.phase) == {"denoise"}
    assert network.step.tolist() == evaluations
    steps = frame[frame.phase == "denoise"]
    assert (steps.write_bytes >= 24).all()  # nothing smaller than the 2 x 3 latents: no arithmetic on noise levels
    assert recording.trace.provenance.device == "meta"


def test_resolution_dependent_shift_is_that_of_the_scheduler_itself() -> None:
    """`diffusers` takes mu; here its exponential form becomes a plain shift of exp(mu)."""
    import diffusers

    line = {"base_shift": 0.5, "max_shift": 1.15, "base_image_seq_len": 256, "max_image_seq_len": 4096}
    reference = diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    reference.set_timesteps(sigmas=np.linspace(1.0, 1 / 7, 7), mu=0.5 + 0.65 * (1024 - 256) / (4096 - 256))

    mine = build_scheduler("flow_match", "flow", {"num_train_timesteps": 1000, **line}, steps=7, positions=1024)

    torch.testing.assert_close(mine.sigmas, reference.sigmas)
    torch.testing.assert_close(mine.timesteps, reference.timesteps)


@pytest.mark.parametrize(
    ("sampler", "prediction", "steps", "reason"),
    [
        ("flow_match", "noise", 5, "must be one of ddpm, ddim, euler, dpmpp_2m, heun for .* noise, got 'flow_match'"),
        ("ddim", "flow", 5, "must be one of flow_match, dpmpp_2m, heun for .* flow, got 'ddim'"),
        ("ddim", "noise", 0, r"steps must lie in 1\.\.1000, got 0"),
        ("ddim", "noise", 1001, r"steps must lie in 1\.\.1000, got 1001"),
    ],
)
def test_refuses_what_does_not_suit(sampler: str, prediction: str, steps: int, reason: str) -> None:
    with pytest.raises(WorkloadError, match=reason):
        build_scheduler(sampler, prediction, SCHEDULE, steps=steps, positions=1)


def test_refuses_a_schedule_that_the_scheduler_does_not_know() -> None:
    with pytest.raises(WorkloadError, match=r"does not take this schedule.*beta_first"):
        build_scheduler("ddim", "noise", {"beta_first": 0.1}, steps=5, positions=1)
