"""Samplers: pure functions that walk from noise to data.

All take ``predict(noisy, t)``, which returns a ``Prediction`` at one time for the whole batch, the sample ``(B, T, M)`` at
``times[0]``, the falling times ``(N + 1,)`` ending in 0, the noise schedule and a CPU generator of further noise, which
deterministic walks leave alone; they return the sample ``(B, T, M)`` at time 0.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from lightning_modules.diffusion.schedules import NoiseSchedule
from lightning_modules.diffusion.targets import Prediction
from lightning_modules.diffusion.weighting import learned_log_variance, posterior

Predict = Callable[[Tensor, Tensor], Prediction]
Generator = torch.Generator | None


def ddim(
    predict: Predict, noisy: Tensor, times: Tensor, schedule: NoiseSchedule, generator: Generator = None
) -> Tensor:
    """Deterministic DDIM (arXiv 2010.02502, equation 12 with sigma = 0).

    On the straight path of flow matching this is Euler's method.
    """
    alphas, sigmas = schedule.alpha_sigma(times)
    for i in range(len(times) - 1):
        prediction = predict(noisy, times[i])
        noisy = alphas[i + 1] * prediction.x0 + sigmas[i + 1] * prediction.noise
    return noisy


def dpm_solver_2m(
    predict: Predict, noisy: Tensor, times: Tensor, schedule: NoiseSchedule, generator: Generator = None
) -> Tensor:
    """DPM-Solver++(2M), second order, one evaluation a step (arXiv 2211.01095, algorithm 2).

    The last step, to sigma = 0, is of first order, as there the half log-SNR is infinite.
    """
    alphas, sigmas = schedule.alpha_sigma(times.double())
    half_log_snr = torch.log(alphas) - torch.log(sigmas)
    previous: Tensor | None = None
    for i in range(len(times) - 1):
        x0 = predict(noisy, times[i]).x0
        # From the second step on the data is extrapolated by the change since the step before, over half log-SNR.
        data = x0
        if previous is not None and i + 2 < len(times):
            ratio = (half_log_snr[i] - half_log_snr[i - 1]) / (half_log_snr[i + 1] - half_log_snr[i])
            data = x0 + float(1 / (2 * ratio)) * (x0 - previous)
        # Exact in the noisy sample, with constant data over the step.
        shrink = float(sigmas[i + 1] / sigmas[i])
        noisy = shrink * noisy + float(alphas[i + 1] - shrink * alphas[i]) * data
        previous = x0
    return noisy


def ancestral(
    predict: Predict, noisy: Tensor, times: Tensor, schedule: NoiseSchedule, generator: Generator = None
) -> Tensor:
    """Ancestral DDPM sampling over any sub-sequence of times (arXiv 2006.11239, algorithm 2).

    The variance is the posterior's, or the learned one where the network predicts it (arXiv 2102.09672, equation 15). The
    last step returns the mean.
    """
    alphas, sigmas = schedule.alpha_sigma(times.double())
    for i in range(len(times) - 2):
        prediction = predict(noisy, times[i])
        # The Gaussian of the next sample, given the predicted data.
        from_noisy, from_data, lower, upper = posterior(alphas[i], sigmas[i], alphas[i + 1], sigmas[i + 1])
        noisy = float(from_noisy) * noisy + float(from_data) * prediction.x0
        log_variance = torch.log(lower).to(noisy)
        if prediction.variance is not None:
            log_variance = learned_log_variance(prediction.variance, log_variance, torch.log(upper).to(noisy))
        # Drawn on the CPU, so that a seed means the same on every device.
        noise = torch.randn(noisy.shape, generator=generator).to(noisy)
        noisy = noisy + torch.exp(0.5 * log_variance) * noise
    return predict(noisy, times[-2]).x0


def heun(
    predict: Predict, noisy: Tensor, times: Tensor, schedule: NoiseSchedule, generator: Generator = None
) -> Tensor:
    """Heun's second-order method along the straight path, dx/dt = noise - x_0 (arXiv 2209.03003, equation 1).

    Two evaluations a step except the last, where the path ends in the predicted data. The schedule must be ``flow``.
    """
    for i in range(len(times) - 1):
        step = times[i + 1] - times[i]
        first = predict(noisy, times[i])
        velocity = first.noise - first.x0
        # The mean of the velocities at both ends of the step.
        if i + 2 < len(times):
            second = predict(noisy + step * velocity, times[i + 1])
            velocity = 0.5 * (velocity + second.noise - second.x0)
        noisy = noisy + step * velocity
    return noisy


SAMPLERS: dict[str, Callable[..., Tensor]] = {
    "ddim": ddim,
    "dpm_solver_2m": dpm_solver_2m,
    "ancestral": ancestral,
    "euler": ddim,
    "heun": heun,
}
"""Samplers by their name in configs; ``euler`` is the name of ``ddim`` on the straight path."""
