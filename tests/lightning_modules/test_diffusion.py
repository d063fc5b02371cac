import math

import pytest
import torch

from datamodules.errors import UserError
from lightning_modules.diffusion.gaussian_diffusion import GaussianDiffusion
from lightning_modules.diffusion.samplers import SAMPLERS
from lightning_modules.diffusion.schedules import SCHEDULES, NoiseSchedule, discrete_betas, expand
from lightning_modules.diffusion.targets import TARGETS, Prediction, make_target, read_target
from lightning_modules.diffusion.weighting import loss_weight, posterior

MEAN, STD = 0.7, 0.4


def exact_prediction(schedule: NoiseSchedule):
    """The ideal denoiser of data drawn from N(MEAN, STD^2)."""

    def predict(noisy, t):
        alpha, sigma = schedule.alpha_sigma(t.double())
        gain = alpha * STD**2 / (alpha**2 * STD**2 + sigma**2)
        x0 = MEAN + gain * (noisy - alpha * MEAN)
        return Prediction(x0, (noisy - alpha * x0) / sigma)

    return predict


def start(schedule: NoiseSchedule, count: int, generator: torch.Generator):
    """Samples of the exact noisy distribution at t = 1."""
    alpha, sigma = schedule.alpha_sigma(torch.ones(1, dtype=torch.float64))
    std = (alpha**2 * STD**2 + sigma**2).sqrt()
    return alpha * MEAN + std * torch.randn(count, 1, 1, generator=generator, dtype=torch.float64)


def test_linear_schedule_is_the_published_one():
    schedule = NoiseSchedule("linear")
    alpha_bar = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), 0)
    alpha, sigma = schedule.alpha_sigma(torch.arange(1, 1001, dtype=torch.float64) / 1000)
    torch.testing.assert_close(alpha**2, alpha_bar)
    torch.testing.assert_close(sigma**2, 1 - alpha_bar)
    assert float(alpha[-1] ** 2) == pytest.approx(4.0358e-5, rel=1e-3)


def test_cosine_schedule_follows_its_formula():
    t = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    alpha, _ = NoiseSchedule("cosine").alpha_sigma(t)

    def formula(value):
        return torch.cos((value + 0.008) / 1.008 * math.pi / 2) ** 2

    torch.testing.assert_close(alpha**2, formula(t) / formula(torch.zeros(())), atol=1e-9, rtol=1e-6)
    assert discrete_betas("cosine").max() <= 0.999


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_go_from_data_to_noise(name):
    alpha, sigma = NoiseSchedule(name).alpha_sigma(torch.linspace(0, 1, 501))
    assert alpha[0] == 1
    assert sigma[0] == 0
    assert alpha[-1] < 0.01
    assert sigma[-1] > 0.999
    assert (alpha.diff() < 0).all()
    assert (sigma.diff() >= 0).all()


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("target", TARGETS)
def test_targets_invert(schedule, target):
    generator = torch.Generator().manual_seed(0)
    x0, noise = torch.randn(2, 6, 5, 3, generator=generator, dtype=torch.float64)
    t = torch.tensor([0.02, 0.2, 0.4, 0.6, 0.8, 0.95], dtype=torch.float64)
    alpha, sigma = (expand(v, x0) for v in NoiseSchedule(schedule).alpha_sigma(t))
    output = make_target(target, x0, noise, alpha, sigma)
    back = read_target(target, output, alpha * x0 + sigma * noise, alpha, sigma)
    torch.testing.assert_close(back[0], x0)
    torch.testing.assert_close(back[1], noise)


@pytest.mark.parametrize(
    ("sampler", "schedule", "steps"),
    [
        *(("ddim", schedule, 100) for schedule in SCHEDULES),
        *(("dpm_solver_2m", schedule, 40) for schedule in SCHEDULES),
        *(("ancestral", schedule, 200) for schedule in ("linear", "cosine")),
        *(("euler", "flow", 100), ("heun", "flow", 25)),
    ],
)
def test_samplers_reproduce_a_gaussian(sampler, schedule, steps):
    noise_schedule = NoiseSchedule(schedule)
    generator = torch.Generator().manual_seed(1)
    noisy = start(noise_schedule, 20_000, generator)
    times = noise_schedule.sampling_times(steps, "x0")
    sample = SAMPLERS[sampler](exact_prediction(noise_schedule), noisy, times, noise_schedule, generator)
    assert float(sample.mean()) == pytest.approx(MEAN, abs=0.02)
    assert float(sample.std()) == pytest.approx(STD, rel=0.04)


def test_deterministic_samplers_converge_and_second_order_does_so_faster():
    schedule = NoiseSchedule("cosine")
    noisy = start(schedule, 200, torch.Generator().manual_seed(2))
    alpha, sigma = schedule.alpha_sigma(torch.ones(1, dtype=torch.float64))
    # For Gaussian data the probability flow keeps the standard score of every sample.
    exact = MEAN + STD * (noisy - alpha * MEAN) / (alpha**2 * STD**2 + sigma**2).sqrt()

    def error(name, steps):
        times = schedule.sampling_times(steps, "x0")
        sample = SAMPLERS[name](exact_prediction(schedule), noisy, times, schedule)
        return float((sample - exact).abs().mean())

    assert error("ddim", 80) < 0.6 * error("ddim", 40) < 0.4 * error("ddim", 20)
    assert error("dpm_solver_2m", 40) < 0.5 * error("dpm_solver_2m", 20)
    assert error("dpm_solver_2m", 20) < 0.5 * error("ddim", 20)


def test_ddim_on_the_straight_path_is_euler():
    schedule = NoiseSchedule("flow")
    noisy = torch.randn(4, 3, 2, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    predict = exact_prediction(schedule)
    times = schedule.sampling_times(7, "flow").double()
    expected = noisy
    for i in range(7):
        prediction = predict(expected, times[i])
        expected = expected + (times[i + 1] - times[i]) * (prediction.noise - prediction.x0)
    torch.testing.assert_close(SAMPLERS["euler"](predict, noisy, times, schedule), expected)


def test_posterior_agrees_with_bayes():
    schedule = NoiseSchedule("linear")
    (alpha_s, sigma_s), (alpha_t, sigma_t) = (
        schedule.alpha_sigma(torch.tensor(t, dtype=torch.float64)) for t in (0.3, 0.35)
    )
    x0, noisy = torch.tensor(0.4, dtype=torch.float64), torch.tensor(-0.9, dtype=torch.float64)
    ratio = alpha_t / alpha_s
    step = sigma_t**2 - ratio**2 * sigma_s**2
    precision = 1 / sigma_s**2 + ratio**2 / step  # q(x_s | x_0) times q(x_t | x_s)
    mean = (alpha_s * x0 / sigma_s**2 + ratio * noisy / step) / precision
    from_noisy, from_data, variance, upper = posterior(alpha_t, sigma_t, alpha_s, sigma_s)
    torch.testing.assert_close(from_noisy * noisy + from_data * x0, mean)
    torch.testing.assert_close(variance, 1 / precision)
    torch.testing.assert_close(upper, step)


def test_min_snr_means_the_same_for_every_target():
    schedule = NoiseSchedule("cosine")
    t = torch.tensor([0.1, 0.5, 0.8], dtype=torch.float64)
    alpha, sigma = schedule.alpha_sigma(t)
    generator = torch.Generator().manual_seed(4)
    x0, noise, wrong = torch.randn(3, 3, 4, 2, generator=generator, dtype=torch.float64)
    a, s = expand(alpha, x0), expand(sigma, x0)
    noisy = a * x0 + s * noise
    losses = []
    for target in TARGETS:
        output = make_target(target, wrong, (noisy - a * wrong) / s, a, s)  # the output that says x0 = wrong
        error = (output - make_target(target, x0, noise, a, s)).square()
        losses.append(expand(loss_weight("min_snr", target, alpha, sigma), x0) * error)
    for loss in losses[1:]:
        torch.testing.assert_close(loss, losses[0])


def test_learned_variance_bound_is_least_at_the_posterior_and_spares_the_mean():
    diffusion = GaussianDiffusion("linear", "epsilon", learned_variance=True, sampler="ancestral")
    generator = torch.Generator().manual_seed(5)
    x0, noise = torch.randn(2, 4, 6, 3, generator=generator)
    t = torch.tensor([0.1, 0.3, 0.6, 0.9])
    noisy = diffusion.add_noise(x0, noise, t)
    bounds = []
    for variance in (-1.0, 0.0, 1.0):
        output = torch.cat([noise, torch.full_like(noise, variance)], -1).requires_grad_()
        bound = diffusion.variational_bound(output, x0, noisy, t).mean()
        bounds.append(float(bound.detach()))
    (gradient,) = torch.autograd.grad(bound, output)
    assert bounds[0] == pytest.approx(0, abs=1e-6)
    assert bounds[0] < bounds[1] < bounds[2]
    assert (gradient[..., :3] == 0).all()
    assert (gradient[..., 3:] != 0).any()
    first = diffusion.variational_bound(output, x0, noisy, torch.full((4,), 1 / 1000))
    assert first.isfinite().all()


def test_learned_variance_changes_ancestral_samples():
    diffusion = GaussianDiffusion("linear", "x0", learned_variance=True, sampler="ancestral", sampler_steps=8)
    noise = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(6))

    def sample(variance):
        def network(x, t):
            return torch.cat([0.5 * x, torch.full_like(x, variance)], -1)

        return diffusion.sample(network, noise, torch.Generator().manual_seed(7))

    assert not torch.allclose(sample(-1.0), sample(1.0))


@pytest.mark.parametrize(
    "settings",
    [
        {"schedule": "quadratic"},
        {"target": "x1"},
        {"weighting": "p2"},
        {"sampler": "plms"},
        {"sampler": "heun"},
        {"schedule": "flow", "sampler": "ancestral"},
        {"schedule": "flow", "learned_variance": True, "sampler": "ddim"},
        {"sampler_steps": 0},
    ],
)
def test_bad_settings_are_refused(settings):
    with pytest.raises(UserError):
        GaussianDiffusion(**settings)


def test_settings_rebuild_the_process_and_every_axis_matters():
    diffusion = GaussianDiffusion("flow", "flow", "min_snr", "heun", 7, 2.0, 1.5)
    assert GaussianDiffusion(**diffusion.settings()).settings() == diffusion.settings()
    noise = torch.randn(1, 6, 3, generator=torch.Generator().manual_seed(9))

    def run(**changes):
        options = {"schedule": "cosine", "target": "x0", "sampler": "ddim", "sampler_steps": 5} | changes
        generator = torch.Generator().manual_seed(0)
        network = lambda x, t: torch.tanh(x + t.view(-1, 1, 1))  # noqa: E731
        return GaussianDiffusion(**options).sample(network, noise, generator)

    base = run()
    for axis, values in (
        ("schedule", ("linear", "flow")),
        ("target", ("v", "epsilon", "flow")),
        ("sampler", ("dpm_solver_2m", "ancestral")),
        ("sampler_steps", (9,)),
    ):
        for value in values:
            changed = run(**{axis: value})
            assert not torch.allclose(changed, base), value
            assert changed.isfinite().all()
