"""Samplers: pure functions that walk from noise to data.

All take ``predict(noisy, t)``, which returns a ``Prediction`` at one time for the whole batch, a starting
sample, the falling times ending in 0, and the noise schedule; they return the sample at time 0.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from lightning_modules.diffusion.schedules import NoiseSchedule
from lightning_modules.diffusion.targets import Prediction
from lightning_modules.diffusion.weighting import learned_log_variance, posterior

Predict = Callable[[Tensor, Tensor], Prediction]


def ddim(
    predict: Predict,
    noisy: Tensor,
    times: Tensor,
    schedule: NoiseSchedule,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Deterministic DDIM (arXiv 2010.02502, equation 12 with sigma = 0).

    On the straight path of flow matching this is Euler's method.

    Args:
        predict: Network with its conditions.
        noisy: ``(B, T, M)`` sample at ``times[0]``.
        times: ``(N + 1,)`` falling to 0.
        schedule: Noise schedule.
        generator: Unused; the walk draws no noise.

    Returns:
        ``(B, T, M)``.
    """
    alphas, sigmas = schedule.alpha_sigma(times)
    for i in range(len(times) - 1):
        prediction = predict(noisy, times[i])
        noisy = alphas[i + 1] * prediction.x0 + sigmas[i + 1] * prediction.noise
    return noisy


def dpm_solver_2m(
    predict: Predict,
    noisy: Tensor,
    times: Tensor,
    schedule: NoiseSchedule,
    generator: torch.Generator | None = None,
) -> Tensor:
    """DPM-Solver++(2M), second order, one evaluation a step (arXiv 2211.01095, algorithm 2).

    The last step, to sigma = 0, is of first order, as there the half log-SNR is infinite.

    Args:
        predict: Network with its conditions.
        noisy: ``(B, T, M)`` sample at ``times[0]``.
        times: ``(N + 1,)`` falling to 0.
        schedule: Noise schedule.
        generator: Unused; the walk draws no noise.

    Returns:
        ``(B, T, M)``.
    """
    alphas, sigmas = schedule.alpha_sigma(times.double())
    half_log_snr = torch.log(alphas) - torch.log(sigmas)
    previous: Tensor | None = None
    for i in range(len(times) - 1):
        x0 = predict(noisy, times[i]).x0
        data = x0
        if previous is not None and i + 2 < len(times):
            ratio = (half_log_snr[i] - half_log_snr[i - 1]) / (half_log_snr[i + 1] - half_log_snr[i])
            data = x0 + float(1 / (2 * ratio)) * (x0 - previous)
        shrink = float(sigmas[i + 1] / sigmas[i])
        noisy = shrink * noisy + float(alphas[i + 1] - shrink * alphas[i]) * data
        previous = x0
    return noisy


def ancestral(
    predict: Predict,
    noisy: Tensor,
    times: Tensor,
    schedule: NoiseSchedule,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Ancestral DDPM sampling over any sub-sequence of times (arXiv 2006.11239, algorithm 2).

    The variance is the posterior's, or the learned one where the network predicts it (arXiv 2102.09672,
    equation 15). The last step returns the mean.

    Args:
        predict: Network with its conditions.
        noisy: ``(B, T, M)`` sample at ``times[0]``.
        times: ``(N + 1,)`` falling to 0.
        schedule: Noise schedule.
        generator: Source of the noise, on the CPU.

    Returns:
        ``(B, T, M)``.
    """
    alphas, sigmas = (values.double() for values in schedule.alpha_sigma(times.double()))
    for i in range(len(times) - 1):
        prediction = predict(noisy, times[i])
        if i + 2 == len(times):
            return prediction.x0
        from_noisy, from_data, lower, upper = posterior(alphas[i], sigmas[i], alphas[i + 1], sigmas[i + 1])
        noisy = float(from_noisy) * noisy + float(from_data) * prediction.x0
        log_variance = torch.log(lower).to(noisy)
        if prediction.variance is not None:
            log_variance = learned_log_variance(prediction.variance, log_variance, torch.log(upper).to(noisy))
        noisy = noisy + torch.exp(0.5 * log_variance) * draw_noise(noisy.shape, generator, noisy)
    return noisy


def heun(
    predict: Predict,
    noisy: Tensor,
    times: Tensor,
    schedule: NoiseSchedule,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Heun's second-order method along the straight path, dx/dt = noise - x_0 (arXiv 2209.03003, equation 1).

    Two evaluations a step except the last, where the path ends in the predicted data.

    Args:
        predict: Network with its conditions.
        noisy: ``(B, T, M)`` sample at ``times[0]``.
        times: ``(N + 1,)`` falling to 0.
        schedule: Noise schedule; must be ``flow``.
        generator: Unused; the walk draws no noise.

    Returns:
        ``(B, T, M)``.
    """
    for i in range(len(times) - 1):
        step = times[i + 1] - times[i]
        first = predict(noisy, times[i])
        velocity = first.noise - first.x0
        if i + 2 < len(times):
            second = predict(noisy + step * velocity, times[i + 1])
            velocity = 0.5 * (velocity + second.noise - second.x0)
        noisy = noisy + step * velocity
    return noisy


def draw_noise(
    shape: torch.Size | tuple[int, ...], generator: torch.Generator | None, like: Tensor
) -> Tensor:
    """Standard normal noise, drawn on the CPU so that a seed means the same on every device."""
    return torch.randn(shape, generator=generator).to(like)


SAMPLERS: dict[str, Callable[..., Tensor]] = {
    "ddim": ddim,
    "dpm_solver_2m": dpm_solver_2m,
    "ancestral": ancestral,
    "euler": ddim,
    "heun": heun,
}
"""Samplers by their name in configs; ``euler`` is the name of ``ddim`` on the straight path."""
